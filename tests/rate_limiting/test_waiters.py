"""A line of waiters: who passes when, and who keeps the time."""

import asyncio
import threading

import pytest

from course_lib.clock import Clock
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting.token_bucket import Level
from course_lib.rate_limiting.waiters import LoopWaiter, ThreadWaiter, WaitingLine


def make(seconds, capacity=1):
    """A line at one token a second, from an empty bucket, by a clock set by hand."""
    return WaitingLine(Level(1, capacity, 0), Clock(lambda: seconds[0], exclusive=True))


def join(line, kind=ThreadWaiter):
    """Have somebody join; return who waits."""
    waiter = kind(1, line.clock.now())
    line.join(waiter, lambda passing, now: passing.grant(now))
    line.advance(line.clock.now())
    return waiter


def alarm(waiter):
    """Seconds until a thread's alarm rings, None if it has none."""
    return waiter._seconds


def test_waiters_pass_one_by_one_as_they_are_due():
    """Each at its moment; the next one then has the alarm."""
    seconds = [0.0]
    line = make(seconds)
    first, second = join(line), join(line)
    assert (alarm(first), alarm(second)) == (1, None)
    seconds[0] = 1.25
    line._ring()
    assert (first.granted_at, second.granted_at, alarm(second)) == (1.25, None, pytest.approx(1))


def test_an_alarm_that_rings_too_early_is_set_again():
    """As when the timer given goes slower than the machine's clock."""
    seconds = [0.0]
    line = make(seconds)
    waiter = join(line)
    seconds[0] = 0.25
    waiter.disarm()
    line._ring()
    assert (waiter.granted_at, alarm(waiter)) == (None, 0.75)


def test_who_keeps_the_time_hands_it_on_when_leaving():
    """To the next; and the last one to nobody."""
    seconds = [0.0]
    line = make(seconds)
    first, second = join(line), join(line)
    assert line.leave(first)
    assert not line.leave(first)
    line.advance(line.clock.now())
    assert (alarm(first), alarm(second)) == (None, 1)
    line.leave(second)
    line.advance(line.clock.now())
    assert (alarm(second), len(line), line.clock.waiting) == (None, 0, 0)


def test_a_thread_keeps_the_time_rather_than_a_loop():
    """A loop may be blocked, a thread that waits is not."""

    async def main():
        seconds = [0.0]
        line = make(seconds)
        coroutine = join(line, LoopWaiter)
        before = coroutine._handle
        thread = join(line)
        return before, coroutine._handle, alarm(thread), line.leave(coroutine)

    before, after, seconds, left = simulate(main).value
    assert before is not None
    assert (after, seconds, left) == (None, 1, True)


def test_a_wait_beyond_what_threads_can_wait_is_cut_into_pieces():
    """`Event.wait` refuses centuries; the alarm is set again as often as it takes."""
    line = WaitingLine(Level(1e-12, 1, 0), Clock(lambda: 0.0, exclusive=True))
    assert alarm(join(line)) == threading.TIMEOUT_MAX


def test_a_wait_that_is_interrupted_leaves_the_line():
    """Ctrl-C in a thread that waits."""
    from course_lib.rate_limiting import Gate, TokenBucket

    def interrupt(_):
        raise KeyboardInterrupt

    bucket = TokenBucket(0.001, 1, initial=0)
    gate = Gate(concurrency=1, bucket=bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadWaiter, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bucket.acquire()
        with pytest.raises(KeyboardInterrupt), gate.slot():
            pass
    assert (len(bucket.line), gate.statistics().waiting, gate.statistics().inside) == (0, 0, 0)


def test_waking_a_loop_that_has_just_been_closed_does_no_harm():
    """Nobody is left to be told."""
    loop = asyncio.new_event_loop()

    async def make_waiter():
        return LoopWaiter(1, 0.0)

    waiter = loop.run_until_complete(make_waiter())
    loop.close()
    waiter.grant(0.0)
    waiter.alarm(1, lambda: None)
    assert waiter.gone
    assert not waiter.can_keep_time
