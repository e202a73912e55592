"""Whose time an event loop keeps, and one clock for threads, ordinary loops and virtual ones."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from course_lib.clock import Clock, running_loop, timer_of
from course_lib.lab.simulation import simulate


async def ask():
    """The running loop, and the timer by which things go in it."""
    return running_loop(), timer_of(running_loop())


def test_the_running_loop_is_that_of_this_thread():
    """And None, without an exception, where none runs: also beside one that does."""

    async def main():
        beside = []
        thread = threading.Thread(target=lambda: beside.append(running_loop()))
        thread.start()
        thread.join()
        return running_loop() is asyncio.get_running_loop(), beside

    assert running_loop() is None
    assert asyncio.run(main()) == (True, [None])


def test_ordinary_loops_and_threads_share_the_machines_time():
    """So that what several of them wait for is the same moment."""
    assert timer_of(None) is time.monotonic
    assert asyncio.run(ask())[1] is time.monotonic


def test_virtual_time_is_the_loops_own():
    """The simulation's seconds, not the machine's."""
    loop, timer = simulate(ask).value
    assert timer == loop.time


def test_each_loop_with_a_time_of_its_own_has_another_timer():
    """Asked twice, the same one: what follows a clock sees whether it has changed."""

    async def twice():
        return timer_of(running_loop()), timer_of(running_loop())

    (one, again), (other, _) = simulate(twice).value, simulate(twice).value
    assert one == again != other


def loop_of(module):
    """A loop that tells the time in words of its own, from a module of this name."""

    class Loop(asyncio.SelectorEventLoop):
        __module__ = module

        def time(self):
            return super().time()

    return Loop()


def test_uvloop_keeps_the_machines_time():
    """It tells it in other words; a loop of any other name is taken at its word."""
    for module, machines in (("uvloop", True), ("uvloop.loop", True), ("uvloops", False)):
        loop = loop_of(module)
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:
            assert runner.run(ask()) == (loop, time.monotonic if machines else loop.time)


def test_in_virtual_time_it_is_the_simulations():
    """Exactly, from the first reading on."""

    async def main():
        clock = Clock()
        await asyncio.sleep(1.5)
        return clock.now()

    assert simulate(main).value == 1.5


def test_between_two_times_no_time_passes():
    """Made in one, used in two simulations: it goes on where it was."""
    clock = Clock()

    async def main():
        start = clock.now()
        await asyncio.sleep(2)
        return start, clock.now()

    start, end = simulate(main).value
    assert end == start + 2
    assert simulate(main).value == (end, end + 2)


def test_two_times_at_once_are_refused():
    """Virtual time and threads have nothing to do with each other."""

    async def main():
        clock.now()
        clock.waiting = 1
        await asyncio.sleep(1)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return clock.now()

    def ask():
        assert clock.seen() == 0
        with pytest.raises(RuntimeError, match="1 callers wait by the time of another event loop"):
            clock.now()
        refused.append(True)

    refused = []

    async def make():
        return Clock(exclusive=True)

    clock = simulate(make).value
    assert simulate(main).value == 1
    assert refused


def test_a_given_timer_is_everybodys():
    """Also in a simulation."""
    seconds = [5.0]

    async def main():
        return clock.now()

    clock = Clock(lambda: seconds[0])
    seconds[0] = 7.0
    assert (simulate(main).value, clock.now(), clock.seen()) == (2, 2, 2)


def test_a_timer_that_goes_back_stands_still():
    """A wall clock that is set back by an hour stops nobody for an hour."""
    readings = iter([100.0, 101.0, 50.0, 52.0])
    clock = Clock(lambda: next(readings))
    assert [clock.now(), clock.now(), clock.now()] == [1, 1, 3]


async def read(clock, seconds):
    """Read, let time pass, and read again."""
    before = clock.now()
    await asyncio.sleep(seconds)
    return before, clock.now()


def test_an_ageing_clock_is_the_simulations():
    """From the loop's zero on, also if the clock is first asked later."""

    async def main():
        clock = Clock(ageing=True)
        await asyncio.sleep(5)
        return await read(clock, 2)

    before, after = simulate(main).value
    assert after - before == 2
    assert before >= 5


def test_an_ageing_clock_goes_on_from_where_it_was_and_never_back():
    """Through two simulations, and in real time between them."""
    clock = Clock(ageing=True)
    readings = [clock.now()]
    for seconds in (100, 1000):
        readings += simulate(lambda seconds=seconds: read(clock, seconds)).value
        readings += [clock.now(), *asyncio.run(read(clock, 0))]
    assert readings == sorted(readings)
    assert readings[-1] >= 1100


def test_to_an_ageing_clock_virtual_time_does_not_hide_that_the_machines_goes_on(monkeypatch):
    """An hour in which only a simulation was asked is an hour."""
    machine = [50.0]
    fake = SimpleNamespace(monotonic=lambda: machine[0], time=time.time)
    monkeypatch.setattr("course_lib.clock.time", fake)
    clock = Clock(ageing=True)

    async def main():
        clock.now()
        machine[0] += 3600
        return clock.now()

    assert simulate(main).value == 0
    assert clock.now() == 3600


def test_dates_go_by_the_wall_clock_and_in_virtual_time_as_the_seconds_do():
    """So that what is written in a simulation expires in it."""

    async def main():
        clock = Clock(ageing=True)
        before = clock.date()
        await asyncio.sleep(1000)
        return before, clock.date()

    clock, start = Clock(ageing=True), time.time()
    assert start <= clock.date() <= time.time()
    before, after = simulate(main).value
    assert abs(after - before - 1000) < 1e-5
    assert start <= before <= time.time()


def test_differences_of_whole_nanoseconds_are_exact():
    """In seconds the tenth of 0.3 less 0.2 is a hair off."""

    async def main():
        await asyncio.sleep(0.1)
        clock = Clock()
        readings = []
        for _ in range(5):
            await asyncio.sleep(0.1)
            readings.append(clock.nanoseconds())
        return readings

    assert simulate(main).value == [100_000_000 * n for n in range(1, 6)]


def test_the_last_reading_carries_the_time_over_to_the_next_loop():
    """What passes after it, in a loop that then ends, was nobody's."""
    clock = Clock()

    async def main(read_at_the_end):
        start = clock.now()
        await asyncio.sleep(5)
        return start, clock.now() if read_at_the_end else None

    start, end = simulate(lambda: main(True)).value
    assert end == start + 5
    assert simulate(lambda: main(False)).value == (end, None)
    assert simulate(lambda: main(False)).value == (end, None)
