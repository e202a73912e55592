"""Notebook 4: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import functools
import hashlib
import json
import time

from course_lib.caching import AsyncCache, stable_key


def now():
    return asyncio.get_running_loop().time()


# 4.1 -------------------------------------------------------------------------------------------


def make_key(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True)}"


def digested(name, arguments):
    text = json.dumps([name, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def the_librarys(name, arguments):
    return stable_key(arguments, namespace=name)


def strict(name, arguments):
    """Takes no subclass of str, as the grader's stand-in for another process is."""
    if type(name) is not str:
        raise TypeError(name)
    return make_key(name, arguments)


def frozen(value):
    if isinstance(value, dict):
        return sorted((name, frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return ["list", *map(frozen, value)]
    if not isinstance(value, str | int | None):
        raise TypeError(value)
    return [type(value).__name__, value]


def by_hand(name, arguments):
    return f"{name} {frozen(arguments)}"


def hashed(name, arguments):
    return hash((name, repr(arguments)))


def hashed_text(name, arguments):
    return str(hash((name, json.dumps(arguments, sort_keys=True))))


def as_they_come(name, arguments):
    return f"{name}:{json.dumps(arguments)}"


def sorted_outside(name, arguments):
    return f"{name}:{json.dumps(dict(sorted(arguments.items())))}"


def no_name(name, arguments):
    return json.dumps(arguments, sort_keys=True)


def as_text(name, arguments):
    def text(value):
        if isinstance(value, dict):
            return sorted((key, text(item)) for key, item in value.items())
        return [text(item) for item in value] if isinstance(value, list) else str(value)

    return f"{name}:{text(arguments)}"


def sorted_lists(name, arguments):
    def tidy(value):
        if isinstance(value, dict):
            return {key: tidy(item) for key, item in value.items()}
        return sorted(map(tidy, value)) if isinstance(value, list) else value

    return make_key(name, tidy(arguments))


def anything_goes(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True, default=str)}"


def a_set(name, arguments):
    return frozenset(arguments.items())


def forgets_false(name, arguments):
    return make_key(name, {key: value for key, value in arguments.items() if value})


async def not_sync(name, arguments):
    return make_key(name, arguments)


# 4.2 -------------------------------------------------------------------------------------------


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


class StubOfACache(TtlCache):
    async def get_or_compute(self, key, compute):
        raise NotImplementedError


# 4.3 -------------------------------------------------------------------------------------------


class SingleFlight:
    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        return await asyncio.shield(self.flights[key])


class Counted:
    """Stops the work when nobody waits any more."""

    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = [asyncio.ensure_future(compute()), 0]
        flight = self.flights[key]
        flight[1] += 1
        try:
            return await asyncio.shield(flight[0])
        finally:
            flight[1] -= 1
            if flight[0].done() or not flight[1]:
                flight[0].cancel()
                if self.flights.get(key) is flight:
                    del self.flights[key]


class LibrarysFlight:
    def __init__(self):
        self.cache = AsyncCache(ttl=1e-9, maxsize=1)

    async def run(self, key, compute):
        return await self.cache.get_or_compute(key, compute)


class Alone:
    async def run(self, key, compute):
        return await compute()


class Locked(SingleFlight):
    async def run(self, key, compute):
        async with self.flights.setdefault(key, asyncio.Lock()):
            return await compute()


class InlineLeader(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            return await asyncio.shield(self.flights[key])
        self.flights[key] = asyncio.get_running_loop().create_future()
        try:
            self.flights[key].set_result(await compute())
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                self.flights[key].cancel()
            else:
                self.flights[key].set_exception(error)
            raise
        finally:
            future = self.flights.pop(key)
        return future.result()


class SilentLeader(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            return await asyncio.shield(self.flights[key])
        self.flights[key] = asyncio.get_running_loop().create_future()
        value = await compute()
        self.flights[key].set_result(value)
        del self.flights[key]
        return value


class Unshielded(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        return await self.flights[key]


class Restarts(SingleFlight):
    async def run(self, key, compute):
        while True:
            if key not in self.flights:
                self.flights[key] = task = asyncio.create_task(compute())
                task.add_done_callback(functools.partial(self.forget, key))
            task = self.flights[key]
            try:
                return await task
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():
                    raise

    def forget(self, key, task):
        if self.flights.get(key) is task:
            del self.flights[key]


class Stubborn(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        task = self.flights[key]
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                continue
        return task.result()


class OneForAll(SingleFlight):
    async def run(self, key, compute):
        return await super().run("any", compute)


class KeepsAll(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = asyncio.create_task(compute())
        return await asyncio.shield(self.flights[key])


class KeepsValues(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = task = asyncio.create_task(compute())
            task.add_done_callback(lambda _: task.exception() and self.flights.pop(key))
        return await asyncio.shield(self.flights[key])


class NothingForFollowers(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            await asyncio.shield(self.flights[key])
            return None
        return await super().run(key, compute)


class ErrorForTheFirst(SingleFlight):
    async def run(self, key, compute):
        if key in self.flights:
            try:
                return await asyncio.shield(self.flights[key])
            except Exception:  # noqa: BLE001
                return None
        return await super().run(key, compute)


class Mistyped(SingleFlight):
    async def run(self, key, compute):
        return await asyncio.shield(self.flight[key])


class StubOfAFlight(SingleFlight):
    async def run(self, key, compute):
        raise NotImplementedError


RIGHT = {
    "4.1": (make_key, digested, the_librarys, strict, by_hand),
    "4.2": (TtlCache, Librarys, Sentinel),
    "4.3": (SingleFlight, Counted, LibrarysFlight),
}
WRONG = {
    "4.1": {
        hashed: "return a str",
        not_sync: "return a str",
        hashed_text: "another process makes another key",
        as_they_come: "sort them by name",
        sorted_outside: "sort at every depth",
        no_name: "two functions share a key",
        as_text: "1 and '1' got one key",
        forgets_false: "got one key",
        sorted_lists: "the order of a list is part of the question",
        anything_goes: "Let it raise a TypeError",
        a_set: "it raised TypeError",
    },
    "4.2": {
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
    },
    "4.3": {
        Alone: "each caller computes for itself",
        Locked: "a lock makes them wait",
        InlineLeader: "behind `asyncio.shield`",
        SilentLeader: "wait for ever for a leader who has gone",
        Unshielded: "behind `asyncio.shield`",
        Restarts: "the others begin again",
        Stubborn: "let CancelledError pass",
        OneForAll: "two keys share one computation",
        KeepsAll: "an error is kept",
        KeepsValues: "what has ended is still handed out",
        NothingForFollowers: "every caller gets the value",
        ErrorForTheFirst: "an error belongs to everybody",
        Mistyped: "it raised AttributeError: 'Mistyped' object has no attribute 'flight'",
    },
}
STUBS = {"4.2": StubOfACache, "4.3": StubOfAFlight}
