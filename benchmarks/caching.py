"""What a hit and a miss cost, alone and 5,000 at once, and who computes what at a stampede.

The bound is a look-up in a dict. All caches are in memory, bounded where they can be, and hold the
keys of all 5,000 items. A miss computes nothing: what is left is the price of the cache itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiocache
from async_lru import alru_cache
from cachetools import TTLCache
from cashews import Cache
from langchain_core.caches import InMemoryCache
from langchain_core.outputs import Generation
from langchain_core.runnables import RunnableLambda

from course_lib.caching import AsyncCache, CacheAdapter, cached

ITEMS = 5_000
TTL = 3600
ROOM = 4 * ITEMS
ALONE = 2_000  # calls in a row, of which the mean is taken
ROUNDS = 3  # of which the best is shown: what disturbs a measurement only adds to it
KEYS = [f"question {number}" for number in range(ITEMS)]
CHEAPER = 200
"""What a hit in `abatch` saves at least, against a caching lambda."""


@dataclass
class Contender:
    """A cache, fresh for each round.

    Attributes:
        call: Returns the answer to one question.
        many: Returns those to many, in the way that this cache offers.
    """

    call: Callable[[str], Awaitable[Any]]
    many: Callable[[Sequence[str]], Awaitable[Any]]


async def answer(question: str) -> str:
    return question


def gathered(call: Callable[[str], Awaitable[Any]]) -> Contender:
    async def many(questions: Sequence[str]) -> Any:
        return await asyncio.gather(*map(call, questions))

    return Contender(call, many)


def dictionary() -> Contender:
    known: dict[str, str] = {}

    async def call(question: str) -> str:
        if question not in known:
            known[question] = await answer(question)
        return known[question]

    async def many(questions: Sequence[str]) -> Any:
        return [known[each] if each in known else await call(each) for each in questions]

    return Contender(call, many)


def ours() -> Contender:
    cache = AsyncCache(ttl=TTL, maxsize=ROOM)

    async def many(questions: Sequence[str]) -> Any:
        async def compute(missing: list[str]) -> list[str]:
            return [await answer(each) for each in missing]

        return await cache.get_or_compute_many(questions, compute)

    return Contender(
        lambda question: cache.get_or_compute(question, lambda: answer(question)), many
    )


def ours_cached() -> Contender:
    chain = cached(RunnableLambda(lambda _: None, afunc=answer), AsyncCache(ttl=TTL, maxsize=ROOM))
    return Contender(chain.ainvoke, chain.abatch)


def caching_lambda() -> Contender:
    chain = RunnableLambda(lambda _: None, afunc=dictionary().call)
    return Contender(chain.ainvoke, chain.abatch)


def async_lru() -> Contender:
    return gathered(alru_cache(maxsize=ROOM, ttl=TTL)(answer))


def cashews() -> Contender:
    cache = Cache()
    cache.setup(f"mem://?size={ROOM}")
    return gathered(cache(ttl=TTL, key="{question}")(answer))


def aiocache_memory() -> Contender:
    return gathered(aiocache.cached(ttl=TTL)(answer))


def cachetools() -> Contender:
    known: TTLCache[str, str] = TTLCache(maxsize=ROOM, ttl=TTL)

    async def call(question: str) -> str:
        try:
            return known[question]
        except KeyError:
            known[question] = await answer(question)
            return known[question]

    return gathered(call)


def for_models(cache: Any) -> Contender:
    """Return a cache for chat models, called as a chat model does."""

    async def call(question: str) -> Any:
        found = await cache.alookup(question, "model")
        if found is None:
            found = [Generation(text=await answer(question))]
            await cache.aupdate(question, "model", found)
        return found

    return gathered(call)


VARIANTS: dict[str, Callable[[], Contender]] = {
    "a dict (the bound)": dictionary,
    "AsyncCache": ours,
    "cached(...)": ours_cached,
    "a caching lambda": caching_lambda,
    "async-lru": async_lru,
    "cashews": cashews,
    "aiocache": aiocache_memory,
    "cachetools (no single flight)": cachetools,
    "CacheAdapter (copies)": lambda: for_models(CacheAdapter(AsyncCache(ttl=TTL, maxsize=ROOM))),
    "langchain InMemoryCache": lambda: for_models(InMemoryCache(maxsize=ROOM)),
}


async def timed(run: Callable[[], Awaitable[Any]], count: int) -> float:
    """Return the microseconds an item."""
    start = time.perf_counter()
    await run()
    return (time.perf_counter() - start) / count * 1e6


async def alone(call: Callable[[str], Awaitable[Any]], keys: Sequence[str]) -> float:
    async def run() -> None:
        for key in keys:
            await call(key)

    return await timed(run, len(keys))


async def costs(make: Callable[[], Contender]) -> tuple[float, ...]:
    """Return the microseconds of a hit alone, a hit in a batch, a miss alone, a miss in a batch."""
    best = [float("inf")] * 4
    for _ in range(ROUNDS):
        one, all_at_once = make(), make()
        miss = await alone(one.call, KEYS[:ALONE])
        misses = await timed(lambda: all_at_once.many(KEYS), ITEMS)  # noqa: B023 - awaited at once
        hit = await alone(one.call, KEYS[:1] * ALONE)
        hits = await timed(lambda: all_at_once.many(KEYS), ITEMS)  # noqa: B023
        best = [min(pair) for pair in zip(best, (hit, hits, miss, misses), strict=True)]
    return tuple(best)


async def speed() -> None:
    """Print what each costs, and whether ours keep what they promise."""
    print(f"{'µs an item':<32}{'hit':>9}{'in a batch':>12}{'miss':>9}{'in a batch':>12}")
    measured = {}
    for name, make in VARIANTS.items():
        measured[name] = hit, hits, miss, misses = await costs(make)
        print(f"{name:<32}{hit:9.2f}{hits:12.2f}{miss:9.2f}{misses:12.2f}", flush=True)
    hits = measured["cached(...)"][1]
    ratio = measured["a caching lambda"][1] / hits
    fastest = min(measured[name][0] for name in ("async-lru", "cashews", "aiocache"))
    print()
    say(f"a hit in `cached(...).abatch` takes {hits:.2f} µs: below 1", hits < 1)
    say(f"it is {ratio:,.0f} times cheaper than in a caching lambda: {CHEAPER}", ratio >= CHEAPER)
    single = measured["AsyncCache"][0]
    say(
        f"a hit takes {single / fastest:.2f}x the fastest peer's with single flight",
        single <= fastest,
    )


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


async def stampede(wrap: Callable[[Any], Any]) -> tuple[int, int, int]:
    """Return the calls for 50 callers, answers if the first is cancelled, and calls for None."""
    calls = 0

    async def slow(question: str) -> str | None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return None if question == "none" else question

    ask = wrap(slow)
    await asyncio.gather(*(ask("a") for _ in range(50)))
    together, calls = calls, 0
    tasks = [asyncio.create_task(ask("b")) for _ in range(50)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    survivors = sum(answer == "b" for answer in answers)
    calls = 0
    for _ in range(3):
        await ask("none")
    return together, survivors, calls


def wrapped_by_ours(function: Any) -> Any:
    cache = AsyncCache(ttl=TTL, maxsize=ROOM)
    return lambda question: cache.get_or_compute(question, lambda: function(question))


def wrapped_by_cashews(function: Any) -> Any:
    cache = Cache()
    cache.setup("mem://")
    return cache(ttl=TTL, lock=True, key="{question}")(function)


STAMPEDES: dict[str, Callable[[Any], Any]] = {
    "AsyncCache": wrapped_by_ours,
    "async-lru": alru_cache(maxsize=ROOM, ttl=TTL),
    "cashews (lock=True)": wrapped_by_cashews,
    "aiocache (cached_stampede)": aiocache.cached_stampede(ttl=TTL),
}


async def stampedes() -> None:
    """Print what happens when many ask at once, and when the first of them gives up."""
    print(f"\n{'':<32}{'calls for 50':>14}{'answers of 49':>15}{'calls for None, 3x':>20}")
    for name, wrap in STAMPEDES.items():
        together, survivors, none = await stampede(wrap)
        print(f"{name:<32}{together:14}{survivors:15}{none:20}", flush=True)


async def run() -> None:
    await speed()
    await stampedes()


def main() -> None:
    asyncio.run(run())
