"""How long values live: jitter, early refresh, and against what they help."""

import asyncio
import math
import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.caching import AsyncCache
from course_lib.caching.memory import Entry, Expiry
from course_lib.clock import Clock
from course_lib.lab.simulation import simulate


def expiry(now=lambda: 0.0, **options):
    """How long entries live by a clock that stands at 0, or where it is put."""
    return Expiry(Clock(now, ageing=True), **{"ttl": 100, **options})


def lives(of):
    """The ends of fifty values that are kept at 0."""
    return [of.end(Entry(1), 0, None) for _ in range(50)]


@given(st.floats(0.01, 0.99))
def test_jitter_only_shortens_and_by_no_more_than_its_share(jitter):
    """The ttl is what freshness is promised by."""
    shaken = lives(expiry(jitter=jitter))
    assert 100 * (1 - jitter) - 1e-6 <= min(shaken) < max(shaken) <= 100


def test_what_is_drawn_is_the_same_in_every_run():
    """So that an experiment can be repeated."""
    assert lives(expiry(jitter=0.5)) == lives(expiry(jitter=0.5))


@pytest.mark.parametrize(("left", "beta"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 2.0)])
def test_a_refresh_comes_as_likely_as_the_formula_says(left, beta):
    """`exp(-left / (beta * cost))`, in 20,000 draws."""
    eager = expiry(early=beta)
    entry = Entry(1, expires=left, cost=1.0)
    share = mean(eager.is_due(entry) for _ in range(20_000))
    assert share == pytest.approx(math.exp(-left / beta), abs=0.015)


def test_what_was_not_computed_or_has_no_end_is_not_refreshed():
    """There is nothing to save."""
    eager = expiry(early=1000)
    assert not any(eager.is_due(Entry(1, expires=0.1)) for _ in range(100))
    assert not any(eager.is_due(Entry(1, cost=5.0)) for _ in range(100))


def test_without_early_nothing_is_drawn():
    """Nor refreshed."""
    assert not expiry().is_due(Entry(1, expires=1e-6, cost=100))


async def load(cache, seconds, every=0.01, cost=1.0):
    """Ask for one key, again and again; return the calls and the longest wait."""
    calls, waits = [], []
    now = asyncio.get_running_loop().time

    async def compute():
        calls.append(now())
        await asyncio.sleep(cost)
        return now()

    async def ask():
        start = now()
        await cache.get_or_compute("k", compute)
        waits.append(now() - start)

    tasks = []
    for _ in range(round(seconds / every)):
        tasks.append(asyncio.create_task(ask()))
        await asyncio.sleep(every)
    await asyncio.gather(*tasks)
    return calls, waits


def test_with_early_refresh_nobody_waits_after_the_first_time():
    """A flat line in the place of a spike each time that the value expires."""
    spiky = simulate(lambda: load(AsyncCache(ttl=10, maxsize=5), 60)).value
    flat = simulate(lambda: load(AsyncCache(ttl=10, maxsize=5, early=1), 60)).value
    assert sum(wait > 0 for wait in spiky[1]) > 400
    assert sum(wait > 0 for wait in flat[1]) == 100  # the first second
    assert len(spiky[0]) == 6  # one each 11 s, and with the head start below one each 6.4 s
    assert len(flat[0]) == pytest.approx(60 / (10 - math.log(100 * 1) + 1), abs=2)


def test_of_many_who_ask_at_once_one_refresh_comes():
    """And all of them get the old value at once."""

    async def main():
        cache, calls = AsyncCache(ttl=10, maxsize=5, early=1), []

        async def compute():
            calls.append(1)
            await asyncio.sleep(2)
            return len(calls)

        await cache.get_or_compute("k", compute)
        await asyncio.sleep(9.9)
        old = await asyncio.gather(*(cache.get_or_compute("k", compute) for _ in range(500)))
        await asyncio.sleep(2)
        many = await cache.get_or_compute_many(["k", "k"], lambda _: compute())
        return set(old), many, len(calls), cache.statistics()

    old, many, calls, statistics = simulate(main).value
    assert (old, many, calls) == ({1}, [2, 2], 2)
    assert (statistics.refreshes, statistics.misses) == (1, 1)


def test_a_batch_refreshes_early_too():
    """Each key by itself, and nobody waits."""

    async def main():
        cache, asked = AsyncCache(ttl=10, maxsize=5, early=1), []

        async def compute(keys):
            asked.append(sorted(keys))
            await asyncio.sleep(2)
            return keys

        await cache.get_or_compute_many("ab", compute)
        await asyncio.sleep(9.99)
        before = asyncio.get_running_loop().time()
        for _ in range(50):
            await cache.get_or_compute_many("ab", compute)
        waited = asyncio.get_running_loop().time() - before
        await asyncio.sleep(2)
        return asked, waited

    assert simulate(main).value == ([["a", "b"], ["a"], ["b"]], 0)


def test_a_refresh_that_fails_leaves_the_value_as_it_was():
    """Counted, reported nowhere else, and tried again."""

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        cache, calls = AsyncCache(ttl=10, maxsize=5, early=1, negative_ttl=5), []

        async def compute():
            calls.append(1)
            await asyncio.sleep(1)
            if len(calls) == 2:
                raise OSError("down")
            return len(calls)

        await cache.get_or_compute("k", compute)
        await asyncio.sleep(8)
        values = set()
        while cache.statistics().refreshes < 2 and len(values) < 3:
            values.add(await cache.get_or_compute("k", compute))
            await asyncio.sleep(0.001)
        return values, cache.statistics().errors, reports

    assert simulate(main).value == ({1}, 1, [])


def test_jitter_spreads_what_was_warmed_together():
    """500 keys, asked for all the time: the worst tenth of a second after they expire."""

    async def worst(jitter):
        cache = AsyncCache(ttl=10, maxsize=1000, jitter=jitter)
        misses = [0] * 400
        now = asyncio.get_running_loop().time

        async def compute(keys):
            misses[int(now() * 10)] += len(keys)
            return keys

        for _ in range(390):
            await cache.get_or_compute_many(range(500), compute)
            await asyncio.sleep(0.1)
        return max(misses[1:])

    together = simulate(lambda: worst(0)).value
    apart = simulate(lambda: worst(0.5)).value
    assert together == 500
    assert apart < 50


def test_hit_ratio_follows_the_load():
    """Zipf-shaped questions: the bigger the cache, the more hits."""

    async def ratio(maxsize):
        cache, draw = AsyncCache(ttl=None, maxsize=maxsize), random.Random(0)
        keys = draw.choices(range(1000), [1 / rank for rank in range(1, 1001)], k=3000)
        for key in keys:
            await cache.get_or_compute(key, lambda: asyncio.sleep(0, 1))
        return cache.statistics().hit_ratio

    small, large = simulate(lambda: ratio(10)).value, simulate(lambda: ratio(500)).value
    assert 0.1 < small < 0.5 < large < 0.9
