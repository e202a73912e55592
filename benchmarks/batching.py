"""A batch with stragglers in virtual time, what an item costs, and what a million items hold.

Makespans come from virtual time, and are the same on every machine; but for `abatch_as_completed`,
which starts items in an order that differs from run to run. Costs and memory are
real: each variant runs in a process of its own, and its memory is the growth of that process from
before the batch (and after a small one) to its peak.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from statistics import median
from typing import Any

import aiometer
import psutil
from langchain_core.runnables import Runnable, RunnableLambda

from course_lib.batching import amap, batch_in_chunks
from course_lib.lab import simulate
from course_lib.table import Table

ITEMS, LIMIT, STEPS, BATCHES = 48, 8, 3, 20
STRAGGLERS, SHORT, LONG = 6, 0.02, 0.3  # of the items; seconds of a step, and of a slow one
TRIVIAL, MANY = 100_000, 1_000_000
PLACES = 100
GLANCE = 0.005  # seconds between two looks at the memory
MOST_MICROSECONDS, MOST_MEGABYTES = 15, 5
"""What `amap` may add to an item, and hold for a million of them."""


# --- a batch with stragglers -----------------------------------------------------------------


def durations(seed: int) -> list[list[float]]:
    """Return the seconds of each item's steps; one step of a straggler is slow."""
    draw = random.Random(seed)
    seconds = [[SHORT * draw.uniform(0.5, 1.5) for _ in range(STEPS)] for _ in range(ITEMS)]
    for item in draw.sample(range(ITEMS), STRAGGLERS):
        seconds[item][draw.randrange(STEPS)] = LONG
    return seconds


def chain_of(seconds: list[list[float]]) -> Runnable[int, int]:
    """Return a chain whose steps sleep for as long as the item says."""

    def step(place: int) -> Runnable[int, int]:
        async def work(item: int) -> int:
            await asyncio.sleep(seconds[item][place])
            return item

        return RunnableLambda(work)

    first, *others = map(step, range(STEPS))
    for other in others:
        first = first | other
    return first


async def exhaust(results: AsyncIterable[Any]) -> int:
    count = 0
    async for _ in results:
        count += 1
    return count


async def in_chunks(chain: Runnable[int, int]) -> int:
    return await exhaust(batch_in_chunks(chain, range(ITEMS), size=LIMIT))


async def chain_abatch(chain: Runnable[int, int]) -> int:
    return len(await chain.abatch(list(range(ITEMS)), config={"max_concurrency": LIMIT}))


async def as_completed(chain: Runnable[int, int]) -> int:
    config = {"max_concurrency": LIMIT}
    return await exhaust(chain.abatch_as_completed(list(range(ITEMS)), config=config))


async def window(chain: Runnable[int, int]) -> int:
    return await exhaust(amap(chain, range(ITEMS), limit=LIMIT))


async def window_in_order(chain: Runnable[int, int]) -> int:
    return await exhaust(amap(chain, range(ITEMS), limit=LIMIT, ordered=True))


BATCHED: dict[str, Callable[[Runnable[int, int]], Awaitable[int]]] = {
    "chunks of 8": in_chunks,
    "chain.abatch": chain_abatch,
    "abatch_as_completed": as_completed,
    "amap, in order": window_in_order,
    "amap": window,
}


def stragglers() -> None:
    """Print the makespans of some batches, together."""
    batches = [durations(seed) for seed in range(BATCHES)]
    wholes = [[sum(steps) for steps in seconds] for seconds in batches]
    bound = sum(max(*whole, sum(whole) / LIMIT) for whole in wholes)
    rows = []
    for name, run in BATCHED.items():
        results = [simulate(lambda s=seconds, r=run: r(chain_of(s))) for seconds in batches]
        assert {result.value for result in results} == {ITEMS}
        makespan = sum(result.seconds for result in results)
        rows.append([name, f"{makespan / BATCHES:.3f} s", f"{makespan / bound:.2f}x"])
    rows.append(["bound", f"{bound / BATCHES:.3f} s", "1.00x"])
    print(
        f"{ITEMS} items of {STEPS} steps, {STRAGGLERS} of them stragglers, limit {LIMIT}: "
        f"mean of {BATCHES} batches, virtual time"
    )
    print(Table(["variant", "makespan", "of the bound"], rows), "\n")


# --- what an item costs ----------------------------------------------------------------------


async def echo(item: int) -> int:
    return item


async def bare_loop(count: int) -> None:
    for item in range(count):
        await echo(item)


async def bare_gather(count: int) -> None:
    await asyncio.gather(*map(echo, range(count)))


async def with_aiometer(count: int) -> None:
    async with aiometer.amap(echo, list(range(count)), max_at_once=PLACES) as results:
        await exhaust(results)


async def with_abatch(count: int) -> None:
    await RunnableLambda(echo).abatch(list(range(count)), config={"max_concurrency": PLACES})


async def with_amap(count: int) -> None:
    await exhaust(amap(echo, range(count), limit=PLACES))


async def with_amap_in_order(count: int) -> None:
    await exhaust(amap(echo, range(count), limit=PLACES, ordered=True))


async def with_amap_of_a_runnable(count: int) -> None:
    await exhaust(amap(RunnableLambda(echo), range(count), limit=PLACES))


COSTS: dict[str, Callable[[int], Awaitable[None]]] = {
    "plain coroutine, one by one": bare_loop,
    "gather, all at once": bare_gather,
    "aiometer.amap": with_aiometer,
    "amap": with_amap,
    "amap, in order": with_amap_in_order,
    "amap of a Runnable": with_amap_of_a_runnable,
    "RunnableLambda.abatch": with_abatch,
}
SLOW = {"RunnableLambda.abatch", "amap of a Runnable"}  # run once


class Growth(threading.Thread):
    """Watches how far this process grows."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._start = self.most = self._process.memory_info().rss
        self._over = threading.Event()

    def run(self) -> None:
        """Look, until it is over."""
        while not self._over.wait(GLANCE):
            self.most = max(self.most, self._process.memory_info().rss)

    def end(self) -> float:
        """Return the megabytes from the start to the peak."""
        self._over.set()
        self.join()
        return (self.most - self._start) / 1e6


def child(name: str, count: int) -> None:
    """Run one variant here, and print its seconds and megabytes."""
    asyncio.run(COSTS[name](1000))  # what is imported and allocated once is not the batch's
    growth = Growth()
    growth.start()
    start = time.perf_counter()
    asyncio.run(COSTS[name](count))
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, growth.end()]))


def measured(name: str, count: int) -> tuple[float, float]:
    """Run one variant in a process of its own; return its seconds and megabytes."""
    command = [sys.executable, "-m", "benchmarks.batching", name, str(count)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    seconds, megabytes = json.loads(said)
    return seconds, megabytes


def verdict(what: str, value: float, most: float, unit: str) -> None:
    print(f"{what}: {value:.1f} {unit}, {'within' if value <= most else 'NOT within'} {most}")


def costs() -> None:
    """Print what an item costs in time and memory."""
    rows, seconds = [], {}
    for name in COSTS:
        runs = [measured(name, TRIVIAL) for _ in range(1 if name in SLOW else 3)]
        seconds[name] = median(run[0] for run in runs)
        memory = median(run[1] for run in runs)
        each = seconds[name] / TRIVIAL * 1e6
        rows.append([name, f"{seconds[name]:.2f} s", f"{each:.1f} µs", f"{memory:.1f} MB"])
    print(f"{TRIVIAL:,} trivial items, limit {PLACES}")
    print(Table(["variant", "time", "each", "memory"], rows))
    added = (seconds["amap"] - seconds["plain coroutine, one by one"]) / TRIVIAL * 1e6
    verdict("amap adds to an item", added, MOST_MICROSECONDS, "µs")
    _, held = measured("amap", MANY)
    verdict(f"amap of {MANY:,} items holds", held, MOST_MEGABYTES, "MB")


def main() -> None:
    stragglers()
    costs()


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
