"""What happened to each step: calls in flight, what is counted of those that ended, and when."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from threading import RLock, current_thread
from typing import TYPE_CHECKING, Final, TypeVar

from course_lib.clock import NANO, Clock
from course_lib.monitoring.histogram import Histogram
from course_lib.monitoring.report import Report, Span, StepReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.monitoring.report import Ending

    # A span as it is counted: its attributes but for the process, times in whole nanoseconds.
    _Ended = tuple[str, int, int, int, Ending, int, int | None, str]

__all__ = ["OpenCall", "Records"]

OTHER = "(other)"
"""Name of the step that takes the calls of all names for which there is no room."""

NEVER: Final = 2**63
"""In nanoseconds."""

AnyCall = TypeVar("AnyCall", bound="OpenCall")


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call that has begun and not ended; times are whole nanoseconds on the monitor's clock.

    Attributes:
        records: Where it is counted.
        id: Its number, from 1.
        tally: What is counted of its step.
        start: When it began.
        wait: Nanoseconds from its planned start to that.
        parent: The call that it runs in.
    """

    records: Records
    id: int
    tally: Tally
    start: int
    wait: int
    parent: OpenCall | None


class Tally:
    """What is counted of one step; its methods are called with the monitor's lock held.

    Args:
        name: Name of the step.

    Attributes:
        name: The same.
        parents: Names of the steps that it ran in, as the keys of a dict, which keeps their order.
        in_flight: Calls that have begun and not ended.
        area: Integral of `in_flight` over time up to now, less `in_flight` times now; in whole
            nanoseconds. So a call takes its start off, and adds its end.
        service: Seconds from start to end.
        wait: Seconds from the planned start to the start; None as long as nothing had to wait,
            since it would hold but zeros.
        response: Their sums; None as long, since it would repeat `service`.
        first_token: Seconds to the first token, once there was one.
        errors: Calls that failed.
        cancelled: Calls that were cancelled.
        rejected: Calls that a provider answered 429.
    """

    __slots__ = (
        "area",
        "cancelled",
        "errors",
        "first_token",
        "in_flight",
        "name",
        "parents",
        "rejected",
        "response",
        "service",
        "wait",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.parents: dict[str, None] = {}
        self.in_flight = 0
        self.restart(0)

    def restart(self, now: int) -> None:
        """Forget all that has ended; what is in flight is so from now on."""
        self.area = -self.in_flight * now
        self.service = Histogram()
        self.wait: Histogram | None = None
        self.response: Histogram | None = None
        self.first_token: Histogram | None = None
        self.errors = self.cancelled = self.rejected = 0

    def add_wait(self, wait: float, response: float) -> None:
        """Count the wait of a call, before its service; needed from the first on that is not 0."""
        if self.wait is None or self.response is None:
            self.wait = _zeros(self.service.count)
            self.response = self.service.copy()
        self.wait.record(wait)
        self.response.record(response)

    def add_failure(self, ending: Ending) -> None:
        """Count that a call did not succeed."""
        if ending == "error":
            self.errors += 1
        else:
            self.cancelled += 1

    def add_token(self, seconds: float) -> None:
        """Count the time to a first token."""
        if self.first_token is None:
            self.first_token = Histogram()
        self.first_token.record(seconds)

    def report(self, end: int, seconds: float) -> StepReport:
        """Return its figures at the end of the time observed, of which `seconds` have passed."""
        service = self.service.snapshot()
        return StepReport(
            name=self.name,
            service=service,
            wait=(self.wait or _zeros(service.count)).snapshot(),
            response=self.response.snapshot() if self.response else service,
            first_token=self.first_token and self.first_token.snapshot(),
            errors=self.errors,
            cancelled=self.cancelled,
            in_flight=self.in_flight,
            in_flight_nanoseconds=self.area + self.in_flight * end,
            seconds=seconds,
            parents=tuple(self.parents),
            rejected=self.rejected,
        )


class Records:
    """Tallies by name, the calls that ended last, and the time observed.

    Its methods are called with `lock` held. The lock may be taken twice by one thread: Python may
    close a forgotten generator, and so end a run, in the middle of any allocation.

    Args:
        timer: Returns seconds, or None; see `Clock`.
        keep_spans: How many of the calls that ended are kept.
        max_names: How many names have a tally of their own.

    Attributes:
        lock: Held while anything here is read or changed.
        clock: Tells the time of all calls.
        tallies: What is counted, by name, in the order of first appearance.
    """

    def __init__(
        self, timer: Callable[[], float] | None, *, keep_spans: int, max_names: int
    ) -> None:
        self.lock = RLock()
        self.clock = Clock(timer)
        self.tallies: dict[str, Tally] = {}
        self._max_names = max_names
        self._kept = keep_spans
        self._spans: deque[Span] = deque(maxlen=keep_spans)
        # Those that have ended since the last report. To make a span costs as much as all the rest
        # of a record, and of most nobody ever reads one.
        self._ended: deque[_Ended] = deque(maxlen=keep_spans)
        self._begun = 0
        self._evicted = 0
        self._process = os.getpid()
        self._since = 0  # when all was forgotten
        self._first = NEVER  # the earliest planned start
        self._last = 0  # the latest end

    def begin(
        self, kind: type[AnyCall], name: str, parent: OpenCall | None, planned: int | None = None
    ) -> AnyCall:
        """Return a call that begins now, and should have at `planned` if that is earlier."""
        now = self.clock.nanoseconds()
        wait = 0 if planned is None or planned > now else now - planned
        tally = self.tallies.get(name) or self._new(name)
        tally.in_flight += 1
        tally.area -= now
        if parent is not None:
            tally.parents[parent.tally.name] = None
        if now - wait < self._first:  # noqa: PLR1730 - `min` takes three times as long
            self._first = now - wait
        self._begun += 1
        return kind(self, self._begun, tally, now, wait, parent)

    def end(
        self,
        call: OpenCall,
        ending: Ending,
        start: int | None = None,
        end: int | None = None,
        *,
        rejected: bool = False,
    ) -> int:
        """Count a call that has ended.

        Args:
            call: Begun here; it is ended once.
            ending: How it ended.
            start: When the work on it really began, later than was told; the difference is a wait.
            end: When it really ended, before now.
            rejected: Whether a provider answered 429.

        Returns:
            What time it is now.
        """
        now = self.clock.nanoseconds()
        tally = call.tally
        tally.in_flight -= 1
        tally.area += now
        if start is None or end is None:
            start, end = call.start, now
        else:
            tally.area += self._overlap(start, end) - self._overlap(call.start, now)
        wait = call.wait + start - call.start
        if wait or tally.wait is not None:
            tally.add_wait(wait / NANO, (end - start + wait) / NANO)
        tally.service.record((end - start) / NANO)
        if ending != "ok":
            tally.add_failure(ending)
            tally.rejected += rejected
        self._last = now
        if self._kept:
            parent = None if call.parent is None else call.parent.id
            thread = current_thread().name
            self._ended.append((tally.name, start, end, wait, ending, call.id, parent, thread))
        return now

    def record(self, name: str, duration: float, wait: float, ending: Ending) -> None:
        """Count a call that ends now, and of which nothing was known before."""
        now = self.clock.nanoseconds()
        tally = self.tallies.get(name) or self._new(name)
        waited = 0
        if wait or tally.wait is not None:
            tally.add_wait(wait, duration + wait)
            waited = int(wait * NANO + 0.5)
        service = tally.service.record(duration)
        if ending != "ok":
            tally.add_failure(ending)
        tally.area += service
        start = now - service
        if start - waited < self._first:  # noqa: PLR1730 - as above
            self._first = start - waited
        self._last = now
        self._begun += 1
        if self._kept:
            thread = current_thread().name
            self._ended.append((tally.name, start, now, waited, ending, self._begun, None, thread))

    def give_up(self, call: OpenCall) -> None:
        """Stop counting a call as in flight; how it ended is not known."""
        self._last = self.clock.nanoseconds()
        call.tally.in_flight -= 1
        call.tally.area += self._last
        self._evicted += 1

    def report(self) -> Report:
        """Return what was seen up to now."""
        now = self.clock.nanoseconds()
        tallies = self.tallies.copy()  # a run that ends in between may add one
        busy = any(tally.in_flight for tally in tallies.values())
        end = now if busy else self._last
        first = min(self._first, end)
        seconds = (end - first) / NANO
        spans = self._made_spans()
        steps = {name: each.report(end, seconds) for name, each in tallies.items()}
        return Report(
            steps=steps,
            seconds=seconds,
            started=first / NANO,
            spans=spans,
            dropped_spans=sum(step.count for step in steps.values()) - len(spans),
            evicted_runs=self._evicted,
        )

    def reset(self) -> None:
        """Forget all but the calls in flight, which from now on are in flight."""
        now = self.clock.nanoseconds()
        for name, tally in self.tallies.copy().items():
            if tally.in_flight:
                tally.restart(now)
            else:
                del self.tallies[name]
        self._spans.clear()
        self._ended.clear()
        self._evicted = 0
        self._first = now if self.tallies else NEVER
        self._last = self._since = now

    def _new(self, name: str) -> Tally:
        """Return the tally that calls of a new name are counted in."""
        if len(self.tallies) >= self._max_names:
            name = OTHER
        return self.tallies.setdefault(name, Tally(name))

    def _overlap(self, start: int, end: int) -> int:
        """How much of this lies after the last reset."""
        return max(0, end - max(start, self._since))

    def _made_spans(self) -> tuple[Span, ...]:
        while self._ended:
            name, start, end, wait, ending, number, parent, thread = self._ended.popleft()
            times = start / NANO, end / NANO, wait / NANO
            self._spans.append(Span(name, *times, ending, number, parent, thread, self._process))
        return tuple(self._spans)


def _zeros(count: int) -> Histogram:
    made = Histogram()
    if count:
        made.record(0.0, count)
    return made
