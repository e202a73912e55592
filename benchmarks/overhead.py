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
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from aiolimiter import AsyncLimiter
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from benchmarks.vectors import Bound, Ready, filled, vectors_in_clusters
from course_lib import service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.batching import MicroBatcher, amap
from course_lib.caching import AsyncCache, cached
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag import MatrixVectorStore, RagPipeline, RagSettings
from course_lib.rate_limiting import Gate, TokenBucket, limited
from course_lib.table import Table
from course_lib.unwatched import unwatched

ROUNDS = 9
CALLS = 2_000
MANY, LATENCY = 1_000, 0.1
MICRO = 1e6

Measure = Callable[[], Awaitable[float]]
"""Returns seconds of CPU a call."""


@dataclass(frozen=True, slots=True)
class Line:
    """One claim of cost.

    Attributes:
        name: What is called.
        ours: Measures it.
        peer: Name and measure of what others do for the same, or of the bare thing.
        wanted: What it may cost at most, in the unit of `of`.
        of: What `wanted` counts: microseconds ("µs"), or times another line ("asking", "peer").
    """

    name: str
    ours: Measure
    peer: tuple[str, Measure]
    wanted: float
    of: str = "µs"


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


def of_wrapping() -> list[Line]:
    lambda_, step = RunnableLambda(echo), as_runnable(echo)
    gated = limited(as_runnable(echo), Gate(concurrency=100))
    langchains = ("RunnableLambda", repeated(lambda_.ainvoke))
    in_batch = ("RunnableLambda.abatch", at_once(lambda_.abatch))
    batcher: Any = MicroBatcher(echo, max_size=100)

    async def batched(items: list[Any]) -> None:
        async with batcher:
            await asyncio.gather(*map(batcher.ainvoke, items))

    return [
        Line("as_runnable(f).ainvoke", repeated(step.ainvoke), langchains, 1.5, "asking"),
        Line("as_runnable(f).abatch, an item", at_once(step.abatch), in_batch, 3, "asking"),
        Line("limited(...).ainvoke", repeated(gated.ainvoke), langchains, 2.5, "asking"),
        Line("limited(...).abatch, an item", at_once(gated.abatch), in_batch, 3, "asking"),
        Line(
            "amap of a Runnable, an item",
            at_once(lambda items: mapped(lambda_, items)),
            ("amap of a coroutine function", at_once(lambda items: mapped(echo, items))),
            2.5,
            "asking",
        ),
        Line("MicroBatcher.ainvoke, an item", at_once(batched), in_batch, 3, "asking"),
    ]


def of_limits() -> list[Line]:
    bucket, theirs = TokenBucket(1e9, 1e9), AsyncLimiter(1e9, 1)
    return [
        Line(
            "free Gate.slot",
            free_slot(),
            ("asyncio.Semaphore", slot_of(asyncio.Semaphore(10))),
            5,
        ),
        Line(
            "TokenBucket.aacquire, free",
            repeated(lambda _: bucket.aacquire(), 10 * CALLS),
            ("aiolimiter, not for threads", repeated(lambda _: theirs.acquire(), 10 * CALLS)),
            1,
        ),
    ]


async def of_caching() -> list[Line]:
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

    return [
        Line(
            "hit in cached(...).abatch",
            at_once(lambda _: kept.abatch(keys)),
            ("a dict", at_once(all_known)),
            0.3,
        ),
        Line(
            "hit in cached(...), alone",
            repeated(lambda _: kept.ainvoke("question 5")),
            ("a dict", plain(lambda _: known["question 5"])),
            1.3,
        ),
        Line(
            "miss in cached(...), alone",
            repeated(lambda _: missed.ainvoke(next(alone))),
            ("RunnableLambda", repeated(lambda_.ainvoke)),
            40,
        ),
        Line(
            "miss in cached(...).abatch",
            at_once(missed.abatch),
            ("RunnableLambda.abatch", at_once(lambda_.abatch)),
            50,
        ),
    ]


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


def of_monitoring() -> list[Line]:
    monitor = PerformanceMonitor()
    histogram = PrometheusHistogram("seconds", "For comparison.", registry=CollectorRegistry())
    return [
        Line(
            "monitor.callback, added to a call",
            added(PerformanceMonitor().callback),
            ("an inline handler that does nothing", added(Nothing())),
            20,
        ),
        Line(
            "monitor.record",
            plain(lambda _: monitor.record("step", 0.05)),
            ("Prometheus histogram", plain(lambda _: histogram.observe(0.05))),
            1.5,
        ),
    ]


def of_vectors() -> list[Line]:
    lines = []
    for size, count in ((10_000, 50), (100_000, 10)):
        embedding = Ready(vectors_in_clusters(size))
        query = embedding.vectors[7].tolist()
        stores = (filled(MatrixVectorStore, embedding), filled(Bound, embedding))

        def searched(store: Any, query: Any = query, count: int = count) -> Measure:
            async def measure() -> float:
                start = time.perf_counter()  # work in threads counts by the wall
                for _ in range(count):
                    await store.asimilarity_search_by_vector(query, k=5)
                return (time.perf_counter() - start) / count

            return measure

        ours, bound = map(searched, stores)
        name = f"MatrixVectorStore, {size:,} x {np.shape(embedding.vectors)[1]} (wall)"
        lines.append(Line(name, ours, ("the product alone", bound), 1.3, "peer"))
    return lines


@asynccontextmanager
async def of_requests() -> AsyncIterator[list[Line]]:
    """Give the lines that want a provider."""
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
                question = f"What is a token bucket? {number}"
                found = await client.search(question, k=nothing_kept.candidates)
                best = await client.rerank(question, found, top_n=nothing_kept.passages)
                prompt = "\n".join(each.page_content for each in best)
                await client.chat(prompt, max_tokens=nothing_kept.answer_tokens)

            async def asked(number: int) -> None:
                await pipeline.high_performance_rag(f"What is a token bucket? {number}")

            await kept.high_performance_rag("What is a token bucket?")
            yield [
                Line(
                    f"ServiceClient.search, {MANY:,} of 100 ms in a gather (wall)",
                    gathered(lambda number: client.search(f"question {number}")),
                    ("bare aiohttp", gathered(bare)),
                    1.05,
                    "peer",
                ),
                Line(
                    "RagPipeline, all kept, a query",
                    repeated(lambda _: kept.ainvoke("What is a token bucket?"), 500),
                    ("RunnableLambda", repeated(RunnableLambda(echo).ainvoke, 500)),
                    40,
                ),
                Line(
                    "RagPipeline, lean, nothing kept",
                    repeated(asked, 60),
                    ("its three calls, bare", repeated(three_calls, 60)),
                    1.2,
                    "peer",
                ),
            ]


def imported(statement: str) -> Measure:
    """Return the measure of what a new process spends on an import, less its own start."""

    async def measure() -> float:
        return _child(statement) - _child("pass")

    return measure


def _child(statement: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def of_imports() -> list[Line]:
    runnable = "from langchain_core.runnables import Runnable, RunnableLambda"
    needs = (
        f"{runnable}; import aiohttp, numpy; from langchain_core.vectorstores import VectorStore"
    )
    return [
        Line(
            "import course_lib.rate_limiting",
            imported("import course_lib.rate_limiting"),
            (
                "what it needs of LangChain",
                imported(f"{runnable}; from langchain_core.rate_limiters import BaseRateLimiter"),
            ),
            1.1,
            "peer",
        ),
        Line(
            "from course_lib.rag import RagPipeline",
            imported("from course_lib.rag import RagPipeline"),
            (
                "what it needs of others",
                imported(f"{needs}; from langchain_core.rate_limiters import BaseRateLimiter"),
            ),
            1.1,
            "peer",
        ),
        Line(
            "from course_lib import lab",
            imported("from course_lib import lab"),
            ("what it needs of others", imported("import aiohttp, numpy, IPython")),
            1.1,
            "peer",
        ),
    ]


async def measured(lines: Sequence[Line], rounds: int) -> list[tuple[Line, float, float, float]]:
    """Return for each line what it costs, what its peer does, and what asking does."""
    asking = repeated(lambda _: _asked())
    taken: list[list[tuple[float, float, float]]] = [[] for _ in lines]
    for _ in range(rounds):
        for line, results in zip(lines, taken, strict=True):
            results.append((await line.ours(), await line.peer[1](), await asking()))
    columns = [[median(column) for column in zip(*results, strict=True)] for results in taken]
    return [(line, *each) for line, each in zip(lines, columns, strict=True)]  # type: ignore[misc]


async def _asked() -> None:
    unwatched(None)


def row(line: Line, ours: float, peer: float, asking: float) -> list[str]:
    unit = {"µs": 1 / MICRO, "peer": peer, "asking": asking}[line.of]
    holds = ours <= line.wanted * unit
    name = {"µs": "µs", "peer": "x the peer", "asking": "x asking"}[line.of]
    return [
        line.name,
        _figure(ours),
        f"{line.peer[0]}: {_figure(peer)}",
        f"{ours / unit:.2f} {name}",
        f"{line.wanted:g}",
        "holds" if holds else "DOES NOT HOLD",
    ]


def _figure(seconds: float) -> str:
    return f"{seconds * MICRO:,.2f}" if seconds < 1e-5 else f"{seconds * MICRO:,.0f}"


async def run() -> None:
    head = ["", "µs", "beside it, µs", "is", "wanted", ""]
    rows = []
    for lines, rounds in (
        ([*of_wrapping(), *of_limits(), *await of_caching(), *of_monitoring()], ROUNDS),
        (of_vectors(), ROUNDS),
        (of_imports(), 5),
    ):
        rows += [row(*each) for each in await measured(lines, rounds)]
    async with of_requests() as lines:
        rows += [row(*each) for each in await measured(lines, 5)]
    print(Table(head, rows))


def main() -> None:
    asyncio.run(run())
