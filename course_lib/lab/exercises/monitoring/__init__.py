"""The exercises of notebook 5, graded by behaviour."""

from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.monitoring.limiting import grade_limiting
from course_lib.lab.exercises.monitoring.merged_p99 import grade_merged_p99
from course_lib.lab.exercises.monitoring.observed import grade_observed

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
        "percentiles that can be added",
        ("histograms", "q"),
        grade_merged_p99,
        (
            "Percentiles of two processes say little of both together. What can be added up?",
            "Add the counts bound by bound; then go through the bounds in ascending order.",
            (
                "With the sums in a `collections.Counter` named `counts`: for each `bound` in "
                "`sorted(counts)`, `seen += counts[bound]`, and return the first `bound` with "
                "`seen >= q * counts.total()`."
            ),
        ),
    ),
    Exercise(
        "5.3",
        "the step that cannot keep up",
        ("steps", "rate"),
        grade_limiting,
        (
            "How many items a second can a step do that works on 4 at once, 0.5 s on each?",
            "Its capacity is `slots / seconds`; without a limit (None) it is `math.inf`.",
            (
                "With the capacities in a dict: `name = min(capacity, key=capacity.get)`, and return it "
                "only if `capacity[name] < rate`."
            ),
        ),
    ),
)
