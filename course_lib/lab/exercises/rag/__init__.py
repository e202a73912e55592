"""The capstone project of notebook 6: a pipeline in five steps, and the harness that accepts it."""

from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.rag.acceptance import Budgets, Figures, accept, before_and_after
from course_lib.lab.exercises.rag.answered import grade_answered
from course_lib.lab.exercises.rag.guarded import grade_guarded
from course_lib.lab.exercises.rag.in_time import grade_in_time
from course_lib.lab.exercises.rag.pipeline import BUDGETS, bad_day, grade_pipeline
from course_lib.lab.exercises.rag.remembered import grade_remembered

__all__ = ["BUDGETS", "Budgets", "Figures", "accept", "bad_day", "before_and_after"]

EXERCISES = (
    Exercise(
        "6.1",
        "an answer, whatever happens",
        ("stages", "question"),
        grade_answered,
        (
            "Go through `stages.items()` in a loop, and keep what each stage returned for the next.",
            "`try` round the `await`; `except Exception` returns the failure, `finally` notes the time.",
            (
                '`seconds = {}` within the function; `except Exception as error: return {"answer": '
                'None, "failed": name, "error": error, "seconds": seconds}`.'
            ),
        ),
    ),
    Exercise(
        "6.2",
        "a gate in front of a stage",
        ("call", "slots", "attempts"),
        grade_guarded,
        (
            "You built this in notebook 2, and the library has it: `Gate` and `limited`.",
            "One `Gate(concurrency=slots)` for all calls; `limited` wants a Runnable: `as_runnable`.",
            (
                "`limited(as_runnable(call), Gate(concurrency=slots), attempts=attempts, "
                "retry_on=(Unavailable,))`; its `.ainvoke` is the function wanted."
            ),
        ),
    ),
    Exercise(
        "6.3",
        "what is wrong here?",
        ("call", "ttl"),
        grade_remembered,
        (
            "Which two questions that differ have one key? What else is kept, and for how long?",
            "The library has it: a cache of its own for each stage, made in `remembered`.",
            "`cached(as_runnable(call), AsyncCache(ttl=ttl, maxsize=1_000))`, and its `.ainvoke`.",
        ),
        wrong_here=True,
    ),
    Exercise(
        "6.4",
        "an answer in time",
        ("stages", "optional", "budget", "question"),
        grade_in_time,
        (
            "Begin with 6.1. Where does a stage's time end: with its own seconds, or the budget's?",
            "`async with asyncio.timeout_at(limit)`, with the earlier of the two ends.",
            (
                "`limit = min(end, now() + optional.get(name, budget))`; in the `except Exception`: "
                "skip it if it is optional and `now() < end`, else return the failed answer."
            ),
        ),
    ),
    Exercise(
        "6.5",
        "the whole, within its budgets",
        ("search", "rerank", "chat"),
        grade_pipeline,
        (
            "Which of the four steps does each stage need? In which order are they put around it?",
            "Gate inside, memory outside: a hit must not wait in line. Then all three into `in_time`.",
            (
                "`remembered(guarded(search, 20, 5), 60)` and so on; return an `async def` of the "
                'question that awaits `in_time(stages, {"rerank": 0.3}, 3, question)`.'
            ),
        ),
    ),
)
