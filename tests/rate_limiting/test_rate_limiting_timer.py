"""One clock for threads, ordinary loops and virtual ones."""

import asyncio
import threading

import pytest

from course_lib.lab.simulation import simulate
from course_lib.rate_limiting.timer import Clock


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
        return Clock()

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
