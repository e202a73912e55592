"""The machinery of `amap`: what is in flight, what is ready, and how all of it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from course_lib.tasks import error_of, outlast, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from course_lib.batching.source import InputSource
    from course_lib.retry import Retry

__all__ = ["GateLike", "Outcome", "Outcomes", "PoolSlots", "TaskPool"]

Output = TypeVar("Output")

_DIGITS = 9  # clocks tell nanoseconds; what differences of floats add to that is noise
_closing: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Output]):
    """The answer to one item, or the reason why there is none.

    `wait` and `service` are told apart, since they have different remedies: a higher limit shortens
    the one, a faster step the other. Their sum is the time from when the item was there to when it
    was answered. An item of an ordinary iterable is there from the beginning, one of an
    asynchronous iterable from when it is handed over. So with the former and without retries, an
    item started `wait` seconds after the beginning and ended `wait + service` seconds after it.

    Attributes:
        index: Place among the inputs, from 0.
        value: What was returned; None if there is an error.
        error: What was raised at the last attempt; None if there is a value.
        wait: Seconds in which it was not worked on: for a place, for a gate, between attempts.
        service: Seconds in which it was worked on, all attempts together.
        attempts: How often it was tried.
    """

    index: int
    value: Output | None = None
    error: Exception | None = None
    wait: float = 0.0
    service: float = 0.0
    attempts: int = 1

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def result(self) -> Output:
        """Return the value.

        Raises:
            Exception: The error, if there is one instead.
        """
        if self.error is not None:
            raise self.error
        return cast("Output", self.value)


class Outcomes(AsyncIterator[Outcome[Output]], Generic[Output]):
    """Outcomes, as they are made. Nothing starts before the first is asked for.

    However the iteration ends, everything in flight is cancelled and the source closed:

    - at the end, after an error, or when the task that waits for an outcome is cancelled: before
      that is raised;
    - with `aclose()`, or at the end of `async with amap(...) as outcomes:`: before that returns;
    - after a plain `break` or `return`, as soon as nobody refers to this object any more: all is
      cancelled in that moment, and winds up while the loop runs on. (An asynchronous generator
      would do the same somewhat later; an object that stays in a variable goes on working.)
    """

    __slots__ = ("_bar", "_over", "_pool")

    def __init__(self, pool: TaskPool[Output], bar: Any = None) -> None:
        self._pool = pool
        self._bar = bar
        self._over = False

    def __repr__(self) -> str:
        state = "over" if self._over else self._pool
        return f"<{type(self).__name__} {state}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[Output]:
        if self._over:
            raise StopAsyncIteration
        self._pool.check()
        try:
            outcome = await self._pool.next()
        except BaseException:
            await self.aclose()
            raise
        if self._bar is not None:
            self._bar.update()
        return outcome

    async def aclose(self) -> None:
        """Cancel what is in flight, wait until it has ended, and close the source."""
        self._over = True
        if self._bar is not None:
            self._bar.close()
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_over", True):
            return
        if self._bar is not None:
            self._bar.close()
        loop = self._pool.loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and so is everything in it
                loop.call_soon_threadsafe(_abandon, self._pool)


class TaskPool(Generic[Output]):
    """Items in flight: at most so many at once, each in a task and a context of its own.

    A task an item, not a worker a place: what one item sets in its context variables, or cancels,
    stays its own. New ones are started by the callback of one that ends, so that nothing polls and
    a slow consumer does not delay them, until as many are held as there is capacity for.

    Args:
        call: Is awaited for each item.
        source: Where items come from.
        slots: How many at once.
        capacity: Says how many may be held: in flight, between attempts, or not yet fetched.
        retry: What is done about failures.
        gate: Passed by each attempt; then `slots` are places in front of it.
        ordered: Whether outcomes are given in the order of the inputs.
        return_exceptions: Whether an error is an outcome; otherwise it ends everything.
        watch: Sees each outcome as it is made.

    Attributes:
        loop: The loop of whoever asked first; None until then.
        context: The context of whoever asked first; each item gets a copy.
        began: When that was, in seconds on the loop's clock.
        stopped: Whether nothing more is started.
    """

    def __init__(
        self,
        call: Callable[[Any], Awaitable[Output]],
        source: InputSource,
        slots: PoolSlots,
        capacity: Callable[[], int],
        retry: Retry,
        *,
        gate: GateLike | None = None,
        ordered: bool = False,
        return_exceptions: bool = False,
        watch: Callable[[Outcome[Output]], None] | None = None,
    ) -> None:
        self._call = call
        self._source = source
        self._slots = slots
        self._capacity = capacity
        self._retry = retry
        self._gate = gate
        self._return_exceptions = return_exceptions
        self._watch = watch
        self._ready: deque[Outcome[Output]] = deque()  # to be fetched
        self._early: dict[int, Outcome[Output]] | None = {} if ordered else None
        self._in_order = 0  # outcomes that are or were ready, where they are ordered
        self._tasks: set[asyncio.Task[Output]] = set()
        self._started = self._held = 0
        self._error: BaseException | None = None
        self._exhausted = False
        self._waiter: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.began = 0.0
        self.stopped = False

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else f"{len(self._tasks)} in flight"
        return f"{state}, {self._started} started, {self._held} not yet fetched"

    def check(self) -> None:
        """See that the caller may ask for the next outcome.

        Raises:
            RuntimeError: Another task waits already, or it was started in another loop.
        """
        if self.loop not in (None, asyncio.get_running_loop()):
            raise RuntimeError("this was begun in another event loop: iterate it in one loop")
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next outcome: let one task iterate")

    async def next(self) -> Outcome[Output]:
        """Return the next outcome; start, if that has not been done.

        Raises:
            StopAsyncIteration: There is none.
            BaseException: What an item or the source raised; everything has been wound up.
        """
        if self.loop is None:
            self._begin()
        while not self._ready:
            if self.stopped or (self._exhausted and not self._tasks):
                await self.close()
                error, self._error = self._error, None
                try:
                    raise StopAsyncIteration if error is None else error
                finally:
                    del error  # an error that refers to its own frame is not freed at once
            await self._change()
        self._held -= 1
        outcome = self._ready.popleft()
        self._source.fill(self)
        return outcome

    def _begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.context = copy_context()
        self._source.fill(self)

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def room(self) -> bool:
        """Return whether another item may start now."""
        return not self.stopped and self._slots.room() and self._held < self._capacity()

    def start(self, value: Any, since: float) -> None:
        """Start an item that has been there since a time."""
        if self.stopped or self.loop is None:
            return
        item = _Item(self._started, value, since)
        self._started += 1
        self._held += 1
        self._slots.take()
        task = self.loop.create_task(self._work(item), context=self.context.copy())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(item, task))

    def exhausted(self, error: BaseException | None = None) -> None:
        """Learn that the source has ended; with an error, raise that in the end, or at once."""
        self._exhausted = True
        if error is not None and not self.stopped:
            error = _raisable(error, "the source of the inputs")
            if self._return_exceptions and isinstance(error, Exception):
                self._error = error
            else:
                self._fail(error)
        self._wake()

    async def _work(self, item: _Item) -> Output:
        while True:
            item.attempts += 1
            try:
                return await self._attempt(item)
            except Exception as error:
                pause = self._retry.pause(item.index, item.attempts, error)
                if pause is None:
                    raise
            self._release(item)
            await asyncio.sleep(pause)
            await self._slots.retake()
            item.holds = True

    async def _attempt(self, item: _Item) -> Output:
        if self._gate is None:
            return await self._timed(item)
        async with self._gate.slot():
            self._release(item)  # the next may stand in front of the gate
            return await self._timed(item)

    async def _timed(self, item: _Item) -> Output:
        clock = asyncio.get_running_loop().time
        start = clock()
        item.wait += start - item.since
        try:
            return await self._retry.limited(item.index, self._call(item.value))
        finally:
            item.since = clock()
            item.service += item.since - start

    def _release(self, item: _Item) -> None:
        if item.holds:
            item.holds = False
            self._slots.give()
            self._source.fill(self)

    def _ended(self, item: _Item, task: asyncio.Task[Output]) -> None:
        self._tasks.discard(task)
        if self.stopped:
            report(task)
            return
        error = error_of(task)
        if error is None:
            self._finish(item, task.result(), None)
        else:
            self._failed(item, _raisable(error, f"item {item.index}"))
        self._release(item)
        self._wake()

    def _failed(self, item: _Item, error: BaseException) -> None:
        if self._return_exceptions and isinstance(error, Exception):
            self._finish(item, None, error)
        else:  # also an interrupt: what is no `Exception` is raised, whatever is said of errors
            self._fail(error)

    def _finish(self, item: _Item, value: Output | None, error: Exception | None) -> None:
        wait, service = round(item.wait, _DIGITS), round(item.service, _DIGITS)
        outcome = Outcome(item.index, value, error, wait, service, item.attempts)
        if self._watch is not None:
            self._watch(outcome)
        if self._early is None:
            self._ready.append(outcome)
            return
        self._early[outcome.index] = outcome
        while (following := self._early.pop(self._in_order, None)) is not None:
            self._ready.append(following)
            self._in_order += 1

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.stop()

    def stop(self) -> None:
        """Start nothing more and cancel all that runs: once, so as not to disturb its clean-up."""
        if self.stopped:
            return
        self.stopped = True
        self._source.stop()
        for task in self._tasks:
            task.cancel()
        self._wake()

    async def close(self) -> None:
        """Stop, and wait until nothing runs any more, however often the caller is cancelled."""
        self.stop()
        self._ready.clear()
        self._early = None
        try:
            await outlast(self._running)
        finally:
            await self._source.close()

    def _running(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that are not done, but for one that closes this from within."""
        tasks = {*self._tasks, *self._source.tasks()}
        return {task for task in tasks if not task.done() and task is not asyncio.current_task()}


class PoolSlots:
    """A number of places, for use in one event loop.

    New items start only while there is `room`. One that is tried again has come before all of
    them, so it goes first: while it waits, no place is ever free.

    Args:
        size: How many places there are.
    """

    __slots__ = ("_size", "_waiters", "used")

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.used = 0

    def room(self) -> bool:
        """Return whether a new item may start."""
        return self.used < self._size

    def take(self) -> None:
        """Take a place for a new item; only while there is room."""
        self.used += 1

    def give(self) -> None:
        """Give a place back: to the first that waits for one, if any."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.used -= 1

    async def retake(self) -> None:
        """Wait for a place for an item that is tried again."""
        if self.used < self._size:
            self.used += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # given a place in the same moment
                self.give()
            raise


class GateLike(Protocol):
    """What may be given in place of a number: `course_lib.rate_limiting.Gate` is one."""

    @property
    def concurrency(self) -> int:
        """How many may be inside at once."""

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """Return a place inside, for one call."""


class _Item:
    """One item on its way."""

    __slots__ = ("attempts", "holds", "index", "service", "since", "value", "wait")

    def __init__(self, index: int, value: Any, since: float) -> None:
        self.index = index
        self.value = value
        self.since = since  # when it was there, then when its last attempt ended
        self.wait = self.service = 0.0
        self.attempts = 0
        self.holds = True  # a place


def _raisable(error: BaseException, name: str) -> BaseException:
    """Return an error as what can be raised in the consumer, whom nobody has cancelled.

    Args:
        error: The error.
        name: Who raised it.
    """
    if isinstance(error, asyncio.CancelledError):
        told = RuntimeError(f"{name} was cancelled from within or outside, but not by `amap`")
    elif isinstance(error, StopAsyncIteration):  # it would end the consumer's loop silently
        told = RuntimeError(f"{name} raised StopAsyncIteration")
    else:
        return error
    told.__cause__ = error
    return told


def _abandon(pool: TaskPool[Any]) -> None:
    """Wind up what nobody can close any more; called in its loop."""
    task = asyncio.get_running_loop().create_task(pool.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
