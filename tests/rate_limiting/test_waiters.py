"""A line of turns: who passes when, and who keeps the time."""

import asyncio
import threading

import pytest

from course_lib.clock import Clock
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting.level import Level
from course_lib.rate_limiting.turn import LoopTurn, ThreadTurn
from course_lib.rate_limiting.waiters import Line


def make(seconds, capacity=1):
    """A line at one token a second, from an empty bucket, by a clock set by hand."""
    return Line(Level(1, capacity, 0), Clock(lambda: seconds[0], exclusive=True))


def join(line, kind=ThreadTurn):
    """Have somebody join; return the turn."""
    turn = kind(1, line.clock.now())
    line.join(turn, lambda passing, now: passing.grant(now))
    line.advance()
    return turn


def alarm(turn):
    """Seconds until a thread's alarm rings, None if it has none."""
    return turn._seconds


def test_turns_pass_one_by_one_as_they_are_due():
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
    turn = join(line)
    seconds[0] = 0.25
    turn.disarm()
    line._ring()
    assert (turn.granted_at, alarm(turn)) == (None, 0.75)


def test_who_keeps_the_time_hands_it_on_when_leaving():
    """To the next; and the last one to nobody."""
    seconds = [0.0]
    line = make(seconds)
    first, second = join(line), join(line)
    assert line.leave(first)
    assert not line.leave(first)
    line.advance()
    assert (alarm(first), alarm(second)) == (None, 1)
    line.leave(second)
    line.advance()
    assert (alarm(second), len(line), line.clock.waiting) == (None, 0, 0)


def test_a_thread_keeps_the_time_rather_than_a_loop():
    """A loop may be blocked, a thread that waits is not."""

    async def main():
        seconds = [0.0]
        line = make(seconds)
        coroutine = join(line, LoopTurn)
        before = coroutine._handle
        thread = join(line)
        return before, coroutine._handle, alarm(thread), line.leave(coroutine)

    before, after, seconds, left = simulate(main).value
    assert before is not None
    assert (after, seconds, left) == (None, 1, True)


def test_a_wait_beyond_what_threads_can_wait_is_cut_into_pieces():
    """`Event.wait` refuses centuries; the alarm is set again as often as it takes."""
    line = Line(Level(1e-12, 1, 0), Clock(lambda: 0.0, exclusive=True))
    assert alarm(join(line)) == threading.TIMEOUT_MAX


def test_a_wait_that_is_interrupted_leaves_the_line():
    """Ctrl-C in a thread that waits."""
    from course_lib.rate_limiting import Gate, TokenBucket

    def interrupt(_):
        raise KeyboardInterrupt

    bucket = TokenBucket(0.001, 1, initial=0)
    gate = Gate(concurrency=1, bucket=bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadTurn, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bucket.acquire()
        with pytest.raises(KeyboardInterrupt), gate.slot():
            pass
    assert (len(bucket.line), gate.statistics().waiting, gate.statistics().inside) == (0, 0, 0)


def test_waking_a_loop_that_has_just_been_closed_does_no_harm():
    """Nobody is left to be told."""
    loop = asyncio.new_event_loop()

    async def make_turn():
        return LoopTurn(1, 0.0)

    turn = loop.run_until_complete(make_turn())
    loop.close()
    turn.grant(0.0)
    turn.alarm(1, lambda: None)
    assert turn.gone
    assert not turn.can_keep_time
