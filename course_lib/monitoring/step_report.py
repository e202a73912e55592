"""The figures of one step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from course_lib.clock import NANO
from course_lib.monitoring.histogram import Distribution

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StepReport"]

_DISTRIBUTIONS = ("service", "wait", "response", "first_token")
_COUNTS = ("errors", "cancelled", "in_flight", "in_flight_nanoseconds")


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
