"""Which steps hold up the event loop, as far as spans show it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from course_lib.monitoring.report import Span

__all__ = ["held_by"]

MOSTLY = 0.9  # share of a step's time
EXPECTED = 10  # events that would have fallen into its calls; by chance none does once in 22,000


def held_by(spans: Sequence[Span], steps: Sequence[str]) -> Mapping[str, float]:
    """Return the seconds for which each step held the loop, for those that do.

    While a call blocks the loop, nothing else can begin or end, although others are under way. A
    step does so if this holds for nearly all of its time, if so much else happened otherwise that
    it is no coincidence, and if none of its calls overlap. (In virtual time nothing blocks.)

    Args:
        spans: All calls.
        steps: Names of the steps in question; calls within their calls count as events.
    """
    starts = sorted(span.start for span in spans)
    ends = sorted(span.end for span in spans)
    depth = _depths(spans)
    held: dict[str, float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for span in spans:
        if span.name not in steps:
            continue
        calls[span.name] += 1
        total[span.name] += span.seconds
        events = _within(starts, span) + _within(ends, span) - 2  # its own two
        under_way = bisect_right(starts, span.start) - bisect_left(ends, span.start)
        if events == 0 and under_way > depth[span.id]:
            held[span.name] += span.seconds
    observed = max(ends) - min(starts) if spans else 0.0
    return {
        name: seconds
        for name, seconds in held.items()
        if seconds >= MOSTLY * total[name]
        and 2 * (len(spans) - calls[name]) * seconds >= EXPECTED * observed
    }


def _within(times: list[float], span: Span) -> int:
    return bisect_right(times, span.end) - bisect_left(times, span.start)


def _depths(spans: Sequence[Span]) -> Mapping[int, int]:
    """Return for each call how many it stands for: itself, and those that it runs in."""
    depths: dict[int, int] = {}
    for span in sorted(spans, key=lambda span: span.id):  # what it runs in has a lower number
        depths[span.id] = 1 + (0 if span.parent is None else depths.get(span.parent, 0))
    return depths
