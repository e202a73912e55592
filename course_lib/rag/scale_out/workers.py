"""The same pipeline over worker processes, on this machine or on many (Dask distributed)."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sized
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from course_lib.batching import Outcome, Outcomes, amap
from course_lib.checks import require_positive, require_whole
from course_lib.clock import running_loop, timer_of
from course_lib.rag.scale_out.chunk import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from course_lib.rag.scale_out.dask_workers import DaskWorkers

__all__ = ["Answers", "Workers"]


class Answers(AsyncIterator[Outcome[Any]]):
    """Outcomes, as they come from the workers; made by `Workers.map`.

    However the iteration ends, what is still under way is cancelled, also in the workers: at the
    end of `async with workers.map(...) as answers:`, with `aclose()`, and after a plain `break` as
    soon as nobody refers to this object any more. See `course_lib.batching.Outcomes`.
    """

    __slots__ = ("__weakref__", "_chunks", "_ready")

    def __init__(self, chunks: Outcomes[list[Outcome[Any]]]) -> None:
        self._chunks = chunks
        self._ready: deque[Outcome[Any]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[Any]:
        while not self._ready:
            self._ready.extend((await anext(self._chunks)).result())
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until nothing here waits for it any more."""
        await self._chunks.aclose()
        self._ready.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Workers:
    """Worker processes, each with a pipeline of its own, that share out queries.

        make_pipeline = functools.partial(pipeline, provider.url, redis.url)
        async with Workers(make_pipeline, n=2) as workers:
            async for outcome in workers.map(questions):
                print(questions[outcome.index], outcome.value)

    One process makes some hundreds of calls a second through a heavy client, since Python runs on
    one core at a time. Workers have a core each. It does not pay for few queries, nor for little
    work a query: workers take some seconds to start (each imports everything), queries travel.

    - `make_pipeline()` is called in each worker, when it starts or restarts: connections, locks and
      clients cannot be sent. It gives an asynchronous context manager (a `RagPipeline`, or a
      function with `contextlib.asynccontextmanager`) of a Runnable or a coroutine function. It may
      be defined in a notebook and refer to what can be pickled; from a module it goes by name, and
      workers on other machines need that module.
    - Each query is in the result exactly once. What a worker had in hand when it was killed is done
      again by another: so the provider may see a query twice. A chunk whose worker died again and
      again is done query by query, and what still kills its worker has an `Unavailable` for outcome.
    - A query that fails is an outcome with its error, and the others go on. An error or value that
      cannot be sent is replaced by a `RemoteError` that says what it was.
    - Leaving early cancels what the workers are doing; leaving `async with` ends them, and waits.
    - Limits that a pipeline keeps for itself hold for each worker. What must hold for all of them
      together belongs in Redis: see `RedisTokenBucket`, `RedisStore`.

    Security: Dask sends pickled Python between client, scheduler and workers, so whoever can
    connect to one of them can run code as you. The workers started here listen on 127.0.0.1 only;
    on a machine shared with people you do not trust, and beyond a machine, run a scheduler with TLS
    (`tls://` addresses and Dask's `distributed.comm.tls` settings) and give its address. A scheduler
    at `address` is trusted with all that, because you name it. Nothing is unpickled from anywhere
    else.

    Scripts run as a file start it below `if __name__ == "__main__":`; notebooks need nothing.

    Args:
        make_pipeline: Called without arguments in each worker.
        n: Workers started here (2 by default); with an `address`, how many are waited for there (1).
        address: A Dask scheduler, such as "tcp://10.0.0.5:8786". By default, one is started here.
        concurrency: Queries that each worker works on at once.
        chunk: Queries that are sent together. Small ones come back sooner, and less is done again
            after a death; but sending a chunk takes as long as a few light queries. By default
            `concurrency`, or fewer where there would not be enough chunks for all workers.
        patience: Seconds for a scheduler at `address` to answer, and for its workers.

    Raises:
        ValueError: A number is out of range.
        TypeError: `make_pipeline` cannot be called.
    """

    def __init__(
        self,
        make_pipeline: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        n: int | None = None,
        address: str | None = None,
        concurrency: int = 50,
        chunk: int | None = None,
        patience: float = 30.0,
    ) -> None:
        if not callable(make_pipeline):
            raise TypeError(
                f"make_pipeline={make_pipeline!r} is not a function: give one that builds the "
                "pipeline, since a pipeline that is open here cannot be sent to a worker"
            )
        self.n = (1 if address else 2) if n is None else n
        require_whole(n=self.n, concurrency=concurrency)
        if chunk is not None:
            require_whole(chunk=chunk)
        require_positive(patience=patience)
        self.address = address
        self.concurrency = concurrency
        self.chunk = chunk
        self._make = make_pipeline
        self._patience = patience
        self._stack: AsyncExitStack | None = None
        self._dask: DaskWorkers | None = None
        self._maps: weakref.WeakSet[Answers] = weakref.WeakSet()

    def __repr__(self) -> str:
        where = f"at {self.address}" if self.address else "on this machine"
        state = "closed" if self._dask is None else "open"
        return f"<Workers {self.n} {where}, {state}, concurrency={self.concurrency} each>"

    async def __aenter__(self) -> Self:
        """Start the workers, or find them, and build the pipelines.

        Raises:
            Unavailable: No scheduler at `address`, or not enough workers there.
            TypeError: `make_pipeline` cannot be sent.
            RuntimeError: The workers did not start; or this is open already; or time is virtual.
            ImportError: distributed is not installed.
            Exception: What `make_pipeline` raised in a worker.
        """
        if self._dask is not None:
            raise RuntimeError("these workers are open already: share them, do not open them twice")
        if timer_of(running_loop()) is not time.monotonic:
            raise RuntimeError("processes keep real time: virtual time has no workers")
        open_workers = _dask_module().open_workers
        stack = AsyncExitStack()
        self._dask = await stack.enter_async_context(
            open_workers(
                self._make,
                n=self.n,
                address=self.address,
                concurrency=self.concurrency,
                patience=self._patience,
            )
        )
        self._stack = stack
        return self

    async def __aexit__(self, *_: object) -> None:
        stack, self._stack, self._dask = self._stack, None, None
        if stack is not None:
            await _dask_module().undisturbed(self._ended(stack))

    async def _ended(self, stack: AsyncExitStack) -> None:
        async with stack:
            for answers in list(self._maps):
                await answers.aclose()

    def map(self, queries: Iterable[Any]) -> Answers:
        """Answer queries, and yield what becomes of each as it is known; see `Outcome.index`.

        They are read as workers become free. The `wait` and `service` of an outcome are seconds
        within its worker: for one of its `concurrency` places, and in its pipeline.

        Args:
            queries: An iterable, also an endless one, of what can be pickled.

        Raises:
            TypeError: It is a single query, or cannot be iterated over.
            RuntimeError: The workers are not open.
        """
        if isinstance(queries, str | bytes | Mapping):
            raise TypeError(
                f"queries={queries!r:.80} is one query, not several: put it into a list"
            )
        dask = self._open()
        chunks = cut(iter(queries), self._size(queries, dask.threads))
        ahead = dask.threads + dask.workers  # each worker has its next chunk before it is done
        answers = Answers(amap(dask.ask, chunks, limit=ahead, buffer=ahead))
        self._maps.add(answers)
        return answers

    async def pids(self) -> list[int]:
        """Return the numbers of the workers' processes, each on its machine.

        Raises:
            RuntimeError: The workers are not open.
        """
        return sorted((await self._open().client.run(os.getpid)).values())

    def _open(self) -> DaskWorkers:
        if self._dask is None:
            raise RuntimeError(
                "these workers are not open: use them inside `async with Workers(...) as workers:`"
            )
        return self._dask

    def _size(self, queries: Iterable[Any], threads: int) -> int:
        if self.chunk is not None:
            return self.chunk
        if isinstance(queries, Sized):
            return max(1, min(self.concurrency, math.ceil(len(queries) / threads)))
        return self.concurrency


def _dask_module() -> Any:
    """Return the module that needs Dask: an extra, and a second to import."""
    try:
        from course_lib.rag.scale_out import dask_workers  # noqa: PLC0415
    except ImportError as error:
        if error.name and error.name.partition(".")[0] in ("dask", "distributed"):
            raise ImportError("distributed is missing: pip install 'course-lib[scale]'") from None
        raise
    return dask_workers
