"""The timing of a language model's server: its values, and answers that share it, in virtual time."""

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lab.simulation import simulate
from course_lib.service import Generation, RateLimit, TokenLimit
from course_lib.service.streams import Streams

ALONE = Generation(first_token=0.5, tokens_per_second=10)
SHARED = Generation(first_token=0.5, tokens_per_second=10, gain=0)
GENERATIONS = st.builds(
    Generation,
    st.floats(0, 2),
    st.floats(1, 200),
    st.floats(0, 1),
    st.none() | st.integers(1, 8),
)


async def write(streams, tokens, after=0.0):
    """Write an answer and return when it began and ended."""
    await asyncio.sleep(after)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with streams.stream() as stream:
        await stream.until(tokens)
    return start, loop.time()


async def write_all(streams, *answers):
    """Write answers of (tokens, start) at once."""
    return await asyncio.gather(*(write(streams, *each) for each in answers))


def test_an_answer_alone_takes_its_first_token_and_the_rest():
    """21 tokens: half a second to the first, a tenth for each further one."""
    assert simulate(partial(write, Streams(ALONE), 21)).seconds == 2.5


def test_without_a_gain_two_answers_take_twice_as_long():
    """The server does one thing at a time; both end together."""
    ends = simulate(partial(write_all, Streams(SHARED), (21, 0), (21, 0))).value
    assert [end for _, end in ends] == [5.0, 5.0]


def test_who_comes_late_slows_down_who_is_there():
    """Alone for 1 s, together for 3 s, then the second one alone for 1 s."""
    (_, first), (_, second) = simulate(partial(write_all, Streams(SHARED), (21, 0), (21, 1))).value
    assert (first, second) == (4.0, 5.0)


def test_a_client_that_leaves_speeds_up_the_others():
    """From then on the answer has the server to itself."""
    streams = Streams(SHARED)

    async def main():
        leaving = asyncio.create_task(write(streams, 1000))
        staying = asyncio.create_task(write(streams, 21))
        await asyncio.sleep(2)
        leaving.cancel()
        return await staying

    assert simulate(main).value == (0.0, 3.5)


def test_tokens_come_one_after_the_other():
    """Each at its time, the first after the prompt was read."""
    streams = Streams(ALONE)

    async def main():
        times = []
        with streams.stream() as stream:
            for number in range(1, 5):
                assert await stream.until(number) == number
                times.append(round(asyncio.get_running_loop().time(), 6))
        return times

    assert simulate(main).value == [0.5, 0.6, 0.7, 0.8]


def test_a_reader_who_is_late_finds_what_was_written_meanwhile():
    """`until` says how many tokens are there, not only that the one asked for is."""
    streams = Streams(ALONE)

    async def main():
        with streams.stream() as stream:
            await asyncio.sleep(1.05)
            return await stream.until(1)

    assert simulate(main).value == 6


def test_without_a_generation_everything_is_there_at_once():
    """No wait at all."""
    assert simulate(partial(write, Streams(None), 10_000)).seconds == 0


@given(
    GENERATIONS,
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 3)), min_size=1, max_size=8),
)
def test_nobody_is_faster_than_alone_nor_slower_than_in_turn(generation, answers):
    """And the server never does more than its speed allows: work is conserved."""
    spans = simulate(partial(write_all, Streams(generation), *answers)).value
    works = [generation.work(tokens) for tokens, _ in answers]
    for (start, end), work in zip(spans, works, strict=True):
        assert end - start >= work - 1e-6
    last = max(end for _, end in spans)
    begin = min(start for start, _ in spans)
    gaps = max(start for start, _ in spans) - begin
    assert last - begin <= sum(works) + gaps + 1e-6
    most = generation.speed(len(answers)) * len(answers)
    assert sum(works) <= most * (last - begin) + 1e-6


@pytest.mark.parametrize(("clients", "measured"), [(1, 1.22), (4, 1.74), (8, 2.61)])
def test_the_local_profile_is_what_was_measured(clients, measured):
    """llama.cpp with 1, 4 and 8 clients that ask without a pause for 50 tokens: within 5 %."""
    streams = Streams(Generation.local_cpu())

    async def client():
        for _ in range(10):
            await write(streams, 50)

    async def main():
        await asyncio.gather(*(client() for _ in range(clients)))

    rate = 10 * clients / simulate(main).seconds
    assert rate == pytest.approx(measured, rel=0.05)


def test_beyond_its_batch_the_local_profile_gains_nothing():
    """Sixteen answers at once take twice as long as eight."""
    local = Generation.local_cpu()
    assert 16 * local.speed(16) == 8 * local.speed(8)


def test_the_hosted_profile_does_not_slow_down():
    """A thousand at once are as fast as one."""
    assert Generation.hosted().speed(1000) == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Generation(-1, 10), "first_token=-1"),
        (lambda: Generation(0.1, 0), "tokens_per_second=0: give a number above 0"),
        (lambda: Generation(0.1, 10, gain=1.5), "gain=1.5.*at most 1"),
        (lambda: Generation(0.1, 10, batch=0), "batch=0"),
        (lambda: TokenLimit(0), "tokens_per_minute=0"),
        (lambda: RateLimit.per_minute(0), "requests=0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(make, reason):
    """The message names the value and the fix."""
    with pytest.raises(ValueError, match=reason):
        make()


def test_limits_are_stated_a_minute_as_providers_do():
    """Sixty a minute are one a second, and sixty at once."""
    assert RateLimit.per_minute(60) == RateLimit(rate=1, burst=60)
    assert (TokenLimit(600).rate, TokenLimit(600).burst) == (10, 600)
