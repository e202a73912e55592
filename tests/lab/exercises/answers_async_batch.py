"""Notebook 1: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import sys  # noqa: F401 - slips use these three
from urllib.parse import quote  # noqa: F401

import aiohttp  # noqa: F401

from course_lib.errors import Unavailable

# 1.1 -------------------------------------------------------------------------------------------


async def fetch_all(search, queries):
    return await asyncio.gather(*(search(query) for query in queries))


async def in_pairs(search, queries):
    answers = []
    for start in range(0, len(queries), 2):
        answers += await asyncio.gather(*(search(query) for query in queries[start : start + 2]))
    return answers


def not_async(search, queries):
    return [search(query) for query in queries]


async def cancels_itself(search, queries):
    task = asyncio.create_task(search(queries[0]))
    task.cancel()
    return await task


async def in_a_group(search, queries):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(search(query)) for query in queries]
    return [task.result() for task in tasks]


# 1.2 -------------------------------------------------------------------------------------------


async def ask(session, url, query):
    async with session.get(f"{url}/search", params={"q": query}) as response:
        response.raise_for_status()
        return [found["id"] for found in (await response.json())["results"]]


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


async def other_parameter(session, url, query):
    async with session.get(f"{url}/search", params={"query": query}) as response:
        return [found["id"] for found in (await response.json()).get("results", [])]


async def asks_twice(session, url, query):
    await ask(session, url, query)
    return await ask(session, url, query)


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


async def timeout_first(search, queries, limit, timeout):  # noqa: ASYNC109
    slots = asyncio.Semaphore(limit)

    async def outcome(query):
        try:
            async with asyncio.timeout(timeout), slots:
                return await search(query)
        except Exception as error:  # noqa: BLE001
            return error

    return await asyncio.gather(*(outcome(query) for query in queries))


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
ALL = "await asyncio.gather(*(search(query) for query in queries))"
IDS = 'return [found["id"] for found in (await response.json())["results"]]'
CHECKED = f"response.raise_for_status()\n        {IDS}"
LENIENT = 'return [found["id"] for found in (await response.json()).get("results", [])]'
EACH = "await asyncio.gather(*(outcome(query) for query in queries))"

WRONG = {
    "1.1": {
        "in_a_loop": (
            fetch_all, {ALL: "[await search(query) for query in queries]"},
            "the calls wait for one another",
        ),
        "as_they_come": (
            fetch_all, {ALL: "[await each for each in asyncio.as_completed(map(search, queries))]"},
            "in the order in which they came",
        ),
        "never_awaited": (
            fetch_all, {ALL: "[search(query) for query in queries]"},
            "something is not awaited",
        ),
        "tasks_not_awaited": (
            fetch_all, {ALL: "[asyncio.create_task(search(query)) for query in queries]"},
            "something is not awaited",
        ),
        not_async: "something is not awaited",
        "no_return": (fetch_all, {"return ": ""}, "is a `return` missing?"),
        in_pairs: "only 2 calls run at once",
        cancels_itself: "CancelledError",
        "leaves": (fetch_all, {ALL: 'sys.exit("enough")'}, "SystemExit"),
        "asked_twice": (fetch_all, {"return ": f"{ALL}\n    return "}, "exactly once"),
        "in_a_thread": (
            fetch_all,
            {ALL: "await asyncio.to_thread(lambda: [asyncio.run(search(q)) for q in queries])"},
            "thread",
        ),
        "lost_gather": (fetch_all, {"await ": ""}, "return a list"),
        "never_ends": (fetch_all, {ALL: "await asyncio.Event().wait()"}, "wait"),
    },
    "1.2": {
        "encoded_twice": (ask, {'{"q": query}': '{"q": quote(query)}'}, "encoded twice"),
        other_parameter: "its parameter is called `q`",
        asks_twice: "one request",
        "some_statuses": (
            ask,
            {
                CHECKED: f"if response.status in (429, 500):\n            raise RuntimeError\n"
                f"        {LENIENT}",
            },
            "a 400 was taken for an answer",
        ),
        "pasted": (
            ask, {'{url}/search", params={"q": query}': '{url}/search?q={query}"'},
            "`params={'q': query}`",
        ),
        "own_session": (
            ask, {"session.get(": "aiohttp.ClientSession() as own, own.get("},
            "a new connection for each call",
        ),
        "status_ignored": (ask, {CHECKED: LENIENT}, "a 500 was taken for an answer"),
        "error_from_the_body": (ask, {CHECKED: IDS}, "a 500 was taken for an answer"),
        "whole_answer": (ask, {IDS: "return await response.json()"}, "return the ids"),
    },
    "1.3": {
        workers_left: "tasks go on after the function has returned",
        own_numbers: "the arguments `limit` and `timeout` are to be used",
        "twice_the_timeout": (
            outcomes, {"timeout(timeout)": "timeout(2 * timeout)"}, "from the moment it starts",
        ),
        "swallows_cancellation": (
            with_workers, {"except Exception": "except BaseException"},
            "a cancellation is taken for a failure",
        ),
        "other_errors": (
            outcomes,
            {"return error": 'return ValueError("?") if isinstance(error, Unavailable) else error'},
            "put the exception of a failed call in its place",
        ),
        by_completion: "keep the order of the questions",
        "no_limit": (
            outcomes, {"Semaphore(limit)": "Semaphore(len(queries))"},
            "at most `limit` calls at once",
        ),
        "no_timeout": (outcomes, {"timeout(timeout)": "timeout(None)"}, "no timer"),
        timeout_first: "start the timeout after the slot",
        "one_failure_fails_all": (outcomes, {"return error": "raise"}, "it raised Unavailable"),
        "failures_dropped": (
            outcomes, {EACH: f"[each for each in {EACH} if not isinstance(each, Exception)]"},
            "return a list with an answer for each question",
        ),
        "failures_as_none": (
            outcomes, {"return error": "return None"},
            "put the exception of a failed call in its place",
        ),
        in_chunks: "slots stand empty",
        one_timeout_for_all: "at most `limit` calls at once",
    },
}  # fmt: skip
