"""How many a step works on at once, told from outside."""

import asyncio
import random
from dataclasses import replace

import pytest
from network_support import batch, chain, run

from course_lib.lab import simulate
from course_lib.monitoring.bottleneck import bottleneck
from course_lib.monitoring.monitor import PerformanceMonitor


@pytest.mark.parametrize("slots", [1, 2, 4, 7])
@pytest.mark.parametrize("kind", ["constant", "lognormal", "exponential"])
def test_the_places_of_a_step_are_counted_from_outside(kind, slots):
    """Although callers see one time for a call, in which waiting and work are one."""
    places = [replace(place, slots=slots) if place.slots else place for place in chain(kind)]
    rerank = bottleneck(run(places, batch(150))[0]).stations["rerank"]
    assert rerank.slots == slots
    assert rerank.own == pytest.approx(0.08, rel=0.3)


def test_places_that_are_not_given_in_order_show_by_the_load():
    """Who waits is drawn by lot; then times grow with those who are there, without any order."""

    async def program():
        monitor, draw, waiting, free = PerformanceMonitor(), random.Random(1), [], [4]

        async def item():
            with monitor.measure("first"):
                await asyncio.sleep(draw.uniform(0.1, 0.3))
            with monitor.measure("second"):
                if free[0]:
                    free[0] -= 1
                else:
                    waiting.append(asyncio.get_running_loop().create_future())
                    await waiting[-1]
                await asyncio.sleep(draw.uniform(0.05, 0.15))
                if waiting:
                    waiting.pop(draw.randrange(len(waiting))).set_result(None)
                else:
                    free[0] += 1

        async def worker():
            for _ in range(10):
                await item()

        await asyncio.gather(*(worker() for _ in range(40)))
        return monitor.report()

    found = bottleneck(simulate(program).value)
    assert (found.kind, found.step) == ("saturated", "second")
