"""Seconds and dates for a cache that several event loops and threads use, in real or virtual time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from course_lib.clock import running_loop, timer_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Seconds since it was made, which never go back, whoever asks.

    By default it goes by the machine (`time.monotonic`), which ordinary event loops and threads
    share. A loop with a time of its own (virtual time) is followed while it asks: the clock goes on
    from the latest it has shown, by all that has passed in that loop since its zero, and from there
    on in real time again. So nothing lives longer, in the seconds of whoever asks, than it was
    given. Two that ask alternately thus age it both: give each simulation a cache of its own.

    Its methods are called with the cache's lock held.

    Args:
        timer: Returns seconds that never go back. If it is given, everybody goes by it.

    Attributes:
        loop: The loop that asked last.
        timer: What it goes by now.
        offset: Seconds to add to that.
    """

    __slots__ = ("_date", "_given", "_machine", "_virtual", "loop", "offset", "timer")

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._given = timer
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer = timer or time.monotonic
        self._machine = -time.monotonic()  # offset of the machine's time
        self.offset = -self.timer()
        self._date = time.time()  # at 0 seconds; counts only where the time is not the machine's
        self._virtual: asyncio.AbstractEventLoop | None = None  # the last with a time of its own

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        if running_loop() is not self.loop:
            self.follow()
        return self.timer() + self.offset

    def date(self) -> float:
        """Return the wall clock's time, in seconds since 1970, for what other processes read.

        In virtual time, and by a given timer, it advances as the seconds do.
        """
        now = self.now()
        return time.time() if self.timer is time.monotonic else self._date + now

    def follow(self) -> None:
        """Go by the running loop from now on, or by the machine where none runs."""
        self.loop = running_loop()
        timer = self._given or timer_of(self.loop)
        if timer == self.timer:
            return
        latest = max(self.timer() + self.offset, time.monotonic() + self._machine)
        self.timer, self.offset = timer, latest - timer()
        if timer is time.monotonic:
            self._machine = self.offset
        elif self.loop is not self._virtual:
            self._virtual, self.offset = self.loop, latest
            self._date = time.time() - latest
