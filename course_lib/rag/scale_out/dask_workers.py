"""Workers of Dask that have a pipeline each, and what becomes of a chunk given to them."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from distributed.scheduler import KilledWorker

from course_lib.batching import Outcome
from course_lib.errors import Unavailable
from course_lib.rag.scale_out.dask_cluster import connected, own_cluster
from course_lib.rag.scale_out.dask_host import PipelineHost, answer_chunk
from course_lib.rag.scale_out.parcels import opened_answer, packed_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from course_lib.rag.scale_out.chunk import Chunk

__all__ = ["Crew", "crew_of"]

CLOSE_SECONDS: Final = 10.0  # for workers that are not ours to close their pipelines


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers that are ready.

    Attributes:
        client: The way to them.
        host: Name of the plugin that holds their pipelines.
        workers: How many there are.
        slots: Chunks that all of them together take at once.
    """

    client: Any
    host: str
    workers: int
    slots: int

    async def ask(self, chunk: Chunk) -> list[Outcome[Any]]:
        """Return what becomes of each query of a chunk.

        What fails as a whole (its worker died again and again, a query cannot be pickled) is done
        query by query, one after another, so that whatever is to blame fails alone.
        """
        try:
            answers = await self._sent(chunk)
            return [opened_answer(*each) for each in zip(chunk.indexes, answers, strict=True)]
        except CancelledError:  # Dask's, of the connection: asyncio's is another
            gone = Unavailable("the Dask scheduler is gone, or these workers have been closed")
            return [Outcome(index, error=gone) for index in chunk.indexes]
        except Exception as error:  # noqa: BLE001 - it is the outcome
            if len(chunk.queries) == 1:
                return [Outcome(chunk.start, error=_reason(error))]
        outcomes: list[Outcome[Any]] = []
        for single in chunk.singly():
            outcomes += await self.ask(single)
        return outcomes

    async def _sent(self, chunk: Chunk) -> list[bytes]:
        key = f"course-chunk-{uuid.uuid4().hex}"
        parcel = packed_queries(chunk.queries)
        future = self.client.submit(answer_chunk, self.host, key, parcel, key=key, pure=False)
        try:
            answers: list[bytes] = await future
        finally:
            future.release()  # when we are cancelled, so is the work on it
        return answers


@asynccontextmanager
async def crew_of(
    make_pipeline: Callable[[], AbstractAsyncContextManager[Any]],
    *,
    n: int,
    address: str | None,
    concurrency: int,
    patience: float,
) -> AsyncIterator[Crew]:
    """Start workers, or find them at an address, and have them build their pipelines.

    Arguments and errors as for `Workers`.
    """
    host = f"course-{uuid.uuid4().hex}"  # a scheduler may serve many
    plugin = PipelineHost(make_pipeline, concurrency, own=address is None)
    _require_sendable(make_pipeline)
    async with AsyncExitStack() as stack:
        scheduler: Any = address or await stack.enter_async_context(own_cluster(n))
        client = await stack.enter_async_context(connected(scheduler, patience))
        try:
            await client.wait_for_workers(n, timeout=patience)
        except TimeoutError:
            raise Unavailable(
                f"the scheduler at {scheduler} has fewer than n={n} workers after {patience:g} s: "
                "start some, `dask worker ADDRESS`, or ask for fewer"
            ) from None
        if address is not None:
            stack.push_async_callback(_dismiss, client, host)
        try:
            await client.register_plugin(plugin, name=host)
        except Exception as error:
            error.add_note(f"raised in a worker that was to build {make_pipeline!r}")
            raise
        slots = await client.scheduler.ncores()
        yield Crew(client, host, len(slots), sum(slots.values()))


async def _dismiss(client: Any, host: str) -> None:
    # Workers that are gone, or could not even take the plugin, have nothing to close.
    with suppress(OSError, TimeoutError, KeyError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.unregister_worker_plugin(host)


def _require_sendable(make_pipeline: Any) -> None:
    try:
        packed_queries([make_pipeline])
    except Exception as error:
        raise TypeError(
            f"make_pipeline={make_pipeline!r} cannot be sent to a worker ({error}): build clients, "
            "locks and connections inside it, and give it addresses and numbers"
        ) from error


def _reason(error: Exception) -> Exception:
    if isinstance(error, KilledWorker):
        deaths = error.allowed_failures + 1
        return Unavailable(f"{deaths} workers died, one after another, while they had this query")
    return error
