"""The machinery of `amap`: what is in flight, what is ready, and how all of it ends."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from course_lib.batching.flight_parts import GateLike, Item, Ready, error_of
from course_lib.batching.outcome import Outcome
from course_lib.tasks import outlast, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from course_lib.batching.slots import Slots
    from course_lib.batching.source import Feed
    from course_lib.retry import Retry

__all__ = ["Flight"]

Output = TypeVar("Output")

_DIGITS = 9  # clocks tell nanoseconds; what differences of floats add to that is noise


class Flight(Generic[Output]):
    """Items in flight: at most so many at once, each in a task and a context of its own.

    A task an item, not a worker a place: what one item sets in its context variables, or cancels,
    stays its own. New ones are started by the callback of one that ends, so that nothing polls and
    a slow consumer does not delay them, until `held` reaches `capacity`.

    Args:
        call: Is awaited for each item.
        feed: Where items come from.
        slots: How many at once.
        capacity: Says how many may be held: in flight, between attempts, or ready.
        retry: What is done about failures.
        gate: Passed by each attempt; then `slots` are places in front of it.
        ordered: Whether outcomes are given in the order of the inputs.
        return_exceptions: Whether an error is an outcome; otherwise it ends everything.
        watch: Sees each outcome as it is made.

    Attributes:
        context: The context of whoever asked first; each item gets a copy.
        began: When that was, in seconds on the loop's clock.
        stopped: Whether nothing more is started.
    """

    def __init__(
        self,
        call: Callable[[Any], Awaitable[Output]],
        feed: Feed,
        slots: Slots,
        capacity: Callable[[], int],
        retry: Retry,
        *,
        gate: GateLike | None = None,
        ordered: bool = False,
        return_exceptions: bool = False,
        watch: Callable[[Outcome[Output]], None] | None = None,
    ) -> None:
        self._call = call
        self._feed = feed
        self._slots = slots
        self._capacity = capacity
        self._retry = retry
        self._gate = gate
        self._return_exceptions = return_exceptions
        self._watch = watch
        self._ready: Ready[Output] = Ready(ordered=ordered)
        self._tasks: set[asyncio.Task[Output]] = set()
        self._started = self._held = 0
        self._error: BaseException | None = None
        self._fed = False
        self._waiter: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.began = 0.0
        self.stopped = False

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else f"{len(self._tasks)} in flight"
        return f"{state}, {self._started} started, {self._held} not yet fetched"

    async def next(self) -> Outcome[Output]:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: There is none.
            BaseException: What an item or the source raised; everything has been wound up.
        """
        while True:
            outcome = self._ready.get()
            if outcome is not None:
                self._held -= 1
                self._feed.fill(self)
                return outcome
            if self.stopped or (self._fed and not self._tasks):
                break
            await self._change()
        await self.close()
        error, self._error = self._error, None
        try:
            raise StopAsyncIteration if error is None else error
        finally:
            del error  # an error that refers to its own frame is not freed at once

    def begin(self) -> None:
        """Start, if that has not been done; otherwise check that the caller may ask.

        Raises:
            RuntimeError: Another task waits already, or it was started in another loop.
        """
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
            self.began = loop.time()
            self.context = copy_context()
            self._feed.fill(self)
        elif self.loop is not loop:
            raise RuntimeError("this was begun in another event loop: iterate it in one loop")
        elif self._waiter is not None:
            raise RuntimeError("another task waits for the next outcome: let one task iterate")

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
        item = Item(self._started, value, since)
        self._started += 1
        self._held += 1
        self._slots.take()
        task = self.loop.create_task(self._work(item), context=self.context.copy())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(item, task))

    def fed(self, error: BaseException | None = None) -> None:
        """Learn that the source has ended; with an error, raise that in the end, or at once."""
        self._fed = True
        if error is not None and not self.stopped:
            if self._return_exceptions:
                self._error = error
            else:
                self._fail(error)
        self._wake()

    async def _work(self, item: Item) -> Output:
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

    async def _attempt(self, item: Item) -> Output:
        if self._gate is None:
            return await self._timed(item)
        async with self._gate.slot():
            self._release(item)  # the next may stand in front of the gate
            return await self._timed(item)

    async def _timed(self, item: Item) -> Output:
        clock = asyncio.get_running_loop().time
        start = clock()
        item.wait += start - item.since
        try:
            return await self._retry.limited(item.index, self._call(item.value))
        finally:
            item.since = clock()
            item.service += item.since - start

    def _release(self, item: Item) -> None:
        if item.holds:
            item.holds = False
            self._slots.give()
            self._feed.fill(self)

    def _ended(self, item: Item, task: asyncio.Task[Output]) -> None:
        self._tasks.discard(task)
        error = error_of(item.index, task)
        if self.stopped:
            report(task)
            return
        if error is None or (self._return_exceptions and isinstance(error, Exception)):
            self._finish(item, None if error else task.result(), error)
        else:
            self._fail(error)
        self._release(item)
        self._wake()

    def _finish(self, item: Item, value: Output | None, error: Any) -> None:
        wait, service = round(item.wait, _DIGITS), round(item.service, _DIGITS)
        outcome = Outcome(item.index, value, error, wait, service, item.attempts)
        if self._watch is not None:
            self._watch(outcome)
        self._ready.put(outcome)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.stop()

    def stop(self) -> None:
        """Start nothing more and cancel all that runs: once, so as not to disturb its clean-up."""
        if self.stopped:
            return
        self.stopped = True
        self._feed.stop()
        for task in self._tasks:
            task.cancel()
        self._wake()

    async def close(self) -> None:
        """Stop, and wait until nothing runs any more, however often the caller is cancelled."""
        self.stop()
        self._ready.clear()
        try:
            await outlast(self._running)
        finally:
            await self._feed.close()

    def _running(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that are not done, but for one that closes this from within."""
        tasks = {*self._tasks, *self._feed.tasks()}
        return {task for task in tasks if not task.done() and task is not asyncio.current_task()}
