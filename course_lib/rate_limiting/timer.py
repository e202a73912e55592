"""Seconds for what is shared between threads and event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.clock import running_loop, timer_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Seconds since it was made, which never go back, whoever asks.

    By default the time is that of the event loop that runs where it is asked, and otherwise that
    of the machine (`time.monotonic`). Ordinary loops keep the machine's time, so that loops and
    threads agree. A loop with a time of its own (virtual time) has nothing to do with them:

    - from one time to another the clock goes on from where it was: no time passes in between;
    - while somebody waits by one time (`waiting` is above 0), any other is refused.

    A timer that goes back (a wall clock that is set) counts as one that stood still.

    Args:
        timer: Returns seconds; by default as said above. If it is given, everybody goes by it.

    Attributes:
        waiting: How many wait by this clock now; kept by those who let them wait.
    """

    __slots__ = ("_given", "_last", "_offset", "_timer", "waiting")

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._given = timer
        self._timer = timer or timer_of(running_loop())
        self._offset = -self._timer()
        self._last = 0.0
        self.waiting = 0

    def now(self) -> float:
        """Return the seconds since the clock was made.

        Raises:
            RuntimeError: Asked by one time while somebody waits by another.
        """
        timer = self._given or timer_of(running_loop())
        if timer != self._timer:
            self._change_to(timer)
        return self._read()

    def seen(self) -> float:
        """Return the seconds for display: where `now` would change or refuse, the last known."""
        timer = self._given or timer_of(running_loop())
        return self._read() if timer == self._timer else self._last

    def _read(self) -> float:
        now = self._timer() + self._offset
        if now < self._last:
            self._offset += self._last - now
            return self._last
        self._last = now
        return now

    def _change_to(self, timer: Callable[[], float]) -> None:
        if self.waiting:
            raise RuntimeError(
                f"{self.waiting} callers wait by the time of another event loop, which is not the "
                "machine's (virtual time?): make an object of its own for each simulation, or "
                "give all of them one `timer=`."
            )
        self._timer = timer
        self._offset = self._last - timer()
