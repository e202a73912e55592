"""What happened to each step: calls in flight, what is counted of those that ended, and when."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from course_lib.clock import NANO, Clock
from course_lib.monitoring.histogram import Histogram
from course_lib.monitoring.report import Report, Span, StepReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.monitoring.report import Ending

__all__ = ["OpenCall", "Records"]

OTHER = "(other)"
"""Name of the step that takes the calls of all names for which there is no room."""

AnyCall = TypeVar("AnyCall", bound="OpenCall")


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call that has begun and not ended; times are whole nanoseconds on the monitor's clock.

    Attributes:
        records: Where it is counted.
        id: Its number, from 1.
        name: Name of its step, as the records have it.
        start: When it began.
        wait: Nanoseconds from its planned start to that.
        parent: The call that it runs in.
    """

    records: Records
    id: int
    name: str
    start: int
    wait: int
    parent: OpenCall | None


class Tally:
    """Counts and histograms of one step; its methods are called with the monitor's lock held.

    Times are whole nanoseconds on the monitor's clock, durations are seconds.

    Attributes:
        parents: Names of the steps that it ran in, as the keys of a dict, which keeps their order.
        in_flight: Calls that have begun and not ended.
        rejected: Calls that a provider answered 429.
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
        "rejected",
    )

    def __init__(self, now: int) -> None:
        self.parents: dict[str, None] = {}
        self.in_flight = 0
        self.rejected = 0
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

    def add(self, service: float, wait: float, response: float, outcome: Ending) -> None:
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
            rejected=self.rejected,
        )

    def _add_wait(self, wait: float, response: float) -> None:
        if self._wait is None or self._response is None:
            self._wait = _zeros(self._service.count)
            self._response = self._service.copy()
        self._wait.record(wait)
        self._response.record(response)


class Records:
    """Tallies by name, the spans that ended last, and the time observed.

    Its methods are called with `lock` held. The lock may be taken twice by one thread: Python may
    close a forgotten generator, and so end a run, in the middle of any allocation.

    Args:
        timer: Returns seconds, or None; see `Clock`.
        keep_spans: How many spans are kept.
        max_names: How many names have a tally of their own.

    Attributes:
        lock: Held while anything here is read or changed.
        clock: Tells the time of all calls.
        tallies: What is counted, by name, in the order of first appearance.
        ended: Calls that have ended.
        evicted: Calls that were given up without an end.
    """

    def __init__(
        self, timer: Callable[[], float] | None, *, keep_spans: int, max_names: int
    ) -> None:
        self.lock = threading.RLock()
        self.clock = Clock(timer)
        self.tallies: dict[str, Tally] = {}
        self.ended = 0
        self.evicted = 0
        self._max_names = max_names
        self._spans: deque[Span] = deque(maxlen=keep_spans)
        self._begun = 0
        self._process = os.getpid()
        self._since = 0  # when all was forgotten
        self._first: int | None = None  # the earliest planned start
        self._last = 0  # the latest end

    def begin(
        self, kind: type[AnyCall], name: str, parent: OpenCall | None, planned: int | None = None
    ) -> AnyCall:
        """Return a call that begins now, and should have at `planned` if that is earlier."""
        now = self.clock.nanoseconds()
        wait = max(0, now - planned) if planned is not None else 0
        name, tally = self._tally(name, now)
        tally.move(now, 1)
        if parent is not None:
            tally.parents[parent.name] = None
        self._observe(now - wait)
        self._begun += 1
        return kind(self, self._begun, name, now, wait, parent)

    def end(
        self,
        call: OpenCall,
        outcome: Ending,
        start: int | None = None,
        end: int | None = None,
        *,
        rejected: bool = False,
    ) -> None:
        """Count a call that has ended.

        Args:
            call: Begun here; it is ended once.
            outcome: How it ended.
            start: When the work on it really began, later than was told; the difference is a wait.
            end: When it really ended, before now.
            rejected: Whether a provider answered 429.
        """
        now = self.clock.nanoseconds()
        name, tally = self._tally(call.name, now)
        tally.move(now, -1)
        if start is None or end is None:
            start, end = call.start, now
        else:
            tally.correct(self._overlap(start, end) - self._overlap(call.start, now))
        wait = call.wait + start - call.start
        tally.add((end - start) / NANO, wait / NANO, (end - start + wait) / NANO, outcome)
        tally.rejected += rejected
        self._last = now
        parent = None if call.parent is None else call.parent.id
        self._keep(name, (start, end, wait), outcome, call.id, parent)

    def record(self, name: str, duration: float, wait: float, outcome: Ending) -> None:
        """Count a call that ends now, and of which nothing was known before."""
        now = self.clock.nanoseconds()
        service, waited = int(duration * NANO + 0.5), int(wait * NANO + 0.5)
        name, tally = self._tally(name, now)
        tally.correct(service)
        tally.add(duration, wait, duration + wait, outcome)
        self._observe(now - service - waited)
        self._last = now
        self._begun += 1
        self._keep(name, (now - service, now, waited), outcome, self._begun, None)

    def give_up(self, call: OpenCall) -> None:
        """Stop counting a call as in flight; how it ended is not known."""
        now = self.clock.nanoseconds()
        self._tally(call.name, now)[1].move(now, -1)
        self._last = now
        self.evicted += 1

    def report(self) -> Report:
        """Return what was seen up to now."""
        now = self.clock.nanoseconds()
        tallies = self.tallies.copy()  # a run that ends in between may add one
        busy = any(tally.in_flight for tally in tallies.values())
        end = now if busy else self._last
        first = end if self._first is None else self._first
        seconds = (end - first) / NANO
        return Report(
            steps={name: each.report(name, end, seconds) for name, each in tallies.items()},
            seconds=seconds,
            started=first / NANO,
            spans=tuple(self._spans),
            dropped_spans=self.ended - len(self._spans),
            evicted_runs=self.evicted,
        )

    def reset(self) -> None:
        """Forget all but the calls in flight, which from now on are in flight."""
        now = self.clock.nanoseconds()
        old, self.tallies = self.tallies, {}
        for name, tally in old.items():
            if tally.in_flight:
                self.tallies[name] = Tally(now)
                self.tallies[name].move(now, tally.in_flight)
                self.tallies[name].parents = tally.parents
        self._spans.clear()
        self.ended = self.evicted = 0
        self._first = now if self.tallies else None
        self._last = self._since = now

    def _tally(self, name: str, now: int) -> tuple[str, Tally]:
        """Return the name that calls of this one are counted under, and their tally."""
        tally = self.tallies.get(name)
        if tally is not None:
            return name, tally
        if len(self.tallies) >= self._max_names:
            name = OTHER
        return name, self.tallies.setdefault(name, Tally(now))

    def _overlap(self, start: int, end: int) -> int:
        """How much of this lies after the last reset."""
        return max(0, end - max(start, self._since))

    def _observe(self, start: int) -> None:
        if self._first is None or start < self._first:
            self._first = start

    def _keep(
        self,
        name: str,
        times: tuple[int, int, int],
        outcome: Ending,
        number: int,
        parent: int | None,
    ) -> None:
        self.ended += 1
        if not self._spans.maxlen:
            return
        start, end, wait = times
        self._spans.append(
            Span(
                name,
                start / NANO,
                end / NANO,
                wait / NANO,
                outcome,
                number,
                parent,
                threading.current_thread().name,
                self._process,
            )
        )


def _zeros(count: int) -> Histogram:
    made = Histogram()
    if count:
        made.record(0.0, count)
    return made
