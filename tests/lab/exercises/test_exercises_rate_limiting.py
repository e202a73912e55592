"""Notebook 2: typical wrong answers, each with a diagnosis of its own."""

import asyncio

import pytest
from exercise_support import card

from course_lib.errors import RateLimited
from course_lib.lab.exercises.rate_limiting import largest_excess


def now():
    return asyncio.get_running_loop().time()


# 2.1 -------------------------------------------------------------------------------------------


class Bucket:
    def __init__(self, rate, capacity):
        self.rate, self.capacity = rate, capacity
        self.tokens, self.filled = capacity, now()
        self.lock = asyncio.Lock()

    def refill(self):
        passed = now() - self.filled
        self.tokens = min(self.capacity, self.tokens + passed * self.rate)
        self.filled += passed

    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1


class TwiceTheRate(Bucket):
    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.tokens = 0
            else:
                self.tokens -= 1


class NoLimit(Bucket):
    async def acquire(self):
        await asyncio.sleep(0)


class NoCapacity(Bucket):
    """Fills above its capacity while nobody comes."""

    def refill(self):
        passed = now() - self.filled
        self.tokens += passed * self.rate
        self.filled += passed


class NoBurst(Bucket):
    def __init__(self, rate, capacity):
        super().__init__(rate, 1)


class TooSlow(Bucket):
    """Sleeps for two tokens and takes one."""

    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep(2 / self.rate)
                self.filled, self.tokens = now(), 1
            self.tokens -= 1


class Debt(Bucket):
    """Books the place in the queue, and does not give it back."""

    async def acquire(self):
        self.refill()
        self.tokens -= 1
        if self.tokens < 0:
            await asyncio.sleep(-self.tokens / self.rate)


class Polling(Bucket):
    async def acquire(self):
        self.refill()
        while self.tokens < 1:
            await asyncio.sleep((1 - self.tokens) / self.rate)
            self.refill()
        self.tokens -= 1


class Stack(Bucket):
    """Last come, first served."""

    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.waiting, self.worker = [], None

    async def acquire(self):
        self.refill()
        if self.tokens >= 1 and not self.waiting:
            self.tokens -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        if self.worker is None or self.worker.done():
            self.worker = asyncio.create_task(self.serve())
        await turn

    async def serve(self):
        while self.waiting:
            await asyncio.sleep((1 - self.tokens) / self.rate)
            self.refill()
            turn = self.waiting.pop()
            if not turn.done():
                self.tokens -= 1
                turn.set_result(None)


WRONG_2_1 = {
    TwiceTheRate: "the seconds slept are counted twice",
    NoLimit: "lets everybody through at once",
    NoCapacity: "never fill it above its capacity",
    NoBurst: "a full bucket lets `capacity` callers through",
    TooSlow: "too slow",
    Debt: "the living wait for the dead",
    Polling: "The clock has stood",
    Stack: "callers overtake one another",
}


# 2.2 -------------------------------------------------------------------------------------------


async def patient(search, query, slots, attempts):
    for attempt in range(1, attempts + 1):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if attempt == attempts:
                raise
            await asyncio.sleep(error.retry_after)
    return None


async def sleeps_inside(search, query, slots, attempts):
    async with slots:
        for attempt in range(1, attempts + 1):
            try:
                return await search(query)
            except RateLimited as error:
                if attempt == attempts:
                    raise
                await asyncio.sleep(error.retry_after)
    return None


async def no_retry(search, query, slots, attempts):
    async with slots:
        return await search(query)


async def gives_none(search, query, slots, attempts):
    for _ in range(attempts):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)
    return None


async def retries_everything(search, query, slots, attempts):
    for attempt in range(1, attempts + 1):
        try:
            async with slots:
                return await search(query)
        except Exception:
            if attempt == attempts:
                raise
            await asyncio.sleep(1)
    return None


async def one_too_many(search, query, slots, attempts):
    return await patient(search, query, slots, attempts + 1)


async def no_slots(search, query, slots, attempts):
    return await patient(search, query, asyncio.Semaphore(99), attempts)


async def doubles(search, query, slots, attempts):
    for attempt in range(1, attempts + 1):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if attempt == attempts:
                raise
            await asyncio.sleep(error.retry_after * 2**attempt)
    return None


WRONG_2_2 = {
    sleeps_inside: "a slot is held while",
    no_retry: "to be tried again",
    gives_none: "raise the error",
    retries_everything: "catch nothing else",
    one_too_many: "at most `attempts`",
    no_slots: "each attempt takes a slot",
    doubles: "waits longer than it was told",
}


# 2.3 -------------------------------------------------------------------------------------------


def next_limit(limit, rejected, used):
    if rejected:
        return max(1, limit // 2)
    return limit + 1 if used == limit else limit


WRONG_2_3 = {
    lambda limit, rejected, used: limit: "never finds the capacity",
    lambda limit, rejected, used: limit + 1: "too many are refused",
    lambda limit, rejected, used: limit // 2 if rejected else limit * 2: "too many are refused",
    lambda limit, rejected, used: (
        1 if rejected else limit + (used == limit)
    ): "do not begin again at 1",
    lambda limit, rejected, used: max(1, limit // 2) if rejected else limit + 1: "grow only if",
    lambda limit, rejected, used: limit / 2 if rejected else limit + 1: "whole number",
    lambda limit, rejected, used: limit - 9 if rejected else limit + (used == limit): "stop at 1",
}

RIGHT = {"2.1": Bucket, "2.2": patient, "2.3": next_limit}
WRONG = {"2.1": WRONG_2_1, "2.2": WRONG_2_2, "2.3": WRONG_2_3}


@pytest.mark.parametrize(("number", "function"), RIGHT.items(), ids=RIGHT)
def test_a_right_answer_passes_rate_limiting(number, function):
    """With exact figures on its card."""
    result = card(number, function)
    assert result.passed, result


@pytest.mark.parametrize(
    ("number", "function", "diagnosis"),
    [(number, *pair) for number, all_ in WRONG.items() for pair in all_.items()],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_answer_is_told_what_is_wrong_rate_limiting(number, function, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card(number, function)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis
    assert result.diagnosis


@pytest.mark.parametrize("number", WRONG)
def test_mistakes_have_diagnoses_of_their_own_rate_limiting(number):
    """A learner is told more than that it is wrong."""
    assert len({card(number, function).diagnosis for function in WRONG[number]}) >= 3


def test_a_stub_is_not_attempted_yet_rate_limiting():
    """Whatever it is a stub of."""

    class Stub:
        def __init__(self, rate, capacity):
            pass

        async def acquire(self):
            raise NotImplementedError

    async def stub(*arguments):
        raise NotImplementedError

    assert card("2.1", Stub).verdict == "not attempted yet"
    assert card("2.2", stub).verdict == "not attempted yet"


def test_the_excess_is_that_of_the_worst_window():
    """Three at once, of which two may; later ones are within the rate."""
    assert largest_excess([0.0, 0.0, 0.0, 5.0], rate=1, capacity=2) == 1
    assert largest_excess([0.0, 1.0, 2.0], rate=1, capacity=1) == 0
