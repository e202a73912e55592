"""The machinery of `PriorityBatchProcessor` and `MicroBatcher`: single calls become batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sized
from collections.abc import Set as AbstractSet
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from course_lib.checks import require_seconds, require_whole
from course_lib.retry import TRANSIENT
from course_lib.tasks import cancel_once, error_of, outlast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = [
    "Batcher",
    "BatcherClosed",
    "BatcherStatistics",
    "OnExit",
    "Submission",
    "SubmissionQueue",
    "WrongNumberOfResults",
]

Output = TypeVar("Output")
OnExit = Literal["drain", "cancel"]
_Heap = list[tuple[float, int, "Submission[Any]"]]

_EARLY = 1e-6  # seconds: a timer may ring that much too soon
_within: ContextVar[tuple[object, ...]] = ContextVar("course_lib.batching.batcher", default=())
_SPARE = 64  # of those who have left, a heap keeps so many more than there are who wait


class WrongNumberOfResults(ValueError):  # noqa: N818 - says what happened
    """A batch was not answered with one result for each of its items, in their order."""


class BatcherClosed(RuntimeError):  # noqa: N818 - says what happened
    """The block was left before this item was answered."""


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """What has been done since the block was entered.

    Attributes:
        waiting: Items that wait for a batch now, those for which the queue has no room included.
        running: Batches in flight now.
        batches: Batches started.
        calls: Calls made, those to find a bad item included.
        largest: Items in the largest batch.
        answered: Items that have got their result.
        failed: Items that have got an error.
        cancelled: Items whose callers gave up.
    """

    waiting: int = 0
    running: int = 0
    batches: int = 0
    calls: int = 0
    largest: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0


class Batcher(Generic[Output]):
    """Collects single items into batches, and gives each caller its own result.

    A batch starts as soon as one may (fewer than `concurrency` are in flight) and an item waits:
    at the end of the loop's round, so that items that come in one moment go together. What comes
    while batches are in flight makes up the next ones. So they fill by themselves under load, and
    nobody waits for company when there is none.

    A batch that fails is halved, and each half is called again, down to single items: one bad item
    among n costs at most `2 * ceil(log2(n))` further calls, b bad ones at most b times that, and
    never more than `2n - 2`. All the others get their results. An error that is about the service
    and not about an item (a rate limit, a time limit, a broken connection) is not halved, which
    would be many more calls to a service in trouble: it fails the batch.

    Args:
        call: Processes a list of items, and returns one result for each; awaited once a batch.
        size: Items in a batch, at most.
        concurrency: Batches in flight, at most.
        max_wait: Seconds that the first may wait for a full batch.
        queue_size: Items that wait, at most; further callers wait for room in the queue.
        isolate: Whether an error may be due to one of the items; by default as said above.
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
        self._call = call
        self._isolate = isolate or (lambda error: not isinstance(error, TRANSIENT))
        self._size, self._concurrency, self._max_wait = size, concurrency, max_wait
        self._drains = on_exit == "drain"
        self._name = name
        self._queue_size = queue_size
        self._loop: asyncio.AbstractEventLoop | None = None  # None: not open
        self._reset()

    def _reset(self) -> None:
        self._queue: SubmissionQueue[Output] = SubmissionQueue(self._queue_size)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._batches = self._calls = self._largest = 0
        self._answered = self._failed = self._cancelled = 0

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
        one: Submission[Output] = Submission(item, arrived, loop.create_future())
        self._queue.add(one, rank(arrived))
        one.answer.add_done_callback(lambda answer: self._done(one, answer))
        self._schedule()
        if one.admission is not None:
            try:
                await one.admission
            except asyncio.CancelledError:
                one.answer.cancel()
                raise
        return one.answer

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

    def _done(self, one: Submission[Output], answer: asyncio.Future[Output]) -> None:
        batch = one.batch
        if batch is None:
            self._queue.remove(one)
        else:
            batch.callers -= 1
        if answer.cancelled():
            self._cancelled += 1
            if batch is not None and batch.callers == 0 and batch.task is not None:
                cancel_once(batch.task)  # it is for nobody

    def _schedule(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while len(self._tasks) < self._concurrency and len(self._queue) > 0 and self._due():
            self._start(_Batch(self._queue.take(self._size)))

    def _due(self) -> bool:
        """Return whether the next batch is to start now; if not, set the timer for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._max_wait == 0 or self._closing or len(self._queue) >= self._size:
            return True
        loop = asyncio.get_running_loop()
        due = self._queue.first.arrived + self._max_wait
        if due - loop.time() <= _EARLY:
            return True
        self._timer = loop.call_at(due, self._dispatch)
        return False

    def _start(self, batch: _Batch[Output]) -> None:
        self._batches += 1
        self._largest = max(self._largest, len(batch.submissions))
        batch.task = asyncio.get_running_loop().create_task(
            self._run(batch.submissions), context=self._context.copy()
        )
        self._tasks.add(batch.task)
        batch.task.add_done_callback(lambda task: self._ended(batch, task))

    async def _run(self, batch: list[Submission[Output]]) -> None:
        _within.set((*_within.get(), self))
        await self._answer(batch)

    async def _answer(self, batch: list[Submission[Output]]) -> None:
        """Give each its result or error; those whose callers have given up are left out."""
        batch = [one for one in batch if not one.answer.done()]
        if not batch:
            return
        self._calls += 1
        try:
            results = _checked(await self._call([one.item for one in batch]), len(batch))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            if len(batch) == 1 or not self._worth_halving(error):
                self._settle(batch, [error] * len(batch))
                return
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
        else:
            self._settle(batch, results)

    def _worth_halving(self, error: Exception) -> bool:
        task = asyncio.current_task()
        cancelled = task is not None and task.cancelling()  # and what it raises is its clean-up's
        return not (cancelled or isinstance(error, WrongNumberOfResults)) and self._isolate(error)

    def _settle(self, batch: Iterable[Submission[Output]], results: Iterable[Any]) -> None:
        """Hand out results and errors, unless the caller has given up."""
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, BaseException):
                self._failed += 1
                one.answer.set_exception(_raisable(result))
            else:
                self._answered += 1
                one.answer.set_result(result)

    def _ended(self, batch: _Batch[Output], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fail(batch.submissions, error_of(task))
        batch.submissions = []  # they refer to it
        self._schedule()

    def _fail(self, submissions: list[Submission[Output]], error: BaseException | None) -> None:
        self._settle(submissions, [self._unanswered(error) for _ in submissions])

    def _unanswered(self, error: BaseException | None) -> BaseException:
        """Return what becomes of an item whose batch has ended, or was none, with no answer."""
        if error is not None and not isinstance(error, asyncio.CancelledError):
            return error
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
        while self._tasks or len(self._queue) > 0:
            self._dispatch()
            await asyncio.wait(self._tasks)

    async def _abort(self) -> None:
        """Fail all that wait and cancel all that runs, however often the caller is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        self._fail(self._queue.take(len(self._queue)), None)
        for task in self._tasks:
            cancel_once(task)
        await outlast(lambda: self._tasks)

    def statistics(self) -> BatcherStatistics:
        """Return what has been done, as a frozen value."""
        return BatcherStatistics(
            waiting=len(self._queue),
            running=len(self._tasks),
            batches=self._batches,
            calls=self._calls,
            largest=self._largest,
            answered=self._answered,
            failed=self._failed,
            cancelled=self._cancelled,
        )

    def __repr__(self) -> str:
        state = "closed" if self._loop is None else "closing" if self._closing else "open"
        return f"{state}, {len(self._queue)} waiting, {len(self._tasks)} batches in flight"


class Submission(Generic[Output]):
    """One item and its caller.

    Attributes:
        item: What is to be processed.
        arrived: When it came, in seconds on the loop's clock.
        answer: What the caller waits for in the end.
        admission: What the caller waits for at first, if the queue was full.
        batch: What it is processed in, once it is.
        waits: Whether it waits for a batch, in the queue or behind it.
        queued: Whether it has its place in the queue.
    """

    __slots__ = ("admission", "answer", "arrived", "batch", "item", "queued", "waits")

    def __init__(self, item: Any, arrived: float, answer: asyncio.Future[Output]) -> None:
        self.item = item
        self.arrived = arrived
        self.answer = answer
        self.admission: asyncio.Future[None] | None = None
        self.batch: _Batch[Output] | None = None
        self.waits = self.queued = False

    def admit(self) -> None:
        """Let the caller go on, if it waits for room."""
        if self.admission is not None and not self.admission.done():
            self.admission.set_result(None)


class _Batch(Generic[Output]):
    """Submissions that go together.

    Attributes:
        submissions: They, while they are processed.
        task: What processes them.
        callers: How many wait for their answers.
    """

    __slots__ = ("callers", "submissions", "task")

    def __init__(self, submissions: list[Submission[Output]]) -> None:
        self.submissions = submissions
        self.task: asyncio.Task[None] | None = None
        self.callers = len(submissions)
        for one in submissions:
            one.batch = self


class SubmissionQueue(Generic[Output]):
    """Who waits for a batch: in the queue, and behind it those for whom it has no room yet.

    The next batch takes the first of all, in the queue or behind it, so that a full queue does not
    turn the order round.

    Args:
        size: How many the queue holds.
    """

    __slots__ = ("_all", "_count", "_outside", "_queued", "_size", "_waiting")

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = count()
        # Heaps by rank and number, which no two share: so items are never compared, and may be of
        # any type. Who waits no more stays in them until it is on top, or they are cleared of such.
        self._all: _Heap = []
        self._outside: _Heap = []
        self._waiting = self._queued = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def first(self) -> Submission[Output]:
        """The one that goes first; there must be one."""
        _clear_top(self._all)
        return self._all[0][2]

    def add(self, one: Submission[Output], rank: float) -> None:
        """Put one in its place, the lowest rank first; an `admission` if the queue is full."""
        place = (rank, next(self._count), one)
        heappush(self._all, place)
        self._waiting += 1
        one.waits = True
        if self._queued < self._size:
            self._enter(one)
        else:
            one.admission = one.answer.get_loop().create_future()
            heappush(self._outside, place)

    def _enter(self, one: Submission[Output]) -> None:
        one.queued = True
        self._queued += 1
        one.admit()

    def remove(self, one: Submission[Output]) -> None:
        """Have one wait no more, if it does."""
        if one.waits:
            self._leave(one)
            self._refill()
        if len(self._all) > 2 * self._waiting + _SPARE:
            self._all, self._outside = _cleared(self._all), _cleared(self._outside)

    def _leave(self, one: Submission[Output]) -> None:
        one.waits = False
        self._waiting -= 1
        self._queued -= one.queued

    def take(self, most: int) -> list[Submission[Output]]:
        """Remove and return the first `most`, or as many as there are."""
        taken: list[Submission[Output]] = []
        while len(taken) < most and self._waiting > 0:
            one = heappop(self._all)[2]
            if one.waits:
                self._leave(one)
                one.admit()
                taken.append(one)
        self._refill()
        return taken

    def _refill(self) -> None:
        _clear_top(self._outside)
        while self._outside and self._queued < self._size:
            self._enter(heappop(self._outside)[2])
            _clear_top(self._outside)


def _clear_top(heap: _Heap) -> None:
    while heap and not heap[0][2].waits:
        heappop(heap)


def _cleared(heap: _Heap) -> _Heap:
    left = [place for place in heap if place[2].waits]
    heapify(left)
    return left


def _raisable(error: BaseException) -> BaseException:
    """Return the error in an item's place as what can be raised in its caller."""
    # A future refuses the one; by the other a caller would take itself for cancelled.
    if not isinstance(error, StopIteration | asyncio.CancelledError):
        return error
    told = RuntimeError(f"the item was answered with {error!r}")
    told.__cause__ = error
    return told


def _checked(results: Any, count: int) -> Iterable[Any]:
    if not isinstance(results, Sized) or isinstance(results, str | bytes | Mapping | AbstractSet):
        raise WrongNumberOfResults(
            f"a batch of {count} items was answered with {type(results).__name__}: return a list "
            "with one result for each item, in their order"
        )
    if len(results) != count:
        raise WrongNumberOfResults(
            f"a batch of {count} items was answered with {len(results)} results: return one for "
            "each item, in their order (an exception in the place of one that failed)"
        )
    return results  # type: ignore[return-value] # what has a length can be iterated over
