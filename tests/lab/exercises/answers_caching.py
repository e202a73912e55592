"""Notebook 4: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import collections
import functools
import hashlib
import json
import time  # noqa: F401 - slips use it

from exercise_support import breaks

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


class StubOfAFlight(SingleFlight):
    async def run(self, key, compute):
        raise NotImplementedError


# 4.4 -------------------------------------------------------------------------------------------

GLUED = [("Ada", "x:rent"), ("Ada:x", "rent")]


@breaks(GLUED)
def remember_each(search):
    kept = {}

    async def ask(user, query, filters=()):
        key = user, query, filters
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


@breaks([("", ":"), (":", "")])
def with_json(search):
    kept = {}

    async def ask(user, query, filters=()):
        key = json.dumps([user, query, filters])
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


@breaks(GLUED)
def with_reprs(search):
    kept = {}

    async def ask(user, query, filters=()):
        key = f"{user!r}:{query!r}:{filters!r}"
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


@breaks([["a:b", "c"], ["a", "b:c"]])
def a_dict_in_a_dict(search):
    users = collections.defaultdict(dict)

    async def ask(user, query, filters=()):
        kept = users[user]
        try:
            return kept[query, filters]
        except KeyError:
            result = kept[query, filters] = await search(user, query, filters)
            return result

    return ask


@breaks(GLUED)
def by_position(search):
    kept = {}

    async def ask(*question):
        question = question if len(question) == 3 else (*question, ())
        if question not in kept:
            kept[question] = await search(*question)
        return kept[question]

    return ask


class Remembered:
    def __init__(self, search):
        self.search, self.kept = search, {}

    async def __call__(self, user, query, filters=()):
        key = (user, query, *filters)
        if key not in self.kept:
            self.kept[key] = await self.search(user, query, filters)
        return self.kept[key]


@breaks(GLUED)
def with_a_class(search):
    return Remembered(search)


@breaks(GLUED)
def with_lengths(search):
    kept = {}

    async def ask(user, query, filters=()):
        key = "".join(f"{len(part)}:{part}" for part in (user, query, *filters))
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


@breaks(GLUED)
def with_the_courses_cache(search):
    cache = AsyncCache(ttl=None, maxsize=None)

    async def ask(user, query, filters=()):
        key = stable_key([user, query, list(filters)], namespace="search")
        return await cache.get_or_compute(key, lambda: search(user, query, filters))

    return ask


@breaks(GLUED)
def with_tasks(search):
    tasks = {}

    async def ask(user, query, filters=()):
        key = user, query, filters
        if key not in tasks:
            tasks[key] = asyncio.ensure_future(search(user, query, filters))
        return await tasks[key]

    return ask


@breaks([("Ada", "rent"), ("Bob", "rent")])
def questions_that_show_nothing(search):
    return remember_each(search)


@breaks([("Ada", "rent"), ("Ada", "rent")])
def the_same_question_twice(search):
    return remember_each(search)


@breaks("Ada:rent")
def no_questions(search):
    return remember_each(search)


@breaks(GLUED)
def nothing_kept(search):
    async def ask(user, query, filters=()):
        return await search(user, query, filters)

    return ask


ALL = {}


@breaks(GLUED)
def kept_by_all(search):
    ALL.clear()

    async def ask(user, query, filters=()):
        key = user, query, filters
        if key not in ALL:
            ALL[key] = await search(user, query, filters)
        return ALL[key]

    return ask


ITS_KEY = "key = user, query, filters"

RIGHT = {
    "4.1": (make_key, digested, the_librarys, strict, by_hand),
    "4.2": (TtlCache, Librarys, Sentinel),
    "4.3": (SingleFlight, Counted, LibrarysFlight),
    "4.4": (
        remember_each,
        with_json,
        with_reprs,
        a_dict_in_a_dict,
        by_position,
        with_a_class,
        with_lengths,
        with_the_courses_cache,
        with_tasks,
    ),
}
KEY = 'f"{name}:{json.dumps(arguments, sort_keys=True)}"'
SIZES = "= ttl, maxsize"
SHARED, FORGOTTEN = "asyncio.shield(self.flights[key])", "lambda _: self.flights.pop(key)"

WRONG = {
    "4.1": {
        "hashed": (make_key, {KEY: "hash((name, repr(arguments)))"}, "return a str"),
        "not_sync": (make_key, {"def ": "async def "}, "return a str"),
        "hashed_text": (
            make_key, {KEY: "str(hash((name, json.dumps(arguments, sort_keys=True))))"},
            "another process makes another key",
        ),
        "as_they_come": (make_key, {", sort_keys=True": ""}, "sort them by name"),
        "sorted_outside": (
            make_key, {"arguments, sort_keys=True": "dict(sorted(arguments.items()))"},
            "sort at every depth",
        ),
        "no_name": (make_key, {"{name}:": ""}, "two functions share a key"),
        as_text: "1 and '1' got one key",
        "forgets_false": (
            make_key, {"(arguments,": "({key: each for key, each in arguments.items() if each},"},
            "got one key",
        ),
        sorted_lists: "the order of a list is part of the question",
        "anything_goes": (
            make_key, {"sort_keys=True": "sort_keys=True, default=str"}, "Let it raise a TypeError",
        ),
        "a_set": (make_key, {KEY: "frozenset(arguments.items())"}, "it raised TypeError"),
    },
    "4.2": {
        "Truthy": (
            TtlCache, {"if now() >= expires": "if not value or now() >= expires"},
            "an empty answer is an answer",
        ),
        "NeverExpires": (TtlCache, {"now() >= expires": "not expires"}, "it never expires"),
        "WallClock": (TtlCache, {"now()": "time.time()"}, "it never expires"),
        "Sliding": (
            TtlCache, {"self.keep(key, value, expires": "self.keep(key, value, now() + self.ttl"},
            "a hit prolongs the life",
        ),
        "NoCache": (TtlCache, {"now() >= expires": "True"}, "an empty answer is an answer"),
        "TooShort": (
            TtlCache, {SIZES: "= ttl / 2, maxsize"}, "fresh answers are computed anew",
        ),
        "Unbounded": (TtlCache, {SIZES: '= ttl, float("inf")'}, "it grows without end"),
        "OneLess": (TtlCache, {SIZES: "= ttl, maxsize - 1"}, "`maxsize` entries have room"),
        "Fifo": (TtlCache, {"pop(key, (": "get(key, ("}, "drop the least recently *used*"),
        KeepsErrors: "an error goes to the caller and is not kept",
        Swallows: "an error goes to the caller and is not kept",
        "NotAwaited": (
            TtlCache, {"await compute()": "compute()"}, "return the value that `compute` returned",
        ),
    },
    "4.3": {
        Alone: "each caller computes for itself",
        Locked: "a lock makes them wait",
        InlineLeader: "behind `asyncio.shield`",
        SilentLeader: "wait for ever for a leader who has gone",
        "Unshielded": (SingleFlight, {SHARED: "self.flights[key]"}, "behind `asyncio.shield`"),
        Restarts: "the others begin again",
        Stubborn: "let CancelledError pass",
        OneForAll: "two keys share one computation",
        "KeepsAll": (SingleFlight, {FORGOTTEN: "lambda _: None"}, "an error is kept"),
        "KeepsValues": (
            SingleFlight, {FORGOTTEN: "lambda _: task.exception() and self.flights.pop(key)"},
            "what has ended is still handed out",
        ),
        NothingForFollowers: "every caller gets the value",
        ErrorForTheFirst: "an error belongs to everybody",
        "Mistyped": (
            SingleFlight, {"in self.flights": "in self.flight"},
            "it raised AttributeError: 'Mistyped' object has no attribute 'flight'",
        ),
    },
    "4.4": {
        questions_that_show_nothing: "searches for both",
        the_same_question_twice: "two different questions",
        no_questions: "two different questions",
        "another_glue": (remember_each, {ITS_KEY: "key = f'{user}|{query}|{filters}'"}, "come apart"),
        "a_rare_glue": (
            remember_each, {ITS_KEY: r"key = '\0'.join([user, query, *filters])"}, "come apart",
        ),
        "filters_left_out": (remember_each, {ITS_KEY: "key = user, query"}, "come apart"),
        "the_case_left_out": (remember_each, {ITS_KEY: "key = user.lower(), query, filters"}, "come apart"),
        "blanks_left_out": (remember_each, {ITS_KEY: "key = user, query.strip(), filters"}, "come apart"),
        "filters_not_handed_on": (
            remember_each, {"search(user, query, filters)": "search(user, query)"}, "not as they were",
        ),
        "empty_ones_again": (
            remember_each, {"if key not in kept:": "if not kept.get(key):"}, "also an empty one",
        ),
        nothing_kept: "searched for once",
        kept_by_all: "each other's results",
    },
}  # fmt: skip
STUBS = {"4.2": StubOfACache, "4.3": StubOfAFlight}
