"""The exercises of notebook 1, graded by behaviour."""

from course_lib.lab.exercises.async_batch.ask import grade_ask
from course_lib.lab.exercises.async_batch.fetch_all import grade_fetch_all
from course_lib.lab.exercises.async_batch.outcomes import grade_outcomes
from course_lib.lab.exercises.engine import Exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    Exercise(
        "1.1",
        "all at once, in order",
        ("search", "queries"),
        grade_fetch_all,
        (
            "A coroutine does not run until it is awaited or made into a task.",
            "`asyncio.gather` runs what it is given concurrently and keeps the order.",
            "`await asyncio.gather(*(search(query) for query in queries))` returns a list.",
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
            "`except Exception as error: return error` makes a value of an error; `CancelledError` is none.",
        ),
    ),
)
