"""The machinery of `PriorityBatchProcessor` and `MicroBatcher`: single calls become batches."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from course_lib.batching.batcher_parts import Batch, BatcherClosed, BatcherStatistics
from course_lib.batching.isolation import Isolation
from course_lib.batching.waiting import Entry, Waiting
from course_lib.checks import require_seconds, require_whole
from course_lib.tasks import cancel_once, outlast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Batcher", "OnExit"]

Output = TypeVar("Output")
OnExit = Literal["drain", "cancel"]

EARLY = 1e-6  # seconds: a timer may ring that much too soon
_within: ContextVar[tuple[object, ...]] = ContextVar("course_lib.batching.batcher", default=())


class Batcher(Generic[Output]):
    """Collects single items into batches, and gives each caller its own result.

    A batch starts as soon as one may (fewer than `concurrency` are in flight) and an item waits:
    at the end of the loop's round, so that items that come in one moment go together. What comes
    while batches are in flight makes up the next ones. So they fill by themselves under load, and
    nobody waits for company when there is none.

    Args:
        call: Processes a list of items; awaited once a batch.
        size: Items in a batch, at most.
        concurrency: Batches in flight, at most.
        max_wait: Seconds that the first may wait for a full batch.
        queue_size: Items that wait, at most; further callers wait for room in the queue.
        isolate: Whether an error may be due to one of the items.
        on_exit: Whether leaving answers what waits, or fails it.
        name: What this is called in messages.
    """

    def __init__(
        self,
        call: Callable[[list[Any]], Awaitable[Any]],
        *,
        size: int,
        concurrency: int,
        max_wait: float,
        queue_size: int,
        isolate: Callable[[Exception], bool] | None,
        on_exit: OnExit,
        name: str,
    ) -> None:
        require_whole(concurrency=concurrency, queue_size=queue_size)
        require_seconds(max_wait=max_wait)
        if on_exit not in get_args(OnExit):
            raise ValueError(f"on_exit={on_exit!r}: give one of {', '.join(get_args(OnExit))}")
        if isolate is not None and not callable(isolate):
            raise TypeError(f"isolate={isolate!r}: give a function of the error, or leave it out")
        self._call, self._isolate = call, isolate
        self._size, self._concurrency, self._max_wait = size, concurrency, max_wait
        self._drains = on_exit == "drain"
        self._name = name
        self._queue_size = queue_size
        self._loop: asyncio.AbstractEventLoop | None = None  # None: not open
        self._reset()

    def _reset(self) -> None:
        self._waiting: Waiting[Output] = Waiting(self._queue_size)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._order = count()
        self._batches = self._largest = self._cancelled = 0
        self._isolation: Isolation[Output] = Isolation(self._call, self._isolate)

    def open(self) -> None:
        """Begin; batches see the context of whoever calls this.

        Raises:
            RuntimeError: It is open.
        """
        if self._loop is not None:
            raise RuntimeError(
                f"this {self._name} is open already: share it, do not enter it twice"
            )
        self._reset()
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    async def enqueue(self, item: Any, rank: Callable[[float], float]) -> asyncio.Future[Output]:
        """Put an item into the queue, when that has room, and return its future answer.

        Args:
            item: Anything.
            rank: Says from the time of arrival where it goes in the order; lower goes first.

        Raises:
            RuntimeError: Not open, open in another loop, or called from within a batch.
            BatcherClosed: It was closed while the caller waited for room.
        """
        loop = self._check()
        arrived = loop.time()
        place = (rank(arrived), next(self._order))
        entry: Entry[Output] = Entry(item, place, arrived, loop.create_future())
        self._waiting.add(entry)
        entry.answer.add_done_callback(lambda answer: self._done(entry, answer))
        self._schedule()
        if entry.admission is not None:
            try:
                await entry.admission
            except asyncio.CancelledError:
                entry.answer.cancel()
                raise
        return entry.answer

    def _check(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError(f"this {self._name} is not open: use it inside `async with`")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"this {self._name} was opened in another event loop: open one in each"
            )
        if self._closing:
            raise BatcherClosed(f"this {self._name} is closing: submit before the block is left")
        if self in _within.get():
            raise RuntimeError(f"a batch that submits to its own {self._name} waits for itself")
        return self._loop

    def _done(self, entry: Entry[Output], answer: asyncio.Future[Output]) -> None:
        if not answer.cancelled():
            return
        self._cancelled += 1
        if entry.batch is None:
            self._waiting.remove(entry)
        else:
            entry.batch.abandon()

    def _schedule(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while len(self._tasks) < self._concurrency and len(self._waiting) > 0 and self._due():
            self._start(Batch(self._waiting.take(self._size)))

    def _due(self) -> bool:
        """Return whether the next batch is to start now; if not, set the timer for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._max_wait == 0 or self._closing or len(self._waiting) >= self._size:
            return True
        loop = asyncio.get_running_loop()
        due = self._waiting.first.arrived + self._max_wait
        if due - loop.time() <= EARLY:
            return True
        self._timer = loop.call_at(due, self._dispatch)
        return False

    def _start(self, batch: Batch[Output]) -> None:
        self._batches += 1
        self._largest = max(self._largest, len(batch.entries))
        batch.task = asyncio.get_running_loop().create_task(
            self._run(batch.entries), context=self._context.copy()
        )
        self._tasks.add(batch.task)
        batch.task.add_done_callback(lambda task: self._ended(batch, task))

    async def _run(self, entries: list[Entry[Output]]) -> None:
        _within.set((*_within.get(), self))
        await self._isolation.answer(entries)

    def _ended(self, batch: Batch[Output], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        self._fail(batch.entries, error)
        batch.entries = []  # they refer to it
        self._schedule()

    def _fail(self, entries: list[Entry[Output]], error: BaseException | None) -> None:
        self._isolation.settle(entries, [self._unanswered(error) for _ in entries])

    def _unanswered(self, error: BaseException | None) -> Exception:
        """Return what becomes of an item whose batch has ended without answering it."""
        if self._closing:
            return BatcherClosed(f"the {self._name} was closed before this item was answered")
        unanswered = RuntimeError("the batch that this item was in was cancelled")
        unanswered.__cause__ = error
        return unanswered

    async def close(self, *, failed: bool) -> None:
        """Take no more items, answer or fail those that wait, and wait until no batch runs.

        Args:
            failed: The block is left because of an error, so there is no point in going on.
        """
        self._closing = True
        try:
            if self._drains and not failed:
                await self._drain()
        finally:
            try:
                await self._abort()
            finally:
                self._loop = None

    async def _drain(self) -> None:
        while self._tasks or len(self._waiting) > 0:
            self._dispatch()
            await asyncio.wait(self._tasks)

    async def _abort(self) -> None:
        """Fail all that wait and cancel all that runs, however often the caller is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        self._fail(self._waiting.take(len(self._waiting)), None)
        for task in self._tasks:
            cancel_once(task)
        await outlast(lambda: self._tasks)

    def statistics(self) -> BatcherStatistics:
        """Return what has been done, as a frozen value."""
        return BatcherStatistics(
            waiting=len(self._waiting),
            running=len(self._tasks),
            batches=self._batches,
            calls=self._isolation.calls,
            largest=self._largest,
            answered=self._isolation.answered,
            failed=self._isolation.failed,
            cancelled=self._cancelled,
        )

    def __repr__(self) -> str:
        state = "closed" if self._loop is None else "closing" if self._closing else "open"
        return f"{state}, {len(self._waiting)} waiting, {len(self._tasks)} batches in flight"
