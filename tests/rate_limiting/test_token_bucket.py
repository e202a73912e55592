"""The token bucket as its users see it."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from langchain_core.language_models import FakeListChatModel
from limits_support import excess

from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import TokenBucket
from course_lib.rate_limiting.token_bucket import Level

NAN = float("nan")


class Logged(Level):
    """Remembers what was spent when."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.log = []

    def take(self, weight, now):
        """Take tokens, and note it."""
        taken = super().take(weight, now)
        if taken:
            self.log.append((now, weight))
        return taken


class Parrot(FakeListChatModel):
    """Answers in the coroutine itself, so that it works in virtual time."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **options):
        return self._generate(messages, stop, run_manager, **options)


async def admissions(bucket, weights):
    """Ask for tokens of these weights all at once; return who got them when, in that order."""
    log = []

    async def ask(number, weight):
        await bucket.aacquire(weight=weight)
        log.append((number, asyncio.get_running_loop().time()))

    await asyncio.gather(*(ask(*each) for each in enumerate(weights)))
    return log


@pytest.mark.parametrize("rate", [1, 7, 50, 200, 5000])
def test_saturated_the_nth_comes_exactly_when_its_token_does(rate):
    """At any rate, from the first burst to the last caller."""
    log = simulate(lambda: admissions(TokenBucket(rate, 3), [1] * 400)).value
    expected = [(n, round(max(0, n - 2) / rate, 9)) for n in range(400)]
    assert [(n, round(time, 9)) for n, time in log] == expected


def test_heavy_requests_are_neither_starved_nor_overtaken():
    """First come, first served, though the light ones behind could go at once."""
    log = simulate(lambda: admissions(TokenBucket(10, 5), [3, 5, 1, 4, 1])).value
    assert log == [(0, 0.0), (1, 0.3), (2, 0.4), (3, 0.8), (4, 0.9)]


def test_it_may_start_empty():
    """Then even the first waits for its token."""
    log = simulate(lambda: admissions(TokenBucket(2, 5, initial=0), [1, 1])).value
    assert log == [(0, 0.5), (1, 1.0)]


def test_who_does_not_wait_does_not_overtake():
    """`blocking=False` answers at once, and is behind everybody who waits."""

    async def main():
        bucket = TokenBucket(10, 2)
        answers = [await bucket.aacquire(blocking=False), bucket.acquire(blocking=False)]
        answers.append(await bucket.aacquire(blocking=False))
        heavy = asyncio.create_task(bucket.aacquire(weight=2))
        await asyncio.sleep(0.15)  # one token is there, and promised
        answers += [bucket.acquire(blocking=False), await heavy]
        return answers, bucket.statistics().refused

    assert simulate(main).value == ([True, True, False, False, True], 2)


def test_who_is_cancelled_costs_nothing_and_delays_nobody():
    """Thirty of forty give up: the ten that stay are served as if they had been alone."""

    async def main():
        bucket = TokenBucket(10, 1)
        tasks = [asyncio.create_task(bucket.aacquire()) for _ in range(40)]
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if number % 4:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return asyncio.get_running_loop().time(), bucket.statistics().cancelled

    assert simulate(main).value == (0.9, 30)


def test_the_first_in_line_may_give_up():
    """The light one behind a heavy one goes as soon as that has left."""

    async def main():
        bucket = TokenBucket(1, 5, initial=1)
        heavy = asyncio.create_task(bucket.aacquire(weight=5))
        light = asyncio.create_task(bucket.aacquire())
        await asyncio.sleep(0.5)
        heavy.cancel()
        await light
        return asyncio.get_running_loop().time()

    assert simulate(main).value == 0.5


def test_tokens_of_one_who_is_cancelled_as_they_come_go_to_the_next():
    """Between the grant and the moment when the caller wakes."""

    async def main():
        bucket = TokenBucket(1, 1, initial=0)
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(bucket.aacquire())
        second = asyncio.create_task(bucket.aacquire())
        await asyncio.sleep(0)
        loop.call_at(1.0, first.cancel)  # the bucket's timer was set before: it comes first
        await second
        return loop.time(), first.cancelled(), bucket.statistics().admitted

    assert simulate(main).value == (1.0, True, 1)


def test_there_is_one_timer_for_all_who_wait():
    """And none when nobody does."""

    async def main():
        loop = asyncio.get_running_loop()
        timers = []
        bucket = TokenBucket(10, 1)
        task = asyncio.create_task(admissions(bucket, [1] * 50))
        for _ in range(2):
            await asyncio.sleep(0)
            timers.append(sum(not handle.cancelled() for _, _, handle in loop._timers))
        await task
        return timers, sum(not handle.cancelled() for _, _, handle in loop._timers)

    assert simulate(main).value == ([0, 1], 0)


def test_a_loop_that_was_blocked_catches_up_within_the_bound():
    """As much as the capacity allows at once, and then at the rate again."""
    seconds = [0.0]

    async def main():
        bucket = TokenBucket(10, 3, initial=0, timer=lambda: seconds[0])
        tasks = [asyncio.create_task(bucket.aacquire()) for _ in range(9)]
        done = []
        for now in (0.1, 0.25, 0.3, 1.0, 1.1):
            seconds[0] = now
            await asyncio.sleep(100)
            done.append(sum(task.done() for task in tasks))
        seconds[0] = 9.0
        await asyncio.gather(*tasks)
        return done

    assert simulate(main).value == [1, 2, 3, 6, 7]


def test_a_bucket_serves_one_event_loop_after_another():
    """Made at import time, used in two simulations and then in real time."""
    bucket = TokenBucket(1000, 1)
    first = simulate(lambda: admissions(bucket, [1] * 3))
    second = simulate(lambda: admissions(bucket, [1] * 3))
    assert (first.seconds, second.seconds) == (0.002, 0.003)
    assert len(asyncio.run(admissions(bucket, [1] * 3))) == 3


def test_threads_and_several_event_loops_share_it():
    """All are served, and nowhere is there more than the bound, by the machine's clock."""
    rate, capacity, each = 2000, 5, 20
    bucket = TokenBucket(rate, capacity)

    def thread():
        for _ in range(each):
            bucket.acquire()

    def loop():
        asyncio.run(admissions(bucket, [1] * each))

    bucket._level = bucket.line.meter = level = Logged(rate, capacity, capacity)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for work in (thread, loop) * 4]:
            done.result()
    assert len(level.log) == bucket.statistics().admitted == 8 * each
    assert excess(level.log, rate, capacity) < 1e-6
    assert bucket.statistics().waiting == 0


def test_a_sync_call_in_a_loop_is_served_though_coroutines_of_that_loop_wait_before_it():
    """It blocks the loop, as `model.invoke` in a notebook's cell does, but not itself."""

    async def main():
        bucket = TokenBucket(500, 1)
        tasks = [asyncio.create_task(bucket.aacquire()) for _ in range(4)]
        await asyncio.sleep(0)
        bucket.acquire()
        await asyncio.gather(*tasks)
        return bucket.statistics().admitted

    assert asyncio.run(main()) == 5


def test_a_thread_that_waits_is_not_held_up_by_a_blocked_loop():
    """It keeps the time itself, and hands the loop's coroutine its token meanwhile."""
    bucket = TokenBucket(500, 1, initial=0)
    waiting, served = threading.Event(), threading.Event()

    def thread():
        waiting.wait()
        bucket.acquire()
        served.set()

    async def main():
        task = asyncio.create_task(bucket.aacquire())
        await asyncio.sleep(0)
        waiting.set()
        assert served.wait(60)  # blocks the loop
        await task

    with ThreadPoolExecutor() as pool:
        pool.submit(thread)
        asyncio.run(main())
    assert bucket.statistics().admitted == 2


def test_a_loop_that_ended_with_callers_in_line_holds_nobody_up():
    """A closed loop's callers are passed over, and cost no token."""
    seconds = [0.0]
    bucket = TokenBucket(1, 1, initial=0, timer=lambda: seconds[0])
    loop = asyncio.new_event_loop()
    task = loop.create_task(bucket.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    seconds[0] = 1.0
    assert bucket.acquire(blocking=False)
    assert bucket.statistics().waiting == 0
    task._log_destroy_pending = False
    task.get_coro().close()


def test_a_loop_that_was_stopped_keeps_no_time():
    """Somebody behind its caller does; that caller has its token when the loop goes on."""
    bucket = TokenBucket(500, 1, initial=0)
    loop = asyncio.new_event_loop()
    stopped = loop.create_task(bucket.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.run(bucket.aacquire())
    assert loop.run_until_complete(stopped)
    loop.close()


def test_to_wait_synchronously_in_virtual_time_is_refused():
    """The clock would stand still for ever."""

    async def main():
        bucket = TokenBucket(1, 1)
        assert bucket.acquire()
        with pytest.raises(RuntimeError, match="await the asynchronous one"):
            bucket.acquire()
        return bucket.statistics()

    statistics = simulate(main).value
    assert (statistics.waiting, statistics.admitted, statistics.cancelled) == (0, 1, 1)


def test_a_chat_model_takes_it_as_its_rate_limiter():
    """Through LangChain's base class, for `ainvoke` and `invoke` alike."""

    async def main():
        bucket = TokenBucket(2, 1)
        model = Parrot(responses=["yes"], rate_limiter=bucket)
        await asyncio.gather(*(model.ainvoke("?") for _ in range(5)))
        return bucket.statistics().admitted

    done = simulate(main)
    assert (done.value, done.seconds) == (5, 2.0)
    fast = TokenBucket(1000, 1)
    model = Parrot(responses=["yes"], rate_limiter=fast)
    assert [model.invoke("?").content for _ in range(3)] == ["yes"] * 3
    assert fast.statistics().admitted == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0, "capacity": 1}, "rate=0: give a finite number above 0"),
        ({"rate": -1, "capacity": 1}, "rate=-1"),
        ({"rate": NAN, "capacity": 1}, "rate=nan"),
        ({"rate": float("inf"), "capacity": 1}, "rate=inf"),
        ({"rate": 1, "capacity": 0}, "capacity=0"),
        ({"rate": 1, "capacity": float("inf")}, "capacity=inf"),
        ({"rate": 1, "capacity": 0.5}, "capacity=0.5 never holds the one token of a call"),
        ({"rate": 1, "capacity": 2, "initial": 3}, "initial=3: give tokens from 0 to capacity=2"),
        ({"rate": 1, "capacity": 2, "initial": -1}, "initial=-1"),
        ({"rate": 1, "capacity": 2, "initial": NAN}, "initial=nan"),
    ],
)
def test_impossible_buckets_are_refused(arguments, message):
    """At once, with the value and the fix."""
    with pytest.raises(ValueError, match=re.escape(message)):
        TokenBucket(**arguments)


@pytest.mark.parametrize("weight", [0, -1, 5.1, NAN])
def test_impossible_weights_are_refused_at_once(weight):
    """Nobody waits for what can never come."""
    bucket = TokenBucket(1, 5)
    message = re.escape(f"weight={weight!r}: give more than 0 and at most capacity=5")
    with pytest.raises(ValueError, match=message):
        bucket.acquire(weight=weight)
    with pytest.raises(ValueError, match=message):
        simulate(partial(bucket.aacquire, blocking=False, weight=weight))


def test_it_shows_its_state():
    """In `repr`, and frozen in `statistics()`."""

    async def main():
        bucket = TokenBucket(10, 5)
        fresh = repr(bucket)
        tasks = [asyncio.create_task(bucket.aacquire(weight=3)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting = repr(bucket)
        await asyncio.gather(*tasks)
        return fresh, waiting, bucket.statistics()

    fresh, waiting, statistics = simulate(main).value
    assert fresh == "<TokenBucket rate=10/s, 5 of 5 tokens, 0 waiting>"
    assert waiting == "<TokenBucket rate=10/s, 2 of 5 tokens, 2 waiting>"
    assert (statistics.admitted, statistics.waiting) == (3, 0)
    assert (statistics.waits, statistics.longest_wait) == pytest.approx((0.5, 0.4))
    with pytest.raises(AttributeError):
        statistics.waiting = 1
