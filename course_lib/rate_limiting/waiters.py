"""A line of callers: first come, first served, and one alarm for all of them."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from course_lib.rate_limiting.level import EARLY
from course_lib.rate_limiting.turn import ThreadTurn, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.clock import Clock

__all__ = ["Line", "Meter"]


class Meter(Protocol):
    """What a line waits for: `Level` for tokens, and others of its kind."""

    def due(self, weight: float) -> float:
        """Return the time in seconds from which `weight` may pass."""

    def spend(self, weight: float, now: float) -> None:
        """Let `weight` pass."""

    def give_back(self, weight: float, spent_at: float, now: float) -> None:
        """Take back that `weight` has passed at `spent_at`."""


class Line:
    """Turns that pass one after another, each as soon as the meter lets it.

    Nobody overtakes, so that a heavy turn is not starved by light ones. Nobody polls: one of those
    who wait has an alarm set for the moment when the first is due. A thread is preferred for that,
    since a loop may be blocked, perhaps by that very thread; otherwise it is the first whose loop
    runs.

    Its methods are called with `lock` held.

    Args:
        meter: Says from when on a turn may pass.
        clock: Its time.
        lock: Guards this line and all that must be decided together with it.
        settle: What is done when an alarm rings, with the lock held; by default `Line.advance`.
    """

    __slots__ = ("_alarm", "_settle", "_threads", "_turns", "clock", "lock", "meter")

    def __init__(
        self,
        meter: Meter,
        clock: Clock,
        lock: Lock | None = None,
        *,
        settle: Callable[[], None] | None = None,
    ) -> None:
        self.meter = meter
        self.clock = clock
        self.lock = lock or Lock()
        self._settle = settle or self.advance
        # Ordered dicts: a turn leaves from the middle in constant time.
        self._turns: OrderedDict[Turn, Callable[[Turn, float], None]] = OrderedDict()
        self._threads: OrderedDict[Turn, None] = OrderedDict()
        self._alarm: tuple[Turn, float] | None = None  # who has it, and when it rings

    def __len__(self) -> int:
        return len(self._turns)

    def join(self, turn: Turn, passed: Callable[[Turn, float], None]) -> None:
        """Take the last place; `passed(turn, now)` is called when the turn has passed."""
        self._turns[turn] = passed
        if isinstance(turn, ThreadTurn):
            self._threads[turn] = None
        self.clock.waiting += 1

    def leave(self, turn: Turn) -> bool:
        """Give up a place, or say False if there is none. Call `advance` afterwards."""
        if self._turns.pop(turn, None) is None:
            return False
        self._threads.pop(turn, None)
        self.clock.waiting -= 1
        if self._alarm is not None and self._alarm[0] is turn:
            self._silence()
        return True

    def advance(self) -> None:
        """Let pass who may, and have the alarm set for the next."""
        now = self.clock.now()
        while self._turns:
            turn, passed = next(iter(self._turns.items()))
            due = self.meter.due(turn.weight)
            if turn.gone:
                self.leave(turn)
            elif due - now > EARLY:
                self._set_alarm(due, now)
                return
            else:
                self.meter.spend(turn.weight, now)
                self.leave(turn)
                passed(turn, now)
        self._silence()

    def _set_alarm(self, due: float, now: float) -> None:
        keeper = self._timekeeper()
        if keeper is None or self._alarm == (keeper, due):
            return
        self._silence()
        self._alarm = keeper, due
        keeper.alarm(due - now, self._ring)

    def _ring(self) -> None:
        with self.lock:
            self._alarm = None
            self._settle()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm[0].disarm()
            self._alarm = None

    def _timekeeper(self) -> Turn | None:
        for turn in self._threads:
            return turn
        return next((turn for turn in self._turns if turn.can_keep_time), None)
