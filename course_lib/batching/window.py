"""A sliding window over any Runnable: `amap`."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.batching.source import source_of
from course_lib.batching.task_pool import Outcomes, PoolSlots, TaskPool
from course_lib.checks import require_whole
from course_lib.retry import LONGEST_WAIT, TRANSIENT, Backoff, Retry
from course_lib.unwatched import as_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

    from langchain_core.runnables import Runnable, RunnableConfig

    from course_lib.batching.task_pool import GateLike

__all__ = ["amap"]

Input = TypeVar("Input")
Output = TypeVar("Output")

_AHEAD = 4  # finished outcomes held by default, for each place: how far the others may run ahead


def amap(
    runnable: Runnable[Input, Output] | Callable[[Input], Awaitable[Output]],
    inputs: Iterable[Input] | AsyncIterable[Input],
    *,
    limit: int | GateLike,
    ordered: bool = False,
    return_exceptions: bool = False,
    attempts: int = 1,
    timeout: float | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = TRANSIENT,
    backoff: Backoff | None = None,
    longest_wait: float | None = None,
    buffer: int | None = None,
    config: RunnableConfig | None = None,
    progress: bool = False,
) -> Outcomes[Output]:
    """Run every input through a Runnable, at most `limit` at once, and yield what becomes of each.

        async for outcome in amap(chain, questions, limit=8):
            print(questions[outcome.index], outcome.value)

    Whenever one ends, the next starts, in the order of the inputs: no slow one holds others up.
    So the makespan is at most `max(longest, total / limit) + longest`, less than twice the best
    possible (R. L. Graham, "Bounds for certain multiprocessing anomalies", 1966). That holds for an
    ordinary iterable, `ordered=False`, no pauses between attempts and a consumer that keeps up.

    Inputs are read only as places become free: a million of them, or an endless iterator, take no
    more memory than a few. What may be held at once (in flight, between attempts, finished and not
    fetched) is `limit + buffer`; beyond that nothing new starts.

    Args:
        runnable: Any Runnable, or a coroutine function of one argument (which is called directly,
            without LangChain's bookkeeping, unless there is a `config`).
        inputs: An iterable or asynchronous iterable, which may be endless. A generator is closed at
            the end. Reading an ordinary one blocks the event loop for as long as it takes.
        limit: How many are worked on at once; or a `Gate`, that each attempt passes.
        ordered: Yield in the order of the inputs. A slow one then holds back those behind it, and
            when the buffer is full also the start of new ones.
        return_exceptions: Yield an error as an outcome like any other. By default the first error
            cancels everything else, and is raised after the outcomes that were there before it.
        attempts: How often an item is tried. Between attempts it holds no place, and then it goes
            before those not yet started.
        timeout: Seconds for one attempt, from when it has its place; then it is a `TimedOut`.
        retry_on: Errors after which it is tried again; by default those that may go away. Errors of
            other people's clients count as those of `course_lib.errors` that say the same.
        backoff: Pauses between attempts; after `RateLimited`, in addition to its `retry_after`.
        longest_wait: Seconds that a `retry_after` may ask for: what asks for more is raised at once,
            as `RateLimited`. By default the gate's `longest_cool_down`, or 60.
        buffer: How many may be held beside those in flight; by default 4 for each place.
        config: Passed on with each item: callbacks, tags, metadata.
        progress: Show a progress bar (tqdm), which vanishes at the end.

    Returns:
        An asynchronous iterator of outcomes. `aclose` it, or use it in `async with`, to wait until
        nothing runs any more when the loop is left early.

    Raises:
        TypeError: `runnable` is neither Runnable nor coroutine function, or the inputs are none.
        ValueError: A number is out of range.
    """
    gate = None if isinstance(limit, int) or not hasattr(limit, "slot") else limit
    if gate is None:
        require_whole(limit=limit)
    if buffer is not None:
        require_whole(buffer=buffer, least=0)
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if longest_wait is None:
        longest_wait = getattr(gate, "longest_cool_down", LONGEST_WAIT)
    pool = TaskPool(
        as_call(runnable, config),
        source_of(inputs),
        PoolSlots(1 if gate is not None else limit),  # type: ignore[arg-type] # else a whole number
        _capacity(limit, buffer),
        Retry(attempts, timeout, kinds, backoff or Backoff(), longest_wait),
        gate=gate,
        ordered=ordered,
        return_exceptions=return_exceptions,
    )
    return Outcomes(pool, _bar(inputs) if progress else None)


def _capacity(limit: int | GateLike, buffer: int | None) -> Callable[[], int]:
    """Return what says how many items may be held; a gate may change its size."""

    def capacity() -> int:
        places = limit if isinstance(limit, int) else limit.concurrency + 1  # one in front
        return places + (_AHEAD * places if buffer is None else buffer)

    if isinstance(limit, int):
        fixed = capacity()
        return lambda: fixed
    return capacity


def _bar(inputs: Any) -> Any:
    from tqdm import tqdm  # noqa: PLC0415 - only where a bar is asked for

    return tqdm(total=len(inputs) if isinstance(inputs, Sized) else None, leave=False)
