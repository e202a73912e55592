"""Who waits for a limit: coroutines and threads in one line, and one alarm for all of them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

from course_lib.clock import running_loop, timer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.clock import Clock

__all__ = ["EARLY", "CoolDown", "LoopWaiter", "Meter", "ThreadWaiter", "Waiter", "WaitingLine"]

EARLY: Final = 1e-8
"""Seconds that somebody may be let in early.

The one tolerance: clocks round (virtual time to nanoseconds at each step, an event loop by the
resolution of its clock), and a caller woken exactly on time must find enough, or it would be woken for ever. What is
taken early stays owed, so it does not add up.
"""


class Waiter(ABC):
    """Somebody who waits, and how they are woken: when their turn comes, or to keep the time.

    All methods but the subclasses' `wait` are called with the lock of the line held, from
    whichever thread that may be. An alarm that was changed may still ring: that does no harm.

    Args:
        weight: Tokens wanted.
        arrived: Seconds on the line's clock when the caller came.

    Attributes:
        granted_at: Seconds on the line's clock when their turn came; None until then.
    """

    __slots__ = ("arrived", "granted_at", "weight")

    def __init__(self, weight: float, arrived: float) -> None:
        self.weight = weight
        self.arrived = arrived
        self.granted_at: float | None = None

    def grant(self, now: float) -> None:
        """Say that their turn has come."""
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


class LoopWaiter(Waiter):
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
        if running_loop() is not self._loop:
            self._tell(self.alarm, seconds, ring)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(seconds, ring)

    def disarm(self) -> None:
        """Cancel the loop's timer."""
        if running_loop() is not self._loop:
            self._tell(self.disarm)
        elif self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wake(self) -> None:
        if running_loop() is not self._loop:
            self._tell(self._wake)
        elif not self._future.done():
            self._future.set_result(None)

    def _tell(self, method: Callable[..., None], *args: Any) -> None:
        """Have the loop call it again by itself."""
        with suppress(RuntimeError):  # closed in this very moment: nobody is left to be told
            self._loop.call_soon_threadsafe(method, *args)


class ThreadWaiter(Waiter):
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


class Meter(Protocol):
    """What a line waits for: a level of tokens, or the end of a cool-down."""

    def due(self, weight: float) -> float:
        """Return the time in seconds from which `weight` may pass."""

    def take(self, weight: float, now: float) -> bool:
        """Let `weight` pass if it is due; say whether it was."""

    def give_back(self, weight: float, taken_at: float, now: float) -> None:
        """Take back that `weight` has passed at `taken_at`."""


class CoolDown:
    """The meter of a line in which nobody passes for a while, and then everybody.

    Attributes:
        until: Seconds on the line's clock from which on they pass.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = -math.inf

    def due(self, weight: float) -> float:  # noqa: ARG002 - a meter's interface
        """Return when it is over."""
        return self.until

    def take(self, weight: float, now: float) -> bool:  # noqa: ARG002 - a meter's interface
        """Say whether it is over; nothing is used up."""
        return self.until - now <= EARLY

    def give_back(self, weight: float, taken_at: float, now: float) -> None:
        """Nothing was."""


class WaitingLine:
    """Waiters that pass one after another, each as soon as the meter lets it.

    Nobody overtakes, so that a heavy one is not starved by light ones. Nobody polls: one of those
    who wait has an alarm set for the moment when the first is due. A thread is preferred for that,
    since a loop may be blocked, perhaps by that very thread; otherwise it is the first whose loop
    runs.

    Its methods are called with `lock` held. They are handed the time, which is read once for all
    that is decided together.

    Args:
        meter: Says from when on a waiter may pass.
        clock: Its time.
        lock: Guards this line and all that must be decided together with it.
        settle: What is done when an alarm rings, with the lock held and the time given; by default
            `WaitingLine.advance`.

    Attributes:
        waiters: Those who wait, the first one first, each with what is called when it passes.
    """

    __slots__ = ("_alarm", "_settle", "_threads", "clock", "lock", "meter", "waiters")

    def __init__(
        self,
        meter: Meter,
        clock: Clock,
        lock: Lock | None = None,
        *,
        settle: Callable[[float], None] | None = None,
    ) -> None:
        self.meter = meter
        self.clock = clock
        self.lock = lock or Lock()
        self._settle = settle or self.advance
        # Ordered dicts: a waiter leaves from the middle in constant time.
        self.waiters: OrderedDict[Waiter, Callable[[Waiter, float], None]] = OrderedDict()
        self._threads: OrderedDict[Waiter, None] = OrderedDict()
        self._alarm: tuple[Waiter, float] | None = None  # who has it, and when it rings

    def __len__(self) -> int:
        return len(self.waiters)

    def join(self, waiter: Waiter, passed: Callable[[Waiter, float], None]) -> None:
        """Take the last place; `passed(waiter, now)` is called when it has passed."""
        self.waiters[waiter] = passed
        if isinstance(waiter, ThreadWaiter):
            self._threads[waiter] = None
        self.clock.waiting += 1

    def leave(self, waiter: Waiter) -> bool:
        """Give up a place, or say False if there is none. Call `advance` afterwards."""
        if self.waiters.pop(waiter, None) is None:
            return False
        self._threads.pop(waiter, None)
        self.clock.waiting -= 1
        if self._alarm is not None and self._alarm[0] is waiter:
            self._silence()
        return True

    def advance(self, now: float) -> None:
        """Let pass who may, and have the alarm set for the next."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            if waiter.gone:
                self.leave(waiter)
            elif self.meter.take(waiter.weight, now):
                passed = self.waiters[waiter]
                self.leave(waiter)
                passed(waiter, now)
            else:
                self._set_alarm(self.meter.due(waiter.weight), now)
                return
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
            self._settle(self.clock.now())

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm[0].disarm()
            self._alarm = None

    def _timekeeper(self) -> Waiter | None:
        for waiter in self._threads:
            return waiter
        if self._alarm is not None and self._alarm[0].can_keep_time:
            return self._alarm[0]
        for waiter in self.waiters:
            if waiter.can_keep_time:
                return waiter
        return None
