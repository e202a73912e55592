"""The exercises of notebook 5, graded by behaviour."""

from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.monitoring.blocking import grade_blocking
from course_lib.lab.exercises.monitoring.merged_p99 import grade_merged_p99
from course_lib.lab.exercises.monitoring.observed import grade_observed
from course_lib.lab.exercises.monitoring.to_mend import grade_to_mend

__all__ = ["EXERCISES"]

EXERCISES = (
    Exercise(
        "5.1",
        "a clock that loses nothing",
        ("call", "record", "clock", "planned"),
        grade_observed,
        (
            "In how many ways can `await call()` end? Which of them does an `except Exception` see?",
            "A `finally` runs however it ends: record there, with an outcome that was set before.",
            (
                'Begin with `start, outcome = clock(), "error"`; in the `try`, after the `await`, set "ok" '
                'and return; `except asyncio.CancelledError:` sets "cancelled" and raises; `finally:` '
                "`record(outcome, max(0.0, start - planned), clock() - start)`."
            ),
        ),
    ),
    Exercise(
        "5.2",
        "what is wrong here?",
        ("histograms", "q"),
        grade_merged_p99,
        (
            "Two processes, one quick with many calls, one slow with few: what does each report?",
            "Percentiles cannot be added up. Counts can: add them bound by bound, over all processes.",
            (
                "With the sums in a `collections.Counter` named `counts`: for each `bound` in "
                "`sorted(counts)`, `seen += counts[bound]`, and return the first `bound` with "
                "`seen >= q * counts.total()`."
            ),
        ),
        wrong_here=True,
    ),
    Exercise(
        "5.3",
        "the step to mend",
        ("report",),
        grade_to_mend,
        (
            "The largest mean is not it: a step that works on any number at once keeps nobody back.",
            "`bottleneck(report)` looks at when calls start and end. What does its `step` say?",
            "`return bottleneck(report).step`: it is None where nothing is saturated.",
        ),
    ),
    Exercise(
        "5.4",
        "the step that holds the loop",
        ("chain", "questions"),
        grade_blocking,
        (
            "The cell that watched `fetch`, `parse` and `store` did it. What did it need?",
            "A monitor whose callback is in the config, and a `LoopLag` that knows the monitor.",
            (
                "`async with LoopLag(monitor=monitor) as lag:` gather `chain.ainvoke(question, "
                '{"callbacks": [monitor.callback]})` for all questions; then `next(iter(lag.steps))`.'
            ),
        ),
    ),
)
