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
PAUSE, MOMENT = 25.0, 0.01
EVERY, ASKED_OFTEN, HITS = 0.97, 33, 30
"""Seconds between two calls, and calls: three computations, each good for ten calls more."""


class _Source:
    """Counts how often each key is computed, and gives each answer the time it was made."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    async def ask(self, cache: Any, *keys: str) -> None:
        """Ask for one key after another; time passes, since last use may be told by the clock."""
        for key in keys:
            await cache.get_or_compute(key, self.of(key))
            await asyncio.sleep(MOMENT)

    def of(self, key: str) -> Callable[[], Awaitable[float]]:
        async def compute() -> float:
            self.made[key] += 1
            return asyncio.get_running_loop().time()

        return compute


async def grade_ttl_cache(make: Make) -> Grading:
    """Empty answers, fresh ones, old ones, too many, and an error; each in a time of its own."""
    grading = Grading()
    own = run_virtually(lambda: _beside(make)).value
    grading.observe(
        "the key of another cache is", "computed" if own else "held", "computed", own,
        "two caches share their entries: make the dict in `__init__`, not in the class",
    )  # fmt: skip
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
    _grade_room(grading, make)
    _grade_errors(grading, *run_virtually(lambda: _failing(make)).value)
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
    await source.ask(cache, *keys, *reversed(keys))
    held = [key for key in keys if source.made[key] == 1]
    return len(set(held) - {keys[0]}), int(keys[0] in held)


async def _in_use(make: Make) -> int:
    """How often a key is computed that is asked for between others that are not asked for again."""
    cache, source = make(1000.0, MAXSIZE), _Source()
    for number in range(2 * MAXSIZE):
        await source.ask(cache, "in use", f"once {number}")
    return source.made["in use"]


async def _favourite(make: Make) -> int:
    """How many are held after one that was often asked for, long ago, and three that came since."""
    cache, source = make(1000.0, MAXSIZE), _Source()
    since = ["second", "third", "fourth"]
    await source.ask(cache, *["favourite"] * 5, "second", "third", "second", "fourth")
    await source.ask(cache, *since)
    return sum(source.made[key] == 1 for key in since)


async def _renewed(make: Make) -> tuple[int, int]:
    """Calls for a fresh key when an expired one was renewed; for the renewed one when a third came."""
    cache, source = make(TTL, 2), _Source()
    await source.ask(cache, "old")
    await asyncio.sleep(TTL / 2)
    await source.ask(cache, "fresh", "old")
    await asyncio.sleep(TTL / 2)
    await source.ask(cache, "old")  # room for two: nothing has to go
    await source.ask(cache, "fresh")
    calls = source.made["fresh"] - 1
    await asyncio.sleep(TTL)
    cache, source = make(TTL, 2), _Source()
    await source.ask(cache, "old")
    await asyncio.sleep(TTL / 2)
    await source.ask(cache, "fresh")
    await asyncio.sleep(TTL / 2)
    await source.ask(cache, "old", "third", "old")
    return calls, source.made["old"] - 2


async def _beside(make: Make) -> bool:
    """Whether a key is computed that another cache holds."""
    source, caches = _Source(), (make(TTL, MAXSIZE), make(TTL, MAXSIZE))
    answers = []
    for cache in caches:
        answers.append(await cache.get_or_compute("in two caches", source.of("in two caches")))
        await asyncio.sleep(MOMENT)
    return bool(answers[0] != answers[1])


def _grade_room(grading: Grading, make: Make) -> None:
    held, first = run_virtually(lambda: _filled(make)).value
    grading.observe(
        f"room for {MAXSIZE}, {MAXSIZE + 1} came: the first is", "held" if first else "dropped",
        "dropped", not first,
        "it grows without end: while there are more than `maxsize` entries, drop one",
    )  # fmt: skip
    grading.observe(
        "of the others it holds", held, MAXSIZE, held == MAXSIZE,
        "it drops more than it must: `maxsize` entries have room, and the last come stay",
    )  # fmt: skip
    used = run_virtually(lambda: _in_use(make)).value
    grading.observe(
        "calls for a key in steady use", used, 1, used == 1,
        "a key in use is dropped for one that nobody asks for again: drop the least recently "
        "*used*, not the oldest",
    )  # fmt: skip
    recent = run_virtually(lambda: _favourite(make)).value
    grading.observe(
        "held of 3 that came after an old favourite", recent, 3, recent == 3,  # noqa: PLR2004
        "what was often used, long ago, stays for ever: drop the least *recently* used, not the "
        "least often used",
    )  # fmt: skip
    _grade_renewed(grading, *run_virtually(lambda: _renewed(make)).value)


def _grade_renewed(grading: Grading, fresh: int, renewed: int) -> None:
    grading.observe(
        "calls for a fresh key, after another was renewed", fresh, 0, fresh == 0,
        "a key that is renewed drops another, though it needs no more room: drop one only while "
        "there are *more* than `maxsize` entries",
    )  # fmt: skip
    grading.observe(
        "calls for a key just renewed, after a new one came", renewed, 0, renewed == 0,
        "a renewed entry keeps its old place, and goes as the next one: it was just used, so put it "
        "at the end (`pop` it first; an OrderedDict has `move_to_end`)",
    )  # fmt: skip


async def _failing(make: Make) -> tuple[list[str], list[str]]:
    """What came of an error and of the call after it: for a new key, and for an expired one."""

    async def fail() -> str:
        raise LookupError("the error")

    async def succeed() -> str:
        return "computed anew"

    async def old() -> str:
        return "the old value"

    async def outcome(cache: Any, compute: Callable[[], Awaitable[str]]) -> str:
        try:
            value = await cache.get_or_compute("key", compute)
        except LookupError as error:
            return str(error.args[0])
        return value if isinstance(value, str) else f"{type(value).__name__} returned"

    cache = make(TTL, MAXSIZE)
    new = [await outcome(cache, compute) for compute in (fail, succeed)]
    cache = make(TTL, MAXSIZE)
    await outcome(cache, old)
    await asyncio.sleep(PAUSE)
    return new, [await outcome(cache, compute) for compute in (fail, succeed)]


def _grade_errors(grading: Grading, new: list[str], expired: list[str]) -> None:
    wanted = ["the error", "computed anew"]
    grading.observe(
        "an error, and the call after it", ", ".join(new), ", ".join(wanted), new == wanted,
        "an error goes to the caller and is not kept: the next call computes again",
    )  # fmt: skip
    grading.observe(
        "the same, with an expired value", ", ".join(expired), ", ".join(wanted), expired == wanted,
        "the old value is served in place of the error: it is older than `ttl`, so the error goes "
        "to the caller",
    )  # fmt: skip
