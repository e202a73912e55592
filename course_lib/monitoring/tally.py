"""What is counted of one step while the monitor is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.monitoring.histogram import Histogram
from course_lib.monitoring.report import StepReport

if TYPE_CHECKING:
    from course_lib.monitoring.report import Outcome

__all__ = ["Tally"]


class Tally:
    """Counts and histograms of one step; its methods are called with the monitor's lock held.

    Times are whole nanoseconds on the monitor's clock, durations are seconds.

    Attributes:
        parents: Names of the steps that it ran in, as the keys of a dict, which keeps their order.
        in_flight: Calls that have begun and not ended.
        first_token: Seconds to the first token, once there was one.
    """

    __slots__ = (
        "_area",
        "_cancelled",
        "_errors",
        "_response",
        "_seen",
        "_service",
        "_wait",
        "first_token",
        "in_flight",
        "parents",
    )

    def __init__(self, now: int) -> None:
        self.parents: dict[str, None] = {}
        self.in_flight = 0
        self.first_token: Histogram | None = None
        self._area = 0  # integral of `in_flight` over time, up to `_seen`
        self._seen = now
        self._service = Histogram()
        # As long as nothing had to wait, these two would only repeat the one above.
        self._wait: Histogram | None = None
        self._response: Histogram | None = None
        self._errors = 0
        self._cancelled = 0

    def move(self, now: int, change: int) -> None:
        """Let so many more be in flight from now on."""
        self._area += self.in_flight * (now - self._seen)
        self._seen = now
        self.in_flight += change

    def correct(self, nanoseconds: int) -> None:
        """Add to the integral what was in flight unseen; take away what was not, if negative."""
        self._area += nanoseconds

    def add(self, service: float, wait: float, response: float, outcome: Outcome) -> None:
        """Count a call that has ended."""
        if wait > 0.0 or self._wait is not None:
            self._add_wait(wait, response)
        self._service.record(service)
        if outcome != "ok":
            if outcome == "error":
                self._errors += 1
            else:
                self._cancelled += 1

    def add_token(self, seconds: float) -> None:
        """Count the time to a first token."""
        if self.first_token is None:
            self.first_token = Histogram()
        self.first_token.record(seconds)

    def report(self, name: str, end: int, seconds: float) -> StepReport:
        """Return its figures at the end of the time observed, of which `seconds` have passed."""
        service = self._service.snapshot()
        return StepReport(
            name=name,
            service=service,
            wait=(self._wait or _zeros(service.count)).snapshot(),
            response=self._response.snapshot() if self._response else service,
            first_token=self.first_token and self.first_token.snapshot(),
            errors=self._errors,
            cancelled=self._cancelled,
            in_flight=self.in_flight,
            in_flight_nanoseconds=self._area + self.in_flight * (end - self._seen),
            seconds=seconds,
            parents=tuple(self.parents),
        )

    def _add_wait(self, wait: float, response: float) -> None:
        if self._wait is None or self._response is None:
            self._wait = _zeros(self._service.count)
            self._response = self._service.copy()
        self._wait.record(wait)
        self._response.record(response)


def _zeros(count: int) -> Histogram:
    made = Histogram()
    if count:
        made.record(0.0, count)
    return made
