"""Exercise 4.2: a cache with a time to live, graded by calls made and stale answers served."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_ttl_cache"]

Make = Callable[[float, int], Any]

TTL, MAXSIZE = 10.0, 3
EMPTY: list[Any] = [None, [], "", 0, False]
ASKED = 10
PAUSE = 25.0
EVERY, ASKED_OFTEN, HITS = 0.97, 33, 30
"""Seconds between two calls, and calls: three computations, each good for ten calls more."""


class _Source:
    """Counts how often each key is computed, and gives each answer the time it was made."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def of(self, key: str) -> Callable[[], Awaitable[float]]:
        async def compute() -> float:
            self.made[key] += 1
            return asyncio.get_running_loop().time()

        return compute


async def grade_ttl_cache(make: Make) -> Grading:
    """Empty answers, fresh ones, old ones, too many, and an error; each in a time of its own."""
    grading = Grading()
    answers, calls = run_virtually(lambda: _empties(make)).value
    grading.observe(
        "answers", "as computed" if answers else "changed", "as computed", answers,
        "return the value that `compute` returned, and the same one from the cache",
    )  # fmt: skip
    grading.observe(
        f"calls, 5 empty answers {ASKED} times each", calls, len(EMPTY), calls == len(EMPTY),
        "an empty answer is an answer: ask whether the key is there, not whether the value is true",
    )  # fmt: skip
    _grade_time(grading, *run_virtually(lambda: _aging(make)).value)
    held, first = run_virtually(lambda: _filled(make)).value
    _grade_room(grading, held, first, run_virtually(lambda: _in_use(make)).value)
    outcomes = run_virtually(lambda: _failing(make)).value
    grading.observe(
        "after an error", outcomes[1], "computed anew", outcomes == ["the error", "computed anew"],
        "an error goes to the caller and is not kept: the next call computes again",
    )  # fmt: skip
    return grading


async def _empties(make: Make) -> tuple[bool, int]:
    cache, calls, right = make(TTL, len(EMPTY)), 0, True
    for number, value in enumerate(EMPTY):

        async def compute(value: Any = value) -> Any:
            nonlocal calls
            calls += 1
            return value

        for _ in range(ASKED):
            got = await cache.get_or_compute(f"key {number}", compute)
            right = right and got == value and type(got) is type(value)
    return right, calls


async def _aging(make: Make) -> tuple[float, list[float]]:
    """Age of an answer after a long pause; ages when asked every second for three lifetimes."""
    cache, source = make(TTL, MAXSIZE), _Source()
    await asyncio.sleep(0.5)  # zero is no special time
    await _age(cache, source, "paused")
    await asyncio.sleep(PAUSE)
    paused = await _age(cache, source, "paused")
    ages = []
    for _ in range(ASKED_OFTEN):
        ages.append(await _age(cache, source, "steady"))
        await asyncio.sleep(EVERY)
    return paused, ages


async def _age(cache: Any, source: _Source, key: str) -> float:
    now, made = asyncio.get_running_loop().time(), await cache.get_or_compute(key, source.of(key))
    return now - made if isinstance(made, float) else 0.0


def _grade_time(grading: Grading, paused: float, ages: list[float]) -> None:
    hits = sum(age > 0 for age in ages)
    grading.observe(
        f"hits of {ASKED_OFTEN}, ttl {TTL:g} s, every {EVERY:g} s", hits, HITS, hits >= HITS,
        "fresh answers are computed anew: keep a value until `ttl` seconds have passed",
    )  # fmt: skip
    grading.observe(
        f"answer after a pause of {PAUSE:g} s", f"{paused:g} s old", "0 s old", paused == 0,
        "it never expires: compare with the seconds of the running loop, `now()`. (`time.time()` "
        "may be set back.)",
    )  # fmt: skip
    stale = sum(age > TTL for age in ages)
    grading.observe(
        "stale answers served in steady use", stale, 0, not stale,
        "a hit prolongs the life of a value, and it is never renewed: count from its computation",
    )  # fmt: skip


async def _filled(make: Make) -> tuple[int, int]:
    """Of one key too many: how many of the last are still held, and whether the first is."""
    cache, source, keys = make(1000.0, MAXSIZE), _Source(), [f"key {n}" for n in range(MAXSIZE + 1)]
    for key in [*keys, *reversed(keys)]:
        await cache.get_or_compute(key, source.of(key))
    held = [key for key in keys if source.made[key] == 1]
    return len(set(held) - {keys[0]}), int(keys[0] in held)


async def _in_use(make: Make) -> int:
    """How often a key is computed that is asked for between others that are not asked for again."""
    cache, source = make(1000.0, MAXSIZE), _Source()
    for number in range(2 * MAXSIZE):
        for key in ("in use", f"once {number}"):
            await cache.get_or_compute(key, source.of(key))
    return source.made["in use"]


def _grade_room(grading: Grading, held: int, first: int, used: int) -> None:
    grading.observe(
        f"room for {MAXSIZE}, {MAXSIZE + 1} came: the first is", "held" if first else "dropped",
        "dropped", not first,
        "it grows without end: while there are more than `maxsize` entries, drop one",
    )  # fmt: skip
    grading.observe(
        "of the others it holds", held, MAXSIZE, held == MAXSIZE,
        "it drops more than it must: `maxsize` entries have room, and the last come stay",
    )  # fmt: skip
    grading.observe(
        "calls for a key in steady use", used, 1, used == 1,
        "a key in use is dropped for one that nobody asks for again: drop the least recently "
        "*used*, not the oldest",
    )  # fmt: skip


async def _failing(make: Make) -> list[str]:
    cache, outcomes = make(TTL, MAXSIZE), []

    async def fail() -> str:
        raise LookupError("the error")

    async def succeed() -> str:
        return "computed anew"

    for compute in (fail, succeed):
        try:
            outcomes.append(f"{await cache.get_or_compute('key', compute)}")
        except LookupError as error:
            outcomes.append(str(error.args[0]))
    return outcomes
