"""Cost of an item against the number of items: flat where nothing grows with what is under way.

CPU of this process, in microseconds an item, the garbage collector's included; the best of a few
rounds, since what disturbs a measurement only adds to it. `asyncio.gather` of bare coroutines stands
beside what makes a task for each item: whoever does that grows as it does. The picture is stored as
docs/pictures/growth.png.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from course_lib.async_batch import as_runnable
from course_lib.batching import MicroBatcher, amap
from course_lib.caching import AsyncCache, cached
from course_lib.monitoring import PerformanceMonitor
from course_lib.rate_limiting import Gate, limited
from course_lib.table import Table

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "growth.png"
COUNTS = (100, 1_000, 10_000, 100_000, 1_000_000)
WORK = 20_000  # items that a measurement goes through at least: small counts are repeated
ROUNDS = 3
FLAT = 2.0
"""The cost at the largest count, in times that at a hundred, up to which it is called flat."""

Run = Callable[[int], Awaitable[None]]


async def echo(value: Any) -> Any:
    return value


async def mapped(count: int) -> None:
    async with amap(echo, range(count), limit=100) as outcomes:
        async for _ in outcomes:
            pass


async def recorded(count: int) -> None:
    record = PerformanceMonitor().record
    for _ in range(count):
        record("step", 0.05)


async def answered(count: int) -> None:
    chain = cached(as_runnable(echo), AsyncCache(ttl=3600, maxsize=count), namespace="growth")
    await chain.abatch(list(range(count)))


async def gated(count: int) -> None:
    await limited(as_runnable(echo), Gate(concurrency=100)).abatch(list(range(count)))


async def batched(count: int) -> None:
    async with MicroBatcher(echo, max_size=100, queue_size=count) as batcher:
        await asyncio.gather(*map(batcher, range(count)))


async def waiting(count: int) -> None:
    gate = Gate(concurrency=1)

    async def visit() -> None:
        async with gate.slot():
            pass

    async with gate.slot():
        visits = [asyncio.ensure_future(visit()) for _ in range(count)]
        await asyncio.sleep(0)
    await asyncio.gather(*visits)


async def gathered(count: int) -> None:
    await asyncio.gather(*map(echo, range(count)))


LINES: dict[str, tuple[Run, int]] = {
    "amap": (mapped, 1_000_000),
    "monitor.record": (recorded, 1_000_000),
    "cached(...).abatch, all missed": (answered, 100_000),
    "limited(...).abatch": (gated, 100_000),
    "MicroBatcher": (batched, 100_000),
    "waiters at a gate": (waiting, 10_000),
    "asyncio.gather, bare": (gathered, 100_000),
}


def cost(run: Run, count: int) -> float:
    """Return the seconds of CPU an item."""
    repeated = max(1, WORK // count)

    async def measure() -> float:
        start = time.process_time()
        for _ in range(repeated):
            await run(count)
        return (time.process_time() - start) / (repeated * count)

    return min(asyncio.run(measure()) for _ in range(ROUNDS))


def drawn(costs: dict[str, dict[int, float]]) -> None:
    """Store the picture of all lines."""
    with plt.style.context("course_lib.lab.plots.course"):
        figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
        for name, points in costs.items():
            style = "--" if "bare" in name else "-"
            values = [seconds * 1e6 for seconds in points.values()]
            axes.plot(list(points), values, style, marker="o", label=name)
        axes.set(xscale="log", xlabel="items", ylabel="CPU of an item, µs")
        axes.set_ylim(bottom=0)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_title(
            "Flat, but where a task waits for every item: that grows as a bare gather does"
        )
        figure.savefig(PICTURE, dpi=96)
        plt.close(figure)


def main() -> None:
    costs = {
        name: {count: cost(run, count) for count in COUNTS if count <= most}
        for name, (run, most) in LINES.items()
    }
    rows = []
    for name, points in costs.items():
        growth = list(points.values())[-1] / points[COUNTS[0]]
        cells = [f"{points[each] * 1e6:.2f}" if each in points else "" for each in COUNTS]
        rows.append([name, *cells, f"{growth:.2f}x", "flat" if growth <= FLAT else "GROWS"])
    print(Table(["µs an item", *(f"{each:,}" for each in COUNTS), "last : first", ""], rows))
    drawn(costs)
