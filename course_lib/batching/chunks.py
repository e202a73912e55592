"""Batches in chunks: with a barrier after each, of fixed size or of one that a signal chooses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from course_lib.batching.signals import Chunk, Signal
from course_lib.batching.source import source_of
from course_lib.batching.task_pool import Outcomes, PoolSlots, TaskPool
from course_lib.checks import require_whole
from course_lib.retry import Retry
from course_lib.unwatched import as_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

    from langchain_core.runnables import Runnable, RunnableConfig

    from course_lib.batching.task_pool import Outcome

__all__ = ["ChunkSlots", "adaptive_batch", "batch_in_chunks"]

Input = TypeVar("Input")
Output = TypeVar("Output")

_CHUNKS_HELD = 2  # in flight and not yet fetched


def batch_in_chunks(
    runnable: Runnable[Input, Output] | Callable[[Input], Awaitable[Output]],
    inputs: Iterable[Input] | AsyncIterable[Input],
    *,
    size: int,
    ordered: bool = False,
    return_exceptions: bool = False,
    timeout: float | None = None,
    config: RunnableConfig | None = None,
) -> Outcomes[Output]:
    """Run inputs in chunks of `size`; a chunk starts when the one before has ended.

    This is the baseline that `amap` is to beat. Each chunk lasts as long as its slowest item, while
    the places of the others stand empty: with exponential latencies and chunks of ten, 2.9 times
    as long as needed (the tenth harmonic number). In all else it is as good as `amap`: the same
    sources, errors and ends.

    Args:
        runnable: Any Runnable, or a coroutine function of one argument.
        inputs: An iterable or asynchronous iterable, which may be endless.
        size: Items in a chunk.
        ordered: Yield in the order of the inputs.
        return_exceptions: Yield an error as an outcome like any other; by default the first one
            ends everything, and is raised.
        timeout: Seconds for one item.
        config: Passed on with each item.

    Returns:
        An asynchronous iterator of outcomes, each as it is made.

    Raises:
        TypeError: `runnable` is neither Runnable nor coroutine function, or the inputs are none.
        ValueError: A number is out of range.
    """
    require_whole(size=size)
    pool = TaskPool(
        as_call(runnable, config),
        source_of(inputs),
        ChunkSlots(lambda: size),
        lambda: _CHUNKS_HELD * size,
        Retry(timeout=timeout),
        ordered=ordered,
        return_exceptions=return_exceptions,
    )
    return Outcomes(pool)


def adaptive_batch(
    runnable: Runnable[Input, Output] | Callable[[Input], Awaitable[Output]],
    inputs: Iterable[Input] | AsyncIterable[Input],
    *,
    signal: Signal,
    ordered: bool = False,
    return_exceptions: bool = False,
    timeout: float | None = None,
    config: RunnableConfig | None = None,
) -> Outcomes[Output]:
    """Run inputs in chunks whose size a signal chooses, by what came of the chunk before.

    Args:
        runnable: Any Runnable, or a coroutine function of one argument.
        inputs: An iterable or asynchronous iterable, which may be endless.
        signal: `LatencySignal()`, `CpuSignal()`, or another object with `size` and `observe`. It
            goes on from what it has learnt when it is used again.
        ordered: Yield in the order of the inputs.
        return_exceptions: Yield an error as an outcome like any other. By default the first one
            ends everything, so that the signal sees no failures.
        timeout: Seconds for one item.
        config: Passed on with each item.

    Returns:
        An asynchronous iterator of outcomes, each as it is made.

    Raises:
        TypeError: `runnable` is neither Runnable nor coroutine function, the inputs are none, or
            the signal is no signal.
        ValueError: A number is out of range.
    """
    if not isinstance(signal, Signal) or isinstance(signal, type):
        raise TypeError(f"signal={signal!r}: give an object with `size` and `observe(chunk)`")
    chunks: _Chunks[Output] = _Chunks(signal)
    pool = TaskPool(
        as_call(runnable, config),
        source_of(inputs),
        ChunkSlots(chunks.next_size),
        lambda: _CHUNKS_HELD * chunks.size,
        Retry(timeout=timeout),
        ordered=ordered,
        return_exceptions=return_exceptions,
        watch=chunks.note,
    )
    return Outcomes(pool)


class _Chunks(Generic[Output]):
    """Notes what comes of a chunk, and shows it to the signal when the next one begins."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._outcomes: list[Outcome[Output]] = []
        self._began = self._ended = 0.0
        self.size = 1  # of the present chunk

    def note(self, outcome: Outcome[Output]) -> None:
        self._outcomes.append(outcome)
        self._ended = asyncio.get_running_loop().time()

    def next_size(self) -> int:
        if self._outcomes:
            self._signal.observe(Chunk(tuple(self._outcomes), self._ended - self._began))
        self._outcomes = []
        self._began = asyncio.get_running_loop().time()
        self.size = self._signal.size
        require_whole(size=self.size)
        return self.size


class ChunkSlots(PoolSlots):
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
