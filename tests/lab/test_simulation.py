"""`simulate`: what it takes, what it cleans up, and what stops it."""

import asyncio
import contextvars
import logging
import math
import signal
import subprocess
import sys
import threading

import pytest

from course_lib.lab import simulation
from course_lib.lab.simulation import (
    Simulation,
    SimulationError,
    Unresponsive,
    simulate,
)


async def sleep_in_waves(waves, seconds=0.1):
    """Sleep several times in turn."""
    for _ in range(waves):
        await asyncio.sleep(seconds)


def interrupt_caller():
    """Press Ctrl-C in the thread that called `simulate`."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_simulate_works_while_a_loop_runs():
    """A notebook's cell calls it without `await`, although the kernel's loop runs."""

    async def cell():
        return simulate(sleep_in_waves(3)).seconds

    assert asyncio.run(cell()) == 0.3


def test_the_callers_context_is_seen():
    """Context variables reach the program; what it sets stays inside."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("by the caller")

    async def main():
        seen = variable.get()
        variable.set("by the program")
        return seen

    assert simulate(main).value == "by the caller"
    assert variable.get() == "by the caller"


def test_functions_may_return_any_awaitable():
    """A function is called inside the loop, so that it may return `gather(...)` or a task."""
    done = simulate(lambda: asyncio.gather(asyncio.sleep(1, "a"), asyncio.sleep(2, "b")))
    assert done == Simulation(["a", "b"], 2.0)


@pytest.mark.parametrize("main", [42, lambda: 42])
def test_what_cannot_be_awaited_is_refused(main):
    """Something else than a coroutine or async function raises a TypeError that says so."""
    with pytest.raises(TypeError, match="async function"):
        simulate(main)


def test_futures_of_other_loops_are_refused():
    """A task made outside belongs to another loop and would wait for ever."""

    async def cell():
        task = asyncio.ensure_future(asyncio.sleep(0))
        with pytest.raises(TypeError, match="another event loop"):
            simulate(task)
        await task

    asyncio.run(cell())


def test_nested_simulations_are_refused():
    """A simulation inside a simulation would stop the outer clock; the error says to await."""

    async def main():
        simulate(sleep_in_waves(1))

    with pytest.raises(RuntimeError, match="await the program"):
        simulate(main)


def test_errors_propagate_with_their_traceback():
    """The program's error arrives as it is, and its traceback names the line that raised it."""

    async def breaks():
        await asyncio.sleep(1)
        raise LookupError("no such shop")

    with pytest.raises(LookupError, match="no such shop") as caught:
        simulate(breaks)
    assert caught.traceback[-1].name == "breaks"


def test_leftover_tasks_are_cancelled_and_awaited():
    """What still runs at the end cleans up, also if that takes time; `seconds` leaves it out."""
    cleaned = []

    async def background():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)
            cleaned.append(True)

    async def main():
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        return task.done()

    assert simulate(main, limit=10) == Simulation(False, 1.0)
    assert cleaned == [True]


def test_async_generators_are_closed():
    """A generator left half-way has its `finally` run."""
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    generator = numbers()

    async def main():
        return await anext(generator)

    assert simulate(main).value == 1
    assert closed == [True]


def test_errors_of_leftover_tasks_are_logged(caplog):
    """A task that fails while it is cancelled is not passed over in silence."""

    async def background():
        try:
            await asyncio.sleep(1000)
        finally:
            raise LookupError("in the clean-up")

    async def main():
        main.task = asyncio.create_task(background())
        await asyncio.sleep(1)

    with caplog.at_level(logging.ERROR, "asyncio"):
        simulate(main)
    assert "Task failed while it was cancelled" in caplog.text


def test_tasks_that_ignore_cancellation_are_reported():
    """A task that swallows every cancellation ends in an error, not in a hang."""
    patient = True

    async def stubborn():
        while patient:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main():
        main.task = asyncio.create_task(stubborn(), name="mule")
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match="ignored that they were cancelled: mule"):
        simulate(main)
    patient = False
    main.task._log_destroy_pending = False  # it is left pending, which asyncio would log


def test_a_task_that_catches_everything_does_not_go_on_when_it_is_deleted():
    """Deleting it would raise in it once more, and it would spin for ever where nothing waits."""
    program = """
import asyncio, gc
from course_lib.lab import simulate

async def mule():
    queue = asyncio.Queue()
    while True:
        try:
            await queue.get()
        except BaseException:
            continue

async def main():
    asyncio.ensure_future(mule())
    await asyncio.sleep(1)

try:
    simulate(main)
except Exception as error:
    print(type(error).__name__)
gc.collect()
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (run.stdout, run.returncode) == ("SimulationError\n", 0), run.stderr


def test_an_endless_synchronous_loop_ends_the_simulation():
    """Code that never yields is stopped, and the error says where it was."""

    async def spins():
        while True:
            pass

    with pytest.raises(Unresponsive, match=r"test_simulation\.py:\d+: (pass|while True:)"):
        simulate(spins, patience=0.1)


def test_a_program_that_ends_while_the_clock_is_read_has_ended():
    """The last look finds it running, its thread is gone before the clock is read: no fault of it."""

    class EndsJustThen(threading.Event):
        def wait(self, timeout=None):
            super().wait(timeout=60)
            run._thread.join()
            return False

    run = simulation._Run(sleep_in_waves(2), simulation.VirtualLoop())
    run._done = EndsJustThen()
    assert run.result(patience=0.0, effort=0.0).seconds == 0.2


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_cancels_the_program():
    """Ctrl-C in the calling thread lets the program clean up, then arrives as it is."""
    cleaned = []

    async def main():
        try:
            interrupt_caller()
            await sleep_in_waves(10**9)
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        simulate(main, limit=math.inf)
    assert cleaned == [True]


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_stops_a_synchronous_loop():
    """Ctrl-C also ends a loop that never yields; its thread is gone afterwards."""

    async def spins():
        interrupt_caller()
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        simulate(spins)
    assert "lab.simulate" not in [thread.name for thread in threading.enumerate()]


def test_a_call_that_cannot_be_stopped_is_left_behind(monkeypatch):
    """A thread that is stuck inside C code does not take the caller with it."""
    monkeypatch.setattr(simulation, "_GLANCE", 0.01)
    gate = threading.Event()

    async def stuck():
        gate.wait()

    with pytest.raises(Unresponsive, match=r"gate\.wait") as caught:
        simulate(stuck, patience=0.05)
    assert "left behind" in caught.value.__notes__[0]
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "lab.simulate":
            thread.join()
