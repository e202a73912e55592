"""Two reports side by side: what a change has changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.table import duration, html_table, number, text_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from course_lib.monitoring.report import Report, StepReport

__all__ = ["ReportDiff", "StepDiff", "diff"]

FIGURES = ("mean", "p50", "p95", "p99", "throughput", "errors")


@dataclass(frozen=True, slots=True)
class StepDiff:
    """One step before and after.

    Attributes:
        name: Its name.
        before: Its figures before; None if it is new.
        after: Its figures after; None if it is gone.
    """

    name: str
    before: StepReport | None
    after: StepReport | None

    def ratio(self, figure: str) -> float:
        """Return a figure after, divided by the same before: 0.5 is half.

        Args:
            figure: One of "mean", "p50", "p95", "p99", "throughput", "errors".

        Returns:
            1.0 if both are 0; infinite if only the one before is; nan if the step was not there on
            one of the sides.

        Raises:
            ValueError: There is no such figure.
        """
        if figure not in FIGURES:
            raise ValueError(f"figure={figure!r}: choose from {', '.join(FIGURES)}")
        if self.before is None or self.after is None:
            return math.nan
        before, after = getattr(self.before, figure), getattr(self.after, figure)
        if before == 0:
            return 1.0 if after == 0 else math.inf
        return float(after / before)


@dataclass(frozen=True, slots=True, repr=False)
class ReportDiff:
    """Two reports side by side; as text and in a notebook a table.

    Attributes:
        steps: By name, in the order of the first report, new ones last.
        before: Seconds observed before.
        after: Seconds observed after.
    """

    steps: Mapping[str, StepDiff]
    before: float
    after: float

    @property
    def came(self) -> tuple[str, ...]:
        """Names of the steps that were not there before."""
        return tuple(step.name for step in self.steps.values() if step.before is None)

    @property
    def went(self) -> tuple[str, ...]:
        """Names of the steps that are gone."""
        return tuple(step.name for step in self.steps.values() if step.after is None)

    def __getitem__(self, name: str) -> StepDiff:
        try:
            return self.steps[name]
        except KeyError:
            known = ", ".join(map(repr, self.steps)) or "none"
            raise KeyError(f"no step {name!r} in either report: there are {known}") from None

    def __repr__(self) -> str:
        return text_table(self._lines())

    def _repr_html_(self) -> str:
        return html_table(self._lines())

    def _lines(self) -> list[tuple[str, ...]]:
        return [("step", *FIGURES), *(_row(step) for step in self.steps.values())]


def diff(before: Report, after: Report) -> ReportDiff:
    """Return what changed from one report to another, step by step.

    Percentiles and means do not depend on how long was observed; throughput does, in both reports.

    Args:
        before: What a monitor saw before a change.
        after: What it, or another, saw after it: of the same load, if times are to be compared.
    """
    names = dict.fromkeys([*before.steps, *after.steps])
    steps = {name: StepDiff(name, before.steps.get(name), after.steps.get(name)) for name in names}
    return ReportDiff(steps, before.seconds, after.seconds)


def _row(step: StepDiff) -> tuple[str, ...]:
    return (step.name, *(_change(step, figure) for figure in FIGURES))


def _change(step: StepDiff, figure: str) -> str:
    sides = [
        "-" if side is None else _shown(figure, getattr(side, figure))
        for side in (step.before, step.after)
    ]
    ratio = step.ratio(figure)
    factor = f" ({number(ratio)}x)" if math.isfinite(ratio) and figure != "errors" else ""
    return " → ".join(sides) + factor


def _shown(figure: str, value: float) -> str:
    if figure == "errors":
        return f"{value:,}"
    return f"{number(value)}/s" if figure == "throughput" else duration(value)
