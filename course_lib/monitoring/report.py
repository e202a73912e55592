"""What a monitor saw: figures of each step, and the calls that ended last.

Reports of several processes are merged into one, since all that they hold can be added up.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Literal, get_args

from course_lib.clock import NANO
from course_lib.monitoring.histogram import Distribution
from course_lib.table import duration, html_table, number, text_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["ENDINGS", "Ending", "Report", "Span", "StepReport"]

Ending = Literal["ok", "error", "cancelled"]
"""How a call ended."""
ENDINGS: tuple[str, ...] = get_args(Ending)
_DISTRIBUTIONS = ("service", "wait", "response", "first_token")
_COUNTS = ("errors", "cancelled", "rejected", "in_flight", "in_flight_nanoseconds")
_HEAD = (
    *("step", "calls", "errors", "cancelled", "mean", "p50", "p95", "p99", "max"),
    *("wait p99", "throughput", "in flight"),
)


@dataclass(frozen=True, slots=True)
class Span:
    """One call of a step that has ended.

    Attributes:
        name: Name of the step.
        start: When the work on it began, in seconds on the monitor's clock.
        end: When it ended, in the same seconds.
        wait: Seconds from the planned start to `start`.
        outcome: "ok", "error" or "cancelled".
        id: Number of the call, from 1; no other in the report has it.
        parent: Number of the call that this one ran in, or None. That one may have been evicted.
        thread: Name of the thread that it ended in.
        process: Number of the process that it ran in.
    """

    name: str
    start: float
    end: float
    wait: float = 0.0
    outcome: Ending = "ok"
    id: int = 0
    parent: int | None = None
    thread: str = ""
    process: int = 0

    @property
    def seconds(self) -> float:
        """Service time: from start to end."""
        return self.end - self.start

    @property
    def planned(self) -> float:
        """When it should have started."""
        return self.start - self.wait

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Span:
        """Return what `to_dict` was called on.

        Raises:
            ValueError: The values are none that `to_dict` returns.
        """
        try:
            span = cls(**state)
            times = all(isinstance(each, int | float) for each in (span.start, span.end, span.wait))
            sound = times and span.start <= span.end and span.wait >= 0 <= span.id
            sound = sound and span.outcome in ENDINGS
        except TypeError:
            sound = False
        if not sound:
            raise ValueError(f"{state!r:.200} is no span: pass what `to_dict` returned")
        return span


@dataclass(frozen=True, slots=True, repr=False)
class StepReport:
    """What is known of one step.

    `count`, `total`, `mean`, the extremes and the percentiles are those of the service time, of all
    calls that ended, however they ended. Those of the response time, which a caller feels, are in
    `response`.

    Attributes:
        name: Name of the step.
        service: Seconds from start to end.
        wait: Seconds from the planned start to the start; 0 where nothing was planned.
        response: Their sums: seconds from the planned start to the end.
        first_token: Seconds from start to the first token, of the streams that had one; or None.
        errors: Calls that failed.
        cancelled: Calls that were cancelled.
        in_flight: Calls that had begun and not ended when the report was made.
        in_flight_nanoseconds: Integral over time of the calls in flight, a whole number so that
            sums of it are exact.
        seconds: How long was observed; see `Report.seconds`.
        parents: Names of the steps that it ran in.
        rejected: Calls that failed since a provider answered 429 (too many requests), as far as the
            monitor saw their errors: of those that were given to `record` it saw none.
    """

    name: str
    service: Distribution
    wait: Distribution
    response: Distribution
    first_token: Distribution | None = None
    errors: int = 0
    cancelled: int = 0
    in_flight: int = 0
    in_flight_nanoseconds: int = 0
    seconds: float = 0.0
    parents: tuple[str, ...] = ()
    rejected: int = 0

    @property
    def count(self) -> int:
        """Calls that ended, failed and cancelled ones included."""
        return self.service.count

    @property
    def succeeded(self) -> int:
        """Calls that neither failed nor were cancelled."""
        return self.count - self.errors - self.cancelled

    @property
    def total(self) -> float:
        """Sum of the service times, in seconds: of calls side by side, more than time that passed."""
        return self.service.total

    @property
    def mean(self) -> float:
        """Mean service time, in seconds."""
        return self.service.mean

    @property
    def average(self) -> float:
        """Another word for `mean`."""
        return self.service.mean

    @property
    def minimum(self) -> float:
        """Shortest service time, in seconds."""
        return self.service.minimum

    @property
    def maximum(self) -> float:
        """Longest service time, in seconds."""
        return self.service.maximum

    @property
    def p50(self) -> float:
        """Median service time, in seconds."""
        return self.service.quantile(0.50)

    @property
    def p95(self) -> float:
        """95th percentile of the service time, in seconds."""
        return self.service.quantile(0.95)

    @property
    def p99(self) -> float:
        """99th percentile of the service time, in seconds."""
        return self.service.quantile(0.99)

    @property
    def throughput(self) -> float:
        """Calls that ended, for each second observed; nan if no time passed."""
        return self.count / self.seconds if self.seconds else math.nan

    @property
    def mean_in_flight(self) -> float:
        """Calls in flight on average over the time observed; nan if no time passed."""
        return self.in_flight_nanoseconds / NANO / self.seconds if self.seconds else math.nan

    def __repr__(self) -> str:
        return f"<{self.name}: {self.count:,} calls, {self.errors:,} errors, {self.service!r}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        state = {part.name: getattr(self, part.name) for part in fields(self)}
        for name in _DISTRIBUTIONS:
            state[name] = state[name] and state[name].to_dict()
        return {**state, "parents": list(self.parents)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> StepReport:
        """Return one equal to that which `to_dict` was called on.

        Raises:
            KeyError: A value is missing.
            TypeError: There is one that `to_dict` does not return.
            ValueError: A value cannot be.
        """
        for name in _COUNTS:
            if type(state[name]) is not int or state[name] < 0:
                raise ValueError(f"{name}={state[name]!r} of step {state['name']!r} is no count")
        held = {
            name: state[name] and Distribution.from_dict(state[name]) for name in _DISTRIBUTIONS
        }
        return cls(**{**state, **held, "parents": tuple(state["parents"])})


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What a monitor saw from the first planned start to the last event.

        report = monitor.report()
        report["retrieve"].p99

    As text and in a notebook it is a table. It does not change while the monitor goes on.

    Attributes:
        steps: What is known of each step, by name, in the order in which they were first seen.
        seconds: How long was observed: from the earliest planned start to the last end, or to the
            report while a call is in flight.
        started: When that began, in seconds on the monitor's clock.
        spans: The calls that ended last, in the order in which their ends were told.
        dropped_spans: Calls that ended, but are no longer among `spans`.
        evicted_runs: Runs of callbacks of which no end was seen before there was no more room for
            them. They are in no step's figures, since nobody knows how they ended.
    """

    steps: Mapping[str, StepReport]
    seconds: float
    started: float = 0.0
    spans: tuple[Span, ...] = ()
    dropped_spans: int = 0
    evicted_runs: int = 0

    def __getitem__(self, name: str) -> StepReport:
        try:
            return self.steps[name]
        except KeyError:
            known = ", ".join(map(repr, self.steps)) or "none"
            raise KeyError(f"no step {name!r} in this report: there are {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.steps

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return text_table(_lines(self)) if self.steps else "<Report: nothing recorded>"

    def _repr_html_(self) -> str:
        return html_table(_lines(self))

    def merge(self, *others: Report, same_clock: bool = False) -> Report:
        """Return one report of several processes that worked side by side.

        Counts and histograms add up as if one monitor had seen all. Percentiles are taken from the
        merged histograms: those of the parts could not be averaged.

        Args:
            others: Reports of the other processes.
            same_clock: Whether all times are by one clock (several monitors of one process, with
                one `timer`). Then spans keep their times, and what is observed lasts from the
                first start to the last end. Otherwise all reports are taken to start together, and
                to last as long as the longest.

        Raises:
            ValueError: Histograms differ in their `relative_error`.
        """
        return _merged((self, *others), same_clock=same_clock)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values, histograms included; `from_dict` takes it back."""
        return {
            **{part.name: getattr(self, part.name) for part in fields(self)},
            "steps": [step.to_dict() for step in self.steps.values()],
            "spans": [span.to_dict() for span in self.spans],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Report:
        """Return a report equal to the one that `to_dict` was called on.

        Raises:
            ValueError: The values are none that `to_dict` returns.
        """
        try:
            steps = [StepReport.from_dict(step) for step in state["steps"]]
            spans = tuple(Span.from_dict(span) for span in state["spans"])
            return cls(**{**state, "steps": {step.name: step for step in steps}, "spans": spans})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no report: pass what `to_dict` returned ({error})") from None


def _lines(report: Report) -> list[tuple[str, ...]]:
    return [_HEAD, *map(_row, report.steps.values())]


def _row(step: StepReport) -> tuple[str, ...]:
    counts = (step.count, step.errors, step.cancelled)
    service = (step.mean, step.p50, step.p95, step.p99, step.maximum)
    return (
        step.name,
        *(f"{count:,}" for count in counts),
        *map(duration, (*service, step.wait.quantile(0.99))),
        f"{number(step.throughput)}/s",
        number(step.mean_in_flight),
    )


def _merged(reports: Sequence[Report], *, same_clock: bool) -> Report:
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
        rejected=sum(part.rejected for part in parts),
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
