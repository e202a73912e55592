"""Exercise 4.2, a cache with a time to live: typical answers and what they are told."""

import asyncio
import gc
import time

import pytest
from exercise_support import card

from course_lib.caching import AsyncCache


def now():
    return asyncio.get_running_loop().time()


class TtlCache:
    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize = ttl, maxsize
        self.entries = {}

    async def get_or_compute(self, key, compute):
        value, expires = self.entries.pop(key, (None, 0))
        if now() >= expires:
            value = await compute()
            expires = now() + self.ttl
        self.keep(key, value, expires)
        return value

    def keep(self, key, value, expires):
        self.entries[key] = value, expires
        while len(self.entries) > self.maxsize:
            self.entries.pop(next(iter(self.entries)))


class Librarys:
    def __init__(self, ttl, maxsize):
        self.get_or_compute = AsyncCache(ttl=ttl, maxsize=maxsize).get_or_compute


class Sentinel(TtlCache):
    """Without a default, and with the time of storing."""

    async def get_or_compute(self, key, compute):
        if key in self.entries and now() - self.entries[key][1] < self.ttl:
            self.entries[key] = self.entries.pop(key)
            return self.entries[key][0]
        self.entries.pop(key, None)
        if len(self.entries) >= self.maxsize:
            del self.entries[min(self.entries, key=list(self.entries).index)]
        self.entries[key] = await compute(), now()
        return self.entries[key][0]


class Truthy(TtlCache):
    async def get_or_compute(self, key, compute):
        value, expires = self.entries.pop(key, (None, 0))
        if not value or now() >= expires:
            value, expires = await compute(), now() + self.ttl
        self.keep(key, value, expires)
        return value


class NeverExpires(TtlCache):
    async def get_or_compute(self, key, compute):
        if key not in self.entries:
            self.keep(key, await compute(), 0)
        else:
            self.entries[key] = self.entries.pop(key)
        return self.entries[key][0]


class WallClock(TtlCache):
    async def get_or_compute(self, key, compute):
        value, expires = self.entries.pop(key, (None, 0))
        if time.time() >= expires:
            value, expires = await compute(), time.time() + self.ttl
        self.keep(key, value, expires)
        return value


class Sliding(TtlCache):
    async def get_or_compute(self, key, compute):
        value, expires = self.entries.pop(key, (None, 0))
        if now() >= expires:
            value = await compute()
        self.keep(key, value, now() + self.ttl)
        return value


class NoCache(TtlCache):
    async def get_or_compute(self, key, compute):
        return await compute()


class TooShort(TtlCache):
    def __init__(self, ttl, maxsize):
        super().__init__(ttl / 2, maxsize)


class Unbounded(TtlCache):
    def __init__(self, ttl, maxsize):
        super().__init__(ttl, float("inf"))


class OneLess(TtlCache):
    def __init__(self, ttl, maxsize):
        super().__init__(ttl, maxsize - 1)


class Fifo(TtlCache):
    async def get_or_compute(self, key, compute):
        value, expires = self.entries.get(key, (None, 0))
        if now() >= expires:
            self.entries.pop(key, None)
            value = await compute()
            self.keep(key, value, now() + self.ttl)
        return value


class KeepsErrors(TtlCache):
    async def get_or_compute(self, key, compute):
        async def caught():
            try:
                return await compute()
            except LookupError as error:
                return error

        value = await super().get_or_compute(key, caught)
        if isinstance(value, Exception):
            raise value
        return value


class Swallows(TtlCache):
    async def get_or_compute(self, key, compute):
        try:
            return await super().get_or_compute(key, compute)
        except LookupError:
            return None


class NotAwaited(TtlCache):
    async def get_or_compute(self, key, compute):
        return compute()


WRONG = {
    Truthy: "an empty answer is an answer",
    NeverExpires: "it never expires",
    WallClock: "it never expires",
    Sliding: "a hit prolongs the life",
    NoCache: "an empty answer is an answer",
    TooShort: "fresh answers are computed anew",
    Unbounded: "it grows without end",
    OneLess: "`maxsize` entries have room",
    Fifo: "drop the least recently *used*",
    KeepsErrors: "an error goes to the caller and is not kept",
    Swallows: "an error goes to the caller and is not kept",
    NotAwaited: "return the value that `compute` returned",
}

RIGHT = [TtlCache, Librarys, Sentinel]


@pytest.fixture(autouse=True, scope="module")
def few_objects():
    """What is there already is not looked through at each check for what is left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: answer.__name__)
def test_a_right_ttl_cache_passes(answer):
    """Whatever way it is written."""
    result = card("4.2", answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("answer", "diagnosis"), WRONG.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_wrong_ttl_cache_is_told_what_is_wrong(answer, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card("4.2", answer)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis


def test_mistakes_of_a_ttl_cache_have_diagnoses_of_their_own():
    """A learner is told more than that it is wrong."""
    assert len({card("4.2", answer).diagnosis for answer in WRONG}) >= len(set(WRONG.values()))


def test_a_stub_of_a_ttl_cache_is_not_attempted_yet():
    """And is no error."""

    class Stub(TtlCache):
        async def get_or_compute(self, key, compute):
            raise NotImplementedError

    assert card("4.2", Stub).verdict == "not attempted yet"
