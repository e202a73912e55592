"""Notebook 6: answers as learners give them, the wrong ones with what they are told."""

import asyncio
from functools import cache

from exercise_support import breaks, changed

from course_lib.async_batch import as_runnable
from course_lib.caching import AsyncCache, cached, stable_key
from course_lib.errors import RateLimited, Unavailable
from course_lib.rate_limiting import Gate, limited


def now():
    return asyncio.get_running_loop().time()


# 6.1 -------------------------------------------------------------------------------------------


async def answered(stages, question):
    found, seconds = question, {}
    for name, stage in stages.items():
        start = now()
        try:
            found = await stage(found)
        except Exception as error:  # noqa: BLE001
            return {"answer": None, "failed": name, "error": error, "seconds": seconds}
        finally:
            seconds[name] = now() - start
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}


async def answered_without_failed_keys(stages, question):
    result, found = {"seconds": {}}, question
    for name, stage in stages.items():
        start = now()
        try:
            found = await stage(found)
        except Unavailable as error:
            result |= {"failed": name, "error": error}
            break
        finally:
            result["seconds"][name] = now() - start
    else:
        result["answer"] = found
    return result


_shared = {}


async def goes_on_after_a_failure(stages, question):
    result = {"answer": question, "failed": None, "error": None, "seconds": {}}
    for name, stage in stages.items():
        start = now()
        try:
            result["answer"] = await stage(result["answer"])
        except Exception as error:  # noqa: BLE001
            result |= {"failed": name, "error": error}
        result["seconds"][name] = now() - start
    return result


# 6.2 -------------------------------------------------------------------------------------------


def guarded(call, slots, attempts):
    gate = Gate(concurrency=slots)
    step = limited(as_runnable(call), gate, attempts=attempts, retry_on=(Unavailable,))
    return step.ainvoke


def guarded_by_hand(call, slots, attempts):
    gate, opens = asyncio.Semaphore(slots), 0.0

    async def admitted():
        await gate.acquire()
        while (closed := opens - now()) > 0:
            gate.release()
            await asyncio.sleep(closed)
            await gate.acquire()

    async def guarded_call(item):
        nonlocal opens
        for attempt in range(1, attempts + 1):
            await admitted()
            try:
                return await call(item)
            except RateLimited as error:
                opens, pause = now() + error.retry_after, error.retry_after
                if attempt == attempts:
                    raise
            except Unavailable:
                pause = 0.1
                if attempt == attempts:
                    raise
            finally:
                gate.release()
            await asyncio.sleep(pause)
        return None

    return guarded_call


def each_for_itself(call, slots, attempts):
    """Retries by itself, and after each refusal."""
    gate = asyncio.Semaphore(slots)

    async def guarded_call(item):
        for attempt in range(1, attempts + 1):
            try:
                async with gate:
                    return await call(item)
            except (RateLimited, Unavailable) as error:
                if attempt == attempts:
                    raise
                pause = getattr(error, "retry_after", 0.1)
            await asyncio.sleep(pause)
        return None

    return guarded_call


def gate_in_each_call(call, slots, attempts):
    async def guarded_call(item):
        return await guarded(call, slots, attempts)(item)

    return guarded_call


def sleeps_inside(call, slots, attempts):
    gate = asyncio.Semaphore(slots)

    async def guarded_call(item):
        async with gate:
            for attempt in range(1, attempts + 1):
                try:
                    return await call(item)
                except (RateLimited, Unavailable) as error:
                    if attempt == attempts:
                        raise
                    await asyncio.sleep(getattr(error, "retry_after", 0.1))
        return None

    return guarded_call


def cools_down_too_long(call, slots, attempts):
    async def careful(item):
        try:
            return await call(item)
        except RateLimited as error:
            raise RateLimited("later", retry_after=error.retry_after + 30) from None

    return guarded(careful, slots, attempts)


# 6.3 -------------------------------------------------------------------------------------------


def remembered(call, ttl):
    return cached(as_runnable(call), AsyncCache(ttl=ttl, maxsize=1_000)).ainvoke


def remembered_by_hand(call, ttl):
    tasks, ends = {}, {}

    def ended(key, task):
        if task.cancelled() or task.exception():
            tasks.pop(key, None)
        else:
            ends[key] = now() + ttl

    async def ask(item):
        key = stable_key(item)
        if now() >= ends.get(key, float("inf")):
            del ends[key], tasks[key]
        if key not in tasks:
            tasks[key] = asyncio.ensure_future(call(item))
            tasks[key].add_done_callback(lambda task: ended(key, task))
        return await asyncio.shield(tasks[key])

    return ask


@breaks(["a  b", "a b"])
def spelt_with_two_spaces(call, ttl):
    return remembered(call, ttl)


@breaks([["IT"], ["it"]])
def lists_in_capitals(call, ttl):
    return remembered(call, ttl)


@breaks([{"ids": [1]}, "{'ids': [1]}"])
def a_dict_and_its_text(call, ttl):
    return remembered(call, ttl)


@breaks(["tea", "coffee"])
def keys_of_their_own(call, ttl):
    return remembered(call, ttl)


@breaks(["tea", "tea"])
def one_question_twice(call, ttl):
    return remembered(call, ttl)


@breaks("Tea or tea?")
def one_question(call, ttl):
    return remembered(call, ttl)


@breaks(...)
def no_questions(call, ttl):
    return remembered(call, ttl)


def a_dict(call, ttl):
    kept = {}

    async def ask(item):
        key = stable_key(item)
        if key not in kept:
            kept[key] = await call(item)
        return kept[key]

    return ask


def forgets_empties(call, ttl):
    cache = AsyncCache(ttl=ttl, maxsize=1_000)

    async def ask(item):
        value = await cache.get_or_compute(stable_key(item), lambda: call(item))
        if not value:
            await cache.invalidate(stable_key(item))
        return value

    return ask


@cache
def common_cache():
    return AsyncCache(ttl=60, maxsize=1_000)


def one_cache_for_all(call, ttl):
    cache = AsyncCache(ttl=ttl, maxsize=1_000) if call.__self__.name != "rerank" else None
    return _by_key(call, common_cache() if cache is None or ttl else cache)


def _by_key(call, cache):
    async def ask(item):
        return await cache.get_or_compute(
            (id(asyncio.get_running_loop()), stable_key(item)), lambda: call(item)
        )

    return ask


def by_hash(call, ttl):
    cache = AsyncCache(ttl=ttl, maxsize=1_000)
    return lambda item: cache.get_or_compute(hash(item), lambda: call(item))


def first_caller_computes(call, ttl):
    """Whoever comes first makes the call himself; when he leaves, it ends for all."""
    tasks, ends = {}, {}

    async def ask(item):
        key = stable_key(item)
        if now() >= ends.get(key, float("inf")):
            del ends[key], tasks[key]
        if key not in tasks:
            tasks[key] = asyncio.ensure_future(call(item))
            ends[key] = now() + ttl
        try:
            return await tasks[key]
        except BaseException:
            tasks.pop(key, None)
            ends.pop(key, None)
            raise

    return ask


# 6.4 -------------------------------------------------------------------------------------------


async def in_time(stages, optional, budget, question):
    found, end, skipped = question, now() + budget, []
    result = {"answer": None, "failed": None, "error": None, "skipped": skipped}
    for name, stage in stages.items():
        limit = min(end, now() + optional.get(name, budget))
        try:
            async with asyncio.timeout_at(limit):
                found = await stage(found)
        except Exception as error:  # noqa: BLE001
            if name not in optional or now() >= end:
                return result | {"failed": name, "error": error}
            skipped.append(name)
    return result | {"answer": found}


async def budget_for_each_stage(stages, optional, budget, question):
    stages = {
        name: lambda found, s=s: asyncio.wait_for(s(found), budget) for name, s in stages.items()
    }
    return await in_time(stages, optional, 1e6, question)


async def never_reranks(stages, optional, budget, question):
    stages = {name: stage for name, stage in stages.items() if name not in optional}
    return await in_time(stages, {}, budget, question) | {"skipped": list(optional)}


async def lets_it_out(stages, optional, budget, question):
    async with asyncio.timeout(budget):
        return await in_time(stages, optional, 1e6, question)


async def swallows_cancellation(stages, optional, budget, question):
    try:
        return await in_time(stages, optional, budget, question)
    except asyncio.CancelledError as error:
        return {"answer": None, "failed": "rerank", "error": error, "skipped": []}


# 6.5 -------------------------------------------------------------------------------------------


def rag(search, rerank, chat):
    calls = zip(("search", "rerank", "chat"), (search, rerank, chat), (20, 4, 8), strict=True)
    stages = {name: remembered(guarded(call, slots, 8), 60) for name, call, slots in calls}

    async def ask(question):
        return await in_time(stages, {"rerank": 0.3}, 3, question)

    return ask


def rag_that_raises(search, rerank, chat):
    async def ask(question):
        return {"answer": await chat(await rerank(await search(question)))}

    return ask


def rag_built_in_each_call(search, rerank, chat):
    async def ask(question):
        return await rag(search, rerank, chat)(question)

    return ask


def rag_that_never_reranks(search, rerank, chat):
    async def same(found):
        return found

    return rag(search, same, chat)


PREPARED = "remembered(guarded(call, slots, 8), 60)"
rag_with_gates_outside = changed(
    "rag_with_gates_outside", rag, {PREPARED: "guarded(remembered(call, 60), slots, 8)"}
)

RIGHT = {
    "6.1": (answered, answered_without_failed_keys),
    "6.2": (guarded, guarded_by_hand),
    "6.3": (
        remembered,
        remembered_by_hand,
        spelt_with_two_spaces,
        lists_in_capitals,
        a_dict_and_its_text,
    ),
    "6.4": (in_time,),
    "6.5": (rag, rag_with_gates_outside),
}

FAILURE = 'return {"answer": None, "failed": name, "error": error, "seconds": seconds}'
OF_61 = 'in_time(stages, {"rerank": 0.3}, 3, question)'

WRONG = {
    "6.1": {
        "lets_it_raise": (answered, {FAILURE: "raise"}, "takes all the others with it"),
        "shared_times": (
            answered, {"question, {}": "question, _shared"}, "share one record",
        ),
        "catches_everything": (
            answered, {"Exception": "BaseException"}, "a cancellation is taken for a failed stage",
        ),
        "without_the_failed_time": (
            answered, {"        finally:\n            seconds": "        seconds"},
            "the failed stage took time",
        ),
        goes_on_after_a_failure: "stop at a failure",
        "question_to_every_stage": (
            answered, {"stage(found)": "stage(question)"}, "what the stage before it returned",
        ),
        "does_not_say_where": (answered, {'"failed": name': '"failed": "rag"'}, "must know where"),
        "text_of_the_error": (
            answered, {'"error": error': '"error": str(error)'}, "the exception itself",
        ),
        "half_an_answer": (
            answered, {'{"answer": None': '{"answer": "so far"'}, "is no answer",
        ),
    },
    "6.2": {
        "no_gate": (guarded, {"=slots": "=1000"}, "more than `slots` calls"),
        gate_in_each_call: "make the semaphore (or gate) once",
        "one_at_a_time": (guarded, {"=slots": "=1"}, "slots stand empty"),
        each_for_itself: "the others go on knocking",
        "no_retry": (
            guarded, {"=attempts, retry_on=(Unavailable,)": "=1"}, "is to be made again",
        ),
        "refusals_only": (
            guarded, {", retry_on=(Unavailable,)": ""},
            "a failure of the provider (Unavailable) passes",
        ),
        "everything_again": (
            guarded, {"(Unavailable,)": "(Exception,)"}, "a BadRequest is as bad the second time",
        ),
        "one_attempt_more": (
            guarded, {"=attempts": "=attempts + 1"}, "`attempts` counts all calls",
        ),
        sleeps_inside: "leave the slot first",
        cools_down_too_long: "it takes too long",
    },
    "6.3": {
        keys_of_their_own: "capital letters, and of spaces",
        one_question_twice: "two inputs that differ",
        one_question: "two inputs that differ",
        no_questions: "hand over the questions, too",
        a_dict: "share what is under way",
        forgets_empties: "an empty result is a result",
        "keeps_for_ever": (remembered, {"ttl=ttl": "ttl=None"}, "from when it was made"),
        "keeps_nothing": (remembered, {"ttl=ttl": "ttl=1e-6"}, "is fetched again"),
        one_cache_for_all: "a cache for each",
        "key_of_repr": (
            remembered, {"1_000)": "1_000), key=repr"}, "equal inputs got two keys",
        ),
        "key_of_question_only": (
            remembered,
            {
                "1_000)": "1_000), key=lambda item:"
                ' item["question"] if isinstance(item, dict) else item',
            },
            "the key holds all of the input",
        ),
        by_hash: "unhashable type",
        "keeps_errors": (remembered, {"1_000": "1_000, negative_ttl=ttl"}, "an error is kept"),
        first_caller_computes: "a task of its own",
    },
    "6.4": {
        "no_budget": (
            in_time, {"+ budget": "+ 1e6", "(name, budget)": "(name, 1e6)"},
            "what has passed included",
        ),
        budget_for_each_stage: "what has passed included",
        "nothing_optional": (
            in_time,
            {"optional.get(name, budget)": "budget", "name not in optional or ": "True or "},
            "takes longer than its seconds is left out",
        ),
        "all_optional": (
            in_time, {"name not in optional or ": ""}, "only what is optional can be left out",
        ),
        "late_only": (
            in_time, {"or now() >= end": "or not isinstance(error, TimeoutError) or now() >= end"},
            "fails is left out like one that is late",
        ),
        never_reranks: "nothing was late",
        "says_nothing_of_it": (
            in_time, {"skipped.append(name)": "pass"}, 'its name stands in "skipped"',
        ),
        lets_it_out: "the answer is failed",
        "another_error": (
            in_time,
            {'"error": error': '"error": "too late" if isinstance(error, TimeoutError) else error'},
            "a TimeoutError stands",
        ),
        swallows_cancellation: "a cancellation is taken for a stage that is late",
    },
    "6.5": {
        rag_that_raises: "raises, or waits for ever",
        "rag_by_61": (rag, {OF_61: "answered(stages, question)"}, "raises, or waits for ever"),
        "rag_without_a_cache": (
            rag, {PREPARED: "guarded(call, slots, 8)"},
            "answer what was asked before without it",
        ),
        "rag_without_gates": (
            rag, {PREPARED: "remembered(call, 60)"}, "as many at once as it takes",
        ),
        "rag_with_wide_gates": (
            rag, {"20, 4, 8": "99, 99, 99", "slots, 8": "slots, 20"}, "refuses call after call",
        ),
        "rag_with_nothing_optional": (
            rag, {'{"rerank": 0.3}': "{}"}, "what is optional gets seconds of its own",
        ),
        "rag_without_attempts": (
            rag, {"slots, 8": "slots, 1"}, "it passes when the call is made again",
        ),
        rag_built_in_each_call: "refuses call after call",
        rag_that_never_reranks: "rerank before the chat",
        "rag_one_at_a_time": (
            rag, {"20, 4, 8": "1, 1, 1", "0.3": "2"}, "it hangs, or waits in line",
        ),
    },
}  # fmt: skip
