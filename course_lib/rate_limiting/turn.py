"""One caller's place in a line, whether a coroutine waits there or a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from course_lib.clock import running_loop, timer_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoopTurn", "ThreadTurn", "Turn"]


class Turn(ABC):
    """Somebody who waits, and how they are woken: when their turn comes, or to keep the time.

    All methods but the subclasses' `wait` are called with the lock of the line held, from
    whichever thread that may be. An alarm that was changed may still ring: that does no harm.

    Args:
        weight: Tokens wanted.
        arrived: Seconds on the line's clock when the caller came.

    Attributes:
        granted_at: Seconds on the line's clock when the turn came; None until then.
    """

    __slots__ = ("arrived", "granted_at", "weight")

    def __init__(self, weight: float, arrived: float) -> None:
        self.weight = weight
        self.arrived = arrived
        self.granted_at: float | None = None

    def grant(self, now: float) -> None:
        """Say that the turn has come."""
        self.granted_at = now
        self._wake()

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether nobody will use a grant any more, though they have not left the line yet."""

    @property
    @abstractmethod
    def can_keep_time(self) -> bool:
        """Whether an alarm would ring."""

    @abstractmethod
    def alarm(self, seconds: float, ring: Callable[[], None]) -> None:
        """Have `ring` called after so many seconds, without the lock; replaces an earlier one."""

    @abstractmethod
    def disarm(self) -> None:
        """Have no alarm any more."""

    @abstractmethod
    def _wake(self) -> None: ...


class LoopTurn(Turn):
    """A coroutine that waits, in the event loop it was made in."""

    __slots__ = ("_future", "_handle", "_loop")

    def __init__(self, weight: float, arrived: float) -> None:
        super().__init__(weight, arrived)
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._handle: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait until the turn has come; at once if it has."""
        await self._future

    @property
    def gone(self) -> bool:
        """Whether it was cancelled, or its loop closed."""
        return self._future.cancelled() or self._loop.is_closed()

    @property
    def can_keep_time(self) -> bool:
        """Whether its loop runs: one that was stopped calls nobody."""
        return self._loop.is_running()

    def alarm(self, seconds: float, ring: Callable[[], None]) -> None:
        """Have the loop call `ring` after so many seconds."""
        self._in_loop(self._arm, seconds, ring)

    def disarm(self) -> None:
        """Cancel the loop's timer."""
        self._in_loop(self._cancel)

    def _wake(self) -> None:
        self._in_loop(self._resolve)

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        if running_loop() is self._loop:
            function(*args)
            return
        with suppress(RuntimeError):  # closed in this very moment: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *args)

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def _arm(self, seconds: float, ring: Callable[[], None]) -> None:
        self._cancel()
        self._handle = self._loop.call_later(seconds, ring)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class ThreadTurn(Turn):
    """A thread that waits."""

    __slots__ = ("_event", "_ring", "_seconds")

    def __init__(self, weight: float, arrived: float) -> None:
        super().__init__(weight, arrived)
        self._event = threading.Event()
        self._seconds: float | None = None
        self._ring: Callable[[], None] = _nothing

    def wait(self) -> None:
        """Block the thread until the turn has come, and keep the line's time meanwhile if asked to.

        Raises:
            RuntimeError: It would block an event loop in virtual time, which then stands still.
        """
        if self.granted_at is not None:
            return
        if timer_of(running_loop()) is not time.monotonic:
            raise RuntimeError(
                "a synchronous call would wait inside an event loop in virtual time, whose clock "
                "then stands still: await the asynchronous one (`aacquire`, `ainvoke`, `async with`)"
            )
        while self.granted_at is None:
            told = self._event.wait(self._seconds)
            self._event.clear()
            if not told:
                self._seconds = None
                self._ring()

    @property
    def gone(self) -> bool:
        """Never: a thread that gives up leaves the line itself."""
        return False

    @property
    def can_keep_time(self) -> bool:
        """Always."""
        return True

    def alarm(self, seconds: float, ring: Callable[[], None]) -> None:
        """Have the waiting thread call `ring` after so many seconds."""
        self._seconds, self._ring = min(seconds, threading.TIMEOUT_MAX), ring
        self._event.set()

    def disarm(self) -> None:
        """Wait for nothing but the turn."""
        self._seconds = None

    def _wake(self) -> None:
        self._event.set()


def _nothing() -> None: ...
