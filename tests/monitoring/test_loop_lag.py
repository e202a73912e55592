"""The blocked loop: for how long, by which code, in which step."""

import asyncio
import threading
import time

import pytest
from langchain_core.runnables import RunnableLambda

from course_lib.lab import simulate
from course_lib.monitoring.loop_lag import UNSEEN, LoopLag
from course_lib.monitoring.monitor import PerformanceMonitor


def stand_still(seconds=0.15):
    time.sleep(seconds)


def watchers():
    return [thread for thread in threading.enumerate() if "loop lag" in thread.name]


def test_a_blocking_call_is_found_by_its_line():
    """The innermost place of the program's own code, not the inside of a library."""

    async def program():
        async with LoopLag() as lag:
            await asyncio.sleep(0.02)
            stand_still()
            await asyncio.sleep(0)
        return lag

    lag = asyncio.run(program())
    assert lag.count >= 1
    assert lag.total >= lag.longest >= 0.14 - lag.interval
    (place, *_) = lag.culprits
    assert place.startswith("test_loop_lag.py:")
    assert place.endswith(" stand_still")
    assert lag.blocks[0].where == place
    assert lag.steps == {}
    assert "stand_still" in repr(lag)


def test_a_block_up_to_the_last_moment_counts():
    """The loop has had no turn since."""

    async def program():
        async with LoopLag() as lag:
            stand_still()
        return lag

    assert asyncio.run(program()).longest >= 0.13


def test_the_step_of_a_chain_is_named():
    """By the monitor, whose callback saw it begin."""

    async def fetch(item):
        await asyncio.sleep(0.01)
        return item

    async def parse(item):
        stand_still()
        return item

    async def program():
        monitor = PerformanceMonitor()
        steps = [
            RunnableLambda(step).with_config(run_name=step.__name__) for step in (fetch, parse)
        ]
        async with LoopLag(monitor=monitor) as lag:
            chain = steps[0] | steps[1]
            await chain.ainvoke(1, config={"callbacks": [monitor.callback]})
            await asyncio.sleep(0)
        return lag

    lag = asyncio.run(program())
    assert next(iter(lag.steps)) == "parse"
    assert lag.steps["parse"] >= 0.1
    assert lag.blocks[0].step == "parse"


def test_a_measured_block_is_named():
    """The innermost one of the task that blocks, whatever other tasks are in."""

    async def other(monitor):
        with monitor.measure("other"):
            await asyncio.sleep(0.5)

    async def program():
        monitor = PerformanceMonitor()
        async with LoopLag(monitor=monitor) as lag:
            task = asyncio.create_task(other(monitor))
            with monitor.measure("outer"):
                await asyncio.sleep(0.01)
                with monitor.measure("inner"):
                    stand_still()
            task.cancel()
            await asyncio.wait([task])
        return lag

    lag = asyncio.run(program())
    assert next(iter(lag.steps)) == "inner"
    assert "other" not in lag.steps


def test_lag_below_the_budget_is_no_block():
    """But it is in the distribution."""

    async def program():
        async with LoopLag(budget=60) as lag:
            for _ in range(3):
                await asyncio.sleep(0.02)
                stand_still(0.03)
        return lag

    lag = asyncio.run(program())
    assert lag.count == 0
    assert lag.total == 0
    assert lag.culprits == {}
    assert lag.lags.count >= 3
    assert lag.longest >= 0.015
    assert "never blocked" in repr(lag)


def test_what_is_watched_leaves_no_thread_and_no_task():
    """Also when the block fails or is cancelled."""

    async def failing():
        async with LoopLag():
            assert len(watchers()) == 1
            raise LookupError

    async def cancelled():
        async with LoopLag():
            await asyncio.sleep(60)

    async def program():
        with pytest.raises(LookupError):
            await failing()
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(program())
    assert watchers() == []


def test_in_virtual_time_it_tells_the_real_time_that_was_blocked():
    """Two hours of sleep are no block, and 0.8 s of real work are one."""

    async def program():
        async with LoopLag(interval=0.5, budget=0.1) as lag:
            await asyncio.sleep(7200)
            calm = lag.count
            time.sleep(0.8)  # noqa: ASYNC251 - it blocks on purpose
        return calm, lag

    simulated = simulate(program, limit=8000)
    _, lag = simulated.value
    assert simulated.seconds == 7200
    assert lag.longest >= 0.29


def test_one_watch_serves_one_block_at_a_time():
    """And another one after it; the counts add up."""

    async def program():
        lag = LoopLag()
        async with lag:
            with pytest.raises(RuntimeError, match="in use"):
                await lag.__aenter__()
            stand_still()
        async with lag:
            stand_still()
        return lag

    assert asyncio.run(program()).count == 2


def test_a_block_that_nobody_saw_is_counted_all_the_same():
    """By a clock that jumps while no thread can look."""
    now = [0.0]

    async def program():
        async with LoopLag(interval=0.001, timer=lambda: now[0], budget=5) as lag:
            now[0] = 10.0
        return lag

    lag = asyncio.run(program())
    assert lag.count == 1
    assert lag.total == pytest.approx(9.999)
    assert set(lag.culprits) == {UNSEEN}


def test_only_the_last_thousand_blocks_are_kept():
    """All are counted."""
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    lag = LoopLag(interval=0.001, timer=clock, budget=0.5)
    for _ in range(1200):
        lag._note()
    assert (lag.count, len(lag.blocks)) == (1200, 1000)


@pytest.mark.parametrize("name", ["interval", "budget"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_seconds_are_above_zero(name, value):
    """Refused at once, with the value."""
    with pytest.raises(ValueError, match=f"{name}={value!r}: give a finite number above 0"):
        LoopLag(**{name: value})
