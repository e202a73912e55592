"""The virtual loop: exact time, and clear errors for what cannot go on in it."""

import asyncio
import math
from contextlib import closing

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from course_lib.lab import virtual_loop
from course_lib.lab.simulation import (
    Deadlock,
    Livelock,
    NotSimulated,
    Simulation,
    TimeLimit,
    simulate,
)

NANOSECONDS = st.integers(min_value=0, max_value=10_000_000_000)


async def sleep_in_waves(waves, seconds=0.1):
    """Sleep several times in turn."""
    for _ in range(waves):
        await asyncio.sleep(seconds)


def test_nine_waves_end_exactly():
    """Nine sleeps of 0.1 s end at 0.9, not at 0.8999999999999999."""
    assert simulate(sleep_in_waves(9)) == Simulation(None, 0.9)


def test_the_clock_starts_at_zero():
    """The loop's clock says 0.0 at the start, whatever the machine's clock says."""

    async def now():
        return asyncio.get_running_loop().time()

    assert simulate(now).value == 0.0


def test_a_semaphore_makes_whole_waves():
    """Ninety calls of 0.1 s, ten at a time, take nine waves."""

    async def main():
        places = asyncio.Semaphore(10)

        async def call(n):
            async with places:
                await asyncio.sleep(0.1)
                return n

        return await asyncio.gather(*(call(n) for n in range(90)))

    assert simulate(main) == Simulation(list(range(90)), 0.9)


def test_langchain_batches_run_in_virtual_time():
    """`abatch` of an `afunc` keeps to `max_concurrency`, and its makespan is exact."""

    async def answer(n):
        await asyncio.sleep(0.1)
        return 2 * n

    chain = RunnableLambda(lambda n: n, afunc=answer)
    done = simulate(lambda: chain.abatch(list(range(50)), config={"max_concurrency": 5}))
    assert done == Simulation([2 * n for n in range(50)], 1.0)


@given(st.lists(NANOSECONDS, max_size=30))
def test_timers_run_by_deadline_then_in_order(delays):
    """Sleepers wake by deadline, those of one deadline in the order they fell asleep."""
    woken = []

    async def sleeper(index, delay):
        await asyncio.sleep(delay / 1e9)
        woken.append(index)

    async def main():
        await asyncio.gather(*(sleeper(index, delay) for index, delay in enumerate(delays)))

    assert simulate(main).seconds == max(delays, default=0) / 1e9
    assert woken == sorted(range(len(delays)), key=delays.__getitem__)


@given(st.lists(st.lists(NANOSECONDS, max_size=8), max_size=8))
def test_makespan_is_the_longest_sum(workers):
    """The makespan of workers that sleep in turn is the longest sum, to the nanosecond."""

    async def worker(delays):
        for delay in delays:
            await asyncio.sleep(delay / 1e9)

    async def main():
        await asyncio.gather(*map(worker, workers))

    assert simulate(main).seconds == max(map(sum, workers), default=0) / 1e9


def test_the_same_program_gives_the_same_result():
    """Two runs agree in every event and its time, names of tasks included."""

    async def main():
        log = []
        queue = asyncio.Queue(2)

        async def producer(name):
            for n in range(5):
                await queue.put((name, n))
                await asyncio.sleep(0.1)

        async def consumer():
            while True:
                item = await queue.get()
                loop = asyncio.get_running_loop()
                log.append((asyncio.current_task().get_name(), item, loop.time()))
                await asyncio.sleep(0.15)

        consumers = [asyncio.create_task(consumer()) for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            group.create_task(producer("a"))
            group.create_task(producer("b"))
        for task in consumers:
            task.cancel()
        return log

    assert simulate(main) == simulate(main)


def test_timeouts_fire_on_time():
    """`asyncio.timeout` ends a wait at its virtual deadline."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()

    assert simulate(main).seconds == 2.5


def test_cancelled_timers_do_not_move_time():
    """A timeout that was not needed leaves no trace in the makespan, however many there are."""

    async def main():
        for _ in range(3_000):
            async with asyncio.timeout(60):
                await asyncio.sleep(0.001)
        return len(asyncio.get_running_loop()._timers)

    done = simulate(main)
    assert done.seconds == 3.0
    assert done.value < 2_100


def test_timers_past_and_not_a_number():
    """A deadline in the past is due now; one that is no number is refused."""

    async def main():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        loop.call_later(-5, waiter.set_result, "now")
        with pytest.raises(ValueError, match="not a number"):
            loop.call_later(math.nan, print)
        return await waiter

    assert simulate(main) == Simulation("now", 0.0)


def test_a_deadlock_says_who_waits_where():
    """Each waiting task is listed with name, function, line and what it waits for."""

    async def waits(event):
        await event.wait()

    async def main():
        await asyncio.sleep(2)
        async with asyncio.TaskGroup() as group:
            group.create_task(waits(asyncio.Event()), name="first")
            group.create_task(waits(asyncio.Event()))

    with pytest.raises(Deadlock) as caught:
        simulate(main)
    message = str(caught.value)
    assert "At 2 virtual seconds" in message
    assert "main test_a_deadlock_says_who_waits_where.main(), in test_virtual_loop.py:" in message
    assert "first test_a_deadlock_says_who_waits_where.waits(), in test_virtual_loop.py:" in message
    assert "Task-2 test" in message
    assert message.count(": await event.wait()") == 2


def test_sleeping_for_ever_is_a_deadlock():
    """A timer at infinity wakes nobody."""
    with pytest.raises(Deadlock, match=r"asyncio\.sleep"):
        simulate(sleep_in_waves(1, math.inf))


def test_tasks_of_a_deadlock_clean_up():
    """Before the error arrives, every task has been cancelled and has run its `finally`."""
    cleaned = []

    async def main():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(True)

    with pytest.raises(Deadlock):
        simulate(main)
    assert cleaned == [True]


@given(st.lists(st.floats(1e-9, 1e3, allow_nan=False), min_size=1, max_size=20))
def test_no_timer_fires_before_its_deadline_as_asked(delays):
    """Not even by a rounding error, so that the commonest loop, until a time is reached, ends."""

    async def main():
        loop = asyncio.get_running_loop()
        turns = 0
        for delay in delays:
            asked = loop.time() + delay
            handle = loop.call_at(asked, lambda: None)
            await asyncio.sleep(delay)
            assert loop.time() >= asked == handle.when()
            until = loop.time() + delay
            while until > loop.time():
                await asyncio.sleep(until - loop.time())
                turns += 1
        return turns

    assert simulate(main, limit=1e9).value <= 3 * len(delays)


def test_nine_waves_of_a_tenth_are_nine_tenths():
    """Rounding errors do not add up, in whichever unit time is told."""

    async def main():
        for _ in range(9):
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time()

    async def many():
        for _ in range(200_000):
            await asyncio.sleep(0.001)

    simulation = simulate(main)
    assert (simulation.value, simulation.seconds) == (0.9, 0.9)
    assert simulate(many).seconds == 200


@pytest.mark.parametrize("delay", [0, 2e-16])
def test_polling_without_waiting_is_a_livelock(delay):
    """A loop around a sleep of (nearly) nothing never lets time move, and is told so."""

    async def polls():
        while True:  # noqa: ASYNC110 - the mistake under test
            await asyncio.sleep(delay)

    with pytest.raises(Livelock, match=r"sleep\(0\).*\n.*await asyncio\.sleep\(delay\)"):
        simulate(polls)


def test_long_programs_are_no_livelock(monkeypatch):
    """Only rounds without time moving count."""
    monkeypatch.setattr(virtual_loop, "MAX_STILL", 10)
    assert simulate(sleep_in_waves(1000)).seconds == 100.0


def test_more_virtual_time_than_the_limit_is_an_error():
    """A program that polls for ever ends at its limit; one that ends exactly there is fine."""
    assert simulate(sleep_in_waves(10), limit=1.0).seconds == 1.0
    with pytest.raises(TimeLimit, match=r"pass `limit=`"):
        simulate(sleep_in_waves(11), limit=1.0)


@pytest.mark.parametrize(
    ("use", "advice"),
    [
        (lambda: asyncio.to_thread(print), "afunc="),
        (lambda: asyncio.get_running_loop().run_in_executor(None, print), "afunc="),
        (lambda: RunnableLambda(lambda n: n).abatch([1]), "afunc="),
        (lambda: asyncio.open_connection("127.0.0.1", 9), "lab.measure"),
        (lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80), "lab.measure"),
        (lambda: asyncio.get_running_loop().add_reader(0, print), "lab.measure"),
        (lambda: asyncio.create_subprocess_exec("true"), "lab.measure"),
    ],
)
def test_threads_sockets_and_processes_are_refused(use, advice):
    """Each raises an error that says what to do instead."""
    with pytest.raises(NotSimulated, match=advice):
        simulate(use)


def test_http_clients_are_refused_and_leak_nothing():
    """A real request fails at once, with the same advice, and closes what it opened."""

    async def main():
        async with aiohttp.ClientSession() as session:
            await session.get("http://127.0.0.1:9/")

    with pytest.raises(NotSimulated, match=r"lab\.measure"):
        simulate(main)


def test_call_soon_threadsafe_works_from_the_loops_own_thread():
    """Libraries that use it out of habit work."""

    async def main():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        loop.call_soon_threadsafe(waiter.set_result, "woken")
        return await waiter

    assert simulate(main).value == "woken"


def test_nothing_but_the_known_internals_is_used():
    """What the loop builds on is still there in this Python's asyncio."""
    names = "_run_once _check_closed _timer_handle_cancelled _write_to_self _stopping _ready"
    with closing(asyncio.BaseEventLoop()) as loop:
        assert [name for name in names.split() if not hasattr(loop, name)] == []
    assert callable(asyncio.Handle._run)
