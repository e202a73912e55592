"""Items of many callers, processed in batches, the most urgent first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from course_lib.batching.batcher import Batcher, OnExit
from course_lib.checks import require_positive, require_whole
from course_lib.unwatched import as_call

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from langchain_core.runnables import Runnable

    from course_lib.batching.batcher import BatcherStatistics

__all__ = ["PriorityBatchProcessor"]

Input = TypeVar("Input")
Output = TypeVar("Output")


class PriorityBatchProcessor(Generic[Input, Output]):
    """Processes items in batches, the most urgent first, and gives each caller its own result.

        async with PriorityBatchProcessor(embed_batch, batch_size=16) as processor:
            vector = await processor.submit("urgent", priority=5)

    - **Order.** Higher goes first, equals in the order they came. Items are never compared, so
      they may be of any type. With ageing, a step of priority counts as much as `ageing` seconds
      of waiting, so that nobody starves however many urgent ones keep coming.
    - **Batches.** One starts as soon as one may and something waits: no item waits for company.
      What comes meanwhile makes up the next, so that batches fill under load.
    - **Errors.** A batch that fails is halved and called again, so that a bad item fails alone:
      at most `2 * ceil(log2(n))` further calls for each among n. Not after errors of the service
      (rate limit, time limit, broken connection), nor after a wrong number of results: those fail
      the batch. `process_batch` may also return an exception in the place of an item's result.
    - **Cancellation.** A caller that gives up harms nobody: if it waits, its item is taken out of
      the queue; if its batch is in flight, that goes on for the others, and is cancelled only when
      all of them have given up.
    - **Leaving the block** answers all that wait (or fails them, with `on_exit="cancel"`). After an
      error in the block, they fail: `BatcherClosed`.

    Callers whose batch fails as a whole get the same exception object. Batches run in the context
    in which the block was entered, not in that of any caller.

    Args:
        process_batch: Coroutine function (or Runnable) that takes a list of items and returns a
            list with one result for each, in their order.
        batch_size: Items in a batch, at most.
        concurrency: Batches in flight, at most.
        ageing: Seconds of waiting that outweigh one step of priority; None lets the higher go first
            for ever, so that the lower may starve.
        queue_size: Items that wait, at most. When the queue is full, `enqueue` and `submit` wait
            for room in it; who waits there is in the same order.
        isolate: Says whether an error may be due to one item, so that halving helps; by default
            whether it is none of the service's. `lambda error: False` never halves.
        on_exit: "drain" answers what waits when the block is left, "cancel" fails it.

    Raises:
        TypeError: `process_batch` is no coroutine function, or `isolate` no function.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        process_batch: Callable[[list[Input]], Awaitable[Sequence[Output | Exception]]]
        | Runnable[list[Input], Sequence[Output | Exception]],
        *,
        batch_size: int,
        concurrency: int = 1,
        ageing: float | None = 30.0,
        queue_size: int = 10_000,
        isolate: Callable[[Exception], bool] | None = None,
        on_exit: OnExit = "drain",
    ) -> None:
        require_whole(batch_size=batch_size)
        if ageing is not None:
            require_positive(ageing=ageing)
        self._ageing = ageing
        self._batcher: Batcher[Output] = Batcher(
            as_call(process_batch, name="process_batch"),
            size=batch_size,
            concurrency=concurrency,
            max_wait=0.0,
            queue_size=queue_size,
            isolate=isolate,
            on_exit=on_exit,
            name=type(self).__name__,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._batcher!r}>"

    async def __aenter__(self) -> Self:
        self._batcher.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._batcher.close(failed=error is not None)

    async def submit(self, item: Input, priority: float = 0) -> Output:
        """Have an item processed, and return its result.

        Args:
            item: Anything.
            priority: Higher goes first.

        Raises:
            Exception: What `process_batch` raised for this item, or returned in its place.
            WrongNumberOfResults: `process_batch` did not return one result for each item.
            BatcherClosed: The block was left before it was answered.
            RuntimeError: Called outside `async with`, in another event loop, or from within a batch.
            ValueError: The priority is not finite.
        """
        return await (await self.enqueue(item, priority))

    async def enqueue(self, item: Input, priority: float = 0) -> asyncio.Future[Output]:
        """Put an item into the queue as soon as that has room, and return its future result.

        For a producer that is to go on meanwhile, but no faster than the queue moves.

        Args:
            item: Anything.
            priority: Higher goes first.

        Returns:
            A future; to cancel it takes the item out.

        Raises:
            RuntimeError: Called outside `async with`, in another event loop, or from within a batch.
            ValueError: The priority is not finite.
        """
        if not math.isfinite(priority):
            raise ValueError(f"priority={priority!r}: give a finite number; higher goes first")
        return await self._batcher.enqueue(item, lambda arrived: self._rank(arrived, priority))

    def _rank(self, arrived: float, priority: float) -> float:
        """Return the place in the order, settled on arrival since all who wait age alike."""
        return -priority if self._ageing is None else arrived - priority * self._ageing

    def statistics(self) -> BatcherStatistics:
        """Return what has been done since the block was entered, as a frozen value."""
        return self._batcher.statistics()
