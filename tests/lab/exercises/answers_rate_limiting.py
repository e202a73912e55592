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


# 2.3 -------------------------------------------------------------------------------------------


def next_limit(limit, rejected, used):
    if rejected:
        return max(1, limit // 2)
    return limit + 1 if used == limit else limit


def never_moves(limit, rejected, used):
    return limit


def only_grows(limit, rejected, used):
    return limit + 1


RIGHT = {
    "2.1": (Bucket,),
    "2.2": (patient,),
    "2.3": (next_limit,),
}
SLEPT = "asyncio.sleep((1 - self.tokens) / self.rate)\n                self.refill()"
RAISED = "            if attempt == attempts:\n                raise\n"
CUT, GROWN = "max(1, limit // 2)", "limit + 1 if used == limit else limit"

WRONG = {
    "2.1": {
        "TwiceTheRate": (
            Bucket,
            {
                "self.refill()\n            self.tokens -= 1":
                "self.tokens = 0\n            else:\n                self.tokens -= 1",
            },
            "the seconds slept are counted twice",
        ),
        "NoLimit": (
            Bucket, {"self.tokens < 1": "False"}, "lets everybody through at once",
        ),
        "NoCapacity": (
            Bucket,
            {"min(self.capacity, ": "("},
            "never fill it above its capacity",
        ),
        "NoBurst": (
            Bucket, {"= capacity, now()": "= 1, now()", "= rate, capacity": "= rate, 1"},
            "a full bucket lets `capacity` callers through",
        ),
        "TooSlow": (
            Bucket,
            {
                SLEPT: "asyncio.sleep(2 / self.rate)\n"
                "                self.filled, self.tokens = now(), 1",
            },
            "too slow",
        ),
        Debt: "the living wait for the dead",
        Polling: "The clock has stood",
        Stack: "callers overtake one another",
    },
    "2.2": {
        sleeps_inside: "a slot is held while",
        no_retry: "to be tried again",
        "gives_none": (patient, {RAISED: ""}, "raise the error"),
        "retries_everything": (
            patient, {"RateLimited as error": "Exception", "error.retry_after": "1"},
            "catch nothing else",
        ),
        "one_too_many": (
            patient, {"attempts + 1": "attempts + 2", "== attempts": "== attempts + 1"},
            "at most `attempts`",
        ),
        "no_slots": (
            patient, {"with slots": "with asyncio.Semaphore(99)"}, "each attempt takes a slot",
        ),
        "doubles": (
            patient, {"error.retry_after": "error.retry_after * 2**attempt"},
            "waits longer than it was told",
        ),
    },
    "2.3": {
        never_moves: "never finds the capacity",
        only_grows: "too many are refused",
        "doubles_the_limit": (
            next_limit, {CUT: "limit // 2", GROWN: "limit * 2"}, "too many are refused",
        ),
        "begins_again": (next_limit, {CUT: "1"}, "do not begin again at 1"),
        "grows_unused": (next_limit, {GROWN: "limit + 1"}, "grow only if"),
        "half_a_call": (next_limit, {CUT: "limit / 2", GROWN: "limit + 1"}, "whole number"),
        "below_one": (next_limit, {CUT: "limit - 9"}, "stop at 1"),
    },
}  # fmt: skip
STUBS = {"2.1": StubOfABucket}
