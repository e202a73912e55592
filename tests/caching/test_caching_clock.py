"""One clock for threads, ordinary loops and virtual ones."""

import asyncio
import time
from types import SimpleNamespace

from course_lib.caching.clock import Clock
from course_lib.lab.simulation import simulate


async def read(clock, seconds):
    """Read, let time pass, and read again."""
    before = clock.now()
    await asyncio.sleep(seconds)
    return before, clock.now()


def test_in_virtual_time_it_is_the_simulations():
    """From the loop's zero on, also if the clock is first asked later."""

    async def main():
        clock = Clock()
        await asyncio.sleep(5)
        return await read(clock, 2)

    before, after = simulate(main).value
    assert after - before == 2
    assert before >= 5


def test_it_goes_on_from_where_it_was_and_never_back():
    """Through two simulations, and in real time between them."""
    clock = Clock()
    readings = [clock.now()]
    for seconds in (100, 1000):
        readings += simulate(lambda seconds=seconds: read(clock, seconds)).value
        readings += [clock.now(), *asyncio.run(read(clock, 0))]
    assert readings == sorted(readings)
    assert readings[-1] >= 1100


def test_virtual_time_does_not_hide_that_the_machines_goes_on(monkeypatch):
    """An hour in which only a simulation was asked is an hour."""
    machine = [50.0]
    fake = SimpleNamespace(monotonic=lambda: machine[0], time=time.time)
    for module in ("course_lib.caching.clock", "course_lib.clock"):
        monkeypatch.setattr(f"{module}.time", fake)
    clock = Clock()

    async def main():
        clock.now()
        machine[0] += 3600
        return clock.now()

    assert simulate(main).value == 0
    assert clock.now() == 3600


def test_dates_go_by_the_wall_clock_and_in_virtual_time_as_the_seconds_do():
    """So that what is written in a simulation expires in it."""

    async def main():
        clock = Clock()
        before = clock.date()
        await asyncio.sleep(1000)
        return before, clock.date()

    clock, start = Clock(), time.time()
    assert start <= clock.date() <= time.time()
    before, after = simulate(main).value
    assert abs(after - before - 1000) < 1e-5
    assert start <= before <= time.time()


def test_a_given_timer_is_everybodys():
    """In every loop."""
    now = [7.0]
    clock = Clock(lambda: now[0])
    now[0] = 9.0

    async def main():
        return clock.now()

    assert clock.now() == simulate(main).value == asyncio.run(main()) == 2.0
