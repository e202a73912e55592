"""Little's law, as a check on a monitor's own figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.table import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from course_lib.monitoring.report import Report

__all__ = ["LittlesLaw", "littles_law"]


@dataclass(frozen=True, slots=True)
class LittlesLaw:
    """The two sides of L = X * W for one step.

    Attributes:
        step: Its name.
        in_flight: L, calls in flight on average, as counted over time.
        throughput: X, calls that ended a second.
        seconds: W, their mean service time.
        tolerance: The largest gap that passes.
    """

    step: str
    in_flight: float
    throughput: float
    seconds: float
    tolerance: float

    @property
    def expected(self) -> float:
        """What L should be: X * W."""
        return self.throughput * self.seconds

    @property
    def gap(self) -> float:
        """How far the two are apart, as a share of the larger one; 0 if they agree."""
        larger = max(self.in_flight, self.expected)
        return abs(self.in_flight - self.expected) / larger if larger else 0.0

    @property
    def holds(self) -> bool:
        """Whether the gap is within the tolerance."""
        return self.gap <= self.tolerance

    def __str__(self) -> str:
        sides = (
            f"{number(self.in_flight)} in flight, {number(self.throughput)}/s * "
            f"{number(self.seconds)} s = {number(self.expected)}"
        )
        return f"{self.step}: {sides}" + ("" if self.holds else f": off by {self.gap:.0%}")


def littles_law(report: Report, *, tolerance: float = 0.05) -> Mapping[str, LittlesLaw]:
    """Return for each step whether its mean in flight is its throughput times its mean time.

    The left side is an integral over time, the right side comes from calls that ended, so that
    each checks the other (J. D. C. Little, "A proof for the queuing formula L = λW", Operations
    Research 9, 1961). The law is exact when all calls have ended. Calls that are in flight when the
    report is made are counted on the left only: a large gap means that many are, as in a step that
    does not keep up; that calls were given up; or that durations were recorded which did not pass
    when they were said to.

    Args:
        report: What a monitor saw.
        tolerance: The largest gap that passes, as a share.

    Raises:
        ValueError: `tolerance` is not between 0 and 1.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r}: give a share from 0 to below 1, such as 0.05")
    return {
        step.name: LittlesLaw(
            step.name,
            in_flight=_finite(step.mean_in_flight),
            throughput=_finite(step.throughput),
            seconds=_finite(step.mean),
            tolerance=tolerance,
        )
        for step in report.steps.values()
    }


def _finite(value: float) -> float:
    """Return a figure, 0.0 where there is none because nothing ended or no time passed."""
    return value if math.isfinite(value) else 0.0
