"""What the package itself costs, call by call: each line beside its peer and its bound, in one run.

CPU of this process, in microseconds a call, unless a line says otherwise; medians of rounds in which
all lines are measured one after the other, so that what disturbs a round disturbs its neighbours,
too. "Asking" is what it costs to find out from LangChain whether anybody watches a call.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, ensure_config
from langchain_core.runnables.config import get_async_callback_manager_for_config
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from benchmarks.clusters import DIMENSION, Bound, Ready, filled, vectors_in_clusters
from benchmarks.lines import Line, Measure, Pairs, Result, measured, row
from course_lib import service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.batching import MicroBatcher, amap
from course_lib.caching import AsyncCache, cached
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag import MatrixVectorStore, RagPipeline, RagSettings
from course_lib.rate_limiting import Gate, TokenBucket, limited

QUICK = bool(os.environ.get("QUICK"))  # for a look, or on a machine that others use
CALLS, ROUNDS = (300, 3) if QUICK else (2_000, 9)
MANY, LATENCY = 1_000, 0.1
QUESTION = "What is a token bucket?"

LINES = (
    Line("as_runnable(f).ainvoke", "RunnableLambda", 1.5, "asking"),
    Line("as_runnable(f).abatch, an item", "RunnableLambda.abatch", 3, "asking"),
    Line("limited(...).ainvoke", "RunnableLambda", 2.5, "asking"),
    Line("limited(...).abatch, an item", "RunnableLambda.abatch", 3, "asking"),
    Line(
        "amap of a Runnable, an item",
        "amap of a coroutine function",
        2.5,
        "asking",
        why="a Runnable is asked whether anybody watches it, a coroutine function is just called",
    ),
    Line("MicroBatcher.ainvoke, an item", "RunnableLambda.abatch", 3, "asking"),
    Line(
        "free Gate.slot",
        "asyncio.Semaphore",
        5,
        why="a semaphore keeps no order of priority, no rate, no cool-down and no statistics, "
        "cannot be resized, and serves one event loop and no thread",
    ),
    Line(
        "TokenBucket.aacquire, free",
        "aiolimiter, not for threads",
        1,
        why="a lock and a clock that several threads and event loops share, and first come, "
        "first served",
    ),
    Line(
        "hit in cached(...).abatch",
        "a dict",
        0.3,
        why="a key that is the same in every process, expiry, and an order of last use",
    ),
    Line(
        "hit in cached(...), alone",
        "a dict",
        1.3,
        why="as in a batch, and the clock and the surrounding configuration are read for each",
    ),
    Line("miss in cached(...), alone", "RunnableLambda", 40),
    Line("miss in cached(...).abatch", "RunnableLambda.abatch", 50),
    Line(
        "monitor.callback, added to a call",
        "an inline handler that does nothing",
        20,
        why="LangChain's own part is all that an empty handler costs; the rest reads the clock "
        "twice, and keeps the run, its parent, its task and its thread apart from others",
    ),
    Line(
        "monitor.record",
        "Prometheus histogram",
        1.5,
        why="Prometheus has a dozen fixed buckets and no extremes; here quantiles are within half "
        "a percent, sums exact, and the last ten thousand calls are kept for a timeline",
    ),
    *[
        Line(
            f"MatrixVectorStore, {size:,} x {DIMENSION} (wall)",
            "the product alone",
            1.3,
            "peer",
            why="the best are chosen, their documents copied, and a thread does the work, so that "
            "the event loop goes on",
        )
        for size in (10_000, 100_000)
    ],
    Line(
        "import course_lib.rate_limiting",
        "what it needs of LangChain",
        1.1,
        "peer",
        why="its own modules come on top",
    ),
    Line(
        "from course_lib.rag import RagPipeline",
        "what it needs of others",
        1.1,
        "peer",
        why="its own modules come on top",
    ),
    Line("from course_lib import lab", "what it needs of others", 1.1, "peer"),
    Line(
        f"ServiceClient.search, {MANY:,} of 100 ms in a gather (wall)",
        "bare aiohttp",
        1.05,
        "peer",
        why="answers are checked and bounded, become Documents, and errors are of one tree",
    ),
    Line("RagPipeline, all kept, a query", "RunnableLambda", 40),
    Line(
        "RagPipeline, lean, nothing kept",
        "its three calls, bare",
        1.2,
        "peer",
        why="each of three calls passes a gate and has a time-out of its own, may be tried again, "
        "and is timed for the answer's account",
    ),
)


async def echo(value: Any) -> Any:
    return value


def repeated(call: Callable[[Any], Awaitable[Any]], count: int = CALLS) -> Measure:
    """Return the measure of one call, made many times in a row."""

    async def measure() -> float:
        start = time.process_time()
        for number in range(count):
            await call(number)
        return (time.process_time() - start) / count

    return measure


def plain(call: Callable[[int], Any], count: int = 10 * CALLS) -> Measure:
    """Return the measure of a call that is not awaited."""

    async def measure() -> float:
        start = time.process_time()
        for number in range(count):
            call(number)
        return (time.process_time() - start) / count

    return measure


def at_once(many: Callable[[list[Any]], Awaitable[Any]], count: int = CALLS) -> Measure:
    """Return the measure of an item of one batch."""
    fresh = iter(range(10**9))

    async def measure() -> float:
        items = [next(fresh) for _ in range(count)]
        start = time.process_time()
        await many(items)
        return (time.process_time() - start) / count

    return measure


async def mapped(call: Any, items: Sequence[Any]) -> None:
    async with amap(call, items, limit=10) as outcomes:
        async for _ in outcomes:
            pass


def slot_of(gate: Any) -> Measure:
    async def visit(_: Any) -> None:
        async with gate:
            pass

    return repeated(visit)


def free_slot() -> Measure:
    gate = Gate(concurrency=10)

    async def visit(_: Any) -> None:
        async with gate.slot():
            pass

    return repeated(visit)


@asynccontextmanager
async def of_wrapping() -> AsyncIterator[Pairs]:
    lambda_, step = RunnableLambda(echo), as_runnable(echo)
    gated = limited(as_runnable(echo), Gate(concurrency=100))
    langchains, in_batch = repeated(lambda_.ainvoke), at_once(lambda_.abatch)
    batcher: Any = MicroBatcher(echo, max_size=100)

    async def batched(items: list[Any]) -> None:
        async with batcher:
            await asyncio.gather(*map(batcher.ainvoke, items))

    yield {
        "as_runnable(f).ainvoke": (repeated(step.ainvoke), langchains),
        "as_runnable(f).abatch, an item": (at_once(step.abatch), in_batch),
        "limited(...).ainvoke": (repeated(gated.ainvoke), langchains),
        "limited(...).abatch, an item": (at_once(gated.abatch), in_batch),
        "amap of a Runnable, an item": (
            at_once(lambda items: mapped(lambda_, items)),
            at_once(lambda items: mapped(echo, items)),
        ),
        "MicroBatcher.ainvoke, an item": (at_once(batched), in_batch),
    }


@asynccontextmanager
async def of_limits() -> AsyncIterator[Pairs]:
    bucket, theirs = TokenBucket(1e9, 1e9), AsyncLimiter(1e9, 1)
    yield {
        "free Gate.slot": (free_slot(), slot_of(asyncio.Semaphore(10))),
        "TokenBucket.aacquire, free": (
            repeated(lambda _: bucket.aacquire(), 10 * CALLS),
            repeated(lambda _: theirs.acquire(), 10 * CALLS),
        ),
    }


@asynccontextmanager
async def of_caching() -> AsyncIterator[Pairs]:
    keys = [f"question {number}" for number in range(CALLS)]
    known = dict.fromkeys(keys, 1)
    room = AsyncCache(ttl=3600, maxsize=10**6)
    kept = cached(as_runnable(echo), room, namespace="kept")
    await kept.abatch(keys)
    missed = cached(as_runnable(echo), room, namespace="missed")
    alone = iter(range(10**9, 2 * 10**9))
    lambda_ = RunnableLambda(echo)

    async def all_known(_: Any) -> None:
        [known[key] for key in keys]

    yield {
        "hit in cached(...).abatch": (at_once(lambda _: kept.abatch(keys)), at_once(all_known)),
        "hit in cached(...), alone": (
            repeated(lambda _: kept.ainvoke("question 5")),
            plain(lambda _: known["question 5"]),
        ),
        "miss in cached(...), alone": (
            repeated(lambda _: missed.ainvoke(next(alone))),
            repeated(lambda_.ainvoke),
        ),
        "miss in cached(...).abatch": (at_once(missed.abatch), at_once(lambda_.abatch)),
    }


class Nothing(BaseCallbackHandler):
    """A handler that does nothing, without a thread."""

    run_inline = True

    def on_chain_start(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def added(handler: Any) -> Measure:
    """Return the measure of what a handler adds to a call."""
    chain = RunnableLambda(echo)
    config: Any = {"callbacks": [handler]}
    watched = repeated(lambda value: chain.ainvoke(value, config), CALLS // 4)
    bare = repeated(chain.ainvoke, CALLS // 4)

    async def measure() -> float:
        return await watched() - await bare()

    return measure


@asynccontextmanager
async def of_monitoring() -> AsyncIterator[Pairs]:
    monitor = PerformanceMonitor()
    histogram = PrometheusHistogram("seconds", "For comparison.", registry=CollectorRegistry())
    yield {
        "monitor.callback, added to a call": (
            added(PerformanceMonitor().callback),
            added(Nothing()),
        ),
        "monitor.record": (
            plain(lambda _: monitor.record("step", 0.05)),
            plain(lambda _: histogram.observe(0.05)),
        ),
    }


@cache
def embedded(size: int) -> Ready:
    return Ready(vectors_in_clusters(size).astype("float32"))


@cache
def store_of(make: Callable[[Any], Any], size: int) -> Any:
    return filled(make, embedded(size))


def searched(make: Callable[[Any], Any], size: int, count: int) -> Measure:
    """Return the measure of a search, by the wall: work in threads has no other clock."""

    async def measure() -> float:
        store, query = store_of(make, size), embedded(size).vectors[7].tolist()
        start = time.perf_counter()
        for _ in range(count):
            await store.asimilarity_search_by_vector(query, k=5)
        return (time.perf_counter() - start) / count

    return measure


@asynccontextmanager
async def of_vectors() -> AsyncIterator[Pairs]:
    yield {
        f"MatrixVectorStore, {size:,} x {DIMENSION} (wall)": (
            searched(MatrixVectorStore, size, count),
            searched(Bound, size, count),
        )
        for size, count in ((10_000, 50), (100_000, 10))
    }


@asynccontextmanager
async def of_requests() -> AsyncIterator[Pairs]:
    """Give what wants a provider."""
    with service.running(latency=None) as provider:
        url = provider.url
        connector = aiohttp.TCPConnector(limit=MANY)
        nothing_kept = RagSettings(cached=())
        async with (
            ServiceClient(url, max_connections=MANY) as client,
            aiohttp.ClientSession(connector=connector) as session,
            RagPipeline(url, chat="lean") as kept,
            RagPipeline(url, chat="lean", settings=nothing_kept) as pipeline,
        ):

            async def bare(number: int) -> Any:
                params = {"q": f"question {number}"}
                async with session.get(f"{url}/search", params=params) as response:
                    response.raise_for_status()
                    return (await response.json())["results"]

            def gathered(call: Any) -> Measure:
                async def measure() -> float:
                    provider.configure(latency=service.Latency.constant(LATENCY))
                    start = time.perf_counter()
                    await asyncio.gather(*map(call, range(MANY)))
                    seconds = time.perf_counter() - start
                    provider.configure(latency=None)
                    return seconds / MANY

                return measure

            async def three_calls(number: int) -> None:
                question = f"{QUESTION} {number}"
                found = await client.search(question, k=nothing_kept.candidates)
                best = await client.rerank(question, found, top_n=nothing_kept.passages)
                prompt = "\n".join(each.page_content for each in best)
                await client.chat(prompt, max_tokens=nothing_kept.answer_tokens)

            async def asked(number: int) -> None:
                await pipeline.high_performance_rag(f"{QUESTION} {number}")

            await kept.high_performance_rag(QUESTION)
            yield {
                f"ServiceClient.search, {MANY:,} of 100 ms in a gather (wall)": (
                    gathered(lambda number: client.search(f"question {number}")),
                    gathered(bare),
                ),
                "RagPipeline, all kept, a query": (
                    repeated(lambda _: kept.ainvoke(QUESTION), 500),
                    repeated(RunnableLambda(echo).ainvoke, 500),
                ),
                "RagPipeline, lean, nothing kept": (
                    repeated(asked, 60),
                    repeated(three_calls, 60),
                ),
            }


class Imports:
    """Measures what a new process spends on an import, less its own start.

    The modules' bytecode is there, in a folder of its own: what is measured is not the compiler,
    which works once, or every time where PYTHONDONTWRITEBYTECODE is set.
    """

    def __init__(self, folder: str) -> None:
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def __call__(self, statement: str) -> Measure:
        """Return the measure of a statement."""
        compiled = False

        async def measure() -> float:
            nonlocal compiled
            if not compiled:
                self._child(statement)
                compiled = True
            return self._child(statement) - self._child("pass")

        return measure

    def _child(self, statement: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", statement], check=True, env=self._environment)
        after = os.times()
        return (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )


@asynccontextmanager
async def of_imports() -> AsyncIterator[Pairs]:
    runnable = "from langchain_core.runnables import Runnable, RunnableLambda"
    limiter = "from langchain_core.rate_limiters import BaseRateLimiter"
    store = "import aiohttp, numpy; from langchain_core.vectorstores import VectorStore"
    with TemporaryDirectory() as folder:
        imported = Imports(folder)
        yield {
            "import course_lib.rate_limiting": (
                imported("import course_lib.rate_limiting"),
                imported(f"{runnable}; {limiter}"),
            ),
            "from course_lib.rag import RagPipeline": (
                imported("from course_lib.rag import RagPipeline"),
                imported(f"{runnable}; {store}; {limiter}"),
            ),
            "from course_lib import lab": (
                imported("from course_lib import lab"),
                imported("import aiohttp, numpy, IPython"),
            ),
        }


Group = Callable[[], AbstractAsyncContextManager[Pairs]]
GROUPS: dict[Group, int] = {
    of_wrapping: ROUNDS,
    of_limits: ROUNDS,
    of_caching: ROUNDS,
    of_monitoring: ROUNDS,
    of_vectors: ROUNDS,
    of_imports: min(ROUNDS, 5),
    of_requests: min(ROUNDS, 5),
}
"""What opens the measures of some lines, and how many rounds they are measured in."""


async def ask(_: Any) -> None:
    """Find out whether anybody watches, as LangChain does at the start of each call."""
    get_async_callback_manager_for_config(ensure_config(None))


async def results() -> list[Result]:
    """Return what all lines came to."""
    found: list[Result] = []
    for group, rounds in GROUPS.items():
        async with group() as pairs:
            found += await measured(LINES, pairs, repeated(ask), rounds)
    return found


def main() -> list[Result]:
    """Print the table, and return what is in it."""
    # Here, since an older tree that is measured by this file has it elsewhere.
    from course_lib.table import Table  # noqa: PLC0415 - see above

    found = asyncio.run(results())
    head = ["", "µs", "beside it, µs", "is", "wanted", ""]
    print(Table(head, [row(each) for each in found]))
    return found
