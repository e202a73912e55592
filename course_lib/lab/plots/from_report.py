"""What the pictures take, out of a monitor's report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from course_lib.monitoring import Report

__all__ = ["DrawnCall", "calls_of", "durations_of"]

STATUS = {"ok": 200, "error": 500, "cancelled": 0}
"""What `timeline` tells good answers by: a status of HTTP, 0 where there was none."""


@dataclass(frozen=True, slots=True)
class DrawnCall:
    """One call as `timeline` takes it: `start` and `end` in seconds, and a `status`."""

    start: float
    end: float
    status: int


def calls_of(report: Report, step: str) -> list[DrawnCall]:
    """Return the calls of a step for `plots.timeline`.

    Args:
        report: What a monitor saw; only the spans that it kept are there.
        step: Name of the step.

    Raises:
        KeyError: There is no such step.
    """
    name = report[step].name
    return [
        DrawnCall(span.start, span.end, STATUS[span.outcome])
        for span in report.spans
        if span.name == name
    ]


def durations_of(
    report: Report,
    *,
    steps: Sequence[str] | None = None,
    of: Literal["service", "wait", "response"] = "response",
) -> dict[str, Sequence[float]]:
    """Return the durations of each step for `plots.percentiles`, out of its histogram.

    Args:
        report: What a monitor saw.
        steps: Names of the steps; by default all that have durations.
        of: Which time is meant: `response` is what a caller waits, from the planned start.

    Returns:
        Seconds by name, each within 0.5 %, as many as there were calls.

    Raises:
        KeyError: There is no such step.
    """
    found: dict[str, Sequence[float]] = {}
    for name in report.steps if steps is None else steps:
        buckets = list(getattr(report[name], of).buckets())
        if buckets:
            middles = [(bucket.lower + bucket.upper) / 2 for bucket in buckets]
            found[name] = np.repeat(middles, [bucket.count for bucket in buckets]).tolist()
    return found
