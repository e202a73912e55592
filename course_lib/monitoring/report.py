"""What a monitor saw: figures of each step, and the calls that ended last."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from course_lib.monitoring.merging import merged
from course_lib.monitoring.spans import Span
from course_lib.monitoring.step_report import StepReport
from course_lib.table import duration, html_table, number, text_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Report", "StepReport"]

_HEAD = ("step", "calls", "errors", "cancelled", "mean", "p50", "p95", "p99", "max", "wait p99")
_RATES = ("throughput", "in flight")


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
        return merged((self, *others), same_clock=same_clock)

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
    return [(*_HEAD, *_RATES), *map(_row, report.steps.values())]


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
