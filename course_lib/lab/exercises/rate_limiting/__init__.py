"""The exercises of notebook 2, graded by behaviour in virtual time."""

from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.rate_limiting.bucket import grade_bucket, largest_excess
from course_lib.lab.exercises.rate_limiting.let_in import grade_let_in
from course_lib.lab.exercises.rate_limiting.next_limit import grade_next_limit
from course_lib.lab.exercises.rate_limiting.patient import grade_patient

__all__ = ["EXERCISES", "largest_excess"]

EXERCISES = (
    Exercise(
        "2.1",
        "a bucket that keeps its rate",
        ("rate", "capacity"),
        grade_bucket,
        (
            "Follow one second through your code: who adds its tokens, the sleep or the refill?",
            "After the sleep, refill by the clock once more, then subtract one token.",
            "Hold an `asyncio.Lock` during the sleep: first come, first served, safe to cancel.",
        ),
    ),
    Exercise(
        "2.2",
        "patience that holds no slot",
        ("search", "query", "slots", "attempts"),
        grade_patient,
        (
            "A loop over attempts; `async with slots:` round the call, and nothing else in it.",
            "`except RateLimited as error:` stands outside the `async with`.",
            "In the last attempt `raise`; otherwise `await asyncio.sleep(error.retry_after)`.",
        ),
    ),
    Exercise(
        "2.3",
        "a limit that finds its level",
        ("limit", "rejected", "used"),
        grade_next_limit,
        (
            "Three cases: something was refused; the limit was fully used; neither.",
            "Additive increase, multiplicative decrease: one more, or half.",
            "`max(1, limit // 2)`, `limit + 1` if `used == limit`, else `limit`.",
        ),
    ),
    Exercise(
        "2.4",
        "what is wrong here?",
        ("times", "limit"),
        grade_let_in,
        (
            "Draw a time line. Where does the count begin anew, and what can happen just before and after?",
            "Five just before a full second and five just after it: how many is that within a second?",
            "Count those of `inside` that are later than `time - 1`.",
        ),
        wrong_here=True,
    ),
)
