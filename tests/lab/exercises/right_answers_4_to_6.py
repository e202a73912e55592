"""Notebooks 4 to 6: right answers, which differ in how they are built."""

import asyncio
import hashlib
import itertools
import json
import math
import sys
from base64 import urlsafe_b64encode
from collections import Counter, OrderedDict, deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlencode

from course_lib.async_batch import as_runnable
from course_lib.caching import AsyncCache, stable_key
from course_lib.errors import RateLimited, Unavailable
from course_lib.rate_limiting import Gate, limited


def now():
    return asyncio.get_running_loop().time()


# 4.1 -------------------------------------------------------------------------------------------


def pair_as_json(name, arguments):
    return json.dumps([name, arguments], sort_keys=True)


def dict_of_both(name, arguments):
    return json.dumps({"name": name, "arguments": arguments}, sort_keys=True)


def compact_and_not_escaped(name, arguments):
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return name + "\0" + text


def blake(name, arguments):
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(json.dumps(arguments, sort_keys=True).encode())
    return digest.hexdigest()


encode = partial(json.JSONEncoder(sort_keys=True, check_circular=False).encode)


def by_an_encoder(name, arguments):
    return urlsafe_b64encode(encode((name, arguments)).encode()).decode()


def as_a_query(name, arguments):
    pairs = sorted((each, json.dumps(arguments[each], sort_keys=True)) for each in arguments)
    return f"{name}?{urlencode(pairs)}"


def written(value):
    match value:
        case dict():
            return (
                "{" + ",".join(f"{each!r}:{written(value[each])}" for each in sorted(value)) + "}"
            )
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case None | bool() | int() | float() | str():
            return repr(value)
        case _:
            raise TypeError(f"{type(value).__name__} cannot be written down")


def by_recursion(name, arguments):
    return f"{name}({written(arguments)})"


class Keys:
    """A callable that checks first, and writes afterwards."""

    def __call__(self, name, arguments):
        self.refuse(arguments)
        return f"{name} {json.dumps(arguments, sort_keys=True)}"

    def refuse(self, value):
        if isinstance(value, dict):
            for each, item in value.items():
                if not isinstance(each, str):
                    raise TypeError(each)
                self.refuse(item)
        elif isinstance(value, list):
            for item in value:
                self.refuse(item)
        elif value is not None and not isinstance(value, str | int | float):
            raise TypeError(value)


def checks_and_writes(name, arguments):
    return Keys()(name, arguments)


# 4.2 -------------------------------------------------------------------------------------------


class LastUseByTheClock:
    """The least recently used is the one whose last use, by `now()`, lies farthest back."""

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries = ttl, maxsize, {}

    async def get_or_compute(self, key, compute):
        if key in self.entries and now() - self.entries[key][1] < self.ttl:
            value, stored, _ = self.entries[key]
        else:
            value, stored = await compute(), now()
        self.entries[key] = value, stored, now()
        while len(self.entries) > self.maxsize:
            del self.entries[min(self.entries, key=lambda each: self.entries[each][2])]
        return value


class Ordered:
    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries = ttl, maxsize, OrderedDict()

    async def get_or_compute(self, key, compute):
        with suppress(KeyError):
            value, expires = self.entries[key]
            if now() < expires:
                self.entries.move_to_end(key)
                return value
        value = await compute()
        self.entries[key] = value, now() + self.ttl
        self.entries.move_to_end(key)
        if len(self.entries) > self.maxsize:
            self.entries.popitem(last=False)
        return value


class CountedUses:
    """A counter in place of a clock says which was used last; two dicts."""

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize = ttl, maxsize
        self.values, self.used, self.ticks = {}, {}, itertools.count()

    async def get_or_compute(self, key, compute):
        if key not in self.values or now() >= self.values[key].expires:
            self.values[key] = SimpleNamespace(value=await compute(), expires=now() + self.ttl)
        self.used[key] = next(self.ticks)
        for least in sorted(self.used, key=self.used.get)[: -self.maxsize]:
            del self.used[least], self.values[least]
        return self.values[key].value


MISSING = object()


class SentinelAndMethods:
    """Looks up, stores and evicts in methods of its own; frozen entries."""

    @dataclass(frozen=True, slots=True)
    class Entry:
        """A value, and the time from which on it is not used."""

        value: object
        expires: float

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries = ttl, maxsize, {}

    def lookup(self, key):
        entry = self.entries.pop(key, None)
        if entry is None or now() >= entry.expires:
            return MISSING
        self.entries[key] = entry
        return entry.value

    def store(self, key, value):
        self.entries.pop(key, None)
        self.entries[key] = self.Entry(value, now() + self.ttl)
        while len(self.entries) > self.maxsize:
            del self.entries[next(iter(self.entries))]

    async def get_or_compute(self, key, compute):
        value = self.lookup(key)
        if value is MISSING:
            value = await compute()
            self.store(key, value)
        return value


class TimersForget:
    """A timer takes an entry away when its time is over."""

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries = ttl, maxsize, {}

    def forget(self, key):
        value, timer = self.entries.pop(key)
        timer.cancel()
        return value

    async def get_or_compute(self, key, compute):
        if key in self.entries:
            self.entries[key] = self.entries.pop(key)
            return self.entries[key][0]
        value = await compute()
        if key in self.entries:
            self.forget(key)
        timer = asyncio.get_running_loop().call_later(self.ttl, self.forget, key)
        self.entries[key] = value, timer
        while len(self.entries) > self.maxsize:
            self.forget(next(iter(self.entries)))
        return value


class PurgesFirst:
    """All that has expired goes at each call."""

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries = ttl, maxsize, {}

    async def get_or_compute(self, key, compute):
        self.entries = {each: entry for each, entry in self.entries.items() if entry[1] > now()}
        if key not in self.entries:
            self.entries[key] = await compute(), now() + self.ttl
        self.entries = {
            each: self.entries[each] for each in (*(k for k in self.entries if k != key), key)
        }
        self.entries = dict(list(self.entries.items())[-self.maxsize :])
        return self.entries[key][0]


class ListOfUses:
    """A list says the order, a dict the rest."""

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize, self.entries, self.order = ttl, maxsize, {}, []

    async def get_or_compute(self, key, compute):
        value, stored = self.entries.get(key, (None, -math.inf))
        if now() - stored >= self.ttl:
            value, stored = await compute(), now()
        self.entries[key] = value, stored
        self.order = [each for each in self.order if each != key] + [key]
        while len(self.order) > self.maxsize:
            del self.entries[self.order.pop(0)]
        return value


class CacheOfTheCourse:
    def __init__(self, ttl, maxsize):
        self.cache = AsyncCache(ttl=ttl, maxsize=maxsize)

    async def get_or_compute(self, key, compute):
        return await self.cache.get_or_compute(key, compute)


# 4.3 -------------------------------------------------------------------------------------------


class ForgottenByItself:
    """The task takes itself away, in a coroutine round the computation."""

    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        async def flight():
            try:
                return await compute()
            finally:
                del self.flights[key]

        if key not in self.flights:
            self.flights[key] = asyncio.create_task(flight())
        return await asyncio.shield(self.flights[key])


class FutureForEachCaller:
    """Nobody waits for the task: it tells the callers, each by a future of its own."""

    def __init__(self):
        self.waiters, self.tasks = {}, set()

    async def work(self, key, compute):
        try:
            value, error = await compute(), None
        except Exception as raised:  # noqa: BLE001 - told to those who wait
            value, error = None, raised
        for waiter in self.waiters.pop(key):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(value)
            else:
                waiter.set_exception(error)

    async def run(self, key, compute):
        first = key not in self.waiters
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.setdefault(key, []).append(waiter)
        if first:
            task = asyncio.create_task(self.work(key, compute))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return await waiter


class WaitsForASet:
    """`asyncio.wait` leaves what it waits for alone, without a shield."""

    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        task = self.flights.get(key)
        if task is None:
            task = self.flights[key] = asyncio.ensure_future(compute())
            task.add_done_callback(lambda _: self.flights.pop(key, None))
        await asyncio.wait([task])
        return task.result()


class EventAndBox:
    """Who waits, waits for an event, and looks into the box afterwards."""

    def __init__(self):
        self.boxes, self.tasks = {}, set()

    async def fill(self, key, compute, box):
        try:
            box["value"] = await compute()
        except Exception as error:  # noqa: BLE001 - raised by those who wait
            box["error"] = error
        finally:
            del self.boxes[key]
            box["done"].set()

    async def run(self, key, compute):
        if (box := self.boxes.get(key)) is None:
            box = self.boxes[key] = {"done": asyncio.Event()}
            task = asyncio.create_task(self.fill(key, compute, box))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        await box["done"].wait()
        if "error" in box:
            raise box["error"]
        return box["value"]


class ConditionAndBox(EventAndBox):
    """A condition in place of the event."""

    async def fill(self, key, compute, box):
        try:
            box["value"] = await compute()
        except Exception as error:  # noqa: BLE001 - raised by those who wait
            box["error"] = error
        async with box["done"]:
            self.boxes.pop(key)
            box["ready"] = True
            box["done"].notify_all()

    async def run(self, key, compute):
        if (box := self.boxes.get(key)) is None:
            box = self.boxes[key] = {"done": asyncio.Condition(), "ready": False}
            self.tasks.add(asyncio.ensure_future(self.fill(key, compute, box)))
        async with box["done"]:
            await box["done"].wait_for(lambda: box["ready"])
        if "error" in box:
            raise box["error"]
        return box["value"]


class DoneOnesAreReplaced:
    """Nothing is taken away: what is done is replaced."""

    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        task = self.flights.get(key)
        if task is None or task.done():
            task = self.flights[key] = asyncio.create_task(compute())
        return await asyncio.shield(task)


class LockedDict:
    """A lock round the dict, which is not held while anything is computed."""

    def __init__(self):
        self.lock, self.flights = asyncio.Lock(), {}

    async def run(self, key, compute):
        async with self.lock:
            if key not in self.flights:
                self.flights[key] = asyncio.create_task(self.compute(key, compute))
            task = self.flights[key]
        return await asyncio.shield(task)

    async def compute(self, key, compute):
        try:
            return await compute()
        finally:
            async with self.lock:
                self.flights.pop(key)


class CountedFlight:
    """The last one who leaves stops the work."""

    def __init__(self):
        self.flights, self.callers = {}, Counter()

    async def run(self, key, compute):
        task = self.flights.get(key)
        if task is None:
            task = self.flights[key] = asyncio.create_task(compute())
        self.callers[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self.callers[task] -= 1
            if task.done() or not self.callers[task]:
                task.cancel()
                if self.flights.get(key) is task:
                    del self.flights[key]


# 6.1 -------------------------------------------------------------------------------------------


async def none_for_what_was_not_reached(stages, question):
    seconds = dict.fromkeys(stages)
    result = {"answer": None, "failed": None, "error": None, "seconds": seconds}
    for name in stages:
        start = now()
        try:
            question = await stages[name](question)
        except Exception as error:  # noqa: BLE001 - it is the result
            result.update(failed=name, error=error)
            break
        finally:
            seconds[name] = now() - start
    else:
        result["answer"] = question
    return result


async def zero_for_what_was_not_reached(stages, question):
    result = await none_for_what_was_not_reached(stages, question)
    result["seconds"] = {name: each or 0.0 for name, each in result["seconds"].items()}
    return result


async def try_round_the_loop(stages, question):
    seconds, name, start = {}, None, now()
    try:
        for name, stage in stages.items():
            start = now()
            question = await stage(question)
            seconds[name] = now() - start
    except Exception as error:  # noqa: BLE001 - it is the result
        seconds[name] = now() - start
        return {"answer": None, "failed": name, "error": error, "seconds": seconds}
    return {"answer": question, "failed": None, "error": None, "seconds": seconds}


@contextmanager
def stopwatch(seconds, name):
    start = now()
    try:
        yield
    finally:
        seconds[name] = now() - start


async def with_a_stopwatch(stages, question):
    seconds, found = {}, question
    for name, stage in stages.items():
        try:
            with stopwatch(seconds, name):
                found = await stage(found)
        except Exception as error:  # noqa: BLE001 - it is the result
            return {"answer": None, "failed": name, "error": error, "seconds": seconds}
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}


@dataclass
class Result:
    """What becomes the dict in the end."""

    answer: object = None
    failed: str | None = None
    error: Exception | None = None
    seconds: dict = field(default_factory=dict)


async def as_a_dataclass(stages, question):
    result, found = Result(), question
    for name, stage in stages.items():
        start = now()
        try:
            found = await stage(found)
        except Exception as error:  # noqa: BLE001 - it is the result
            result.failed, result.error = name, error
        result.seconds[name] = now() - start
        if result.failed:
            return vars(result)
    result.answer = found
    return vars(result)


async def by_gather(stages, question):
    """Errors come back as values."""
    seconds, found = {}, question
    for name, stage in stages.items():
        start = now()
        [outcome] = await asyncio.gather(stage(found), return_exceptions=True)
        seconds[name] = now() - start
        if isinstance(outcome, BaseException):
            return {"answer": None, "failed": name, "error": outcome, "seconds": seconds}
        found = outcome
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}


async def by_recursion_on_the_rest(stages, question):
    if not stages:
        return {"answer": question, "failed": None, "error": None, "seconds": {}}
    (name, stage), *rest = stages.items()
    start = now()
    try:
        found = await stage(question)
    except Exception as error:  # noqa: BLE001 - it is the result
        result = {"answer": None, "failed": name, "error": error, "seconds": {}}
        took = now() - start
    else:
        took = now() - start
        result = await by_recursion_on_the_rest(dict(rest), found)
    result["seconds"] = {name: took, **result["seconds"]}
    return result


async def a_task_for_each_stage(stages, question):
    seconds, found = {}, question
    for name, stage in stages.items():
        start, task = now(), asyncio.create_task(stage(found))
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        seconds[name] = now() - start
        if (error := task.exception()) is not None:
            return {"answer": None, "failed": name, "error": error, "seconds": seconds}
        found = task.result()
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}


# 6.2 -------------------------------------------------------------------------------------------


class Gated:
    """A condition counts the slots, and whoever waits sees when the gate opens."""

    def __init__(self, call, slots, attempts):
        self.call, self.free, self.attempts = call, slots, attempts
        self.opens, self.changed = 0.0, asyncio.Condition()

    async def enter(self):
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: self.free > 0)
                if now() >= self.opens:
                    self.free -= 1
                    return
            await asyncio.sleep(self.opens - now())

    async def once(self, item):
        await self.enter()
        try:
            return await self.call(item)
        except RateLimited as error:
            self.opens = max(self.opens, now() + error.retry_after)
            raise
        finally:
            self.free += 1
            async with self.changed:
                self.changed.notify_all()

    async def __call__(self, item):
        for left in reversed(range(self.attempts)):
            try:
                return await self.once(item)
            except RateLimited:
                if not left:
                    raise
            except Unavailable:
                if not left:
                    raise
                await asyncio.sleep(0.05)
        return None


def a_condition(call, slots, attempts):
    return Gated(call, slots, attempts)


def tokens_in_a_queue(call, slots, attempts):  # noqa: C901 - as learners write it
    """Whoever holds a token may call; an event closes the gate, and a timer opens it."""
    tokens, is_open = asyncio.Queue(), asyncio.Event()
    is_open.set()
    for number in range(slots):
        tokens.put_nowait(number)

    async def admitted(item):
        while True:
            token = await tokens.get()
            try:
                if is_open.is_set():
                    return await call(item)
            except RateLimited as error:
                is_open.clear()
                asyncio.get_running_loop().call_later(error.retry_after, is_open.set)
                raise
            finally:
                tokens.put_nowait(token)
            await is_open.wait()

    async def ask(item):
        calls = 0
        while True:
            calls += 1
            try:
                return await admitted(item)
            except RateLimited:
                if calls == attempts:
                    raise
                await is_open.wait()
            except Unavailable:
                if calls == attempts:
                    raise
                await asyncio.sleep(0.1)

    return ask


def with_the_gate_of_the_course(call, slots, attempts):
    step = limited(
        as_runnable(call), Gate(concurrency=slots), attempts=attempts, retry_on=(Unavailable,)
    )

    async def ask(item):
        return await step.ainvoke(item)

    return ask


# 6.3 -------------------------------------------------------------------------------------------


def tasks_as_entries(call, ttl):
    """What is kept is the task itself, with the time from which it is not to be used."""
    entries = {}

    async def ask(item):
        key = json.dumps(item, sort_keys=True)
        task, expires = entries.get(key, (None, 0.0))
        if task is None or now() >= expires:
            task = asyncio.ensure_future(call(item))
            entries[key] = task, math.inf
            task.add_done_callback(partial(ended, key))
        return await asyncio.shield(task)

    def ended(key, task):
        if task.cancelled() or task.exception() is not None:
            del entries[key]
        else:
            entries[key] = task, now() + ttl

    return ask


def flight_and_cache(call, ttl):
    """4.2 within 4.3."""
    cache, flight = Ordered(ttl, 1_000), DoneOnesAreReplaced()

    async def ask(item):
        key = json.dumps(item, sort_keys=True)
        return await flight.run(key, lambda: cache.get_or_compute(key, lambda: call(item)))

    return ask


def forgotten_by_a_timer(call, ttl):
    tasks = {}

    def ended(key, task):
        if task.cancelled() or task.exception():
            del tasks[key]
        else:
            asyncio.get_running_loop().call_later(ttl, tasks.pop, key)

    async def ask(item):
        key = json.dumps(item, sort_keys=True)
        if key not in tasks:
            tasks[key] = asyncio.create_task(call(item))
            tasks[key].add_done_callback(partial(ended, key))
        task = tasks[key]
        await asyncio.wait([task])
        return task.result()

    return ask


def with_the_cache_of_the_course(call, ttl):
    cache = AsyncCache(ttl=ttl, maxsize=1_000)

    async def ask(item):
        return await cache.get_or_compute(stable_key(item), lambda: call(item))

    return ask


# 6.4 -------------------------------------------------------------------------------------------


def outcome(answer=None, failed=None, error=None, skipped=()):
    return {"answer": answer, "failed": failed, "error": error, "skipped": list(skipped)}


async def two_timeouts(stages, optional, budget, question):
    """The budget round all, the seconds of a stage within; told apart by `expired`."""
    found, skipped, name = question, [], None
    try:
        async with asyncio.timeout(budget) as whole:
            for name, stage in stages.items():
                try:
                    async with asyncio.timeout(optional.get(name)):
                        found = await stage(found)
                except Exception:
                    if name not in optional or whole.expired():
                        raise
                    skipped.append(name)
    except Exception as error:  # noqa: BLE001 - it is the result
        return outcome(failed=name, error=error, skipped=skipped)
    return outcome(found, skipped=skipped)


async def by_wait_for(stages, optional, budget, question):
    found, end, skipped = question, now() + budget, []
    for name, stage in stages.items():
        left = end - now()
        try:
            found = await asyncio.wait_for(stage(found), min(left, optional.get(name, left)))
        except Exception as error:  # noqa: BLE001 - it is the result
            if name in optional and now() < end:
                skipped.append(name)
                continue
            return outcome(failed=name, error=error, skipped=skipped)
    return outcome(found, skipped=skipped)


async def by_wait(stages, optional, budget, question):
    """Tasks, and `asyncio.wait` with a time limit; what is late, or left by the caller, is cancelled."""
    found, end, skipped = question, now() + budget, []
    for name, stage in stages.items():
        task = asyncio.create_task(stage(found))
        try:
            await asyncio.wait({task}, timeout=min(end - now(), optional.get(name, budget)))
            error = task.exception() if task.done() else TimeoutError(name)
        finally:
            task.cancel()
        if error is None:
            found = task.result()
        elif name in optional and now() < end:
            skipped.append(name)
        else:
            return outcome(failed=name, error=error, skipped=skipped)
    return outcome(found, skipped=skipped)


async def with_a_method_each(stages, optional, budget, question):
    return await Pipeline(stages, optional, now() + budget).run(question)


class Pipeline:
    def __init__(self, stages, optional, end):
        self.stages, self.optional, self.end, self.skipped = stages, optional, end, []

    async def one(self, name, value):
        allowed = min(self.optional.get(name, math.inf), self.end - now())
        async with asyncio.timeout(allowed):
            return await self.stages[name](value)

    async def run(self, value):
        for name in self.stages:
            try:
                value = await self.one(name, value)
            except Exception as error:  # noqa: BLE001 - it is the result
                if name not in self.optional or now() >= self.end:
                    return outcome(failed=name, error=error, skipped=self.skipped)
                self.skipped.append(name)
        return outcome(value, skipped=self.skipped)


async def by_recursion_over_stages(stages, optional, budget, question):
    end = now() + budget

    async def rest(names, value, skipped):
        if not names:
            return outcome(value, skipped=skipped)
        name, *others = names
        try:
            async with asyncio.timeout_at(min(end, now() + optional.get(name, budget))):
                value = await stages[name](value)
        except Exception as error:  # noqa: BLE001 - it is the result
            if name not in optional or now() >= end:
                return outcome(failed=name, error=error, skipped=skipped)
            return await rest(others, value, [*skipped, name])
        return await rest(others, value, skipped)

    return await rest(list(stages), question, [])


async def by_a_timer(stages, optional, budget, question):
    """Timers cancel the task of the stage."""
    found, end, skipped = question, now() + budget, []
    for name, stage in stages.items():
        task = asyncio.ensure_future(stage(found))
        until = min(end, now() + optional.get(name, budget))
        timer = asyncio.get_running_loop().call_at(until, task.cancel)
        [result] = await asyncio.gather(task, return_exceptions=True)
        timer.cancel()
        if not isinstance(result, BaseException):
            found = result
            continue
        error = result if isinstance(result, Exception) else TimeoutError(name)
        if name not in optional or now() >= end:
            return outcome(failed=name, error=error, skipped=skipped)
        skipped.append(name)
    return outcome(found, skipped=skipped)


async def required_and_optional(stages, optional, budget, question):
    """One way for each kind of stage; the failure leaves by an exception of its own."""
    found, skipped, at = question, [], None

    async def try_it(name, value):
        try:
            return await asyncio.wait_for(stages[name](value), optional[name])
        except Exception:  # noqa: BLE001 - left out
            skipped.append(name)
            return value

    async def whole():
        nonlocal found, at
        for at in stages:
            found = await (try_it(at, found) if at in optional else stages[at](found))

    try:
        await asyncio.wait_for(whole(), budget)
    except Exception as error:  # noqa: BLE001 - it is the result
        return outcome(failed=at, error=error, skipped=skipped)
    return outcome(found, skipped=skipped)


async def in_a_task_group(stages, optional, budget, question):
    found, end, skipped = question, now() + budget, []
    for name, stage in stages.items():
        try:
            async with asyncio.timeout_at(min(end, now() + optional.get(name, budget))):
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(stage(found))
            found = task.result()
        except* Exception as group_of_one:  # noqa: BLE001 - it is the result
            error = group_of_one
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
        else:
            continue
        if name not in optional or now() >= end:
            return outcome(failed=name, error=error, skipped=skipped)
        skipped.append(name)
    return outcome(found, skipped=skipped)


# 5.1, beside those of the notebook's own table ------------------------------------------------


async def by_the_error_in_flight(call, record, clock, planned):
    start = clock()
    try:
        return await call()
    finally:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        outcome = {None: "ok", asyncio.CancelledError: "cancelled"}.get(
            error and type(error), "error"
        )
        record(outcome, max(0.0, start - planned), clock() - start)


async def with_an_exit_stack(call, record, clock, planned):
    start = clock()

    def left(kind, *_):
        outcome = "ok" if kind is None else "error"
        if kind and issubclass(kind, asyncio.CancelledError):
            outcome = "cancelled"
        record(outcome, max(start - planned, 0.0), clock() - start)

    with ExitStack() as stack:
        stack.push(left)
        return await call()


async def else_and_two_excepts(call, record, clock, planned):
    start, outcome = clock(), None
    try:
        result = await call()
    except Exception:
        outcome = "error"
        raise
    except BaseException:
        outcome = "cancelled"
        raise
    else:
        outcome = "ok"
    finally:
        wait = start - planned if start > planned else 0.0
        record(outcome, wait, clock() - start)
    return result


async def in_a_task_of_its_own(call, record, clock, planned):
    start = clock()
    task = asyncio.ensure_future(call())
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        record("cancelled", max(0.0, start - planned), clock() - start)
        raise
    outcome = "error" if task.exception() else "ok"
    record(outcome, max(0.0, start - planned), clock() - start)
    return task.result()


class Observation:
    """An asynchronous context manager."""

    def __init__(self, record, clock, planned):
        self.record, self.clock, self.planned = record, clock, planned

    async def __aenter__(self):
        self.start = self.clock()

    async def __aexit__(self, kind, error, _):
        outcomes = {type(None): "ok", asyncio.CancelledError: "cancelled"}
        wait, service = max(0.0, self.start - self.planned), self.clock() - self.start
        self.record(outcomes.get(type(error), "error"), wait, service)


async def as_an_async_context(call, record, clock, planned):
    async with Observation(record, clock, planned):
        return await call()


# 6.2, more ways -------------------------------------------------------------------------------


class Guard:
    """A class: futures in line, slots as a number."""

    def __init__(self, call, slots, attempts):
        self.call, self.free, self.attempts = call, slots, attempts
        self.opens, self.line = 0.0, deque()

    async def enter(self):
        while True:
            while (closed := self.opens - now()) > 0:  # noqa: ASYNC110 - it sleeps until then
                await asyncio.sleep(closed)
            if self.free:
                self.free -= 1
                return
            turn = asyncio.get_running_loop().create_future()
            self.line.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self.line:
                    self.line.remove(turn)
                elif turn.done() and not turn.cancelled():
                    self.wake()
                raise

    def wake(self):
        while self.line:
            turn = self.line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def once(self, item):
        await self.enter()
        try:
            return await self.call(item)
        finally:
            self.free += 1
            self.wake()

    async def __call__(self, item):
        for left in range(self.attempts - 1, -1, -1):
            try:
                return await self.once(item)
            except RateLimited as error:
                self.opens = max(self.opens, now() + error.retry_after)
                if not left:
                    raise
            except Unavailable:
                if not left:
                    raise
                await asyncio.sleep(0.05)
        return None


def as_a_class(call, slots, attempts):
    return Guard(call, slots, attempts)


def by_recursion_on_attempts(call, slots, attempts):
    places, opens = asyncio.BoundedSemaphore(slots), [0.0]

    async def admitted(item):
        while now() < opens[0]:  # noqa: ASYNC110 - it sleeps until then
            await asyncio.sleep(opens[0] - now())
        async with places:
            if now() >= opens[0]:
                try:
                    return True, await call(item)
                except RateLimited as error:
                    opens[0] = max(opens[0], now() + error.retry_after)
                    raise
        return False, None

    async def ask(item, left=attempts):
        try:
            made, value = await admitted(item)
        except (RateLimited, Unavailable):
            if left == 1:
                raise
            await asyncio.sleep(0.02)
            return await ask(item, left - 1)
        return value if made else await ask(item, left)

    return ask


def an_event_that_opens(call, slots, attempts):
    places, door = asyncio.Semaphore(slots), asyncio.Event()
    door.set()

    def close(seconds):
        door.clear()
        asyncio.get_running_loop().call_later(seconds, door.set)

    async def once(item):
        while True:
            await door.wait()
            async with places:
                if door.is_set():
                    try:
                        return await call(item)
                    except RateLimited as error:
                        close(error.retry_after)
                        raise

    async def ask(item):
        made = 0
        while True:
            made += 1
            try:
                return await once(item)
            except (RateLimited, Unavailable):
                if made >= attempts:
                    raise
            await asyncio.sleep(0.03)

    return ask


# 6.3, more ways -------------------------------------------------------------------------------


class Memory:
    """A class: a future for each input, filled by a task."""

    def __init__(self, call, ttl):
        self.call, self.ttl, self.kept, self.tasks = call, ttl, {}, set()

    async def fill(self, key, item, answer):
        try:
            value = await self.call(item)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            del self.kept[key]
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
        else:
            self.kept[key] = answer, now() + self.ttl
            answer.set_result(value)

    async def __call__(self, item):
        key = json.dumps(item, sort_keys=True)
        if key in self.kept and now() >= self.kept[key][1]:
            del self.kept[key]
        if key not in self.kept:
            answer = asyncio.get_running_loop().create_future()
            self.kept[key] = answer, math.inf
            task = asyncio.create_task(self.fill(key, item, answer))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(self.kept[key][0])


def memory_as_a_class(call, ttl):
    return Memory(call, ttl)


def an_event_for_each_input(call, ttl):
    entries, tasks = {}, []

    async def work(key, entry, item):
        try:
            entry["value"] = await call(item)
            entry["until"] = now() + ttl
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            entry["error"] = error
            del entries[key]
        entry["done"].set()

    async def ask(item):
        key = repr(stable_key(item))
        entry = entries.get(key)
        if entry is None or now() >= entry["until"]:
            entry = entries[key] = {"done": asyncio.Event(), "until": math.inf}
            tasks.append(asyncio.create_task(work(key, entry, item)))
        await entry["done"].wait()
        if "error" in entry:
            raise entry["error"]
        return entry["value"]

    return ask


def waits_for_tasks(call, ttl):
    tasks, ended = {}, {}

    async def ask(item):
        key = json.dumps(item, sort_keys=True, ensure_ascii=False)
        old = tasks.get(key)
        if old and old.done() and (old.exception() or now() - ended[key] >= ttl):
            old = None
        if old is None:
            old = tasks[key] = asyncio.create_task(call(item))
            old.add_done_callback(lambda _: ended.__setitem__(key, now()))
        await asyncio.wait([old])
        return old.result()

    return ask


# 6.5 ------------------------------------------------------------------------------------------


def pipeline_of(kept, gated, in_time=by_wait_for):
    """Three stages, each behind a gate of its own, and kept."""

    def build(search, rerank, chat):
        stages = {
            "search": kept(gated(search, 20, 5), 60),
            "rerank": kept(gated(rerank, 4, 5), 60),
            "chat": kept(gated(chat, 8, 8), 60),
        }
        return partial(in_time, stages, {"rerank": 0.3}, 3)

    return build


def of_classes(search, rerank, chat):
    return pipeline_of(Memory, Guard)(search, rerank, chat)


def of_tasks_and_conditions(search, rerank, chat):
    return pipeline_of(tasks_as_entries, a_condition, by_wait)(search, rerank, chat)


def of_tokens_and_events(search, rerank, chat):
    build = pipeline_of(an_event_for_each_input, tokens_in_a_queue, two_timeouts)
    return build(search, rerank, chat)


def of_the_course_parts(search, rerank, chat):
    build = pipeline_of(with_the_cache_of_the_course, with_the_gate_of_the_course)
    return build(search, rerank, chat)


def of_doors_and_flights(search, rerank, chat):
    build = pipeline_of(flight_and_cache, an_event_that_opens, in_a_task_group)
    return build(search, rerank, chat)


class Rag:
    """An object with a method that answers."""

    def __init__(self, search, rerank, chat):
        limits = {"search": (search, 16), "rerank": (rerank, 4), "chat": (chat, 8)}
        self.stages = {
            name: waits_for_tasks(by_recursion_on_attempts(call, slots, 8), 60)
            for name, (call, slots) in limits.items()
        }

    async def answer(self, question):
        return await by_recursion_over_stages(self.stages, {"rerank": 0.3}, 3, question)


def of_an_object(search, rerank, chat):
    return Rag(search, rerank, chat).answer


RIGHT = {
    "4.1": (
        pair_as_json,
        dict_of_both,
        compact_and_not_escaped,
        blake,
        by_an_encoder,
        as_a_query,
        by_recursion,
        checks_and_writes,
    ),
    "4.3": (
        ForgottenByItself,
        FutureForEachCaller,
        WaitsForASet,
        EventAndBox,
        ConditionAndBox,
        DoneOnesAreReplaced,
        LockedDict,
        CountedFlight,
    ),
    "4.2": (
        LastUseByTheClock,
        Ordered,
        CountedUses,
        SentinelAndMethods,
        TimersForget,
        PurgesFirst,
        ListOfUses,
        CacheOfTheCourse,
    ),
    "6.4": (
        two_timeouts,
        by_wait_for,
        by_wait,
        with_a_method_each,
        by_recursion_over_stages,
        by_a_timer,
        required_and_optional,
        in_a_task_group,
    ),
    "6.1": (
        none_for_what_was_not_reached,
        zero_for_what_was_not_reached,
        try_round_the_loop,
        with_a_stopwatch,
        as_a_dataclass,
        by_gather,
        by_recursion_on_the_rest,
        a_task_for_each_stage,
    ),
    "6.2": (
        a_condition,
        tokens_in_a_queue,
        with_the_gate_of_the_course,
        as_a_class,
        by_recursion_on_attempts,
        an_event_that_opens,
    ),
    "6.3": (
        tasks_as_entries,
        flight_and_cache,
        forgotten_by_a_timer,
        with_the_cache_of_the_course,
        memory_as_a_class,
        an_event_for_each_input,
        waits_for_tasks,
    ),
    "5.1": (
        by_the_error_in_flight,
        with_an_exit_stack,
        else_and_two_excepts,
        in_a_task_of_its_own,
        as_an_async_context,
    ),
    "6.5": (
        of_classes,
        of_tasks_and_conditions,
        of_tokens_and_events,
        of_the_course_parts,
        of_doors_and_flights,
        of_an_object,
    ),
}
