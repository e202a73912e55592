"""Notebooks 4 to 6: wrong answers, each of which breaks one sentence, with what they are told."""

import asyncio
import json
import time
from collections import Counter, OrderedDict
from functools import partial

from course_lib.errors import BadRequest, RateLimited, Unavailable


def now():
    return asyncio.get_running_loop().time()


# 4.1 -------------------------------------------------------------------------------------------


def none_for_a_type_error(name, arguments):
    try:
        return f"{name}:{json.dumps(arguments, sort_keys=True)}"
    except TypeError:
        return None


def another_error(name, arguments):
    try:
        return f"{name}:{json.dumps(arguments, sort_keys=True)}"
    except TypeError as error:
        raise ValueError("cannot be written") from error


def class_name_for_an_object(name, arguments):
    text = json.dumps(arguments, sort_keys=True, default=lambda value: type(value).__name__)
    return f"{name}:{text}"


def values_only(name, arguments):
    return f"{name}:" + ",".join(
        json.dumps(arguments[each], sort_keys=True) for each in sorted(arguments)
    )


def hides_the_function(name, arguments):
    return json.dumps({"name": name, **arguments}, sort_keys=True)


def hides_the_argument(name, arguments):
    return json.dumps({**arguments, "fn": name}, sort_keys=True)


def without_whitespace(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True)}".replace(" ", "")


def in_lower_case(name, arguments):
    return json.dumps([name, arguments], sort_keys=True).lower()


def values_in_lower_case(name, arguments):
    text = json.dumps({each: arguments[each] for each in arguments}, sort_keys=True)
    return name + ":" + text.replace('"A', '"a')


def ascii_only(name, arguments):
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False)
    return f"{name}:{text.encode('ascii', 'ignore').decode()}"


def question_marks(name, arguments):
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False)
    return f"{name}:{text.encode('ascii', 'replace').decode()}"


def cut_off(name, arguments):
    return f"{name}:{json.dumps(arguments, sort_keys=True)}"[:200]


def rounded(name, arguments):
    tidy = {
        each: float(value) if type(value) is int else value for each, value in arguments.items()
    }
    return json.dumps([name, tidy], sort_keys=True)


def none_left_out(name, arguments):
    given = {each: value for each, value in arguments.items() if value is not None}
    return json.dumps([name, given], sort_keys=True)


def skips_what_it_cannot_write(name, arguments):
    return json.dumps([name, arguments], sort_keys=True, skipkeys=True)


def a_set_as_a_list(name, arguments):
    def listed(value):
        if isinstance(value, set):
            return list(value)
        raise TypeError(value)

    return json.dumps([name, arguments], sort_keys=True, default=listed)


def a_set_as_a_sorted_list(name, arguments):
    def listed(value):
        if isinstance(value, set):
            return sorted(value)
        raise TypeError(value)

    return json.dumps([name, arguments], sort_keys=True, default=listed)


def changes_the_arguments(name, arguments):
    arguments["__name__"] = name
    return json.dumps(arguments, sort_keys=True)


def takes_out_of_the_arguments(name, arguments):
    q = arguments.pop("q", None)
    return json.dumps([name, q, arguments], sort_keys=True)


def with_an_address(name, arguments):
    return f"{id(arguments)}:{json.dumps([name, arguments], sort_keys=True)}"


_asked = []


def with_a_counter(name, arguments):
    _asked.append(name)
    return f"{len(_asked)}:{json.dumps([name, arguments], sort_keys=True)}"


def not_sorted_in_lists(name, arguments):
    def tidy(value):
        if isinstance(value, dict):
            return {each: tidy(value[each]) for each in sorted(value)}
        return value

    return json.dumps([name, tidy(arguments)])


def flat_lists(name, arguments):
    def flat(value):
        if isinstance(value, list):
            return [item for each in value for item in (each if isinstance(each, list) else [each])]
        return value

    tidy = {each: flat(value) for each, value in arguments.items()}
    return json.dumps([name, tidy], sort_keys=True)


def each_once(name, arguments):
    tidy = {
        each: list(dict.fromkeys(map(str, value))) if isinstance(value, list) else value
        for each, value in arguments.items()
    }
    return json.dumps([name, tidy], sort_keys=True)


def key_not_returned(name, arguments):
    json.dumps([name, arguments], sort_keys=True)


# 4.2 -------------------------------------------------------------------------------------------


class TtlCache:
    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize = ttl, maxsize
        self.entries = OrderedDict()

    def fresh(self, key):
        return key in self.entries and now() - self.entries[key][1] < self.ttl

    def keep(self, key, value):
        self.entries[key] = value, now()
        self.entries.move_to_end(key)
        while len(self.entries) > self.maxsize:
            self.entries.popitem(last=False)

    async def get_or_compute(self, key, compute):
        if self.fresh(key):
            self.entries.move_to_end(key)
        else:
            self.keep(key, await compute())
        return self.entries[key][0]


class StaleOnError(TtlCache):
    async def get_or_compute(self, key, compute):
        try:
            return await super().get_or_compute(key, compute)
        except Exception:
            if key in self.entries:
                return self.entries[key][0]
            raise


class RenewedKeepsItsPlace(TtlCache):
    def keep(self, key, value):
        self.entries[key] = value, now()
        while len(self.entries) > self.maxsize:
            self.entries.popitem(last=False)


class RenewingDropsAnother(TtlCache):
    def keep(self, key, value):
        if len(self.entries) >= self.maxsize:
            self.entries.popitem(last=False)
        self.entries[key] = value, now()
        self.entries.move_to_end(key)


class SharedEntries(TtlCache):
    entries = OrderedDict()  # noqa: RUF012 - the mistake

    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize = ttl, maxsize


class LeastOften(TtlCache):
    def __init__(self, ttl, maxsize):
        super().__init__(ttl, maxsize)
        self.uses = Counter()

    def keep(self, key, value):
        if key not in self.entries and len(self.entries) >= self.maxsize:
            del self.entries[min(self.entries, key=self.uses.__getitem__)]
        self.entries[key] = value, now()

    async def get_or_compute(self, key, compute):
        value = await super().get_or_compute(key, compute)
        self.uses[key] += 1
        return value


class SoonestToExpire(TtlCache):
    def keep(self, key, value):
        self.entries[key] = value, now()
        while len(self.entries) > self.maxsize:
            del self.entries[min(self.entries, key=lambda each: self.entries[each][1])]


class ClearsAll(TtlCache):
    def keep(self, key, value):
        if key not in self.entries and len(self.entries) >= self.maxsize:
            self.entries.clear()
        self.entries[key] = value, now()


class RefusesTheNew(TtlCache):
    async def get_or_compute(self, key, compute):
        if key not in self.entries and len(self.entries) >= self.maxsize:
            return await compute()
        return await super().get_or_compute(key, compute)


class NoneIsNoValue(TtlCache):
    def fresh(self, key):
        return self.entries.get(key, (None,))[0] is not None and super().fresh(key)


class RenewedNeverAgain(TtlCache):
    def keep(self, key, value):
        _, since = self.entries.get(key, (None, now()))
        super().keep(key, value)
        self.entries[key] = value, since


class ErrorAsAnAnswer(TtlCache):
    async def get_or_compute(self, key, compute):
        try:
            return await super().get_or_compute(key, compute)
        except Exception as error:  # noqa: BLE001 - the mistake
            return error


# 4.3 -------------------------------------------------------------------------------------------


class SingleFlight:
    def __init__(self):
        self.flights = {}

    def forget(self, key, task):
        if self.flights.get(key) is task:
            del self.flights[key]

    def begin(self, key, compute):
        task = self.flights[key] = asyncio.ensure_future(compute())
        task.add_done_callback(partial(self.forget, key))
        return task

    async def run(self, key, compute):
        task = self.flights.get(key) or self.begin(key, compute)
        return await asyncio.shield(task)


class WaiterTakesTheFlightAway(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            self.flights[key] = asyncio.create_task(compute())
        try:
            return await asyncio.shield(self.flights[key])
        finally:
            self.flights.pop(key, None)


class LeaverTakesTheFlightAway(SingleFlight):
    async def run(self, key, compute):
        try:
            return await super().run(key, compute)
        except asyncio.CancelledError:
            self.flights.pop(key, None)
            raise


class LateWaitersTakeTheNextAway(SingleFlight):
    async def run(self, key, compute):
        task = self.flights.get(key) or self.begin(key, compute)
        value = await asyncio.shield(task)
        self.flights.pop(key, None)
        return value


class SharedFlights(SingleFlight):
    flights = {}  # noqa: RUF012 - the mistake

    def __init__(self):
        """Forget nothing."""


class KeyWithCompute(SingleFlight):
    async def run(self, key, compute):
        return await super().run((key, id(compute)), compute)


class ByCompute(SingleFlight):
    async def run(self, key, compute):
        return await super().run(compute, compute)


class OnlyTheFirstMayLeave(SingleFlight):
    async def run(self, key, compute):
        first = key not in self.flights
        task = self.flights.get(key) or self.begin(key, compute)
        return await (asyncio.shield(task) if first else task)


class EmptyIsNoValue(SingleFlight):
    async def run(self, key, compute):
        return await super().run(key, compute) or await compute()


class EmptyBecomesNone(SingleFlight):
    async def run(self, key, compute):
        return await super().run(key, compute) or None


class FollowersComputeAfterAnError(SingleFlight):
    async def run(self, key, compute):
        if key not in self.flights:
            return await super().run(key, compute)
        try:
            return await super().run(key, compute)
        except Exception:  # noqa: BLE001 - the mistake
            return await compute()


class ErrorAsAValue(SingleFlight):
    async def run(self, key, compute):
        try:
            return await super().run(key, compute)
        except Exception as error:  # noqa: BLE001 - the mistake
            return error


class NewcomersWaitForEver(SingleFlight):
    async def run(self, key, compute):
        try:
            return await super().run(key, compute)
        except asyncio.CancelledError:
            self.flights[key] = asyncio.get_running_loop().create_future()
            raise


# 5.2 ------------------------------------------------------------------------------------------


def sorted_as_text(histograms, q):
    counts = Counter()
    for histogram in histograms:
        counts.update(histogram)
    seen = 0
    for bound in sorted(counts, key=str):
        seen += counts[bound]
        if seen >= q * counts.total():
            return bound
    return None


# 6.1 -------------------------------------------------------------------------------------------


async def answered(stages, question, keep=lambda new, old: new, clock=now):
    found, seconds = question, {}
    for name, stage in stages.items():
        start = clock()
        try:
            found = keep(await stage(found), found)
        except Exception as error:  # noqa: BLE001
            return {"answer": None, "failed": name, "error": error, "seconds": seconds}
        finally:
            seconds[name] = clock() - start
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}


async def empty_keeps_what_was(stages, question):
    return await answered(stages, question, lambda new, old: new or old)


async def none_keeps_what_was(stages, question):
    return await answered(stages, question, lambda new, old: old if new is None else new)


async def empty_ends_it(stages, question):
    result = await answered(stages, question)
    name = list(stages)[-1]
    return result if result["answer"] else result | {"failed": result["failed"] or name}


async def empty_becomes_none(stages, question):
    result = await answered(stages, question)
    return result | {"answer": result["answer"] or None}


async def by_perf_counter(stages, question):
    return await answered(stages, question, clock=time.perf_counter)


async def seconds_as_text(stages, question):
    result = await answered(stages, question)
    seconds = {name: f"{value:.1f} s" for name, value in result["seconds"].items()}
    return result | {"seconds": seconds}


async def sum_of_seconds(stages, question):
    result = await answered(stages, question)
    return result | {"seconds": sum(result["seconds"].values())}


async def since_the_start(stages, question):
    result, passed = await answered(stages, question), 0.0
    for name, seconds in result["seconds"].items():
        passed += seconds
        result["seconds"][name] = passed
    return result


async def names_it_knows(stages, question):
    result = await answered(stages, question)
    known = result["failed"] in {None, "search", "rerank", "chat"}
    return result if known else result | {"failed": "stage"}


async def a_failure_by_its_number(stages, question):
    result = await answered(stages, question)
    if result["failed"] is None:
        return result
    return result | {"failed": ["search", "rerank", "chat"][list(stages).index(result["failed"])]}


async def error_too_early(stages, question):
    result = await answered(stages, question)
    return result | ({"error": type(result["error"])} if result["failed"] else {})


# 6.2 -------------------------------------------------------------------------------------------


class ByHand:
    """A gate that is right; what differs is said by those below."""

    counts_refusals = True
    all_wait_for = RateLimited

    def __init__(self, call, slots, attempts):
        self.call, self.attempts = call, attempts
        self.gate, self.opens = asyncio.Semaphore(slots), 0.0

    async def once(self, item):
        while True:
            async with self.gate:
                if (closed := self.opens - now()) <= 0:
                    return await self.attempt(item)
            await asyncio.sleep(closed)

    async def attempt(self, item):
        try:
            return await self.call(item)
        except self.all_wait_for as error:
            self.opens = now() + getattr(error, "retry_after", 0.3)
            raise

    async def __call__(self, item):
        calls = 0
        while True:
            calls += 1
            try:
                return await self.once(item)
            except (RateLimited, Unavailable) as error:
                if calls >= self.attempts:
                    return self.last(error)
                pause = getattr(error, "retry_after", 0.1)
                calls -= isinstance(error, RateLimited) and not self.counts_refusals
            await asyncio.sleep(pause)

    def last(self, error):
        raise error


def error_returned(call, slots, attempts):
    class Returns(ByHand):
        def last(self, error):
            return error

    return Returns(call, slots, attempts)


def none_after_the_last(call, slots, attempts):
    class Forgets(ByHand):
        def last(self, error):
            """Forget it."""

    return Forgets(call, slots, attempts)


def refusals_not_counted(call, slots, attempts):
    class Patient(ByHand):
        counts_refusals = False

    return Patient(call, slots, attempts)


def failures_close_the_gate(call, slots, attempts):
    class Strict(ByHand):
        all_wait_for = (RateLimited, Unavailable)

    return Strict(call, slots, attempts)


def again_when_empty(call, slots, attempts):
    async def not_empty(item):
        result = await call(item)
        if not result:
            raise Unavailable("nothing")
        return result

    return ByHand(not_empty, slots, attempts)


def other_errors_returned(call, slots, attempts):
    gated = ByHand(call, slots, attempts)

    async def guarded_call(item):
        try:
            return await gated(item)
        except BadRequest as error:
            return error

    return guarded_call


def slot_lost_by_a_leaver(call, slots, attempts):
    class Leaking(ByHand):
        async def once(self, item):
            while True:
                await self.gate.acquire()
                if (closed := self.opens - now()) <= 0:
                    break
                self.gate.release()
                await asyncio.sleep(closed)
            try:
                result = await self.attempt(item)
            except Exception:
                self.gate.release()
                raise
            self.gate.release()
            return result

    return Leaking(call, slots, attempts)


_gate = []


def one_gate_for_all(call, slots, attempts):
    gated = ByHand(call, slots, attempts)
    loop = asyncio._get_running_loop()
    if not _gate or _gate[0] != (loop, slots):
        _gate[:] = [(loop, slots), gated.gate]
    gated.gate = _gate[1]
    return gated


def another_ones_answer(call, slots, attempts):
    gated, first = ByHand(call, slots, attempts), []

    async def guarded_call(item):
        result = await gated(item)
        first.append(result)
        return first[0]

    return guarded_call


# 6.3 -------------------------------------------------------------------------------------------


class Remembering:
    """A memory that is right; what differs is said by those below."""

    def __init__(self, call, ttl):
        self.call, self.ttl, self.tasks, self.ends = call, ttl, {}, {}

    def key(self, item):
        return json.dumps(item, sort_keys=True)

    def ended(self, key, task):
        if task.cancelled() or task.exception():
            del self.tasks[key]
        else:
            self.ends[key] = now() + self.ttl

    def flight(self, item):
        key = self.key(item)
        if now() >= self.ends.get(key, float("inf")):
            del self.ends[key], self.tasks[key]
        if key not in self.tasks:
            self.tasks[key] = asyncio.ensure_future(self.call(item))
            self.tasks[key].add_done_callback(partial(self.ended, key))
        return self.tasks[key]

    async def __call__(self, item):
        return await asyncio.shield(self.flight(item))


def stampede_when_the_leader_leaves(call, ttl):
    kept, flights = {}, {}

    async def ask(item):
        key = json.dumps(item, sort_keys=True)
        if key in kept and now() < kept[key][1]:
            return kept[key][0]
        if key in flights:
            try:
                return await asyncio.shield(flights[key])
            except asyncio.CancelledError:
                return await call(item)
        flight = flights[key] = asyncio.get_running_loop().create_future()
        try:
            value = await call(item)
            kept[key] = value, now() + ttl
            flight.set_result(value)
            return value
        finally:
            flight.cancel()
            del flights[key]

    return ask


def leaver_forgets_the_flight(call, ttl):
    class Forgetful(Remembering):
        async def __call__(self, item):
            try:
                return await super().__call__(item)
            except asyncio.CancelledError:
                self.tasks.pop(self.key(item), None)
                raise

        def ended(self, key, task):
            if key in self.tasks:
                super().ended(key, task)

    return Forgetful(call, ttl)


def key_without_whitespace(call, ttl):
    class Tidy(Remembering):
        def key(self, item):
            return super().key(item).replace(" ", "").lower()

    return Tidy(call, ttl)


def key_in_ascii(call, ttl):
    class Ascii(Remembering):
        def key(self, item):
            text = json.dumps(item, sort_keys=True, ensure_ascii=False)
            return text.encode("ascii", "ignore")

    return Ascii(call, ttl)


def none_is_called_again(call, ttl):
    class Doubtful(Remembering):
        def ended(self, key, task):
            if task.result() is None:
                del self.tasks[key]
            else:
                super().ended(key, task)

    return Doubtful(call, ttl)


def empty_becomes_a_list(call, ttl):
    memory = Remembering(call, ttl)

    async def ask(item):
        return await memory(item) or []

    return ask


def kept_once_only(call, ttl):
    class Once(Remembering):
        def __init__(self, call, ttl):
            super().__init__(call, ttl)
            self.seen = set()

        def ended(self, key, task):
            super().ended(key, task)
            if key in self.seen:
                self.ends[key] = now()
            if not task.exception():
                self.seen.add(key)

    return Once(call, ttl)


# 6.4 -------------------------------------------------------------------------------------------


async def in_time(stages, optional, budget, question, keep=lambda new, old: new):
    found, end, skipped = question, now() + budget, []
    result = {"answer": None, "failed": None, "error": None, "skipped": skipped}
    for name, stage in stages.items():
        try:
            async with asyncio.timeout_at(min(end, now() + optional.get(name, budget))):
                found = keep(await stage(found), found)
        except Exception as error:  # noqa: BLE001
            if name not in optional or now() >= end:
                return result | {"failed": name, "error": error}
            skipped.append(name)
    return result | {"answer": found}


async def late_stage_goes_on(stages, optional, budget, question):
    def in_background(stage):
        async def run(value):
            return await asyncio.shield(asyncio.ensure_future(stage(value)))

        return run

    stages = {name: in_background(stage) for name, stage in stages.items()}
    return await in_time(stages, optional, budget, question)


async def waits_without_cancel(stages, optional, budget, question):
    found, end, skipped = question, now() + budget, []
    result = {"answer": None, "failed": None, "error": None, "skipped": skipped}
    for name, stage in stages.items():
        task = asyncio.create_task(stage(found))
        allowed = min(end - now(), optional.get(name, budget))
        done, _ = await asyncio.wait({task}, timeout=allowed)
        error = task.exception() if done else TimeoutError()
        if error is None:
            found = task.result()
        elif name not in optional or now() >= end:
            return result | {"failed": name, "error": error}
        else:
            skipped.append(name)
    return result | {"answer": found}


async def empty_keeps_the_old(stages, optional, budget, question):
    return await in_time(stages, optional, budget, question, lambda new, old: new or old)


async def none_keeps_the_old(stages, optional, budget, question):
    return await in_time(
        stages, optional, budget, question, lambda new, old: old if new is None else new
    )


async def empty_is_failed(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result if result["answer"] else result | {"failed": result["failed"] or "chat"}


async def partial_answer(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result | ({"answer": "so far"} if result["failed"] else {})


_skipped = []


async def shared_skipped(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    _skipped.extend(result["skipped"])
    return result | {"skipped": list(_skipped)}


async def forgets_skipped_on_failure(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result | ({"skipped": []} if result["failed"] else {})


async def last_skipped_only(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result | {"skipped": result["skipped"][-1:]}


async def half_the_seconds(stages, optional, budget, question):
    optional = {name: seconds / 2 for name, seconds in optional.items()}
    return await in_time(stages, optional, budget, question)


async def every_error_a_timeout(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result | ({"error": TimeoutError()} if result["failed"] else {})


async def number_of_skipped(stages, optional, budget, question):
    result = await in_time(stages, optional, budget, question)
    return result | {"skipped": len(result["skipped"])}


WRONG = {
    "4.1": {
        none_for_a_type_error: "None in place of a TypeError",
        another_error: "ValueError in place of a TypeError",
        class_name_for_an_object: "an object without a text of its own",
        values_only: "by another name is another question",
        hides_the_function: "hides the function",
        hides_the_argument: "the function hides it",
        without_whitespace: "differ in whitespace",
        in_lower_case: "two functions share a key",
        values_in_lower_case: "differ in whitespace, in case",
        ascii_only: "not ASCII",
        question_marks: "not ASCII",
        cut_off: "what is cut off",
        rounded: "rounded is missing",
        none_left_out: "leave nothing out",
        skips_what_it_cannot_write: "`skipkeys`",
        a_set_as_a_list: "its order is by chance",
        a_set_as_a_sorted_list: "a set got the key of a list",
        changes_the_arguments: "the caller's own dict is changed",
        takes_out_of_the_arguments: "the caller's own dict is changed",
        with_an_address: "no `id`",
        with_a_counter: "no counter",
        not_sorted_in_lists: "also in a list",
        flat_lists: "lists within it",
        each_once: "what is in it twice",
        key_not_returned: "it returns None",
    },
    "4.3": {
        WaiterTakesTheFlightAway: "who leaves takes the key away",
        LeaverTakesTheFlightAway: "who leaves takes the key away",
        LateWaitersTakeTheNextAway: "takes away its own only",
        SharedFlights: "two instances share",
        KeyWithCompute: "share by `key` alone",
        ByCompute: "share by `key` alone",
        OnlyTheFirstMayLeave: "behind `asyncio.shield`",
        EmptyIsNoValue: "an empty value is a value",
        EmptyBecomesNone: "also when it is empty",
        FollowersComputeAfterAnError: "nobody of them computes again",
        ErrorAsAValue: "an error belongs to everybody",
        NewcomersWaitForEver: "waits for what is under way",
    },
    "4.2": {
        StaleOnError: "served in place of the error",
        RenewedKeepsItsPlace: "keeps its old place",
        RenewingDropsAnother: "a key that is renewed drops another",
        SharedEntries: "two caches share their entries",
        LeastOften: "not the least often used",
        SoonestToExpire: "not the oldest",
        ClearsAll: "it drops more than it must",
        RefusesTheNew: "more than `maxsize` entries",
        NoneIsNoValue: "an empty answer is an answer",
        RenewedNeverAgain: "fresh answers are computed anew",
        ErrorAsAnAnswer: "an error goes to the caller",
    },
    "6.4": {
        late_stage_goes_on: "goes on in the background",
        waits_without_cancel: "goes on in the background",
        empty_keeps_the_old: "is a result",
        none_keeps_the_old: "is a result",
        empty_is_failed: "is a result",
        partial_answer: "is no answer",
        shared_skipped: "make a new list",
        forgets_skipped_on_failure: 'has the list under "skipped", too',
        last_skipped_only: "several stages may be left out",
        half_the_seconds: "nothing was late",
        every_error_a_timeout: "the error that the stage raised",
        number_of_skipped: 'its name stands in "skipped"',
    },
    "6.1": {
        empty_keeps_what_was: "is a result, and no failure",
        none_keeps_what_was: "is a result, and no failure",
        empty_ends_it: "is a result, and no failure",
        empty_becomes_none: "is a result, and no failure",
        by_perf_counter: "by `now()`",
        seconds_as_text: "by the name of the stage",
        sum_of_seconds: "by the name of the stage",
        since_the_start: "what it took for this question",
        names_it_knows: "it may have any name",
        a_failure_by_its_number: "it may have any name",
        error_too_early: "the exception itself",
    },
    "6.2": {
        error_returned: "its error is *raised*",
        none_after_the_last: "its error is *raised*",
        refusals_not_counted: "refusals and failures are attempts alike",
        failures_close_the_gate: "holds everybody back",
        again_when_empty: "an empty result is a result",
        other_errors_returned: "any other error is *raised*",
        slot_lost_by_a_leaver: "who leaves keeps his slot",
        one_gate_for_all: "two steps share one gate",
        another_ones_answer: "is to be made again, up to `attempts`",
    },
    "6.3": {
        stampede_when_the_leader_leaves: "call again, each by himself",
        leaver_forgets_the_flight: "call again, each by himself",
        key_without_whitespace: "two different inputs share a key",
        key_in_ascii: "two different inputs share a key",
        none_is_called_again: "an empty result is a result",
        empty_becomes_a_list: "as it is",
        kept_once_only: "what was renewed is kept",
    },
    "5.2": {sorted_as_text: "as numbers, not as text"},
}
