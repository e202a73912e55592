"""What `amap` promises, for arbitrary latencies, failures, sources and ends, in virtual time."""

import asyncio
import gc
import tracemalloc

from batching_support import Step, handed_over, now, others, settle
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching import Backoff, amap
from course_lib.errors import Unavailable
from course_lib.lab.simulation import simulate

HUNDREDTHS = st.integers(0, 300).map(lambda n: n / 100)  # often the same: ties at one moment
LATENCIES = st.lists(st.one_of(HUNDREDTHS, st.floats(0, 50)), max_size=40)
LIMITS = st.integers(1, 9)
ROUNDING = 1e-6


def is_between(low, value, high):
    """Within a tolerance for the rounding of virtual time to nanoseconds."""
    return low - ROUNDING <= value <= high + ROUNDING


@given(LATENCIES, LIMITS)
def test_each_is_answered_once_within_the_limit_and_the_bound(latencies, limit):
    """The makespan is at most `max(longest, total / limit) + longest`, and no less than that."""
    step = Step(latencies.__getitem__)

    async def main():
        outcomes = [o async for o in amap(step, range(len(latencies)), limit=limit)]
        assert others() == set()
        return outcomes

    result = simulate(main)
    longest, total = max(latencies, default=0), sum(latencies)
    assert sorted(outcome.index for outcome in result.value) == list(range(len(latencies)))
    assert all(outcome.value == outcome.index for outcome in result.value)
    assert step.started == list(range(len(latencies)))
    assert step.peak == min(limit, len(latencies))
    bound = max(longest, total / limit)
    assert is_between(bound, result.seconds, bound + longest)


@given(LATENCIES, LIMITS)
def test_outcomes_tell_when_each_ran(latencies, limit):
    """From wait and service the whole schedule can be drawn: never more than `limit` at once."""

    async def main():
        step = Step(latencies.__getitem__)
        return [(o, now()) async for o in amap(step, range(len(latencies)), limit=limit)]

    lanes = []
    for outcome, came in simulate(main).value:
        assert is_between(came, outcome.wait + outcome.service, came)
        assert is_between(latencies[outcome.index], outcome.service, latencies[outcome.index])
        lanes += [(outcome.wait + ROUNDING, 1), (outcome.wait + outcome.service, -1)]
    inside = 0
    for _, change in sorted(lanes):
        inside += change
        assert inside <= limit


@given(
    latencies=LATENCIES,
    limit=LIMITS,
    failing=st.sets(st.integers(0, 39)),
    buffer=st.one_of(st.none(), st.integers(0, 5)),
    handed=st.booleans(),
    pace=HUNDREDTHS,
)
def test_in_order_with_errors_as_outcomes_none_is_missing(
    *, latencies, limit, failing, buffer, handed, pace
):
    """With any buffer, source and speed of the consumer; held is never more than allowed."""
    step = Step(latencies.__getitem__, lambda n: ValueError(n) if n in failing else None)
    held = 0

    async def main():
        nonlocal held
        fetched = []
        inputs = handed_over(range(len(latencies))) if handed else range(len(latencies))
        options = {"buffer": buffer, "ordered": True, "return_exceptions": True}
        async for outcome in amap(step, inputs, limit=limit, **options):
            held = max(held, len(step.started) - len(fetched))
            fetched.append((outcome.index, outcome.ok))
            await asyncio.sleep(pace)
        assert others() == set()
        return fetched

    fetched = simulate(main, limit=10**6).value
    assert fetched == [(n, n not in failing) for n in range(len(latencies))]
    assert held <= limit + (4 * limit if buffer is None else buffer) + 1


@given(
    items=st.lists(st.tuples(HUNDREDTHS, st.integers(0, 4)), min_size=1, max_size=20),
    limit=LIMITS,
    attempts=st.integers(1, 4),
)
def test_with_retries_each_is_tried_until_it_works_or_has_been_tried_often_enough(
    items, limit, attempts
):
    """And meanwhile the limit holds, and no place stands empty for ever."""
    tries = [0] * len(items)

    def fails(number):
        tries[number] += 1
        return Unavailable("busy") if tries[number] <= items[number][1] else None

    step = Step(lambda number: items[number][0], fails)

    async def main():
        window = amap(
            step,
            range(len(items)),
            limit=limit,
            attempts=attempts,
            backoff=Backoff(first=0.5),
            return_exceptions=True,
        )
        outcomes = sorted([o async for o in window], key=lambda outcome: outcome.index)
        assert others() == set()
        return outcomes

    for outcome, (_, failures) in zip(simulate(main).value, items, strict=True):
        assert outcome.ok == (failures < attempts)
        assert outcome.attempts == min(failures + 1, attempts) == tries[outcome.index]
    assert step.peak <= limit


@given(
    latencies=LATENCIES,
    limit=LIMITS,
    failing=st.sets(st.integers(0, 39), max_size=2),
    ends=st.sampled_from(["break", "close", "cancel"]),
    moment=HUNDREDTHS,
    fetched=st.integers(0, 10),
    handed=st.booleans(),
    ordered=st.booleans(),
    attempts=st.integers(1, 2),
)
def test_however_it_ends_nothing_is_left(
    *, latencies, limit, failing, ends, moment, fetched, handed, ordered, attempts
):
    """Errors, `break`, `aclose` and cancellation at any moment: all is cancelled, none comes twice."""
    step = Step(latencies.__getitem__, lambda n: Unavailable(n) if n in failing else None)
    seen, complaints = [], []

    async def consume():
        inputs = handed_over(range(len(latencies))) if handed else range(len(latencies))
        window = amap(step, inputs, limit=limit, ordered=ordered, attempts=attempts)
        async for outcome in window:
            seen.append(outcome.index)
            if ends != "cancel" and len(seen) >= fetched:
                break
        if ends == "close":
            await window.aclose()
            assert (step.inside, others() - {watched}) == (0, set())

    async def main():
        nonlocal watched
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        watched = asyncio.current_task()
        consumer = asyncio.ensure_future(consume())
        if ends == "cancel":
            loop.call_later(moment, consumer.cancel)
        await asyncio.wait([consumer])
        if ends == "cancel":
            assert (step.inside, others()) == (0, set())
        error = None if consumer.cancelled() else consumer.exception()
        assert error is None or isinstance(error, Unavailable), error
        del consumer, error
        await settle()
        assert (step.inside, others()) == (0, set())

    watched = None
    simulate(main)
    assert complaints == []
    assert len(seen) == len(set(seen))
    assert step.peak <= limit
    assert seen == sorted(seen) or not ordered


def test_memory_does_not_grow_with_the_number_of_items():
    """Twenty thousand take no more than two thousand."""

    async def step(item):
        return [item] * 100  # 856 bytes

    async def main(count):
        async for _ in amap(step, range(count), limit=10):
            pass

    def peak(count):
        gc.collect()
        tracemalloc.start()
        asyncio.run(main(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2_000)
    assert peak(20_000) < peak(2_000) + 200_000
