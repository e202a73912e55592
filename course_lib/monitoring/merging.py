"""One report out of several."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from course_lib.clock import NANO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from course_lib.monitoring.histogram import Distribution
    from course_lib.monitoring.report import Report
    from course_lib.monitoring.spans import Span
    from course_lib.monitoring.step_report import StepReport

__all__ = ["merged"]


def merged(reports: Sequence[Report], *, same_clock: bool) -> Report:
    """Return one report; see `Report.merge`."""
    first = reports[0]
    if len(reports) == 1:
        return first
    started, seconds = _hull(reports) if same_clock else _longest(reports)
    names = dict.fromkeys(name for report in reports for name in report.steps)
    return replace(
        first,
        steps={
            name: _step([each.steps[name] for each in reports if name in each.steps], seconds)
            for name in names
        },
        started=started,
        seconds=seconds,
        spans=_spans(reports, None if same_clock else first.started),
        dropped_spans=sum(report.dropped_spans for report in reports),
        evicted_runs=sum(report.evicted_runs for report in reports),
    )


def _hull(reports: Sequence[Report]) -> tuple[float, float]:
    busy = [report for report in reports if report.steps] or reports
    first = min(_nanoseconds(report.started) for report in busy)
    last = max(_nanoseconds(report.started) + _nanoseconds(report.seconds) for report in busy)
    return first / NANO, (last - first) / NANO


def _longest(reports: Sequence[Report]) -> tuple[float, float]:
    return reports[0].started, max(report.seconds for report in reports)


def _step(parts: Sequence[StepReport], seconds: float) -> StepReport:
    tokens = [part.first_token for part in parts if part.first_token is not None]
    return replace(
        parts[0],
        service=_union([part.service for part in parts]),
        wait=_union([part.wait for part in parts]),
        response=_union([part.response for part in parts]),
        first_token=_union(tokens) if tokens else None,
        errors=sum(part.errors for part in parts),
        cancelled=sum(part.cancelled for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        in_flight_nanoseconds=sum(part.in_flight_nanoseconds for part in parts),
        seconds=seconds,
        parents=tuple(dict.fromkeys(name for part in parts for name in part.parents)),
    )


def _union(parts: Sequence[Distribution]) -> Distribution:
    return reduce(or_, parts)


def _spans(reports: Sequence[Report], start: float | None) -> tuple[Span, ...]:
    """All spans in the order of their ends, numbered anew; each report from `start` on, if given."""
    found: list[Span] = []
    offset = 0
    for report in reports:
        shift = 0 if start is None else _nanoseconds(start) - _nanoseconds(report.started)
        found += (_moved(span, shift, offset) for span in report.spans)
        offset = max((span.id for span in found), default=offset)
    return tuple(sorted(found, key=lambda span: span.end))


def _moved(span: Span, shift: int, offset: int) -> Span:
    return replace(
        span,
        start=(_nanoseconds(span.start) + shift) / NANO,
        end=(_nanoseconds(span.end) + shift) / NANO,
        id=span.id + offset,
        parent=None if span.parent is None else span.parent + offset,
    )


def _nanoseconds(seconds: float) -> int:
    """What the monitor counted: sums of these are exact."""
    return round(seconds * NANO)
