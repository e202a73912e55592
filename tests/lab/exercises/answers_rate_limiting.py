"""Notebook 2: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import bisect
import collections
import itertools

from exercise_support import breaks

from course_lib.errors import RateLimited, Unavailable  # noqa: F401 - slips use it


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


# 2.4 -------------------------------------------------------------------------------------------

EDGE = [0.9] * 5 + [1.0] * 5


@breaks(EDGE)
def let_in(times, limit):
    inside = []
    for time in times:
        if sum(each > time - 1 for each in inside) < limit:
            inside.append(time)
    return inside


@breaks([0.5, 0.5, 0.9, 0.9, 0.9, 1, 1.1])
def with_a_deque(times, limit):
    recent, inside = collections.deque(), []
    for time in times:
        while recent and recent[0] <= time - 1:
            recent.popleft()
        if len(recent) < limit:
            recent.append(time)
            inside.append(time)
    return inside


@breaks([1.99] * 5 + [2.0])
def by_the_one_before(times, limit):
    inside = []
    for time in times:
        if len(inside) < limit or inside[-limit] <= time - 1:
            inside.append(time)
    return inside


@breaks(EDGE)
def by_bisection(times, limit):
    inside = []
    for time in times:
        if len(inside) - bisect.bisect_right(inside, time - 1) < limit:
            inside.append(time)
    return inside


@breaks(EDGE)
def as_a_generator(times, limit):
    def admitted():
        places = collections.deque([float("-inf")] * limit, maxlen=limit)
        for time in times:
            if time - places[0] >= 1:
                places.append(time)
                yield time

    return list(admitted())


class Window:
    def __init__(self, limit):
        self.limit, self.inside = limit, []

    def admits(self, time):
        recent = [each for each in self.inside if time - each < 1]
        if len(recent) >= self.limit:
            return False
        self.inside.append(time)
        return True


@breaks(EDGE)
def with_a_class(times, limit):
    window = Window(limit)
    return [time for time in times if window.admits(time)]


@breaks(EDGE)
def with_slots(times, limit):
    """Each of `limit` places is free again one second after it was taken."""
    free_at, inside = [0.0] * limit, []
    for time in times:
        place = min(range(limit), key=free_at.__getitem__)
        if free_at[place] <= time:
            free_at[place] = time + 1
            inside.append(time)
    return inside


@breaks(EDGE)
def from_behind(times, limit):
    inside = []
    for time in times:
        recent = itertools.takewhile(lambda each: each > time - 1, reversed(inside))  # noqa: B023
        if len(list(recent)) < limit:
            inside.append(time)
    return inside


@breaks(EDGE)
def as_it_was(times, limit):
    counts, inside = collections.Counter(), []
    for time in times:
        if counts[int(time)] < limit:
            counts[int(time)] += 1
            inside.append(time)
    return inside


@breaks(EDGE)
def refused_ones_count(times, limit):
    return [
        time
        for place, time in enumerate(times)
        if sum(each > time - 1 for each in times[:place]) < limit
    ]


@breaks(EDGE)
def evenly_spaced(times, limit):
    inside = []
    for time in times:
        if not inside or time - inside[-1] >= 1 / limit:
            inside.append(time)
    return inside


@breaks(EDGE)
def by_a_bucket(times, limit):
    tokens, before, inside = limit, 0.0, []
    for time in times:
        tokens, before = min(limit, tokens + (time - before) * limit), time
        if tokens >= 1:
            tokens -= 1
            inside.append(time)
    return inside


RIGHT = {
    "2.1": (Bucket,),
    "2.2": (patient,),
    "2.3": (next_limit,),
    "2.4": (
        let_in,
        with_a_deque,
        by_the_one_before,
        by_bisection,
        as_a_generator,
        with_a_class,
        with_slots,
        from_behind,
    ),
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
        Debt: "the others wait for those who gave up",
        Polling: "The clock has stood",
        Stack: "callers overtake one another",
    },
    "2.2": {
        sleeps_inside: "a slot is held while",
        no_retry: "to be tried again",
        "keeps_the_last_slot": (
            patient,
            {RAISED: "            if attempt == attempts:\n                await slots.acquire()\n"
             "                raise\n"},
            "a slot is not given back",
        ),
        "other_errors_later": (
            patient,
            {"except RateLimited as error:": "except (KeyError, Unavailable):\n"
             "            await asyncio.sleep(1)\n            raise\n        except RateLimited as error:"},
            "at once, without a wait",
        ),
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
    "2.4": {
        as_it_was: "not the second on the clock",
        by_a_bucket: "in some second more than `limit`",
        "no_times": (let_in, {"@breaks(EDGE)": ""}, "hand over a list of times"),
        "no_list": (let_in, {"(EDGE)": "(0.9)"}, "hand over a list of times"),
        "falling": (let_in, {"(EDGE)": "(EDGE[::-1])"}, "rising"),
        "harmless": (let_in, {"(EDGE)": "([0.1] * 50)"}, "where does its count begin anew"),
        refused_ones_count: "only requests that were let in count",
        evenly_spaced: "refused for no reason",
        "one_too_many": (let_in, {"< limit": "<= limit"}, "in some second more than `limit`"),
        "longer_second": (let_in, {"time - 1": "time - 1.5"}, "only those of the last second"),
        "closed_second": (let_in, {"each > time": "each >= time"}, "of the last second"),
        "own_limit": (let_in, {"< limit": "< 5"}, "in some second more than `limit`"),
        "none_for_nothing": (
            let_in, {"    inside = []": "    if not times:\n        return None\n    inside = []"},
            "without requests nobody is let in",
        ),
        "how_many": (let_in, {"return inside": "return len(inside)"}, "a list of the times"),
        "no_return": (let_in, {"return inside": "return"}, "is a `return` missing?"),
        "yes_and_no": (
            let_in, {"return inside": "return [time in inside for time in times]"},
            "a list of the times",
        ),
        "twins_lost": (
            let_in, {"return inside": "return sorted(set(inside))"}, "refused for no reason",
        ),
        "newest_first": (let_in, {"return inside": "return inside[::-1]"}, "in their order"),
    },
}  # fmt: skip
STUBS = {"2.1": StubOfABucket}
