"""Networks of three steps with known limits, run in virtual time under a monitor."""

import asyncio
import random
from dataclasses import dataclass, replace

from course_lib.lab import simulate
from course_lib.monitoring.monitor import PerformanceMonitor


@dataclass(frozen=True)
class Place:
    """A step: seconds of work, how they vary, and how many it works on at once (None: any)."""

    name: str
    seconds: float
    slots: int | None = None
    kind: str = "constant"
    queue: str = "provider"  # where calls wait: seen by nobody, or by the client

    def work(self, draw):
        """Seconds for the next call, from one random number each."""
        if self.kind == "exponential":
            return draw.expovariate(1) * self.seconds
        if self.kind == "lognormal":
            return self.seconds * draw.lognormvariate(-0.08, 0.4)
        return self.seconds

    def doubled(self):
        """The same with twice as many slots."""
        return self if self.slots is None else replace(self, slots=2 * self.slots)

    def halved(self):
        """The same in half the time."""
        return replace(self, seconds=self.seconds / 2)


CHAIN = (Place("retrieve", 0.04), Place("rerank", 0.08, 4), Place("generate", 1.0))
"""The pipeline of the course: the slowest step is not the one that limits it."""


def chain(kind="lognormal", queue="provider"):
    """That pipeline, with the work and the queue of its limited step as given."""
    return [replace(place, kind=kind, queue=queue) if place.slots else place for place in CHAIN]


def run(places, load, *, root=True, **options):
    """Put a load through the places; return the monitor's report and the virtual seconds.

    `load`: planned starts of the items (open), or ("closed", items, workers).
    """

    async def program():
        monitor = PerformanceMonitor(**options)
        stations = [_Station(place, monitor, index) for index, place in enumerate(places)]

        async def item(number, start=None):
            if start is not None:
                await asyncio.sleep(start)
            if root:
                with monitor.measure("item"):
                    await chain()
            else:
                await chain()

        async def chain():
            for station in stations:
                await station()

        if load[0] == "closed":
            _, items, workers = load
            numbers = iter(range(items))

            async def worker():
                for number in numbers:
                    await item(number)

            await asyncio.gather(*(worker() for _ in range(workers)))
        else:
            await asyncio.gather(*(item(number, start) for number, start in enumerate(load)))
        return monitor.report()

    simulated = simulate(program)
    return simulated.value, simulated.seconds


class _Station:
    def __init__(self, place, monitor, seed):
        self.place, self.monitor = place, monitor
        self.draw = random.Random(seed)
        self.slots = asyncio.Semaphore(place.slots or 1_000_000)

    async def __call__(self):
        place, now = self.place, self.monitor.now()
        if place.queue == "provider":
            with self.monitor.measure(place.name):
                async with self.slots:
                    await asyncio.sleep(place.work(self.draw))
            return
        async with self.slots:
            planned = now if place.queue == "planned" else None
            with self.monitor.measure(place.name, planned=planned):
                await asyncio.sleep(place.work(self.draw))


def poisson(rate, items, seed=0):
    """Planned starts of a load that arrives at random."""
    draw = random.Random(seed)
    starts, now = [], 0.0
    for _ in range(items):
        now += draw.expovariate(rate)
        starts.append(now)
    return starts


def batch(items):
    """All at once."""
    return [0.0] * items
