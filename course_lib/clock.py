"""Time for what threads and event loops share: whose time a loop keeps, and one clock for all.

An event loop keeps the machine's time, as threads do, or one of its own (virtual time). What
threads and loops share (a gate, a cache, a monitor) has a `Clock`; those who wait by real time only
ask `timer_of`, and refuse a loop that does not keep it.
"""

from __future__ import annotations

import asyncio
import time

# The documented `asyncio.get_running_loop` raises where no loop runs, and each step of a thread would
# pay for that exception. This one returns None there. In spite of its name it is public: it stands
# in `asyncio.events.__all__`, for writers of event loops.
from asyncio import _get_running_loop as running_loop
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NANO", "Clock", "running_loop", "timer_of"]

NANO: Final = 1_000_000_000
"""Nanoseconds in a second."""


def timer_of(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    """Return the function that tells a loop's time: `time.monotonic`, unless it keeps its own.

    asyncio's loops keep the machine's time. So does uvloop, and says so in other words: its `time`
    is its own, though what it tells is the machine's.

    Args:
        loop: The loop, or None where none runs.

    Returns:
        A function that returns seconds. It is `time.monotonic` itself for all that keep the
        machine's time, so that two timers are compared by identity.
    """
    if loop is None or type(loop).time is asyncio.BaseEventLoop.time:
        return time.monotonic
    if type(loop).__module__.partition(".")[0] == "uvloop":
        return time.monotonic
    return loop.time


class Clock:
    """Seconds since it was made, which never go back, whoever asks.

    By default the time is that of the event loop that runs where it is asked, and otherwise that
    of the machine (`time.monotonic`). Ordinary loops keep the machine's time, so that loops and
    threads agree. A loop with a time of its own (virtual time) has nothing to do with them. From
    one time to another the clock goes on from the last reading: no time passes in between. So what
    ends at some moment has to be read there: the last reading of a caller who leaves carries the
    time over to the next event loop.

    A timer that goes back (a wall clock that is set) counts as one that stood still.

    Its methods are called with the lock of what it serves held.

    Args:
        timer: Returns seconds; by default as said above. If it is given, everybody goes by it.
        exclusive: Whether, while somebody waits by one time, any other is refused. Without it two
            times that ask alternately add up: give each simulation an object of its own.
        ageing: Whether nothing stays young, in the seconds of whoever asks: also the machine's time
            that passed since it was asked last counts at the change to another time, and all that
            has passed in a loop with a time of its own since that loop's zero.

    Attributes:
        waiting: How many wait by this clock now; kept by those who let them wait.
        loop: The loop that asked last.
        timer: What it goes by now.
        offset: Seconds to add to that.
    """

    __slots__ = (
        "_ageing",
        "_date",
        "_exclusive",
        "_given",
        "_last",
        "_machine",
        "_virtual",
        "loop",
        "offset",
        "timer",
        "waiting",
    )

    def __init__(
        self,
        timer: Callable[[], float] | None = None,
        *,
        exclusive: bool = False,
        ageing: bool = False,
    ) -> None:
        self._given = timer
        self._exclusive = exclusive
        self._ageing = ageing
        # Made inside a loop, an ageing clock counts what had passed there: it follows at first use.
        self.loop = None if ageing else running_loop()
        self.timer = timer or timer_of(self.loop)
        self.offset = -self.timer()
        self.waiting = 0
        self._last = 0.0
        self._machine = -time.monotonic()  # offset of the machine's time
        self._date = time.time()  # at 0 seconds; counts only where the time is not the machine's
        self._virtual = self.loop  # the last loop with a time of its own

    def now(self) -> float:
        """Return the seconds since the clock was made.

        Raises:
            RuntimeError: It is exclusive, and somebody waits by another time than that asked by.
        """
        if running_loop() is not self.loop:
            self.follow()
        now = self.timer() + self.offset
        if now < self._last:
            self.offset += self._last - now
            return self._last
        self._last = now
        return now

    def nanoseconds(self) -> int:
        """Return what `now` does in whole nanoseconds, whose differences and sums are exact."""
        if running_loop() is not self.loop:
            self.follow()
        # As `now`, without the call: a monitor asks twice a call, among code that is not warm.
        now = self.timer() + self.offset
        if now < self._last:
            now = self.now()
        self._last = now
        return int(now * NANO + 0.5)

    def seen(self) -> float:
        """Return the seconds for display: where `now` would change or refuse, the last known."""
        timer = self._given or timer_of(running_loop())
        return self.now() if timer == self.timer else self._last

    def date(self) -> float:
        """Return the wall clock's time, in seconds since 1970, for what other processes read.

        In virtual time, and by a given timer, it advances as the seconds do.
        """
        now = self.now()
        return time.time() if self.timer is time.monotonic else self._date + now

    def follow(self) -> None:
        """Go by the running loop from now on, or by the machine where none runs; see `now`."""
        loop = running_loop()
        timer = self._given or timer_of(loop)
        if timer != self.timer:
            self._change_to(timer, loop)
        self.loop = loop

    def _change_to(
        self, timer: Callable[[], float], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        if self._exclusive and self.waiting:
            raise RuntimeError(
                f"{self.waiting} callers wait by the time of another event loop, which is not the "
                "machine's (virtual time?): make an object of its own for each simulation, or "
                "give all of them one `timer=`."
            )
        if self._ageing:
            readings = self.timer() + self.offset, time.monotonic() + self._machine
            self._last = max(self._last, *readings)
        self.timer, self.offset = timer, self._last - timer()
        if timer is time.monotonic:
            self._machine = self.offset
        elif loop is not self._virtual:
            self._virtual = loop
            self._date = time.time() - self._last
            if self._ageing:
                self.offset = self._last
