"""Notebook 1: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import contextlib
import sys  # noqa: F401 - slips use these three
from urllib.parse import quote  # noqa: F401

import aiohttp  # noqa: F401
from exercise_support import breaks

from course_lib.errors import Unavailable

# 1.1 -------------------------------------------------------------------------------------------


async def report(search, read, questions):
    async def pages(question):
        return await asyncio.gather(*(read(page) for page in await search(question)))

    found = await asyncio.gather(*(pages(question) for question in questions))
    return dict(zip(questions, found, strict=True))


async def in_a_group(search, read, questions):
    async def pages(question):
        ids = await search(question)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(page)) for page in ids]
        return [task.result() for task in tasks]

    async with asyncio.TaskGroup() as group:
        tasks = {question: group.create_task(pages(question)) for question in questions}
    return {question: task.result() for question, task in tasks.items()}


async def as_it_was(search, read, questions):
    pages = {}
    for question in questions:
        ids = await search(question)
        pages[question] = [await read(page) for page in ids]
    return pages


async def all_searches_first(search, read, questions):
    found = await asyncio.gather(*map(search, questions))
    pages = [await asyncio.gather(*map(read, ids)) for ids in found]
    return dict(zip(questions, pages, strict=True))


async def in_two_waves(search, read, questions):
    found = await asyncio.gather(*map(search, questions))
    pages = await asyncio.gather(*(asyncio.gather(*map(read, ids)) for ids in found))
    return dict(zip(questions, pages, strict=True))


async def ten_at_once(search, read, questions):
    slots = asyncio.Semaphore(10)

    async def pages(question):
        async with slots:
            return await asyncio.gather(*map(read, await search(question)))

    found = await asyncio.gather(*map(pages, questions))
    return dict(zip(questions, found, strict=True))


async def as_they_come(search, read, questions):
    report = {}

    async def one(question):
        report[question] = await asyncio.gather(*map(read, await search(question)))

    await asyncio.gather(*map(one, questions))
    return report


async def cancels_itself(search, read, questions):
    task = asyncio.create_task(search(questions[0]))
    task.cancel()
    return await task


def not_async(search, read, questions):
    return {question: search(question) for question in questions}


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


# 1.4 -------------------------------------------------------------------------------------------

SHIFTED = ["", "What is jitter?"]


@breaks(SHIFTED)
async def by_question(search, questions):
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    pairs = zip(questions, found, strict=True)
    return {question: answer for question, answer in pairs if not isinstance(answer, Exception)}


@breaks(["a", "", "b", "c"])
async def in_pairs(search, questions):
    async def pair(question):
        return question, await search(question)

    found = await asyncio.gather(*map(pair, questions), return_exceptions=True)
    return dict(each for each in found if not isinstance(each, Exception))


@breaks(["", "", "x"])
async def with_a_helper(search, questions):
    failed = object()

    async def one(question):
        try:
            return await search(question)
        except Exception:  # noqa: BLE001
            return failed

    found = await asyncio.gather(*map(one, questions))
    return {q: found[place] for place, q in enumerate(questions) if found[place] is not failed}


@breaks(SHIFTED)
async def in_a_loop(search, questions):
    tasks = [asyncio.create_task(search(question)) for question in questions]
    answers = {}
    for question, task in zip(questions, tasks, strict=True):
        try:
            answers[question] = await task
        except Exception:  # noqa: BLE001, S112
            continue
    return answers


@breaks(SHIFTED)
async def by_tasks(search, questions):
    tasks = {question: asyncio.create_task(search(question)) for question in questions}
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    return {question: task.result() for question, task in tasks.items() if not task.exception()}


@breaks(SHIFTED)
async def by_waiting(search, questions):
    tasks = {asyncio.ensure_future(search(question)): question for question in questions}
    done, _ = await asyncio.wait(tasks)
    return {tasks[task]: task.result() for task in done if task.exception() is None}


@breaks(SHIFTED)
async def as_they_end(search, questions):
    async def one(question):
        try:
            return question, await search(question), True
        except Exception:  # noqa: BLE001
            return question, None, False

    ended = [await each for each in asyncio.as_completed(map(one, questions))]
    return {question: answer for question, answer, good in ended if good}


@breaks(SHIFTED)
async def in_a_task_group(search, questions):
    answers = {}

    async def one(question):
        with contextlib.suppress(Exception):
            answers[question] = await search(question)

    async with asyncio.TaskGroup() as group:
        for question in questions:
            group.create_task(one(question))
    return answers


@breaks(SHIFTED)
async def into_a_dict(search, questions):
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    answers = dict(zip(questions, found, strict=True))
    for question in [q for q, answer in answers.items() if isinstance(answer, Exception)]:
        del answers[question]
    return answers


@breaks(SHIFTED)
async def as_given(search, questions):
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    answers = [answer for answer in found if not isinstance(answer, Exception)]
    return dict(zip(questions, answers, strict=False))


RIGHT = {
    "1.1": (report, in_a_group),
    "1.2": (ask, own_check, asserts, raises_its_own),
    "1.3": (outcomes, with_workers),
    "1.4": (
        by_question,
        in_pairs,
        with_a_helper,
        in_a_loop,
        by_tasks,
        by_waiting,
        as_they_end,
        in_a_task_group,
        into_a_dict,
    ),
}
PAGES = "await asyncio.gather(*(read(page) for page in await search(question)))"
DONE = "dict(zip(questions, found, strict=True))"
IDS = 'return [found["id"] for found in (await response.json())["results"]]'
CHECKED = f"response.raise_for_status()\n        {IDS}"
LENIENT = 'return [found["id"] for found in (await response.json()).get("results", [])]'
EACH = "await asyncio.gather(*(outcome(query) for query in queries))"

WRONG = {
    "1.1": {
        as_it_was: "the questions wait for one another",
        all_searches_first: "before the last search has ended",
        in_two_waves: "before the last search has ended",
        ten_at_once: "only 10 questions are under way at once",
        as_they_come: "in their order",
        "pages_one_by_one": (
            report, {PAGES: "[await read(page) for page in await search(question)]"},
            "the pages of a question wait for one another",
        ),
        "false_pages_dropped": (
            report, {PAGES: f"[page for page in {PAGES} if page]"}, "are pages, too",
        ),
        "empty_questions_dropped": (
            report, {DONE: f"{{q: pages for q, pages in {DONE}.items() if pages}}"},
            "also one that finds nothing",
        ),
        "pages_as_they_come": (
            report,
            {
                PAGES: "[await each for each in "
                "asyncio.as_completed(map(read, await search(question)))]",
            },
            "in the order of their names",
        ),
        "pages_not_awaited": (
            report, {PAGES: "[read(page) for page in await search(question)]"},
            "something is not awaited",
        ),
        not_async: "something is not awaited",
        "no_return": (report, {"return dict": "dict"}, "is a `return` missing?"),
        "pairs": (report, {DONE: f"list({DONE}.items())"}, "in place of a dict"),
        "asked_twice": (
            report, {"found = ": "await asyncio.gather(*map(search, questions))\n    found = "},
            "more often than `report` does",
        ),
        "fails_on_nothing": (report, {"found = ": "questions[0]\n    found = "}, "IndexError"),
        cancels_itself: "CancelledError",
        "leaves": (report, {"found = ": 'sys.exit("enough")\n    found = '}, "SystemExit"),
        "in_a_thread": (
            report, {PAGES: "await asyncio.to_thread(lambda: asyncio.run(search(question)))"},
            "thread",
        ),
        "never_ends": (report, {PAGES: "await asyncio.Event().wait()"}, "wait"),
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
    "1.4": {
        as_given: "all answers move up by one",
        "no_input": (by_question, {"@breaks(SHIFTED)": ""}, "hand over a list of questions"),
        "no_list": (by_question, {"SHIFTED": '"?"'}, "hand over a list of questions"),
        "nothing_fails": (by_question, {"SHIFTED": '["a", "b"]'}, "one of them has to fail"),
        "fails_at_the_end": (by_question, {"SHIFTED": '["a", ""]'}, "it matters where"),
        "errors_kept": (
            by_question, {" if not isinstance(answer, Exception)": ""}, "leave out the questions",
        ),
        "none_for_failed": (
            by_question,
            {"question: answer for": "question: None if isinstance(answer, Exception) else answer for",
             " if not isinstance(answer, Exception)}": "}"},
            "leave out the questions that failed",
        ),
        "false_left_out": (
            by_question, {"if not isinstance": "if answer and not isinstance"}, "are answers, too",
        ),
        "one_by_one": (
            in_a_loop,
            {"asyncio.create_task(search(question))": "question",
             "await task": "await search(task)"},
            "asked at once",
        ),
        "asked_again": (
            by_question, {"    pairs": "    await search(questions[1])\n    pairs"},
            "exactly once",
        ),
        "no_return": (by_question, {"return {": "{"}, "is a `return` missing?"),
        "a_list": (by_question, {"return {": "return list({", "Exception)}": "Exception)})"}, "a list"),
    },
}  # fmt: skip
