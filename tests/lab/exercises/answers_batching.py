"""Notebook 3: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import contextlib
import itertools

from exercise_support import breaks

from course_lib.batching import amap

# 3.1 -------------------------------------------------------------------------------------------


async def workers(search, queries, limit):
    answers, source = {}, enumerate(queries)

    async def worker():
        for number, query in source:
            answers[number] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return [answers[number] for number in range(len(answers))]


async def window_of_tasks(search, queries, limit):
    tasks, running = [], set()
    try:
        for query in queries:
            if len(running) == limit:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            tasks.append(asyncio.ensure_future(search(query)))
            running.add(tasks[-1])
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def by_the_library(search, queries, limit):
    return [outcome.value async for outcome in amap(search, queries, limit=limit, ordered=True)]


async def chunks(search, queries, limit):
    answers, source = [], iter(queries)
    while chunk := list(itertools.islice(source, limit)):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(search(query)) for query in chunk]
        answers += [task.result() for task in tasks]
    return answers


async def semaphore(search, queries, limit):
    slots = asyncio.Semaphore(limit)

    async def one(query):
        async with slots:
            return await search(query)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(query)) for query in queries]
    return [task.result() for task in tasks]


async def no_limit(search, queries, limit):
    return await asyncio.gather(*(search(query) for query in queries))


async def one_after_the_other(search, queries, limit):
    return [await search(query) for query in queries]


async def last_first(search, queries, limit):
    waiting = list(enumerate(itertools.islice(queries, 100)))
    answers = {}

    async def worker():
        while waiting:
            number, query = waiting.pop()
            answers[number] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return [answers[number] for number in range(len(answers))]


# 3.2 -------------------------------------------------------------------------------------------


async def serve(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        while len(batch) < size and not queue.empty():
            batch.append(queue.get_nowait())
        try:
            results = await process_batch([entry.item for entry in batch])
            pairs = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - for the callers
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)
        else:
            for entry, result in pairs:
                if not entry.answer.done():
                    entry.answer.set_result(result)


async def least_urgent_first(queue, process_batch, size):
    while True:
        waiting, backwards = [await queue.get()], asyncio.Queue()
        while not queue.empty():
            waiting.append(queue.get_nowait())
        for entry in reversed(waiting):
            backwards.put_nowait(entry)
        task = asyncio.create_task(serve(backwards, process_batch, size))
        await asyncio.wait([entry.answer for entry in waiting])
        task.cancel()


async def cannot_be_stopped(queue, process_batch, size):
    while True:
        try:
            await serve(queue, process_batch, size)
        except BaseException:  # noqa: BLE001, S112 - the mistake
            continue


async def does_nothing(queue, process_batch, size):
    await asyncio.sleep(0)


# 3.3 -------------------------------------------------------------------------------------------


async def isolate(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError as error:
        if len(items) == 1:
            return [error]
    half = len(items) // 2
    first = await isolate(process_batch, items[:half])
    return first + await isolate(process_batch, items[half:])


async def both_halves_at_once(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError as error:
        if len(items) == 1:
            return [error]
    half = len(items) // 2
    halves = (items[:half], items[half:])
    found = await asyncio.gather(*(both_halves_at_once(process_batch, each) for each in halves))
    return [*found[0], *found[1]]


async def with_a_stack(process_batch, items):
    results, waiting = [], [items]
    while waiting:
        batch = waiting.pop()
        try:
            results += await process_batch(batch)
        except ValueError as error:
            if len(batch) == 1:
                results.append(error)
            else:
                half = len(batch) // 2
                waiting += [batch[half:], batch[:half]]
    return results


async def one_call_each(process_batch, items):
    results = []
    for item in items:
        try:
            results += await process_batch([item])
        except ValueError as error:
            results.append(error)
    return results


async def one_by_one_after_an_error(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError:
        return await one_call_each(process_batch, items)


async def all_or_nothing(process_batch, items):
    return await process_batch(items)


async def keeps_the_refusal(process_batch, items):
    try:
        return await isolate(process_batch, items)
    except Exception as error:  # noqa: BLE001 - the mistake
        return [error] * len(items)


# 3.4 -------------------------------------------------------------------------------------------

EMPTY = ["a", "b", "c", "", "e"]


@breaks(EMPTY)
async def embedded(embed, texts, size):
    source, vectors = iter(texts), []
    while batch := list(itertools.islice(source, size)):
        vectors += await embed(batch)
    return vectors


@breaks([""])
async def with_a_mark_for_the_end(embed, texts, size):
    end, source, vectors = object(), iter(texts), []
    while (text := next(source, end)) is not end:
        vectors += await embed([text, *itertools.islice(source, size - 1)])
    return vectors


@breaks(EMPTY)
async def filled_up_one_by_one(embed, texts, size):
    vectors, batch = [], []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            vectors.extend(await embed(batch))
            batch = []
    if batch:
        vectors.extend(await embed(batch))
    return vectors


@breaks(["", "x"])
async def until_it_stops(embed, texts, size):
    source, vectors = iter(texts), []
    while True:
        try:
            first = next(source)
        except StopIteration:
            return vectors
        vectors = [*vectors, *await embed([first, *itertools.islice(source, size - 1)])]


def in_batches(texts, size):
    source = iter(texts)
    return iter(lambda: list(itertools.islice(source, size)), [])


@breaks(EMPTY)
async def by_iter_with_an_end(embed, texts, size):
    return [vector for batch in in_batches(texts, size) for vector in await embed(batch)]


class Batches:
    def __init__(self, texts, size):
        self.source, self.size = iter(texts), size

    def __iter__(self):
        return self

    def __next__(self):
        batch = list(itertools.islice(self.source, self.size))
        if not batch:
            raise StopIteration
        return batch


@breaks(EMPTY)
async def with_a_class(embed, texts, size):
    vectors = []
    for batch in Batches(texts, size):
        vectors += await embed(batch)
    return vectors


@breaks(EMPTY)
async def by_recursion(embed, texts, size):
    source = iter(texts)
    batch = [*itertools.islice(source, size)]
    return await embed(batch) + await by_recursion(embed, source, size) if batch else []


@breaks(EMPTY)
async def with_a_filler(embed, texts, size):
    missing, vectors = object(), []
    for row in itertools.zip_longest(*[iter(texts)] * size, fillvalue=missing):
        vectors += await embed([text for text in row if text is not missing])
    return vectors


@breaks(EMPTY)
async def chunks_by_the_library(embed, texts, size):
    async with contextlib.aclosing(by_size(texts, size)) as batches:
        return [vector async for batch in batches for vector in await embed(batch)]


async def by_size(texts, size):
    for batch in in_batches(texts, size):
        yield batch


@breaks(["a", "b", "c", "d", "", "f"])
async def an_input_that_shows_nothing(embed, texts, size):
    return await embedded(embed, texts, size)


@breaks(("", "a"))
async def an_input_of_another_kind(embed, texts, size):
    return await embedded(embed, texts, size)


@breaks(EMPTY)
async def not_mended(embed, texts, size):
    source, vectors = iter(texts), []
    while text := next(source, None):
        batch = [text, *itertools.islice(source, size - 1)]
        vectors += await embed(batch)
    return vectors


@breaks(EMPTY)
async def only_none_ends_it(embed, texts, size):
    source, vectors = iter(texts), []
    while (text := next(source, None)) is not None:
        vectors += await embed([text, *itertools.islice(source, size - 1)])
    return vectors


@breaks(EMPTY)
async def empty_ones_left_out(embed, texts, size):
    return await embedded(embed, filter(None, texts), size)


@breaks(EMPTY)
async def the_rest_lost(embed, texts, size):
    vectors = []
    for batch in zip(*[iter(texts)] * size, strict=False):
        vectors += await embed(list(batch))
    return vectors


@breaks(EMPTY)
async def all_in_one(embed, texts, size):
    return await embed(list(texts)) if (texts := list(texts)) else []


@breaks(EMPTY)
async def one_more_call(embed, texts, size):
    source, vectors, batch = iter(texts), [], [...]
    while batch:
        batch = list(itertools.islice(source, size))
        vectors += await embed(batch)
    return vectors


@breaks(EMPTY)
async def a_list_first(embed, texts, size):
    texts = list(texts)
    parts = [texts[at : at + size] for at in range(0, len(texts), size)]
    return [vector for part in parts for vector in await embed(part)]


@breaks(EMPTY)
async def empty_vectors_left_out(embed, texts, size):
    return [vector for vector in await embedded(embed, texts, size) if vector]


@breaks(EMPTY)
async def last_batch_first(embed, texts, size):
    vectors = []
    for batch in in_batches(texts, size):
        vectors = await embed(batch) + vectors
    return vectors


@breaks(EMPTY)
async def nothing_comes_back(embed, texts, size):
    await embedded(embed, texts, size)


RIGHT = {
    "3.1": (workers, window_of_tasks, by_the_library),
    "3.2": (serve,),
    "3.3": (isolate, both_halves_at_once, with_a_stack),
    "3.4": (
        embedded,
        with_a_mark_for_the_end,
        filled_up_one_by_one,
        until_it_stops,
        by_iter_with_an_end,
        with_a_class,
        by_recursion,
        with_a_filler,
        chunks_by_the_library,
    ),
}
WORKERS = """async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())"""
ANSWER = "answers[number] = await search(query)"
SWALLOWED = """try:
                answers[number] = await search(query)
            except Exception:
                answers[number] = None"""
TOLD = """for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)"""
ALONE = "if len(items) == 1:\n            return [error]"

WRONG = {
    "3.1": {
        chunks: "as soon as *any* ends",
        semaphore: "reads the whole source",
        no_limit: "more than 4 at once",
        one_after_the_other: "only 1 at once",
        "as_they_end": (
            workers, {"[answers[number] for number in range(len(answers))]": "[*answers.values()]"},
            "in which they came",
        ),
        "nothing_returned": (workers, {"return ": ""}, "returns None"),
        last_first: "in the order in which they come",
        "left_running": (
            workers, {WORKERS: "await asyncio.gather(*(worker() for _ in range(limit)))"},
            "go on for nobody",
        ),
        "errors_swallowed": (workers, {ANSWER: SWALLOWED}, "never learns"),
    },
    "3.2": {
        "one_by_one": (serve, {"< size": "< 1"}, "each goes alone"),
        "all_that_waits": (serve, {"len(batch) < size and ": ""}, "at most `size` items"),
        "waits_for_company": (
            serve, {" and not queue.empty()": "", "queue.get_nowait()": "await queue.get()"},
            "waits for company",
        ),
        least_urgent_first: "most urgent first",
        "results_mixed_up": (serve, {"batch, results,": "batch, results[::-1],"}, "its own result"),
        "over_after_an_error": (serve, {TOLD: "raise"}, "belongs to the callers"),
        "over_with_its_callers_told": (
            serve, {TOLD: f"{TOLD}\n            return"}, "waits for ever",
        ),
        "too_few_not_noticed": (serve, {"strict=True": "strict=False"}, "strict=True"),
        "stumbles_over_who_left": (
            serve, {"if not entry.answer.done():\n                    ": ""}, "entry.answer.done()",
        ),
        cannot_be_stopped: "ignored that they were cancelled",
        "ends_a_second_late": (
            serve,
            {"batch = [await queue.get()]": "try:\n            batch = [await queue.get()]\n"
             "        except asyncio.CancelledError:\n            await asyncio.sleep(1)\n"
             "            raise"},
            "cannot be stopped",
        ),
        does_nothing: "nothing is processed",
    },
    "3.3": {
        one_call_each: "call it whole first",
        one_by_one_after_an_error: "halve the batch",
        all_or_nothing: "one bad item fails all",
        "an_error_for_each": (
            isolate, {ALONE: "return [error] * len(items)"}, "have results as well",
        ),
        "each_half_backwards": (
            isolate, {"return await process_batch(items)": "return (await process_batch(items))[::-1]"},
            "in the order of the items",
        ),
        "halves_in_the_wrong_order": (
            isolate,
            {"[:half]": "[ half:]", "[half:]": "[:half]", "[ half:]": "[half:]"},
            "out of their places",
        ),
        "bad_items_left_out": (isolate, {"return [error]": "return []"}, "out of their places"),
        "bad_items_as_none": (
            isolate, {"return [error]": "return [None]"}, "in the place of the bad item",
        ),
        "halves_whatever_happens": (
            isolate,
            {
                "ValueError as error": "Exception as error",
                "len(items) == 1": "len(items) == 1 and not isinstance(error, ValueError):\n"
                "            raise\n        if len(items) == 1",
            },
            "halve only after `ValueError`",
        ),
        keeps_the_refusal: "let `RateLimited` through",
        "without_end": (
            isolate, {ALONE: "pass", "len(items) // 2": "(len(items) + 1) // 2"},
            "again and again",
        ),
    },
    "3.4": {
        an_input_that_shows_nothing: "loses nothing",
        an_input_of_another_kind: "hand over a list of texts",
        not_mended: "some texts have no vector",
        only_none_ends_it: "some texts have no vector",
        empty_ones_left_out: "some texts have no vector",
        the_rest_lost: "some texts have no vector",
        all_in_one: "each call takes `size` texts",
        one_more_call: "embeds nothing",
        a_list_first: "reads more of `texts`",
        empty_vectors_left_out: "some texts have no vector",
        last_batch_first: "each in its place",
        nothing_comes_back: "is a `return` missing",
    },
}  # fmt: skip
