"""All that loads Dask: worker processes, the pipeline in each, and what travels to them and back.

`DaskWorkers` sends chunks of queries to the workers of a scheduler, which `open_workers` has started
or found. In each of them a `PipelineHost` keeps a pipeline open and answers them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import uuid
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

import distributed
from distributed import Reschedule, WorkerPlugin, get_worker, protocol
from distributed.scheduler import KilledWorker
from distributed.utils import offload

from course_lib.batching import Outcome
from course_lib.errors import Unavailable
from course_lib.rag.scale_out.chunk import RemoteError
from course_lib.tasks import outlast
from course_lib.unwatched import as_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from distributed import Worker

    from course_lib.rag.scale_out.chunk import QueryChunk

__all__ = ["DaskWorkers", "PipelineHost", "answer_chunk", "open_workers", "undisturbed"]

LOOPBACK: Final = "127.0.0.1"
THREADS: Final = 2
"""Chunks that a worker of ours takes at once: the second fills places that the first leaves."""

ADVICE: Final = (
    "the worker processes did not start. A script that is run as a file starts them below "
    '`if __name__ == "__main__":`, since each of them imports that file first'
)
CLOSE_SECONDS: Final = 10.0  # for workers that are not ours to close their pipelines

pickle: Any = protocol.pickle  # Dask annotates it in part


# --- the workers, and what becomes of a chunk given to them ---------------------------------------


@dataclass(frozen=True, slots=True)
class DaskWorkers:
    """Workers that are ready.

    Attributes:
        client: The way to them.
        host: Name of the plugin that holds their pipelines.
        workers: How many there are.
        threads: Chunks that all of them together take at once: one in each thread.
    """

    client: Any
    host: str
    workers: int
    threads: int

    async def ask(self, chunk: QueryChunk) -> list[Outcome[Any]]:
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

    async def _sent(self, chunk: QueryChunk) -> list[bytes]:
        key = f"course-chunk-{uuid.uuid4().hex}"
        parcel = packed_queries(chunk.queries)
        future = self.client.submit(answer_chunk, self.host, key, parcel, key=key, pure=False)
        try:
            answers: list[bytes] = await future
        finally:
            future.release()  # when we are cancelled, so is the work on it
        return answers


@asynccontextmanager
async def open_workers(
    make_pipeline: Callable[[], AbstractAsyncContextManager[Any]],
    *,
    n: int,
    address: str | None,
    concurrency: int,
    patience: float,
) -> AsyncIterator[DaskWorkers]:
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
            error.add_note(f"raised in a worker that was to build {_name_of(make_pipeline)}")
            raise
        threads = await client.scheduler.ncores()
        yield DaskWorkers(client, host, len(threads), sum(threads.values()))


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
            f"make_pipeline={_name_of(make_pipeline)} cannot be sent to a worker ({error}): build "
            "clients, locks and connections inside it, and give it addresses and numbers"
        ) from error


def _name_of(make_pipeline: Any) -> str:
    """Return what it is called, without its arguments: addresses among them may hold passwords."""
    if isinstance(make_pipeline, partial):
        return f"partial({_name_of(make_pipeline.func)}, ...)"
    return str(getattr(make_pipeline, "__qualname__", type(make_pipeline).__qualname__))


def _reason(error: Exception) -> Exception:
    if isinstance(error, KilledWorker):
        deaths = error.allowed_failures + 1
        return Unavailable(f"{deaths} workers died, one after another, while they had this query")
    return error


# --- in a worker ----------------------------------------------------------------------------------


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


# --- the processes --------------------------------------------------------------------------------


@asynccontextmanager
async def own_cluster(n: int) -> AsyncIterator[Any]:
    """Run a scheduler in this process and `n` workers in processes of their own, on loopback.

    They say nothing: that a worker is gone and another started is what they are there for.

    Raises:
        RuntimeError: They did not start.
    """
    _begin_helper()
    with TemporaryDirectory(prefix="course-dask-", ignore_cleanup_errors=True) as folder:
        make: Any = distributed.LocalCluster  # annotated as if it were synchronous
        cluster = make(
            n_workers=n,
            threads_per_worker=THREADS,
            processes=True,
            host=LOOPBACK,
            asynchronous=True,
            silence_logs=logging.CRITICAL + 1,
            dashboard_address=None,
            # Any free port in place of the dashboard's own, of which Dask warns when it is taken.
            scheduler_kwargs={
                "dashboard": False,
                "dashboard_address": f"{LOOPBACK}:0",
                "local_directory": folder,
            },
            memory_limit=None,  # a share of the machine's would have it restart workers
            local_directory=folder,
        )
        try:
            try:
                await undisturbed(cluster)
            except RuntimeError as error:
                raise RuntimeError(ADVICE) from error
            yield cluster
        finally:
            await undisturbed(cluster.close())


@asynccontextmanager
async def connected(scheduler: Any, patience: float) -> AsyncIterator[Any]:
    """Give a client of a scheduler.

    Args:
        scheduler: Its address, or our own.
        patience: Seconds for it to answer.

    Raises:
        Unavailable: It did not answer.
    """
    make: Any = distributed.Client  # annotated as if it were synchronous
    client = make(scheduler, asynchronous=True, set_as_default=False, timeout=patience)
    try:
        try:
            await client
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"no Dask scheduler answers at {scheduler} within {patience:g} s: see that "
                "`dask scheduler` runs there, or leave `address` out"
            ) from error
        yield client
    finally:
        await undisturbed(client.close())


def _begin_helper() -> None:
    """Have Dask's helper thread, which never ends, be one that the process's end does not wait for.

    A thread is a daemon if the one that starts it is.
    """

    async def first() -> None:
        await offload(int)

    thread = threading.Thread(target=lambda: asyncio.run(first()), daemon=True)
    thread.start()
    thread.join()


async def undisturbed(work: Awaitable[Any]) -> None:
    """Await something to its end, however often the caller is cancelled, and pass that on then.

    What is cancelled while processes start or end would leave some of them.
    """
    task = asyncio.ensure_future(_awaited(work))
    try:
        await outlast(lambda: [] if task.done() else [task])
    except asyncio.CancelledError:
        task.exception()  # seen
        raise
    task.result()


async def _awaited(work: Awaitable[Any]) -> None:
    await work


# --- what travels: what cannot travel fails alone -------------------------------------------------


def packed_queries(queries: Sequence[Any]) -> bytes:
    """Return queries as bytes, in which Dask looks for nothing of its own.

    Raises:
        Exception: One of them cannot be pickled; which kind it is depends on the query.
    """
    return bytes(pickle.dumps(queries))


def opened_queries(parcel: bytes) -> list[Any]:
    """Return the queries of `packed_queries`."""
    return list(pickle.loads(parcel))


def packed_answer(outcome: Outcome[Any]) -> bytes:
    """Return an outcome as bytes, or in its place one that says why it cannot be sent."""
    try:
        parcel = bytes(pickle.dumps(outcome))
        if outcome.error is not None:
            pickle.loads(parcel)  # many an exception is written well and cannot be read
    except Exception as problem:  # noqa: BLE001 - whatever their own code raises
        return bytes(pickle.dumps(_stand_in(outcome, problem)))
    return parcel


def opened_answer(index: int, parcel: bytes) -> Outcome[Any]:
    """Return the outcome of `packed_answer`, under the index that it has here."""
    try:
        it: Outcome[Any] = pickle.loads(parcel)
    except Exception as problem:  # noqa: BLE001 - whatever their own code raises
        error = RemoteError(f"the answer to query {index} cannot be read here: {_said(problem)}")
        return Outcome(index, error=error)
    return Outcome(index, it.value, it.error, it.wait, it.service, it.attempts)


def _stand_in(outcome: Outcome[Any], problem: Exception) -> Outcome[Any]:
    if outcome.error is not None:
        text = _said(outcome.error)
    else:
        text = (
            f"a {type(outcome.value).__name__} cannot be sent from a worker ({_said(problem)}): "
            "have the pipeline return data that can be pickled"
        )
    error = RemoteError(text)
    return Outcome(outcome.index, None, error, outcome.wait, outcome.service, outcome.attempts)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


_CANCELLED = packed_answer(
    Outcome(0, error=RuntimeError("the query was cancelled from within its pipeline"))
)
