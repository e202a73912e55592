"""Notebook 3: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import itertools

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


async def as_they_end(search, queries, limit):
    answers, source = [], iter(queries)

    async def worker():
        for query in source:
            answers.append(await search(query))  # noqa: PERF401 - the workers share it

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return answers


async def nothing_returned(search, queries, limit):
    await workers(search, queries, limit)


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


async def left_running(search, queries, limit):
    answers, source = {}, enumerate(queries)

    async def worker():
        for number, query in source:
            answers[number] = await search(query)

    await asyncio.gather(*(worker() for _ in range(limit)))
    return [answers[number] for number in range(len(answers))]


async def errors_swallowed(search, queries, limit):
    answers, source = {}, enumerate(queries)

    async def worker():
        for number, query in source:
            try:
                answers[number] = await search(query)
            except Exception:  # noqa: BLE001 - the mistake
                answers[number] = None

    await asyncio.gather(*(worker() for _ in range(limit)))
    return [answers[number] for number in range(len(answers))]


# 3.2 -------------------------------------------------------------------------------------------


async def one_batch(process_batch, batch):
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


async def take(queue, size):
    batch = [await queue.get()]
    while len(batch) < size and not queue.empty():
        batch.append(queue.get_nowait())
    return batch


async def serve(queue, process_batch, size):
    while True:
        await one_batch(process_batch, await take(queue, size))


async def one_by_one(queue, process_batch, size):
    while True:
        await one_batch(process_batch, [await queue.get()])


async def all_that_waits(queue, process_batch, size):
    while True:
        await one_batch(process_batch, await take(queue, 1_000))


async def waits_for_company(queue, process_batch, size):
    while True:
        await one_batch(process_batch, [await queue.get() for _ in range(size)])


async def least_urgent_first(queue, process_batch, size):
    while True:
        batch = await take(queue, 1_000)
        batch.reverse()
        for number in range(0, len(batch), size):
            await one_batch(process_batch, batch[number : number + size])


async def results_mixed_up(queue, process_batch, size):
    async def reversed_results(items):
        return (await process_batch(items))[::-1]

    await serve(queue, reversed_results, size)


async def over_after_an_error(queue, process_batch, size):
    while True:
        batch = await take(queue, size)
        results = await process_batch([entry.item for entry in batch])
        for entry, result in zip(batch, results, strict=True):
            entry.answer.set_result(result)


async def over_with_its_callers_told(queue, process_batch, size):
    while True:
        batch = await take(queue, size)
        try:
            results = await process_batch([entry.item for entry in batch])
            for entry, result in zip(batch, results, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(result)
        except ValueError as error:
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)
            return


async def too_few_not_noticed(queue, process_batch, size):
    while True:
        batch = await take(queue, size)
        try:
            results = await process_batch([entry.item for entry in batch])
        except Exception as error:  # noqa: BLE001 - for the callers
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)
            continue
        for entry, result in zip(batch, results, strict=False):
            if not entry.answer.done():
                entry.answer.set_result(result)


async def stumbles_over_who_left(queue, process_batch, size):
    while True:
        batch = await take(queue, size)
        try:
            results = await process_batch([entry.item for entry in batch])
            pairs = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - for the callers
            for entry in batch:
                entry.answer.set_exception(error)
        else:
            for entry, result in pairs:
                entry.answer.set_result(result)


async def cannot_be_stopped(queue, process_batch, size):
    while True:
        try:
            await one_batch(process_batch, await take(queue, size))
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


async def an_error_for_each(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError as error:
        return [error] * len(items)


async def halves_in_the_wrong_order(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError as error:
        if len(items) == 1:
            return [error]
    half = len(items) // 2
    last = await halves_in_the_wrong_order(process_batch, items[half:])
    return last + await halves_in_the_wrong_order(process_batch, items[:half])


async def bad_items_left_out(process_batch, items):
    return [each for each in await isolate(process_batch, items) if isinstance(each, int)]


async def bad_items_as_none(process_batch, items):
    found = await isolate(process_batch, items)
    return [each if isinstance(each, int) else None for each in found]


async def halves_whatever_happens(process_batch, items):
    try:
        return await process_batch(items)
    except Exception as error:
        if len(items) == 1:
            if isinstance(error, ValueError):
                return [error]
            raise
    half = len(items) // 2
    first = await halves_whatever_happens(process_batch, items[:half])
    return first + await halves_whatever_happens(process_batch, items[half:])


async def keeps_the_refusal(process_batch, items):
    try:
        return await isolate(process_batch, items)
    except Exception as error:  # noqa: BLE001 - the mistake
        return [error] * len(items)


async def without_end(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError:
        half = (len(items) + 1) // 2
        first = await without_end(process_batch, items[:half])
        return first + await without_end(process_batch, items[half:])


RIGHT = {
    "3.1": (workers, window_of_tasks, by_the_library),
    "3.2": (serve,),
    "3.3": (isolate, both_halves_at_once, with_a_stack),
}
WRONG = {
    "3.1": {
        chunks: "as soon as *any* ends",
        semaphore: "reads the whole source",
        no_limit: "more than 4 at once",
        one_after_the_other: "only 1 at once",
        as_they_end: "in which they came",
        nothing_returned: "returns None",
        last_first: "in the order in which they come",
        left_running: "go on for nobody",
        errors_swallowed: "never learns",
    },
    "3.2": {
        one_by_one: "each goes alone",
        all_that_waits: "at most `size` items",
        waits_for_company: "waits for company",
        least_urgent_first: "most urgent first",
        results_mixed_up: "its own result",
        over_after_an_error: "belongs to the callers",
        over_with_its_callers_told: "waits for ever",
        too_few_not_noticed: "strict=True",
        stumbles_over_who_left: "entry.answer.done()",
        cannot_be_stopped: "ignored that they were cancelled",
        does_nothing: "nothing is processed",
    },
    "3.3": {
        one_call_each: "call it whole first",
        one_by_one_after_an_error: "halve the batch",
        all_or_nothing: "one bad item fails all",
        an_error_for_each: "have results as well",
        halves_in_the_wrong_order: "out of their places",
        bad_items_left_out: "out of their places",
        bad_items_as_none: "in the place of the bad item",
        halves_whatever_happens: "halve only after `ValueError`",
        keeps_the_refusal: "let `RateLimited` through",
        without_end: "again and again",
    },
}
