"""Slots within slots: nested calls use the slot of the caller, one at a time."""

import asyncio
import contextvars

import pytest

from course_lib.errors import RateLimited
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Gate, TokenBucket
from course_lib.rate_limiting.waiters import LoopWaiter


def now():
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def visit(gate, log, name, seconds=1.0):
    """Go in, note who and when, and stay for a while."""
    async with gate.slot():
        log.append((name, now()))
        await asyncio.sleep(seconds)


def test_a_nested_call_uses_the_callers_slot():
    """With a single slot, three deep: no deadlock."""

    async def nest(gate, depth):
        async with gate.slot():
            await asyncio.sleep(1)
            return gate.statistics().inside if depth == 0 else await nest(gate, depth - 1)

    done = simulate(lambda: nest(Gate(concurrency=1), 3))
    assert (done.value, done.seconds) == (1, 4)


def test_nested_calls_side_by_side_take_turns():
    """One slot is one call at a time, also while other slots are free."""

    async def main():
        gate, log = Gate(concurrency=3), []
        async with gate.slot():
            await asyncio.gather(*(visit(gate, log, n) for n in range(3)))
        return log

    assert simulate(main).value == [(0, 0), (1, 1), (2, 2)]


def test_every_nested_call_pays_the_rate():
    """Its call reaches the provider like any other."""

    async def main():
        gate, log = Gate(concurrency=1, bucket=TokenBucket(1, 1)), []
        async with gate.slot():
            await asyncio.gather(*(visit(gate, log, n, 0) for n in range(2)))
        return log

    assert simulate(main).value == [(0, 1), (1, 2)]


def test_a_cool_down_holds_nested_calls_too():
    """They call the same provider."""

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            gate.cool_down(2)
            await visit(gate, log, "nested")
        return log

    assert simulate(main).value == [("nested", 2)]


def test_the_one_who_keeps_the_time_of_a_cool_down_may_leave_with_its_caller():
    """Found by the state machine: the alarm went with it, and nobody was let in any more."""

    async def main():
        gate, log = Gate(concurrency=2), []
        async with gate.slot():
            gate.cool_down(2)
            nested = asyncio.create_task(visit(gate, log, "nested"))
            await asyncio.sleep(0)
            context = contextvars.Context()
            other = asyncio.create_task(visit(gate, log, "other"), context=context)
            await asyncio.sleep(1)
        await asyncio.gather(nested, other)
        return log

    assert simulate(main).value == [("nested", 2), ("other", 2)]


def test_a_nested_call_that_outlives_its_caller_keeps_the_slot():
    """The slot is free when the last has left it."""

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            nested = asyncio.create_task(visit(gate, log, "nested", 3))
            await asyncio.sleep(1)
        inside = gate.statistics().inside
        await asyncio.create_task(visit(gate, log, "next"))
        await nested
        return inside, log, gate.statistics().inside

    assert simulate(main).value == (1, [("nested", 0), ("next", 3)], 0)


def test_a_nested_call_that_waits_when_its_caller_leaves_waits_in_the_gates_line():
    """At the place of its arrival."""

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            first = asyncio.create_task(visit(gate, log, "first", 2))
            second = asyncio.create_task(visit(gate, log, "second", 1))
            await asyncio.sleep(1)
        await asyncio.gather(first, second, visit(gate, log, "third"))
        return log, gate.statistics().waiting

    assert simulate(main).value == ([("first", 0), ("second", 2), ("third", 3)], 0)


def test_who_waits_in_a_callers_slot_goes_on_to_the_callers_caller():
    """Three deep with a single slot: the outermost waits for what its caller has left behind."""

    async def leave_behind(gate, log):
        async with gate.slot():
            tasks = [asyncio.create_task(visit(gate, log, n)) for n in range(3)]
            await asyncio.sleep(0.5)
        return tasks

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            await asyncio.gather(*await leave_behind(gate, log))
        return log, gate.statistics().inside

    assert simulate(main).value == ([(0, 0), (1, 1), (2, 2)], 0)


def test_nested_calls_one_after_another():
    """After the first has left, its caller is still inside."""

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            for n in range(3):
                await visit(gate, log, n)
        return log

    assert simulate(main).value == [(0, 0), (1, 1), (2, 2)]


def test_a_caller_that_leaves_while_a_nested_call_arrives_lends_nothing():
    """As it may in another thread: the call waits in the gate's line."""

    async def main():
        gate = Gate(concurrency=1)
        left = gate.slot()
        async with left:
            pass
        slot = gate.slot()
        gate._arrive(slot, LoopWaiter, left)
        return slot.queue is gate._slots, left.lent

    assert simulate(main).value == (True, None)


def test_a_nested_call_that_is_cancelled_gives_the_slot_to_the_next():
    """Inside or waiting."""

    async def main():
        gate, log = Gate(concurrency=1), []
        async with gate.slot():
            tasks = [asyncio.create_task(visit(gate, log, n)) for n in range(4)]
            await asyncio.sleep(0.25)
            tasks[0].cancel()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return log, gate.statistics().inside

    assert simulate(main).value == ([(0, 0), (2, 0.25), (3, 1.25)], 0)


def test_a_task_started_inside_and_run_later_is_not_nested():
    """The slot of its starter is no longer held."""

    async def later(gate, log):
        await asyncio.sleep(1)
        await asyncio.gather(visit(gate, log, "a"), visit(gate, log, "b"))

    async def main():
        gate, log = Gate(concurrency=2), []
        async with gate.slot():
            task = asyncio.create_task(later(gate, log))
        await task
        return log

    assert simulate(main).value == [("a", 1), ("b", 1)]


def test_two_gates_one_within_the_other():
    """Each knows its own callers, also through the other."""

    async def main():
        outer, inner, log = Gate(concurrency=1), Gate(concurrency=1), []
        async with outer.slot(), inner.slot():
            await visit(outer, log, "through")
        await asyncio.gather(visit(inner, log, "a"), visit(outer, log, "b"))
        return log

    assert simulate(main).value == [("through", 0), ("a", 1), ("b", 1)]


def test_a_rejection_is_counted_once_on_its_way_out():
    """By the call that was rejected."""

    async def main():
        gate = Gate(concurrency=1)
        with pytest.raises(RateLimited):
            async with gate.slot(step="outer"), gate.slot(step="inner"):
                raise RateLimited("429")
        return dict(gate.statistics().rejected_by_step)

    assert simulate(main).value == {"inner": 1}


def test_slots_of_one_task_may_be_left_in_any_order():
    """As two streams that are read in turn."""

    async def main():
        gate, log = Gate(concurrency=1), []
        first, second = gate.slot(), gate.slot()
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        await visit(gate, log, "nested in the second")
        await second.__aexit__(None, None, None)
        await asyncio.gather(*(visit(gate, log, n) for n in range(2)))
        return log, gate.statistics().inside

    assert simulate(main).value == ([("nested in the second", 0), (0, 1), (1, 2)], 0)


def test_a_slot_says_how_long_it_was_waited_for():
    """So that a call's wait and its service can be told apart."""

    async def main():
        gate = Gate(concurrency=1)
        slot = gate.slot()
        with pytest.raises(RuntimeError, match="has not been entered"):
            _ = slot.waited
        task = asyncio.create_task(visit(gate, [], "first"))
        await asyncio.sleep(0.25)
        async with slot:
            waited = slot.waited
        await task
        return waited

    assert simulate(main).value == 0.75
