"""Calls as visits to a step: from the moment an item could have been worked on to its end."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from course_lib.monitoring.report import Report, Span

__all__ = ["Visit", "ahead_of", "chosen_steps", "visits_of"]

NANOSECONDS = 9  # decimals of a second


@dataclass(frozen=True, slots=True)
class Visit:
    """One item at one step.

    Attributes:
        ready: When the step could have begun: the planned start or, if that is earlier, the end of
            what came before it in the same parent. From then on the item waits for the step, for a
            gate that stands before it, say.
        start: When it began.
        end: When it ended.
        ok: Whether it succeeded.
        whole: Whether all that was there when it became ready is known.
    """

    ready: float
    start: float
    end: float
    ok: bool
    whole: bool

    @property
    def residence(self) -> float:
        """Seconds from ready to end."""
        return self.end - self.ready


def chosen_steps(report: Report, parent: str | None = None) -> list[str]:
    """Return the steps to be compared: those that ran in `parent`, or those without children.

    Raises:
        ValueError: Nothing ran in `parent`, or nothing was recorded.
    """
    if not report.steps:
        raise ValueError("nothing was recorded: run the pipeline with the monitor first")
    steps = report.steps.values()
    if parent is not None:
        chosen = [step.name for step in steps if parent in step.parents]
        if not chosen:
            parents = sorted({name for step in steps for name in step.parents})
            raise ValueError(f"parent={parent!r}: no step ran in it; choose from {parents}")
        return chosen
    outer = {name for step in steps for name in step.parents}
    return [name for name in report.steps if name not in outer] or list(report.steps)


def visits_of(report: Report, steps: list[str]) -> Mapping[str, list[Visit]]:
    """Return the visits to each step among the report's spans, in the order they became ready."""
    family = _Family(report.spans)
    # Of what ended before the oldest span that was kept, nothing is known.
    known = min((span.end for span in report.spans), default=0.0) if report.dropped_spans else None
    found: dict[str, list[tuple[float, float, int, Visit]]] = {name: [] for name in steps}
    for span in report.spans:
        if span.name in found:
            ready = round(family.ready(span), NANOSECONDS)  # a difference of floats is a hair off
            whole = known is None or ready >= known
            visit = Visit(ready, span.start, span.end, span.outcome == "ok", whole)
            found[span.name].append((ready, span.start, span.id, visit))
    return {name: [entry[-1] for entry in sorted(each)] for name, each in found.items()}


def ahead_of(visits: list[Visit]) -> list[int]:
    """Return for each visit how many others were at the step when it became ready.

    Those that became ready at the same moment count if they come before it in the list.
    """
    ends = sorted(visit.end for visit in visits)
    return [index - bisect_right(ends, visit.ready, 0, index) for index, visit in enumerate(visits)]


class _Family:
    """Who ran in whom."""

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self._spans = {span.id: span for span in spans}
        self._ends: dict[int | None, list[float]] = defaultdict(list)  # of a parent's children
        for span in sorted(spans, key=lambda span: span.end):
            self._ends[span.parent].append(span.end)

    def ready(self, span: Span) -> float:
        """Return when a call could have begun."""
        parent = self._parent(span)
        if parent is None:
            return span.planned
        ends = self._ends[span.parent]
        before = bisect_right(ends, span.start)
        if before:
            return min(span.planned, ends[before - 1])
        # The first in its parent was ready when that was. How long the outermost one waited is not
        # held against a step in it.
        begun = parent.start if self._parent(parent) is None else self.ready(parent)
        return min(span.planned, begun)

    def _parent(self, span: Span) -> Span | None:
        if span.parent is None or span.parent >= span.id:  # numbers are given when calls begin
            return None
        return self._spans.get(span.parent)
