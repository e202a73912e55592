"""Notebook 2: answers as learners give them, the wrong ones with what they are told."""

import asyncio

from course_lib.errors import RateLimited


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


class StubOfABucket:
    def __init__(self, rate, capacity):
        pass

    async def acquire(self):
        raise NotImplementedError


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


# 2.3 -------------------------------------------------------------------------------------------


def next_limit(limit, rejected, used):
    if rejected:
        return max(1, limit // 2)
    return limit + 1 if used == limit else limit


def never_moves(limit, rejected, used):
    return limit


def only_grows(limit, rejected, used):
    return limit + 1


def doubles_the_limit(limit, rejected, used):
    return limit // 2 if rejected else limit * 2


def begins_again(limit, rejected, used):
    return 1 if rejected else limit + (used == limit)


def grows_unused(limit, rejected, used):
    return max(1, limit // 2) if rejected else limit + 1


def half_a_call(limit, rejected, used):
    return limit / 2 if rejected else limit + 1


def below_one(limit, rejected, used):
    return limit - 9 if rejected else limit + (used == limit)


RIGHT = {
    "2.1": (Bucket,),
    "2.2": (patient,),
    "2.3": (next_limit,),
}
WRONG = {
    "2.1": {
        TwiceTheRate: "the seconds slept are counted twice",
        NoLimit: "lets everybody through at once",
        NoCapacity: "never fill it above its capacity",
        NoBurst: "a full bucket lets `capacity` callers through",
        TooSlow: "too slow",
        Debt: "the living wait for the dead",
        Polling: "The clock has stood",
        Stack: "callers overtake one another",
    },
    "2.2": {
        sleeps_inside: "a slot is held while",
        no_retry: "to be tried again",
        gives_none: "raise the error",
        retries_everything: "catch nothing else",
        one_too_many: "at most `attempts`",
        no_slots: "each attempt takes a slot",
        doubles: "waits longer than it was told",
    },
    "2.3": {
        never_moves: "never finds the capacity",
        only_grows: "too many are refused",
        doubles_the_limit: "too many are refused",
        begins_again: "do not begin again at 1",
        grows_unused: "grow only if",
        half_a_call: "whole number",
        below_one: "stop at 1",
    },
}
STUBS = {"2.1": StubOfABucket}
