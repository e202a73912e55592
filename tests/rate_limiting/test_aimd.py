"""Additive increase, multiplicative decrease, and a gate that follows it."""

import asyncio
import re

import pytest

from course_lib.async_batch import as_runnable
from course_lib.errors import RateLimited
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Aimd, Gate, limited


def succeed(aimd, concurrency, count, *, number=1, in_use=True):
    """Have so many calls come back."""
    for _ in range(count):
        concurrency = aimd.succeeded(concurrency, number=number, in_use=in_use)
    return concurrency


def test_it_grows_by_one_slot_a_round():
    """A round is as many calls as there are slots; not by rounding, however many thirds."""
    aimd, concurrency = Aimd(), 1
    for expected in range(2, 50):
        concurrency = succeed(aimd, concurrency, concurrency)
        assert concurrency == expected


def test_a_limit_that_is_not_in_use_does_not_grow():
    """It has not been tested."""
    assert succeed(Aimd(), 4, 100, in_use=False) == 4


def test_it_is_cut_once_for_each_round_of_calls():
    """Of the calls under way at the cut, no rejection cuts again, and no success counts."""
    aimd = Aimd()
    assert aimd.rejected(16, number=20, admitted=36) == 8
    assert aimd.rejected(8, number=36, admitted=40) == 8
    assert succeed(aimd, 8, 100, number=36) == 8
    assert aimd.rejected(8, number=37, admitted=44) == 4
    assert aimd.cuts == 2


def test_it_keeps_within_its_bounds():
    """Both of them."""
    aimd = Aimd(minimum=3, maximum=5)
    assert succeed(aimd, 4, 100) == 5
    assert aimd.rejected(5, number=1, admitted=1) == 3
    assert aimd.rejected(3, number=2, admitted=2) == 3


def test_rates_of_growth_and_cut_can_be_chosen():
    """Slots a round, and a factor."""
    aimd = Aimd(increase=0.5, decrease=0.75)
    assert (succeed(aimd, 8, 8), succeed(aimd, 8, 8)) == (8, 9)
    assert aimd.rejected(9, number=1, admitted=1) == 6


def test_it_goes_on_from_where_somebody_else_has_put_it():
    """The concurrency in force is what counts."""
    aimd = Aimd()
    assert succeed(aimd, 4, 5) == 5
    assert succeed(aimd, 20, 20) == 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": 0}, "minimum=0"),
        ({"minimum": 5, "maximum": 4}, "minimum=5: give 1 or more, up to maximum=4"),
        ({"increase": 0}, "increase=0"),
        ({"decrease": 1}, "decrease=1: give a factor between 0 and 1"),
        ({"decrease": 0}, "decrease=0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    """With the value and the fix."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Aimd(**options)


class Provider:
    """Works on so many at once, and rejects what is beyond: the capacity can change."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.inside = self.rejections = 0

    async def call(self, _):
        if self.inside >= self.capacity:
            self.rejections += 1
            raise RateLimited("429")
        self.inside += 1
        await asyncio.sleep(0.1)
        self.inside -= 1


def test_a_gate_finds_a_capacity_that_changes():
    """Without growth beyond what is used, with few rejections, and nearly as fast as can be."""

    async def main():
        provider, aimd = Provider(8), Aimd()
        gate = Gate(concurrency=1, policy=aimd)
        runnable = limited(as_runnable(provider.call), gate, attempts=50, backoff=0.05, seed=1)
        peaks = []
        for capacity in (8, 24):
            provider.capacity = capacity
            await runnable.abatch(list(range(800)))
            peaks.append(gate.concurrency)
        return peaks, provider.rejections, aimd.cuts, asyncio.get_running_loop().time()

    peaks, rejections, cuts, seconds = simulate(main).value
    assert 4 <= peaks[0] <= 9
    assert 12 <= peaks[1] <= 25
    assert cuts <= rejections < 0.05 * 1600
    assert seconds < 1.5 * (800 / 8 + 800 / 24) * 0.1


def test_a_gate_with_few_callers_does_not_grow():
    """Three callers never fill eight slots."""

    async def caller(gate):
        for _ in range(50):
            async with gate.slot():
                await asyncio.sleep(0.1)

    async def main():
        gate = Gate(concurrency=8, policy=Aimd())
        await asyncio.gather(*(caller(gate) for _ in range(3)))
        return gate.concurrency

    assert simulate(main).value == 8


def test_a_burst_of_rejections_is_one_cut():
    """Twelve calls under way at once, all rejected."""

    async def reject(gate):
        async with gate.slot():
            await asyncio.sleep(0.1)
            raise RateLimited("429")

    async def main():
        gate = Gate(concurrency=12, policy=Aimd())
        await asyncio.gather(*(reject(gate) for _ in range(12)), return_exceptions=True)
        return gate.concurrency

    assert simulate(main).value == 6


def test_it_shows_its_state():
    """Between two whole numbers, too."""
    aimd = Aimd(maximum=9)
    succeed(aimd, 4, 2)
    assert repr(aimd) == "<Aimd at 4.5 of 1 to 9, 0 cuts>"
