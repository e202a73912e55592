"""Notebook 1: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import sys
from urllib.parse import quote

import aiohttp

from course_lib.errors import Unavailable

# 1.1 -------------------------------------------------------------------------------------------


async def fetch_all(search, queries):
    return await asyncio.gather(*(search(query) for query in queries))


async def in_a_loop(search, queries):
    return [await search(query) for query in queries]


async def as_they_come(search, queries):
    return [await each for each in asyncio.as_completed([search(query) for query in queries])]


async def never_awaited(search, queries):
    return [search(query) for query in queries]


async def tasks_not_awaited(search, queries):
    return [asyncio.create_task(search(query)) for query in queries]


async def no_return(search, queries):
    await asyncio.gather(*(search(query) for query in queries))


async def in_pairs(search, queries):
    answers = []
    for start in range(0, len(queries), 2):
        answers += await asyncio.gather(*(search(query) for query in queries[start : start + 2]))
    return answers


async def asked_twice(search, queries):
    await asyncio.gather(*(search(query) for query in queries))
    return await asyncio.gather(*(search(query) for query in queries))


async def in_a_thread(search, queries):
    return await asyncio.to_thread(lambda: [asyncio.run(search(query)) for query in queries])


async def lost_gather(search, queries):
    return asyncio.gather(*(search(query) for query in queries))


async def never_ends(search, queries):
    await asyncio.Event().wait()


def not_async(search, queries):
    return [search(query) for query in queries]


async def cancels_itself(search, queries):
    task = asyncio.create_task(search(queries[0]))
    task.cancel()
    return await task


async def leaves(search, queries):
    sys.exit("enough")


async def in_a_group(search, queries):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(search(query)) for query in queries]
    return [task.result() for task in tasks]


# 1.2 -------------------------------------------------------------------------------------------


async def ask(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        response.raise_for_status()
        return [found["id"] for found in (await response.json())["results"]]


async def pasted(session, url, query):
    async with session.get(f"{url}/search?q={query}") as response:
        response.raise_for_status()
        return [found["id"] for found in (await response.json())["results"]]


async def own_session(session, url, query):
    async with aiohttp.ClientSession() as own:
        return await ask(own, url, query)


async def status_ignored(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        answer = await response.json()
        return [found["id"] for found in answer.get("results", [])]


async def error_from_the_body(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        return [found["id"] for found in (await response.json())["results"]]


async def whole_answer(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        response.raise_for_status()
        return await response.json()


async def own_check(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
        return [found["id"] for found in (await response.json())["results"]]


async def asserts(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        assert response.status == 200
        return [found["id"] for found in (await response.json())["results"]]


async def raises_its_own(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        if not response.ok:
            raise Unavailable(f"answered {response.status}")
        return [found["id"] for found in (await response.json())["results"]]


async def encoded_twice(session, url, query):
    return await ask(session, url, quote(query))


async def other_parameter(session, url, query):
    async with session.get(f"{url}/search", params={"query": query}) as response:
        return [found["id"] for found in (await response.json()).get("results", [])]


async def asks_twice(session, url, query):
    await ask(session, url, query)
    return await ask(session, url, query)


async def some_statuses(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        if response.status in (429, 500):
            raise RuntimeError
        return [found["id"] for found in (await response.json()).get("results", [])]


# 1.3 -------------------------------------------------------------------------------------------


async def outcomes(search, queries, limit, timeout):  # noqa: ASYNC109 - the exercise's parameters
    slots = asyncio.Semaphore(limit)

    async def outcome(query):
        async with slots:
            try:
                async with asyncio.timeout(timeout):
                    return await search(query)
            except Exception as error:  # noqa: BLE001
                return error

    return await asyncio.gather(*(outcome(query) for query in queries))


async def no_limit(search, queries, limit, timeout):  # noqa: ASYNC109
    return await outcomes(search, queries, len(queries), timeout)


async def no_timeout(search, queries, limit, timeout):  # noqa: ASYNC109
    return await outcomes(search, queries, limit, None)


async def timeout_first(search, queries, limit, timeout):  # noqa: ASYNC109
    slots = asyncio.Semaphore(limit)

    async def outcome(query):
        try:
            async with asyncio.timeout(timeout), slots:
                return await search(query)
        except Exception as error:  # noqa: BLE001
            return error

    return await asyncio.gather(*(outcome(query) for query in queries))


async def one_failure_fails_all(search, queries, limit, timeout):  # noqa: ASYNC109
    slots = asyncio.Semaphore(limit)

    async def outcome(query):
        async with slots, asyncio.timeout(timeout):
            return await search(query)

    return await asyncio.gather(*(outcome(query) for query in queries))


async def failures_dropped(search, queries, limit, timeout):  # noqa: ASYNC109
    found = await outcomes(search, queries, limit, timeout)
    return [item for item in found if not isinstance(item, Exception)]


async def failures_as_none(search, queries, limit, timeout):  # noqa: ASYNC109
    found = await outcomes(search, queries, limit, timeout)
    return [None if isinstance(item, Exception) else item for item in found]


async def in_chunks(search, queries, limit, timeout):  # noqa: ASYNC109
    found = []
    for start in range(0, len(queries), limit):
        found += await outcomes(search, queries[start : start + limit], limit, timeout)
    return found


async def one_timeout_for_all(search, queries, limit, timeout):  # noqa: ASYNC109
    tasks = [asyncio.create_task(outcomes(search, [q], limit, None)) for q in queries]
    await asyncio.wait(tasks, timeout=timeout)
    return [task.result()[0] if task.done() else TimeoutError() for task in tasks]


async def with_workers(search, queries, limit, timeout):  # noqa: ASYNC109
    found = [None] * len(queries)
    todo = iter(enumerate(queries))

    async def worker():
        for place, query in todo:
            try:
                async with asyncio.timeout(timeout):
                    found[place] = await search(query)
            except Exception as error:  # noqa: BLE001
                found[place] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return found


async def workers_left(search, queries, limit, timeout):  # noqa: ASYNC109
    queue, found = asyncio.Queue(), [None] * len(queries)
    for pair in enumerate(queries):
        queue.put_nowait(pair)

    async def worker():
        while True:
            place, query = await queue.get()
            try:
                async with asyncio.timeout(timeout):
                    found[place] = await search(query)
            except Exception as error:  # noqa: BLE001
                found[place] = error
            queue.task_done()

    found.append([asyncio.create_task(worker()) for _ in range(limit)])
    await queue.join()
    return found[:-1]


async def own_numbers(search, queries, limit, timeout):  # noqa: ASYNC109
    return await outcomes(search, queries, 4, 0.5)


async def twice_the_timeout(search, queries, limit, timeout):  # noqa: ASYNC109
    return await outcomes(search, queries, limit, 2 * timeout)


async def swallows_cancellation(search, queries, limit, timeout):  # noqa: ASYNC109
    found, todo = [None] * len(queries), iter(enumerate(queries))

    async def worker():
        for place, query in todo:
            try:
                async with asyncio.timeout(timeout):
                    found[place] = await search(query)
            except BaseException as error:  # noqa: BLE001
                found[place] = error

    await asyncio.gather(*(worker() for _ in range(limit)))
    return found


async def other_errors(search, queries, limit, timeout):  # noqa: ASYNC109
    found = await outcomes(search, queries, limit, timeout)
    return [ValueError("failed") if isinstance(item, Unavailable) else item for item in found]


async def by_completion(search, queries, limit, timeout):  # noqa: ASYNC109
    slots, found = asyncio.Semaphore(limit), []

    async def outcome(query):
        async with slots:
            try:
                async with asyncio.timeout(timeout):
                    found.append(await search(query))
            except Exception as error:  # noqa: BLE001
                found.append(error)

    await asyncio.gather(*(outcome(query) for query in queries))
    return found


RIGHT = {
    "1.1": (fetch_all, in_a_group),
    "1.2": (ask, own_check, asserts, raises_its_own),
    "1.3": (outcomes, with_workers),
}
WRONG = {
    "1.1": {
        in_a_loop: "the calls wait for one another",
        as_they_come: "in the order in which they came",
        never_awaited: "something is not awaited",
        tasks_not_awaited: "something is not awaited",
        not_async: "something is not awaited",
        no_return: "is a `return` missing?",
        in_pairs: "only 2 calls run at once",
        cancels_itself: "CancelledError",
        leaves: "SystemExit",
        asked_twice: "exactly once",
        in_a_thread: "thread",
        lost_gather: "return a list",
        never_ends: "wait",
    },
    "1.2": {
        encoded_twice: "encoded twice",
        other_parameter: "its parameter is called `q`",
        asks_twice: "one request",
        some_statuses: "a 400 was taken for an answer",
        pasted: "`params={'q': query}`",
        own_session: "a new connection for each call",
        status_ignored: "a 500 was taken for an answer",
        error_from_the_body: "a 500 was taken for an answer",
        whole_answer: "return the ids",
    },
    "1.3": {
        workers_left: "tasks go on after the function has returned",
        own_numbers: "the arguments `limit` and `timeout` are to be used",
        twice_the_timeout: "from the moment it starts",
        swallows_cancellation: "a cancellation is taken for a failure",
        other_errors: "put the exception of a failed call in its place",
        by_completion: "keep the order of the questions",
        no_limit: "at most `limit` calls at once",
        no_timeout: "no timer",
        timeout_first: "start the timeout after the slot",
        one_failure_fails_all: "it raised Unavailable",
        failures_dropped: "return a list with an answer for each question",
        failures_as_none: "put the exception of a failed call in its place",
        in_chunks: "slots stand empty",
        one_timeout_for_all: "at most `limit` calls at once",
    },
}
