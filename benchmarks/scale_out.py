"""One process against Dask with two workers, for heavy and for light work in the client.

Heavy: a call through `ChatOpenAI`, which takes some milliseconds of this machine's CPU. Light: a
search through one shared session, which takes a tenth of that. Both wait as long for the provider,
a hundred at once. The bound is what CPU there is: that of client and provider, as measured with one
process, spread over all cores, but no less than what one worker or the provider must do alone.
Workers take a while to start: the table shows from how many calls on that has been made up for.

Then two workers share a limit in Redis: what the provider counts in the fullest window is held
against rate and burst. A call may come somewhat later than it was let through, so that two come
closer together; the excess in calls is what the network and a busy machine make of that.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from statistics import median
from typing import Any, Self

import psutil

from course_lib import lab, service
from course_lib.async_batch import ServiceClient
from course_lib.batching import amap
from course_lib.rag.scale_out import RedisTokenBucket, Workers, running_server
from course_lib.table import Table

LATENCY = 0.05
AT_ONCE = 100  # over all processes
WORKERS = 2
CALLS = 1_000
ROUNDS = 3
RATE, BURST, LIMITED_CALLS = 100, 10, 300
MOST_OF_BOUND = 1.5
"""What heavy work may take with two workers, once they run, relative to the bound."""

Pipeline = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def heavy(url: str) -> AsyncIterator[Any]:
    """Give calls through a client with many layers."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - heavy, and only in some workers

    model = ChatOpenAI(base_url=f"{url}/v1", api_key="unused", model="default", max_retries=0)

    async def call(question: str) -> str:
        return str((await model.ainvoke(question)).content)

    yield call


@asynccontextmanager
async def light(url: str) -> AsyncIterator[Any]:
    """Give calls through one session."""
    async with ServiceClient(url) as client:

        async def call(question: str) -> list[str | None]:
            return [document.id for document in await client.search(question)]

        yield call


@asynccontextmanager
async def limited(url: str, redis: str) -> AsyncIterator[Any]:
    """Give searches within a limit that all processes share."""
    with RedisTokenBucket(redis, "benchmark", rate=RATE, capacity=BURST) as bucket:
        async with light(url) as search:

            async def call(question: str) -> list[str | None]:
                await bucket.aacquire()
                return list(await search(question))

            yield call


async def one_process(make: Pipeline, questions: list[str]) -> tuple[float, list[Any]]:
    """Return the seconds of one run, without the time to set up, and the answers."""
    async with make() as call:
        start = time.perf_counter()
        outcomes = amap(call, questions, limit=AT_ONCE, ordered=True)
        answers = [outcome.value async for outcome in outcomes]
        return time.perf_counter() - start, answers


async def with_workers(workers: Workers, questions: list[str]) -> tuple[float, list[Any]]:
    """Return the same for workers that run already."""
    start = time.perf_counter()
    outcomes = [outcome async for outcome in workers.map(questions)]
    seconds = time.perf_counter() - start
    return seconds, [each.result() for each in sorted(outcomes, key=lambda each: each.index)]


class Cpu:
    """Seconds of CPU that this process and the provider take in a block, each."""

    def __init__(self, provider: service.Provider) -> None:
        self._processes = psutil.Process(), psutil.Process(provider.pid)

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        own, provider = (b - a for a, b in zip(self._before, self._now(), strict=True))
        cores = psutil.cpu_count() or 1
        self.bound = max(own / WORKERS, provider, (own + provider) / cores)

    def _now(self) -> list[float]:
        times = [process.cpu_times() for process in self._processes]
        return [each.user + each.system for each in times]


async def compare(name: str, make: Pipeline, provider: service.Provider) -> tuple[list[str], float]:
    """Measure both in turn, round after round; return a line of the table and "of the bound"."""
    questions = lab.questions(CALLS)
    alone, shared, bounds = [], [], []
    start = time.perf_counter()
    async with Workers(make, n=WORKERS, concurrency=AT_ONCE // WORKERS) as workers:
        started = time.perf_counter() - start
        for _ in range(ROUNDS):
            with Cpu(provider) as cpu:
                seconds, expected = await one_process(make, questions)
            alone.append(seconds)
            bounds.append(cpu.bound)
            seconds, answers = await with_workers(workers, questions)
            shared.append(seconds)
            assert answers == expected
    one, two, bound = median(alone), median(shared), max(median(bounds), CALLS / AT_ONCE * LATENCY)
    even = f"{started / (one - two) * CALLS:,.0f} calls" if one > two else "never"
    seconds_ = [f"{each:.2f} s" for each in (one, two, bound)]
    return [name, *seconds_, f"{one / two:.2f}x", f"{started:.1f} s", even], two / bound


def fullest(times: list[float]) -> float:
    """Return by how many calls the worst window, of any length, exceeds burst and rate.

    In the window from call i to call j there are j - i + 1, and it lasts t_j - t_i.
    """
    times = sorted(times)
    worst, lowest = 0.0, float("inf")
    for count, moment in enumerate(times):
        lowest = min(lowest, count - RATE * moment)
        worst = max(worst, count + 1 - RATE * moment - lowest)
    return worst - BURST


async def shared_limit(provider: service.Provider) -> None:
    """Print what the provider sees of two workers that share a limit."""
    provider.reset()
    with running_server() as redis:
        make = functools.partial(limited, provider.url, redis.url)
        async with Workers(make, n=WORKERS) as workers:
            seconds, _ = await with_workers(workers, lab.questions(LIMITED_CALLS))
    calls = provider.ledger().calls
    excess = fullest([call.start for call in calls])
    print(
        f"{len(calls)} searches by {WORKERS} workers at {RATE}/s together, burst {BURST}: "
        f"{seconds:.2f} s\nthe fullest window the provider saw: {excess:+.1f} calls of the bound, "
        f"which {max(excess, 0) / RATE * 1e3:.0f} ms of lateness explain\n"
    )


async def run() -> None:
    with service.running(latency=service.Latency.constant(LATENCY)) as provider:
        pipelines = {"heavy: ChatOpenAI": heavy, "light: ServiceClient": light}
        rows, ratios = [], []
        for name, make in pipelines.items():
            cells, ratio = await compare(name, functools.partial(make, provider.url), provider)
            rows.append(cells)
            ratios.append(ratio)
        workers = f"{WORKERS} workers"
        head = ["work", "one process", workers, "bound", "speed-up", "start", "pays from"]
        print(f"{CALLS} calls of {LATENCY} s, {AT_ONCE} at once")
        print(Table(head, rows))
        verdict = "within" if ratios[0] <= MOST_OF_BOUND else "NOT within"
        print(f"heavy work takes {ratios[0]:.2f}x the bound: {verdict} {MOST_OF_BOUND}x\n")
        await shared_limit(provider)


def main() -> None:
    asyncio.run(run())
