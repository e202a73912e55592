"""The exercises of notebook 3, graded by behaviour in virtual time."""

from course_lib.lab.exercises.batching.embedded import grade_embedded
from course_lib.lab.exercises.batching.isolate import grade_isolate
from course_lib.lab.exercises.batching.serve import grade_serve
from course_lib.lab.exercises.batching.window import grade_window
from course_lib.lab.exercises.engine import Exercise

__all__ = ["EXERCISES"]

EXERCISES = (
    Exercise(
        "3.1",
        "a window that slides",
        ("search", "queries", "limit"),
        grade_window,
        (
            "`limit` workers share one iterator: each takes the next query when it is done.",
            "`source = enumerate(queries)`; in each worker `for number, query in source:`.",
            "Keep answers by number in a dictionary; run the workers in an `asyncio.TaskGroup`.",
        ),
    ),
    Exercise(
        "3.2",
        "one loop that answers everybody",
        ("queue", "process_batch", "size"),
        grade_serve,
        (
            "Wait for the first with `await queue.get()`; take more while `not queue.empty()`.",
            "Whatever goes wrong between taking a batch and its results is for its callers.",
            "Set an answer, or an exception, only `if not entry.answer.done()`.",
        ),
    ),
    Exercise(
        "3.3",
        "a bad item fails alone",
        ("process_batch", "items"),
        grade_isolate,
        (
            "Try the whole batch. What is to be done when it fails, and holds more than one item?",
            "A batch of one that fails is the bad item: `return [error]`.",
            "`await isolate(process_batch, items[:half])`, the other half, and add the lists.",
        ),
    ),
    Exercise(
        "3.4",
        "what is wrong here? A text too few",
        ("embed", "texts", "size"),
        grade_embedded,
        (
            "The `while` asks whether `text` is true. Which texts are not?",
            "The fault shows when such a text is the first of a batch.",
            "`while batch := list(itertools.islice(source, size)):` ends when nothing is left.",
        ),
        wrong_here=True,
    ),
)
