"""The exercises of notebook 1, graded by behaviour."""

from course_lib.lab.exercises.async_batch.ask import grade_ask
from course_lib.lab.exercises.async_batch.by_question import grade_by_question
from course_lib.lab.exercises.async_batch.outcomes import grade_outcomes
from course_lib.lab.exercises.async_batch.report import grade_report
from course_lib.lab.exercises.engine import Exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    Exercise(
        "1.1",
        "a slow report of somebody's",
        ("search", "read", "questions"),
        grade_report,
        (
            "What does a page have to wait for? Only for the search that found it.",
            "Write a coroutine for one question: it searches, then it gathers its pages.",
            "Gather that coroutine over all questions. `dict(zip(questions, found))` keeps their order.",
        ),
    ),
    Exercise(
        "1.2",
        "a call that tells the truth",
        ("session", "url", "query"),
        grade_ask,
        (
            'Look at `session.get(f"{url}/search", params=...)`: it encodes what it is given.',
            "`response.raise_for_status()` turns a 429 or 500 into an exception.",
            '`async with session.get(...) as response:`, then `(await response.json())["results"]`.',
        ),
    ),
    Exercise(
        "1.3",
        "one bad call among many",
        ("search", "queries", "limit", "timeout"),
        grade_outcomes,
        (
            "Write one coroutine for one question, that never raises; then gather all of them.",
            "Order matters: first the slot (`async with semaphore:`), inside it the timeout.",
            "`except Exception as error: return error` makes a value of an error. A `CancelledError` is no `Exception`: it goes on.",
        ),
    ),
    Exercise(
        "1.4",
        "what is wrong here?",
        ("search", "questions"),
        grade_by_question,
        (
            "Print the lengths of `found`, `answers` and `questions` for a batch in which one call fails.",
            "Which question does the first answer go to when the first call has failed?",
            "Pair first, filter second: `zip(questions, found)`, then leave out what is an `Exception`.",
        ),
        wrong_here=True,
    ),
)
