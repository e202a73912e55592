"""Whose time an event loop keeps."""

import asyncio
import threading
import time

from course_lib.clock import running_loop, timer_of
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
