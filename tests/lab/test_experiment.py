"""Measuring one run, on the real clock and against the real provider."""

import asyncio
import sys
import time
from contextlib import nullcontext

import pytest

from course_lib import service
from course_lib.async_batch import ServiceClient
from course_lib.lab import measure
from course_lib.lab.hygiene import expected


def test_the_value_and_lower_bounds_of_time_are_kept():
    """A run takes at least as long as what it waits for."""

    async def program():
        await asyncio.sleep(0.03)
        return "value"

    run = asyncio.run(measure_one(program))
    assert run.value == "value"
    assert run.name == "program"
    assert run.seconds >= 0.03


async def measure_one(program, **options):
    return await measure(program, **options)


def test_a_sync_program_is_measured_too():
    """Its value is returned as it is."""
    assert asyncio.run(measure_one(lambda: 42, name="answer")).value == 42


def test_a_blocking_program_is_caught_standing_still():
    """The gap covers the block, and says when it was."""

    async def program():
        await asyncio.sleep(0.01)
        time.sleep(0.12)  # noqa: ASYNC251 - what is to be found
        await asyncio.sleep(0.01)

    before = time.monotonic()
    run = asyncio.run(measure_one(program, blocks=True))
    assert run.longest_gap >= 0.12
    assert any(end - start >= 0.12 for start, end in run.gaps)
    assert all(before <= start <= end <= time.monotonic() for start, end in run.gaps)


def test_a_program_that_blocks_from_its_first_line_is_caught():
    """Also when the loop never gets a turn in between."""
    run = asyncio.run(measure_one(lambda: time.sleep(0.12), blocks=True))
    assert run.longest_gap >= 0.12


def test_what_the_provider_saw_belongs_to_this_run_alone():
    """The ledger is cleared before, and kept in the result."""
    with service.running(latency=service.Latency.constant(0.0)) as provider:

        async def program():
            async with ServiceClient(provider.url) as client:
                await asyncio.gather(*(client.search("loop") for _ in range(5)))

        async def main():
            await program()
            return await measure(program, provider=provider)

        run = asyncio.run(main())
    assert run.ledger.requests == 5
    assert run.peak_in_flight <= 5
    assert "5 requests" in repr(run)


def test_a_run_without_provider_says_so_when_asked_for_its_ledger():
    """The way to get them is named."""
    run = asyncio.run(measure_one(lambda: None))
    with pytest.raises(ValueError, match="pass `provider=`"):
        _ = run.ledger


def test_a_coroutine_in_place_of_a_function_is_refused():
    """It could not be run twice; it is closed, so that no warning follows."""

    async def program():
        pass

    with pytest.raises(TypeError, match="write `lambda"):
        asyncio.run(measure_one(program()))


def test_what_the_program_raises_comes_through_and_nothing_is_left_running():
    """The watcher of the loop ends with the program."""

    async def main():
        with pytest.raises(KeyError):
            await measure(lambda: {}["no"])
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


def test_cancelling_a_measurement_leaves_nothing_running():
    """As when a learner presses stop."""

    async def main():
        task = asyncio.create_task(measure(lambda: asyncio.sleep(60)))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), len(asyncio.all_tasks())

    with expected("blocked loop"):
        assert asyncio.run(main()) == (True, 1)


def test_a_machine_without_a_free_processor_is_not_a_blocked_loop(monkeypatch):
    """Hygiene blames a program for what it does, not for its neighbours; gaps show what passed."""
    module, noted = sys.modules["course_lib.lab.experiment"], []
    monkeypatch.setattr(module, "note_gap", lambda seconds, name: noted.append(seconds))
    blocked = measure_one(lambda: time.sleep(0.12), blocks=False)
    asyncio.run(blocked)
    monkeypatch.setattr(module, "_starvation", lambda: nullcontext(time.monotonic))
    starved = asyncio.run(measure_one(lambda: time.sleep(0.12), blocks=False))
    assert noted[0] >= 0.1
    assert noted[1] <= 0.01
    assert starved.longest_gap >= 0.12
