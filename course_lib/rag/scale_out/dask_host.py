"""The worker's side of `Workers`: one pipeline a process, and the chunks that pass through it."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any, cast

from distributed import Reschedule, WorkerPlugin, get_worker

from course_lib.batching import Outcome
from course_lib.batching.arguments import as_call
from course_lib.errors import Unavailable
from course_lib.rag.scale_out.parcels import opened_queries, packed_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from distributed import Worker

__all__ = ["PipelineHost", "answer_chunk"]

_CANCELLED = packed_answer(
    Outcome(0, error=RuntimeError("the query was cancelled from within its pipeline"))
)


class PipelineHost(WorkerPlugin):
    """Keeps the pipeline of a worker open, from its start (or restart) to its end.

    Args:
        make_pipeline: Returns the context manager that is entered here.
        concurrency: Queries that this worker works on at once, over all its chunks.
        own: Whether the worker was started by us: it then leaves an interrupt to who started it.
    """

    def __init__(
        self,
        make_pipeline: Callable[[], AbstractAsyncContextManager[Any]],
        concurrency: int,
        *,
        own: bool,
    ) -> None:
        self._make = make_pipeline
        self._concurrency = concurrency
        self._own = own

    async def setup(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's interface
        """Build the pipeline; an error is reported to who registers the plugin."""
        if self._own and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        # First come, first served: a chunk is not held up by the next, which fills its last places.
        self._places = asyncio.Semaphore(self._concurrency)
        self._chunks: dict[str, asyncio.Task[list[bytes]]] = {}
        self._over = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        await self._pipeline()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's interface
        """Close it, when nothing passes through it any more."""
        chunks = list(self._chunks.values())
        for chunk in chunks:
            chunk.cancel()
        await asyncio.gather(*chunks, return_exceptions=True)
        self._over.set()
        if self._keeper is not None:
            await self._keeper

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """See that nobody wants a chunk any more, and stop the work on it.

        Dask by itself lets it run to its end. It also says so when the client has gone.
        """
        chunk = self._chunks.get(key)
        if chunk is not None and finish == "released" and start in ("executing", "long-running"):
            chunk.cancel()

    async def answer(self, key: str, parcel: bytes) -> list[bytes]:
        """Answer the queries of a chunk; each error is the outcome of its query.

        Args:
            key: Dask's name for the chunk.
            parcel: Its queries.

        Raises:
            Reschedule: It was stopped; if somebody wants it all the same, it is to be done again.
        """
        chunk = asyncio.create_task(self._answers(opened_queries(parcel)), name=key)
        self._chunks[key] = chunk
        chunk.add_done_callback(lambda _: self._chunks.pop(key, None))
        try:
            await asyncio.wait([chunk])
        finally:
            chunk.cancel()
        if chunk.cancelled():
            raise Reschedule
        return chunk.result()

    async def _answers(self, queries: list[Any]) -> list[bytes]:
        try:
            call = await self._pipeline()
        except Exception as error:  # noqa: BLE001 - whatever their own code raises
            reason = f"the pipeline cannot be built in a worker ({type(error).__name__}: {error})"
            return [packed_answer(Outcome(0, error=Unavailable(reason)))] * len(queries)
        answers = (self._answer(call, query) for query in queries)
        results = await asyncio.gather(*answers, return_exceptions=True)
        return [_CANCELLED if isinstance(result, BaseException) else result for result in results]

    async def _answer(self, call: Callable[[Any], Awaitable[Any]], query: Any) -> bytes:
        clock = asyncio.get_running_loop().time
        came = clock()
        async with self._places:
            began = clock()
            value, error = await _tried(call, query)
            ended = clock()
        return packed_answer(Outcome(0, value, error, began - came, ended - began))

    async def _pipeline(self) -> Callable[[Any], Awaitable[Any]]:
        """Return what is called with a query; if building it has failed before, try again."""
        if self._keeper is None or (self._keeper.done() and not self._over.is_set()):
            self._ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._ready), name="pipeline")
        return await asyncio.shield(self._ready)

    async def _keep(self, ready: asyncio.Future[Any]) -> None:
        """Enter and leave in one task, as context managers with tasks of their own require."""
        try:
            async with self._make() as pipeline:
                ready.set_result(as_call(pipeline, name="what make_pipeline gives"))
                await self._over.wait()
        except Exception as error:
            if ready.done():  # it failed to close
                raise
            ready.set_exception(error)


async def answer_chunk(host: str, key: str, parcel: bytes) -> list[bytes]:
    """Answer a chunk in the worker that this runs in; see `PipelineHost.answer`.

    Args:
        host: Name of the plugin.
        key: Dask's name for the chunk.
        parcel: Its queries.
    """
    plugin = cast("PipelineHost", get_worker().plugins[host])
    return await plugin.answer(key, parcel)


async def _tried(call: Callable[[Any], Awaitable[Any]], query: Any) -> tuple[Any, Any]:
    """Return the value and None, or None and the error."""
    try:
        return await call(query), None
    except Exception as error:  # noqa: BLE001 - it is the outcome
        return None, error
