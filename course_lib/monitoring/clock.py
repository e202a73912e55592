"""Nanoseconds for a monitor that event loops and threads share, in real or virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.clock import running_loop, timer_of
from course_lib.monitoring.log_linear import NANO

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Whole nanoseconds since it was made, which never go back, whoever asks.

    By default the time is that of the event loop that runs where it is asked, and otherwise that
    of the machine (`time.monotonic`). Ordinary loops keep the machine's time, so that loops and
    threads agree. From there to a loop with a time of its own (virtual time), and back, the clock
    goes on from where it was: no time passes in between. Two that ask alternately age it both:
    give each simulation a monitor of its own.

    Whole numbers, since the difference of two times in seconds is seldom the exact duration.

    Its methods are called with the monitor's lock held.

    Args:
        timer: Returns seconds. If it is given, everybody goes by it.
    """

    __slots__ = ("_given", "_last", "_loop", "_offset", "_timer")

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._given = timer
        self._loop = running_loop()
        self._timer = timer or timer_of(self._loop)
        self._offset = -_read(self._timer)
        self._last = 0

    def now(self) -> int:
        """Return the nanoseconds since the clock was made."""
        if running_loop() is not self._loop:
            self._follow()
        now = int(self._timer() * NANO + 0.5) + self._offset
        if now < self._last:  # a timer that goes back counts as one that stands still
            self._offset += self._last - now
            return self._last
        self._last = now
        return now

    def _follow(self) -> None:
        self._loop = running_loop()
        timer = self._given or timer_of(self._loop)
        if timer != self._timer:
            self._timer = timer
            self._offset = self._last - _read(timer)


def _read(timer: Callable[[], float]) -> int:
    return int(timer() * NANO + 0.5)
