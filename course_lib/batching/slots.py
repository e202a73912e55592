"""How many items may be worked on at once, and which may start."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ChunkSlots", "Slots"]


class Slots:
    """A number of places, for use in one event loop.

    New items start only while there is `room`. One that is tried again has come before all of
    them, so it goes first: while it waits, no place is ever free.

    Args:
        size: How many places there are.
    """

    __slots__ = ("_size", "_waiting", "used")

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.used = 0

    def room(self) -> bool:
        """Return whether a new item may start."""
        return self.used < self._size

    def take(self) -> None:
        """Take a place for a new item; only while there is room."""
        self.used += 1

    def give(self) -> None:
        """Give a place back: to the first that waits for one, if any."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.used -= 1

    async def retake(self) -> None:
        """Wait for a place for an item that is tried again."""
        if self.used < self._size:
            self.used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given a place in the same moment
                self.give()
            raise


class ChunkSlots(Slots):
    """Places that are given out a chunk at a time: the next chunk starts when this one has ended.

    Args:
        size: Says how many items the next chunk has.
    """

    __slots__ = ("_left", "_next_size")

    def __init__(self, size: Callable[[], int]) -> None:
        super().__init__(0)
        self._next_size = size
        self._left = 0

    def room(self) -> bool:
        """Return whether the chunk is not yet full, or has ended."""
        return self._left > 0 or self.used == 0

    def take(self) -> None:
        """Take a place in this chunk, or begin the next one."""
        if self._left == 0:
            self._left = self._size = self._next_size()
        self._left -= 1
        self.used += 1

    def give(self) -> None:
        """Give a place back; what has ended is not replaced within its chunk."""
        self.used -= 1
