"""The exercises of notebook 4, graded by behaviour."""

from course_lib.lab.exercises.caching.key import grade_key
from course_lib.lab.exercises.caching.remember import grade_remember
from course_lib.lab.exercises.caching.single_flight import grade_single_flight
from course_lib.lab.exercises.caching.ttl_cache import grade_ttl_cache
from course_lib.lab.exercises.engine import Exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    Exercise(
        "4.1",
        "a key that holds everywhere",
        ("name", "arguments"),
        grade_key,
        (
            "Write the arguments down as text, in a form that has one text for equal arguments.",
            'JSON tells 1, "1" and True apart, and refuses what it cannot write, with a TypeError.',
            '`f"{name}:{json.dumps(arguments, sort_keys=True)}"`: sorted at every depth.',
        ),
    ),
    Exercise(
        "4.2",
        "a cache with a time to live",
        ("ttl", "maxsize"),
        grade_ttl_cache,
        (
            "Keep a pair for each key: the value, and the time from which on it is not to be used.",
            "A dict keeps the order of insertion: pop a key and put it in again, and it is the last.",
            (
                "`value, expires = self.entries.pop(key, (None, 0))`; compute if `now() >= expires`; put it "
                "in; while there are too many, pop `next(iter(self.entries))`."
            ),
        ),
    ),
    Exercise(
        "4.3",
        "one computation, whoever leaves",
        (),
        grade_single_flight,
        (
            "Keep what is being computed by key, and take it away when it has ended, however it ends.",
            "The computation must not run inside a caller: `asyncio.create_task(compute())`.",
            (
                "`await asyncio.shield(task)` leaves the task alone when the caller is cancelled; "
                "`task.add_done_callback` takes it away at its end."
            ),
        ),
    ),
    Exercise(
        "4.4",
        "what is wrong here? Somebody else's results",
        ("search",),
        grade_remember,
        (
            "Look at the key of the first call: where does the user end, and where does the query begin?",
            "A user's name may hold a colon, and so may a query.",
            "A tuple keeps its parts apart: `key = user, query, filters`.",
        ),
        wrong_here=True,
    ),
)
