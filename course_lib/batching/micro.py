"""Single calls that coalesce into batch calls."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from langchain_core.runnables import Runnable

from course_lib.batching.batcher import Batcher, OnExit
from course_lib.checks import require_whole
from course_lib.unwatched import as_call, unwatched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from langchain_core.runnables import RunnableConfig

    from course_lib.batching.batcher import BatcherStatistics

__all__ = ["MicroBatcher"]

Input = TypeVar("Input")
Output = TypeVar("Output")


class MicroBatcher(Runnable[Input, Output]):
    """Answers single calls by batch calls: for embeddings, reranking, and what else is cheaper so.

        async with MicroBatcher(embeddings.aembed_documents, max_size=64) as embed:
            vector = await embed("one text")
            chain = split | embed | search

    It is a Runnable, so that a step of a chain can share batches with the same step of other calls
    in flight; of a `call_batch` with annotations it has the types, for schemas and `as_tool`.
    `await batcher(item)` does the same without LangChain's bookkeeping.

    With `max_wait=0` a call waits for no other: it goes at once if no batch is in flight, and
    otherwise with what else has come by the time a batch may start. Under load batches fill by
    themselves. A `max_wait` pays where the service is fast and calls come in a trickle: the first
    then waits so long for a full batch.

    Errors, cancelled callers, the full queue and leaving the block are as in
    `PriorityBatchProcessor`: a bad item fails alone, nobody is harmed by others, nothing is stuck.

    Args:
        call_batch: Coroutine function (or Runnable) that takes a list of items and returns a list
            with one result for each, in their order.
        max_size: Items in a batch, at most.
        max_wait: Seconds that the first item of a batch may wait for others.
        concurrency: Batches in flight, at most.
        queue_size: Calls that wait, at most; further ones wait for room in the queue.
        isolate: Says whether an error may be due to one item, so that halving helps; by default
            whether it is none of the service's. `lambda error: False` never halves.
        on_exit: "drain" answers what waits when the block is left, "cancel" fails it.
        name: Shown in callbacks and traces.

    Raises:
        TypeError: `call_batch` is no coroutine function, or `isolate` no function.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        call_batch: Callable[[list[Input]], Awaitable[Sequence[Output | Exception]]]
        | Runnable[list[Input], Sequence[Output | Exception]],
        *,
        max_size: int,
        max_wait: float = 0.0,
        concurrency: int = 1,
        queue_size: int = 10_000,
        isolate: Callable[[Exception], bool] | None = None,
        on_exit: OnExit = "drain",
        name: str | None = None,
    ) -> None:
        require_whole(max_size=max_size)
        self.name = name or type(self).__name__
        self._types = tuple(map(_of_each, _types_of(call_batch)))
        self._batcher: Batcher[Output] = Batcher(
            as_call(call_batch, name="call_batch"),
            size=max_size,
            concurrency=concurrency,
            max_wait=max_wait,
            queue_size=queue_size,
            isolate=isolate,
            on_exit=on_exit,
            name=type(self).__name__,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._batcher!r}>"

    @property
    def InputType(self) -> Any:  # noqa: N802 - LangChain's name
        """The type of an item, as far as `call_batch` says."""
        return self._types[0]

    @property
    def OutputType(self) -> Any:  # noqa: N802 - LangChain's name
        """The type of a result, as far as `call_batch` says."""
        return self._types[1]

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

    async def __call__(self, item: Input) -> Output:
        """Return the result for one item.

        Raises:
            Exception: What `call_batch` raised for this item, or returned in its place.
            WrongNumberOfResults: `call_batch` did not return one result for each item.
            BatcherClosed: The block was left before it was answered.
            RuntimeError: Called outside `async with`, in another event loop, or from within a batch.
        """
        return await (await self._batcher.enqueue(item, _as_they_come))

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Return the result for one item, as a step of a chain: callbacks see it as a run.

        Raises:
            TypeError: Further arguments were given, which a batch shared with others cannot take.
            Exception: As for a direct call.
        """
        if kwargs:
            raise TypeError(f"{self.name} takes no {', '.join(kwargs)}: a batch has no room for it")
        if unwatched(config) is not None:
            return await self(input)
        return await self._acall_with_config(self.__call__, input, config)

    def invoke(
        self,
        input: Input,  # noqa: A002, ARG002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - LangChain's interface
        **kwargs: Any,  # noqa: ARG002 - LangChain's interface
    ) -> Output:
        """Refuse: calls coalesce only where several are in flight.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{self.name} has no sync implementation: `await batcher.ainvoke(...)` or `abatch`, "
            "inside `async with`"
        )

    def statistics(self) -> BatcherStatistics:
        """Return what has been done since the block was entered, as a frozen value."""
        return self._batcher.statistics()


def _as_they_come(arrived: float) -> float:
    return arrived


def _types_of(call_batch: Any) -> tuple[Any, Any]:
    """Return what a batch call says that it takes and returns."""
    if isinstance(call_batch, Runnable):
        return call_batch.InputType, call_batch.OutputType
    try:
        first, *_ = inspect.signature(call_batch).parameters
        said = get_type_hints(getattr(call_batch, "func", call_batch))  # a partial's own
    except (NameError, TypeError, ValueError):
        return Any, Any
    return said.get(first, Any), said.get("return", Any)


def _of_each(kind: Any) -> Any:
    """Return the type of one in a list of them; errors are returned in the place of any."""
    origin, inner = get_origin(kind), get_args(kind)
    if not (isinstance(origin, type) and issubclass(origin, Sequence) and len(inner) == 1):
        return Any
    if get_origin(inner[0]) not in {Union, UnionType}:
        return inner[0]
    values = [each for each in get_args(inner[0]) if not _is_error(each)]
    return Union[tuple(values)]  # noqa: UP007 - made here


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
