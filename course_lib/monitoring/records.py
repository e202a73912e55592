"""Where all calls of a monitor are counted."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from course_lib.clock import NANO, Clock
from course_lib.monitoring.call import Call
from course_lib.monitoring.report import Report, Span
from course_lib.monitoring.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.monitoring.report import Outcome

__all__ = ["OTHER", "Ledger"]

OTHER = "(other)"
"""Name of the step that takes the calls of all names for which there is no room."""

AnyCall = TypeVar("AnyCall", bound=Call)


class Ledger:
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
        self, kind: type[AnyCall], name: str, parent: Call | None, planned: int | None = None
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
        self, call: Call, outcome: Outcome, start: int | None = None, end: int | None = None
    ) -> None:
        """Count a call that has ended.

        Args:
            call: Of this ledger; it is ended once.
            outcome: How it ended.
            start: When the work on it really began, later than was told; the difference is a wait.
            end: When it really ended, before now.
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
        self._last = now
        parent = None if call.parent is None else call.parent.id
        self._keep(name, (start, end, wait), outcome, call.id, parent)

    def record(self, name: str, duration: float, wait: float, outcome: Outcome) -> None:
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

    def give_up(self, call: Call) -> None:
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
        outcome: Outcome,
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
