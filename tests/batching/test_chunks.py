"""Batches with a barrier after each chunk."""

import asyncio
import itertools
import re

import pytest
from batching_support import Step, others
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching import Outcome, adaptive_batch, amap, batch_in_chunks
from course_lib.batching.chunks import ChunkSlots
from course_lib.errors import TimedOut
from course_lib.lab.simulation import simulate

LATENCIES = st.lists(st.integers(0, 300).map(lambda n: n / 100), max_size=40)


async def listed(outcomes):
    """All of them."""
    return [outcome async for outcome in outcomes]


@given(LATENCIES, st.integers(1, 9))
def test_each_chunk_lasts_as_long_as_its_slowest_item(latencies, size):
    """So the makespan is the sum of their maxima."""
    step = Step(latencies.__getitem__)
    result = simulate(lambda: listed(batch_in_chunks(step, range(len(latencies)), size=size)))
    chunks = [latencies[start : start + size] for start in range(0, len(latencies), size)]
    assert result.seconds == pytest.approx(sum(map(max, chunks)))
    assert sorted(outcome.value for outcome in result.value) == list(range(len(latencies)))
    assert step.peak == min(size, len(latencies))


def test_waits_are_those_for_the_chunks_before():
    """Outcomes come as they are made, and tell when each ran."""
    outcomes = simulate(lambda: listed(batch_in_chunks(Step(), [3, 1, 2, 1], size=2))).value
    assert outcomes == [
        Outcome(1, 1, wait=0, service=1),
        Outcome(0, 3, wait=0, service=3),
        Outcome(3, 1, wait=3, service=1),
        Outcome(2, 2, wait=3, service=2),
    ]


def test_a_window_on_the_same_data_takes_less_time():
    """One straggler a chunk: 4 s a chunk against 4 s once in a while."""
    latencies = [4.0, 1.0, 1.0, 1.0] * 6
    chunks = simulate(lambda: listed(batch_in_chunks(Step(), latencies, size=4))).seconds
    window = simulate(lambda: listed(amap(Step(), latencies, limit=4))).seconds
    assert (chunks, window) == (24.0, 12.0)


def test_in_all_else_it_is_like_a_window():
    """Order, errors as outcomes, time limits, endless asynchronous sources, early ends."""

    async def source():
        for number in itertools.count():
            yield number

    async def main():
        step = Step(lambda item: 9 if item == 3 else 1)
        options = {"ordered": True, "return_exceptions": True, "timeout": 2}
        async with batch_in_chunks(step, source(), size=2, **options) as outcomes:
            first = [await anext(outcomes) for _ in range(5)]
        return [(o.value, type(o.error)) for o in first], step.inside, others()

    nothing = type(None)
    assert simulate(main).value == (
        [(0, nothing), (1, nothing), (2, nothing), (None, TimedOut), (4, nothing)],
        0,
        set(),
    )


class Sizes:
    """A signal that names sizes in turn, and keeps what it is shown."""

    def __init__(self, *sizes):
        self.sizes, self.chunks = iter(sizes), []
        self.size = next(self.sizes)

    def observe(self, chunk):
        """Go on to the next size."""
        self.chunks.append(([outcome.index for outcome in chunk.outcomes], chunk.seconds))
        self.size = next(self.sizes, self.size)


def test_a_signal_chooses_the_next_size_by_the_chunk_that_has_ended():
    """It is shown each but the last, with the time it took."""
    signal = Sizes(1, 3, 2)
    result = simulate(lambda: listed(adaptive_batch(Step(), [4, 3, 2, 1, 2, 1], signal=signal)))
    assert signal.chunks == [([0], 4.0), ([3, 2, 1], 3.0)]
    assert result.seconds == 9.0


def test_a_signal_sees_errors_where_they_are_outcomes():
    """They are part of what came of the chunk."""
    signal = Sizes(2)
    step = Step(lambda _: 1, lambda item: ValueError() if item else None)
    batch = {"signal": signal, "return_exceptions": True}
    outcomes = simulate(lambda: listed(adaptive_batch(step, range(4), **batch))).value
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False]
    assert signal.chunks == [([0, 1], 1.0)]


def test_a_signal_that_names_no_size_is_found_out():
    """It is an error of the signal, where the outcomes are awaited."""
    batch = lambda: listed(adaptive_batch(Step(), [1, 1], signal=Sizes(1, 0)))  # noqa: E731
    with pytest.raises(ValueError, match="size=0: give a whole number, 1 or above"):
        simulate(batch)


async def echo(item):
    """The simplest step."""
    await asyncio.sleep(0)
    return item


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda: batch_in_chunks(echo, [1], size=0), "size=0: give a whole number, 1 or above"),
        (lambda: batch_in_chunks(len, [1], size=1), "is neither a Runnable nor `async def`"),
        (lambda: batch_in_chunks(echo, "text", size=1), "is one input, not several"),
        (lambda: batch_in_chunks(echo, [1], size=1, timeout=-1), "timeout=-1: give a finite"),
        (lambda: adaptive_batch(echo, [1], signal=8), "give an object with `size` and `observe("),
        (lambda: adaptive_batch(echo, [1], signal=Sizes), "give an object with `size` and `obs"),
    ],
)
def test_bad_input_to_chunks_is_refused_at_once(start, message):
    """When they are asked for, with the name, the value and the fix."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        start()


def test_a_chunk_takes_no_new_items_until_all_of_it_has_ended():
    """Though its places are given back one by one."""
    sizes = iter([2, 1])
    slots = ChunkSlots(sizes.__next__)
    assert slots.room()
    slots.take()
    slots.take()
    assert not slots.room()
    slots.give()
    assert not slots.room()
    slots.give()
    assert slots.room()
    slots.take()
    assert not slots.room()
