"""Answers being written, all by one server: who shares its work with how many, exactly.

Speed changes whenever an answer begins or ends. Instead of following each answer, one counter
holds the work, in seconds alone, that an answer present all the time would have had; an answer has
a token when the counter has grown by what the token takes. So each change moves one timer only
(virtual time of processor sharing: Parekh and Gallager, "A generalized processor sharing approach
to flow control", 1993).
"""

import asyncio
import heapq
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from course_lib.service.generation import Generation

__all__ = ["Stream", "Streams"]

EARLY = 1e-7
"""Seconds of work by which a counter of rounded sums may fall short."""


class Streams:
    """The answers that a server writes at once, in the running loop's time.

    Args:
        generation: Its timing; None writes everything at once.
    """

    def __init__(self, generation: Generation | None) -> None:
        self.generation = generation
        self._running = 0
        self._work = 0.0
        self._since = 0.0
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def stream(self) -> Iterator["Stream"]:
        """Write an answer for the length of a `with` block; the others slow down meanwhile."""
        self._change(+1)
        try:
            yield Stream(self, self._work)
        finally:
            self._change(-1)

    def work(self) -> float:
        """Return the counter, in seconds of work."""
        now = asyncio.get_running_loop().time()
        if self._running and self.generation:
            self._work += (now - self._since) * self.generation.speed(self._running)
        self._since = now
        return self._work

    async def reach(self, work: float) -> None:
        """Wait until the counter has come so far."""
        if self.work() >= work - EARLY:
            return
        there = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (work, next(self._order), there))
        self._schedule()
        await there

    def _change(self, by: int) -> None:
        self.work()
        self._running += by
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer to the next token that anybody waits for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._waiting[0][2].done():  # its client left
            heapq.heappop(self._waiting)
        if self._waiting and self._running and self.generation:
            missing = max(0.0, self._waiting[0][0] - self._work)
            delay = missing / self.generation.speed(self._running)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        reached = self.work() + EARLY
        while self._waiting and self._waiting[0][0] <= reached:
            there = heapq.heappop(self._waiting)[2]
            if not there.done():
                there.set_result(None)
        self._schedule()


class Stream:
    """One answer on its way.

    Args:
        streams: The server's answers, this one included.
        start: Their counter when it began.
    """

    def __init__(self, streams: Streams, start: float) -> None:
        self._streams = streams
        self._start = start

    async def until(self, tokens: int) -> int:
        """Wait until so many tokens are written.

        Returns:
            Tokens written by now: as many, or more if the loop was late.
        """
        generation = self._streams.generation
        if generation is None:
            return sys.maxsize
        await self._streams.reach(self._start + generation.work(tokens))
        return max(tokens, generation.written(self._streams.work() - self._start))
