"""The gate as its users see it: slots, rate, priority, cool-down, cancellation."""

import asyncio
import contextvars
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from file_changes import counted_file_changes
from limits_support import excess

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Aimd, Gate, TokenBucket

NAN = float("nan")


def now():
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def visit(gate, log, name, seconds=1.0, **wishes):
    """Go in, note who and when, and stay for a while."""
    async with gate.slot(**wishes):
        log.append((name, now()))
        await asyncio.sleep(seconds)


async def fail(gate, error, step):
    """Go in, and leave with an error."""
    async with gate.slot(step=step):
        raise error


async def visits(gate, count, seconds=1.0):
    """Visit many times at once; return who got in when."""
    log = []
    await asyncio.gather(*(visit(gate, log, number, seconds) for number in range(count)))
    return log


async def start(*coroutines):
    """Start tasks, one after another, and let them come as far as they can."""
    tasks = []
    for coroutine in coroutines:
        tasks.append(asyncio.create_task(coroutine))
        await asyncio.sleep(0)
    return tasks


def test_never_more_are_inside_than_it_says():
    """They enter in waves, in the order they came."""
    log = simulate(lambda: visits(Gate(concurrency=3), 7)).value
    assert log == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]


def test_a_free_slot_is_read_in_few_files():
    """Who follows it from asking to leaving turns to another file a few times, not dozens of them."""

    async def main(gate):
        async with gate.slot():
            pass
        with counted_file_changes() as changes:
            async with gate.slot():
                pass
        return changes.count

    for gate in (Gate(concurrency=1), Gate(concurrency=1, bucket=TokenBucket(10, 2))):
        assert 0 < asyncio.run(main(gate)) <= 10


def test_with_a_bucket_both_limits_hold():
    """Quick calls are held by the rate, slow ones by the slots."""
    quick = simulate(lambda: visits(Gate(concurrency=3, bucket=TokenBucket(10, 2)), 5, 0.01))
    assert [time for _, time in quick.value] == [0, 0, 0.1, 0.2, 0.3]
    slow = simulate(lambda: visits(Gate(concurrency=1, bucket=TokenBucket(10, 2)), 3))
    assert [time for _, time in slow.value] == [0, 1, 2]


def test_tokens_are_not_put_by_while_all_slots_are_taken():
    """What enters when the slots are free again keeps the bucket's bound."""

    async def main():
        gate, log = Gate(concurrency=4, bucket=TokenBucket(10, 4)), []
        slow = [visit(gate, log, "slow", 5) for _ in range(4)]
        quick = [visit(gate, log, "quick", 0) for _ in range(20)]
        await asyncio.gather(*slow, *quick)
        return log

    log = simulate(main).value
    assert excess([(time, 1) for _, time in log], 10, 4) <= 0
    assert log[-1] == ("quick", 6.6)


def test_a_weight_is_tokens_of_the_bucket_and_one_slot():
    """The heavy one is not overtaken, and takes no more than a slot."""

    async def main():
        gate, log = Gate(concurrency=2, bucket=TokenBucket(10, 5)), []
        calls = [("a", 5), ("b", 4), ("c", 1)]
        await asyncio.gather(*(visit(gate, log, name, 0.45, weight=w) for name, w in calls))
        return log

    assert simulate(main).value == [("a", 0), ("b", 0.4), ("c", 0.5)]


def test_higher_priority_goes_first_and_equals_in_the_order_they_came():
    """Whether what they wait for is a slot or a token."""

    async def main(gate):
        log = []
        tasks = await start(
            visit(gate, log, "first"),
            *(visit(gate, log, f"bulk {n}") for n in range(2)),
            *(visit(gate, log, f"urgent {n}", priority=1) for n in range(2)),
        )
        await asyncio.gather(*tasks)
        return [name for name, _ in log]

    order = ["first", "urgent 0", "urgent 1", "bulk 0", "bulk 1"]
    assert simulate(lambda: main(Gate(concurrency=1))).value == order
    rated = Gate(concurrency=9, bucket=TokenBucket(1, 1))
    assert simulate(lambda: main(rated)).value == order


@pytest.mark.parametrize(("ageing", "enters"), [(3.0, 4.0), (None, 12.0)])
def test_ageing_keeps_the_low_from_starving(ageing, enters):
    """Somebody urgent comes every second: with ageing, those who came too late let the other go."""

    async def main():
        gate, log = Gate(concurrency=1, ageing=ageing), []
        tasks = await start(visit(gate, log, "urgent", priority=1), visit(gate, log, "bulk"))
        for _ in range(11):
            await asyncio.sleep(0.5)
            tasks += await start(visit(gate, log, "urgent", priority=1))
            await asyncio.sleep(0.5)
        await asyncio.gather(*tasks)
        return dict(log)["bulk"]

    assert simulate(main).value == enters


def test_more_slots_are_taken_at_once():
    """By those who wait."""

    async def main():
        gate = Gate(concurrency=1)
        task = asyncio.create_task(visits(gate, 5))
        await asyncio.sleep(0.5)
        gate.concurrency = 3
        return await task

    assert [time for _, time in simulate(main).value] == [0, 0.5, 0.5, 1, 1.5]


def test_with_fewer_slots_nobody_is_evicted_and_nobody_let_in():
    """Until enough have left."""

    async def main():
        gate = Gate(concurrency=3)
        task = asyncio.create_task(visits(gate, 5))
        await asyncio.sleep(0.5)
        gate.concurrency = 1
        inside = gate.statistics().inside
        return inside, await task

    inside, log = simulate(main).value
    assert inside == 3
    assert [time for _, time in log] == [0, 0, 0, 1, 2]


def test_one_who_waits_for_tokens_is_called_back_when_the_slot_is_taken_away():
    """And has not spent any."""

    async def main():
        gate, log = Gate(concurrency=2, bucket=TokenBucket(1, 1)), []
        tasks = await start(visit(gate, log, "a", 3), visit(gate, log, "b"))
        gate.concurrency = 1
        await asyncio.gather(*tasks)
        return log, gate._bucket.statistics().admitted

    assert simulate(main).value == ([("a", 0), ("b", 3)], 2)


def test_a_cool_down_holds_everybody_back_at_once():
    """Those inside go on; those who wait for a slot or for tokens wait; the longest one holds."""

    async def main():
        gate, log = Gate(concurrency=2, bucket=TokenBucket(10, 1)), []
        tasks = await start(*(visit(gate, log, n, 0.3) for n in range(4)))
        gate.cool_down(5)
        gate.cool_down(1)
        cooling = gate.statistics().cooling
        await asyncio.gather(*tasks)
        return cooling, log

    assert simulate(main).value == (5, [(0, 0), (1, 5), (2, 5.1), (3, 5.3)])


def test_a_rejection_that_leaves_the_block_cools_everybody_down():
    """For its `retry_after`, and is counted under its step; other errors do neither."""

    async def main():
        gate, log = Gate(concurrency=1), []
        failures = [RateLimited("429", retry_after=2), RateLimited("429"), Unavailable("503")]
        steps = ["search", "chat", "chat"]
        calls = [fail(gate, *each) for each in zip(failures, steps, strict=True)]
        await asyncio.gather(*calls, visit(gate, log, "next"), return_exceptions=True)
        return log, gate.statistics()

    log, statistics = simulate(main).value
    assert log == [("next", 2)]
    assert statistics.rejected == 2
    assert statistics.rejected_by_step == {"search": 1, "chat": 1}


class Foreign(Exception):  # noqa: N818 - another client's
    """A 429 of another client, which carries status and headers."""

    def __init__(self, retry_after):
        super().__init__("429")
        self.status_code = 429
        self.response = SimpleNamespace(headers={"Retry-After": retry_after})


def test_another_clients_rejection_counts_like_our_own():
    """By what it carries: the gate cools down for it, and counts it once on its way out."""

    async def main():
        gate, log = Gate(concurrency=1), []
        with pytest.raises(Foreign):
            async with gate.slot(step="outer"), gate.slot(step="inner"):
                raise Foreign("2")
        await visit(gate, log, "next")
        return log, dict(gate.statistics().rejected_by_step)

    assert simulate(main).value == ([("next", 2)], {"inner": 1})


def test_a_rejection_is_counted_once_also_where_it_is_told_in_other_words():
    """As the cause of another one; and errors that no reference may be kept of are counted, too."""

    async def told_anew(gate):
        async with gate.slot(step="outer"):
            try:
                await fail(gate, Foreign("0"), "inner")
            except Foreign as error:
                raise RateLimited("told anew") from error

    async def main():
        gate, built_in = Gate(concurrency=1), OSError("429")
        built_in.status_code = 429
        with pytest.raises(RateLimited):
            await told_anew(gate)
        with pytest.raises(OSError, match="429"):
            await fail(gate, built_in, "outer")
        return dict(gate.statistics().rejected_by_step)

    assert simulate(main).value == {"inner": 1, "outer": 1}


@pytest.mark.parametrize(
    "error", [RateLimited("429", retry_after=61), Foreign("86400"), Foreign("inf")]
)
def test_a_wait_beyond_the_longest_closes_the_gate_for_nobody(error):
    """It is counted, and left to the caller; a longest one can be chosen."""

    async def main(**options):
        gate, log = Gate(concurrency=1, policy=Aimd(), **options), []
        with pytest.raises(type(error)):
            async with gate.slot(step="search"):
                raise error
        await visit(gate, log, "next")
        return log[0][1], gate.statistics().rejected

    assert simulate(main).value == (0, 1)
    assert simulate(lambda: main(longest_cool_down=0)).value == (0, 1)
    if isinstance(error, RateLimited):
        assert simulate(lambda: main(longest_cool_down=90)).value == (61, 1)


def test_a_cool_down_that_is_ended_holds_nobody_back():
    """Those who wait come in at once, at the rate; a new one holds as ever."""

    async def main():
        gate, log = Gate(concurrency=2, bucket=TokenBucket(10, 1)), []
        gate.cool_down(3600)
        tasks = await start(*(visit(gate, log, n, 0.3) for n in range(3)))
        await asyncio.sleep(1)
        gate.end_cool_down()
        cooling = gate.statistics().cooling
        await asyncio.gather(*tasks)
        gate.cool_down(1)
        await visit(gate, log, "last")
        return cooling, log

    assert simulate(main).value == (0, [(0, 1), (1, 1.1), (2, 1.3), ("last", 2.6)])


def test_no_cool_down_at_all_costs_nobody_their_place():
    """`cool_down(0)` changes nothing, not even in the bucket's line; nor does it end one."""

    async def main():
        bucket = TokenBucket(1, 1, initial=0)
        gate, log = Gate(concurrency=2, bucket=bucket), []
        inside = await start(visit(gate, log, "first"))
        direct = await start(bucket.aacquire())
        gate.cool_down(0)
        await asyncio.gather(*inside)
        direct[0].cancel()
        gate.cool_down(5)
        gate.cool_down(0)
        return log, gate.statistics().cooling

    assert simulate(main).value == ([("first", 1)], 5)


async def six(moment, *, before=False, third=True):
    """Let six come, of whom the fourth is cancelled at a moment; return who got in when."""
    gate, log, tasks = Gate(concurrency=2, bucket=TokenBucket(10, 1)), [], []
    loop = asyncio.get_running_loop()
    if before:
        loop.call_at(moment, lambda: tasks[3].cancel())  # noqa: PLW0108 - it is not there yet
    names = range(6) if third else [0, 1, 2, 4, 5]
    tasks += await start(*(visit(gate, log, name, 0.25) for name in names))
    gate.cool_down(0.05)
    if third and not before:
        loop.call_at(moment, tasks[3].cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.statistics().inside, gate.statistics().waiting) == (0, 0)
    return dict(log)


@pytest.mark.parametrize("moment", [round(n * 0.05, 2) for n in range(1, 12)])
@pytest.mark.parametrize("before", [True, False], ids=["before its timers", "after them"])
def test_who_is_cancelled_at_any_moment_costs_nothing(moment, before):
    """While they wait for a slot, for tokens or for the cool-down, or are just let in."""
    log = simulate(lambda: six(moment, before=before)).value
    if 3 not in log:
        assert log == simulate(lambda: six(moment, third=False)).value
    else:  # let in at 0.35, and left early
        full = simulate(lambda: six(100.0)).value
        assert all(log[name] <= full[name] for name in full)


def test_tokens_of_one_who_is_cancelled_as_they_are_let_in_go_to_the_next():
    """Between the grant and the moment when the caller wakes."""

    async def main():
        gate, log = Gate(concurrency=9, bucket=TokenBucket(1, 1, initial=0)), []
        tasks = await start(visit(gate, log, "first"), visit(gate, log, "second"))
        asyncio.get_running_loop().call_at(1.0, tasks[0].cancel)  # after the gate's own timer
        await asyncio.gather(*tasks, return_exceptions=True)
        return log, gate.statistics().admitted, gate.statistics().inside

    assert simulate(main).value == ([("second", 1)], 1, 0)


def test_it_serves_one_event_loop_after_another():
    """It is bound to none."""
    gate = Gate(concurrency=2, bucket=TokenBucket(1000, 2))
    assert simulate(lambda: visits(gate, 4, 0.5)).seconds == 1
    assert simulate(lambda: visits(gate, 4, 0.5)).seconds == 1
    assert len(asyncio.run(visits(gate, 4, 0))) == 4


def test_threads_and_loops_share_it():
    """Never more than its slots inside, counted by those who are."""
    gate = Gate(concurrency=3, bucket=TokenBucket(2000, 5))
    lock, inside, peak, each = threading.Lock(), 0, 0, 30

    def count(by):
        nonlocal inside, peak
        with lock:
            inside += by
            peak = max(peak, inside)

    def thread():
        for _ in range(each):
            with gate.slot():
                count(1)
                count(-1)

    async def call():
        async with gate.slot():
            count(1)
            await asyncio.sleep(0)
            count(-1)

    async def loop():
        await asyncio.gather(*(call() for _ in range(each)))

    with ThreadPoolExecutor(6) as pool:
        works = [pool.submit(thread) for _ in range(3)]
        works += [pool.submit(asyncio.run, loop()) for _ in range(3)]
        for work in works:
            work.result()
    assert 1 <= peak <= 3
    statistics = gate.statistics()
    assert (statistics.inside, statistics.waiting, statistics.admitted) == (0, 0, 6 * each)


def test_a_sync_call_in_a_loop_waits_for_the_rate_and_nothing_else():
    """It would block the loop that those inside need: refused at once, with what to do."""

    async def main():
        gate = Gate(concurrency=1, bucket=TokenBucket(500, 1))
        for _ in range(2):
            with gate.slot():
                pass
        async with gate.slot():
            with pytest.raises(RuntimeError, match=r"await the asynchronous one.*in a thread"):
                await asyncio.create_task(block(gate), context=outside)
        return gate.statistics()

    async def block(gate):
        with gate.slot():
            pass

    outside = contextvars.copy_context()
    statistics = asyncio.run(main())
    assert (statistics.inside, statistics.waiting, statistics.admitted) == (0, 0, 3)


def test_callers_of_a_loop_that_ended_hold_nobody_up():
    """They are passed over."""
    gate = Gate(concurrency=1, timer=lambda: 0.0)
    loop = asyncio.new_event_loop()
    held = gate.slot()
    task = loop.create_task(visit(gate, [], "gone"))
    held.__enter__()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    held.__exit__(None, None, None)
    with gate.slot():
        assert gate.statistics().inside == 1
    assert gate.statistics().waiting == 0
    task._log_destroy_pending = False
    task.get_coro().close()


def test_a_slot_is_entered_once():
    """It is a visit, not a key."""

    async def main():
        slot = Gate(concurrency=2).slot()
        async with slot:
            assert (slot.waited, slot.number) == (0, 1)
            with pytest.raises(RuntimeError, match="ask for another"):
                await slot.__aenter__()

    simulate(main)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, NAN, float("inf"), True])
def test_impossible_concurrency_is_refused(concurrency):
    """At the start, and later."""
    message = re.escape(f"concurrency={concurrency!r}: give a whole number, 1 or above")
    with pytest.raises(ValueError, match=message):
        Gate(concurrency=concurrency)
    gate = Gate(concurrency=1)
    with pytest.raises(ValueError, match=message):
        gate.concurrency = concurrency


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"weight": 6}, "weight=6: give more than 0 and at most capacity=5"),
        ({"weight": 0}, "weight=0"),
        ({"priority": -1}, "priority=-1: 0 is the lowest"),
        ({"priority": NAN}, "priority=nan"),
    ],
)
def test_impossible_wishes_are_refused_before_anybody_waits(wishes, message):
    """By `slot()` itself."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Gate(concurrency=1, bucket=TokenBucket(1, 5)).slot(**wishes)


def test_other_impossible_arguments_are_refused():
    """With the value and the fix."""
    with pytest.raises(ValueError, match="ageing=0: give a finite number above 0"):
        Gate(concurrency=1, ageing=0)
    with pytest.raises(ValueError, match="give it to the bucket"):
        Gate(concurrency=1, bucket=TokenBucket(1, 1), timer=float)
    with pytest.raises(ValueError, match="weight=-1"):
        Gate(concurrency=1).slot(weight=-1)
    with pytest.raises(ValueError, match="longest_cool_down=-1"):
        Gate(concurrency=1, longest_cool_down=-1)
    for seconds in (-1, NAN, float("inf")):
        with pytest.raises(ValueError, match=f"seconds={seconds!r}"):
            Gate(concurrency=1).cool_down(seconds)


def test_it_shows_its_state():
    """In `repr`, and frozen in `statistics()`."""

    async def main():
        gate = Gate(concurrency=2, bucket=TokenBucket(10, 5))
        task = asyncio.create_task(visits(gate, 5))
        await asyncio.sleep(0.5)
        gate.cool_down(1.25)
        shown = repr(gate)
        await task
        return shown, gate.statistics()

    shown, statistics = simulate(main).value
    assert shown == (
        "<Gate 2 of 2 inside, 3 waiting, cooling down for 1.25 s, "
        "<TokenBucket rate=10/s, 5 of 5 tokens, 0 waiting>>"
    )
    assert (statistics.admitted, statistics.waits) == (5, 2 * 1.75 + 2.75)
    assert (statistics.longest_wait, statistics.cooling) == (2.75, 0)
    with pytest.raises(AttributeError):
        statistics.inside = 1
    with pytest.raises(TypeError):
        statistics.rejected_by_step["search"] = 1
