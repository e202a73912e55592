"""Right answers to notebooks 1 to 3 that differ in what they synchronise with, or in how they are built."""

import asyncio
import collections
import functools
import json
import random
from operator import itemgetter
from urllib.parse import quote, urlencode

from answers_async_batch import in_a_group as in_a_group_each
from answers_async_batch import outcomes, report, with_workers
from answers_batching import (
    both_halves_at_once,
    by_the_library,
    isolate,
    serve,
    window_of_tasks,
    with_a_stack,
    workers,
)
from answers_rate_limiting import Bucket
from yarl import URL

from course_lib.batching import amap
from course_lib.errors import RateLimited
from course_lib.rate_limiting import TokenBucket


def now():
    return asyncio.get_running_loop().time()


class Refilled:
    """What notebook 2 gives to begin with."""

    def __init__(self, rate, capacity):
        self.rate, self.capacity = rate, capacity
        self.tokens, self.filled = capacity, now()
        self.lock = asyncio.Lock()

    def refill(self):
        passed = now() - self.filled
        self.tokens = min(self.capacity, self.tokens + passed * self.rate)
        self.filled = now()


# 2.1 -------------------------------------------------------------------------------------------


class TokenTakenFirst(Refilled):
    """In debt while it sleeps, under the lock; who gives up pays back."""

    async def acquire(self):
        async with self.lock:
            self.refill()
            self.tokens -= 1
            if self.tokens < 0:
                try:
                    await asyncio.sleep(-self.tokens / self.rate)
                except asyncio.CancelledError:
                    self.tokens += 1
                    raise


class NearlyOneIsOne(Refilled):
    """A loop, with an allowance for rounding."""

    async def acquire(self):
        async with self.lock:
            self.refill()
            while self.tokens < 1 - 1e-9:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1


class SleepsUntil(Refilled):
    """Works out when the token is there, and waits until that."""

    async def acquire(self):
        async with self.lock:
            self.refill()
            due = self.filled + max(0, 1 - self.tokens) / self.rate
            while now() < due:  # noqa: ASYNC110 - the answer that is common
                await asyncio.sleep(due - now())
            self.refill()
            self.tokens -= 1


class Theoretical:
    """The time at which the bucket would be full again (GCRA), in place of tokens."""

    def __init__(self, rate, capacity):
        self.step, self.room = 1 / rate, (capacity - 1) / rate
        self.full_at = now()
        self.lock = asyncio.Lock()

    async def acquire(self):
        async with self.lock:
            wait = self.full_at - self.room - now()
            if wait > 0:
                await asyncio.sleep(wait)
            self.full_at = max(self.full_at, now()) + self.step


class OfLog:
    """Remembers, for each token of the bucket, when it is there again."""

    def __init__(self, rate, capacity):
        self.step, self.lock = 1 / rate, asyncio.Lock()
        self.given = collections.deque([float("-inf")] * capacity, maxlen=capacity)
        self.last = float("-inf")

    async def acquire(self):
        async with self.lock:
            due = self.given[0]
            if due > now():
                await asyncio.sleep(due - now())
            self.last = max(self.last, now()) + self.step
            self.given.append(self.last)


class WithACondition(Refilled):
    """A condition in place of the lock, and a count of who is next."""

    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.turn = asyncio.Condition()

    async def acquire(self):
        async with self.turn:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1
            self.turn.notify()


class WithASemaphore(Refilled):
    """A semaphore of one is a lock, and is first come, first served."""

    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.turn = asyncio.Semaphore(1)

    async def acquire(self):
        await self.turn.acquire()
        try:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1
        finally:
            self.turn.release()


class WithFutures(Refilled):
    """Waiters in a deque, woken by one timer; who is gone is passed over."""

    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.waiters, self.timer = collections.deque(), None

    async def acquire(self):
        self.refill()
        if self.tokens >= 1 and not self.waiters:
            self.tokens -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        self.set_timer()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.tokens += 1
                self.wake()
            raise

    def set_timer(self):
        if self.timer is None and self.waiters:
            seconds = max(0, 1 - self.tokens) / self.rate
            self.timer = asyncio.get_running_loop().call_later(seconds, self.ring)

    def ring(self):
        self.timer = None
        self.refill()
        self.wake()

    def wake(self):
        while self.waiters and self.tokens >= 1 - 1e-9:
            waiter = self.waiters.popleft()
            if not waiter.done():
                self.tokens -= 1
                waiter.set_result(None)
        while self.waiters and self.waiters[0].done():
            self.waiters.popleft()
        self.set_timer()


class OfTheCourse:
    """The course's own part."""

    def __init__(self, rate, capacity):
        self.bucket = TokenBucket(rate=rate, capacity=capacity)

    async def acquire(self):
        await self.bucket.aacquire()


# 2.2 -------------------------------------------------------------------------------------------


async def counting_down(search, query, slots, attempts):
    while True:
        attempts -= 1
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if not attempts:
                raise
            refusal = error
        await asyncio.sleep(refusal.retry_after)


async def calling_itself(search, query, slots, attempts):
    try:
        async with slots:
            return await search(query)
    except RateLimited as error:
        if attempts <= 1:
            raise
        await asyncio.sleep(error.retry_after)
    return await calling_itself(search, query, slots, attempts - 1)


async def acquire_and_release(search, query, slots, attempts):
    for attempt in range(attempts):
        await slots.acquire()
        try:
            return await search(query)
        except RateLimited as error:
            if attempt == attempts - 1:
                raise
            wait = error.retry_after
        finally:
            slots.release()
        await asyncio.sleep(wait)
    return None


async def with_an_inner_function(search, query, slots, attempts):
    async def once():
        async with slots:
            return await search(query)

    for _ in range(attempts - 1):
        try:
            return await once()
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)
    return await once()


async def a_little_longer(search, query, slots, attempts):
    for attempt in range(attempts):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if attempt + 1 == attempts:
                raise
            await asyncio.sleep(error.retry_after * random.uniform(1, 1.1))
    return None


async def keeps_the_error(search, query, slots, attempts):
    last = None
    for _ in range(attempts):
        if last is not None:
            await asyncio.sleep(last.retry_after)
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            last = error
    raise last


def no_coroutine_function(search, query, slots, attempts):
    return asyncio.ensure_future(counting_down(search, query, slots, attempts))


class AnObject:
    async def __call__(self, search, query, slots, attempts):
        tried = 0
        while (outcome := await self.attempt(search, query, slots))[0] is not None:
            tried += 1
            if tried == attempts:
                raise outcome[0]
            await asyncio.wait_for(asyncio.sleep(outcome[0].retry_after), None)
        return outcome[1]

    async def attempt(self, search, query, slots):
        async with slots:
            try:
                return None, await search(query)
            except RateLimited as error:
                return error, None


an_object = AnObject()


async def as_a_task(search, query, slots, attempts):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(slotted(search, query, slots))
    outcome = task.result()
    if not isinstance(outcome, RateLimited):
        return outcome
    if attempts == 1:
        raise outcome
    await asyncio.sleep(outcome.retry_after)
    return await as_a_task(search, query, slots, attempts - 1)


async def slotted(search, query, slots):
    try:
        async with slots:
            return await search(query)
    except RateLimited as error:
        return error


async def by_an_event(search, query, slots, attempts):
    for left in range(attempts, 0, -1):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if left == 1:
                raise
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(error.retry_after, over.set)
        await over.wait()
    return None


# 2.3 -------------------------------------------------------------------------------------------


def in_cases(limit, rejected, used):
    if rejected > 0:
        return 1 if limit < 2 else limit // 2
    if used < limit:
        return limit
    return limit + 1


def shifted(limit, rejected, used):
    return max(1, limit >> 1) if rejected else limit + (used >= limit)


def rounded_down(limit, rejected, used):
    return max(int(limit / 2), 1) if rejected else limit + int(limit == used)


def matched(limit, rejected, used):
    match (bool(rejected), used == limit):
        case (True, _):
            return max(1, limit // 2)
        case (False, True):
            return limit + 1
        case _:
            return limit


def from_a_table(limit, rejected, used):
    choices = {True: (limit // 2) or 1, False: limit + (1 if used == limit else 0)}
    return choices[rejected != 0]


def by_divmod(limit, rejected, used):
    half, _ = divmod(limit, 2)
    return (half or 1) if rejected else [limit, limit + 1][used == limit]


def early(limit, rejected, used):
    new = limit
    if rejected:
        new //= 2
    elif used == limit:
        new += 1
    return max(new, 1)


class Aimd:
    def __call__(self, limit, rejected, used):
        return (
            sorted((1, limit // 2, limit))[1] if rejected else max(limit, (used == limit) + limit)
        )


aimd = Aimd()


# 3.2 -------------------------------------------------------------------------------------------


def settle(batch, results):
    """Give each caller its result, or all of them the error."""
    for entry, result in zip(batch, results, strict=True):
        if not entry.answer.done():
            entry.answer.set_result(result)


def refuse(batch, error):
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)


def fitting(batch, results):
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} items")
    return results


async def with_queue_empty(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        try:
            for _ in range(size - 1):
                batch.append(queue.get_nowait())  # noqa: PERF401 - what was taken is kept when the queue is empty
        except asyncio.QueueEmpty:
            pass
        try:
            settle(batch, fitting(batch, await process_batch([entry.item for entry in batch])))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)


async def by_queue_size(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        batch += [queue.get_nowait() for _ in range(min(size - 1, queue.qsize()))]
        try:
            results = fitting(batch, await process_batch([entry.item for entry in batch]))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)
            continue
        settle(batch, results)


async def by_gather(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        while len(batch) < size and not queue.empty():
            batch.append(queue.get_nowait())
        items = [entry.item for entry in batch]
        [outcome] = await asyncio.gather(process_batch(items), return_exceptions=True)
        if isinstance(outcome, BaseException):
            refuse(batch, outcome)
        elif len(outcome) != len(batch):
            refuse(batch, RuntimeError("another number of results"))
        else:
            settle(batch, outcome)


async def by_a_task(queue, process_batch, size):
    async with asyncio.TaskGroup() as group:
        while True:
            batch = [await queue.get()]
            while len(batch) < size and not queue.empty():
                batch.append(queue.get_nowait())
            await group.create_task(told(process_batch, batch))


async def told(process_batch, batch):
    try:
        settle(batch, fitting(batch, await process_batch([entry.item for entry in batch])))
    except Exception as error:  # noqa: BLE001 - for the callers
        refuse(batch, error)


async def by_asyncio_wait(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        while len(batch) < size and not queue.empty():
            batch.append(queue.get_nowait())
        work = asyncio.ensure_future(process_batch([entry.item for entry in batch]))
        try:
            await asyncio.wait([work])
        finally:
            work.cancel()
        if work.exception() is not None:
            refuse(batch, work.exception())
        elif len(work.result()) == len(batch):
            settle(batch, work.result())
        else:
            refuse(batch, LookupError("another number of results"))


class Loop:
    def __init__(self, queue, process_batch, size):
        self.queue, self.process_batch, self.size = queue, process_batch, size
        self.batch = []

    async def run(self):
        while True:
            self.batch = [await self.queue.get()]
            while not self.queue.empty() and len(self.batch) != self.size:
                self.batch.append(await self.queue.get())
            await told(self.process_batch, self.batch)


def of_a_class(queue, process_batch, size):
    return Loop(queue, process_batch, size).run()


async def two_at_once(queue, process_batch, size):
    """Two loops on one queue."""
    await asyncio.gather(
        serve(queue, process_batch, size), with_queue_empty(queue, process_batch, size)
    )


async def callers_told_at_the_end(queue, process_batch, size):
    while True:
        batch = [await queue.get()]
        try:
            while len(batch) < size and not queue.empty():
                batch.append(queue.get_nowait())
            results = fitting(batch, await process_batch([entry.item for entry in batch]))
            settle(batch, results)
        except asyncio.CancelledError:
            for entry in batch:
                entry.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)


# 1.1 -------------------------------------------------------------------------------------------


def by_number(search, read, questions):
    """A function that returns a coroutine; places by index."""

    async def main():
        pages = [None] * len(questions)

        async def one(place):
            pages[place] = list(await asyncio.gather(*map(read, await search(questions[place]))))

        await asyncio.gather(*map(one, range(len(questions))))
        return dict(zip(questions, pages, strict=True))

    return main()


async def waited_tasks(search, read, questions):
    async def one(question):
        tasks = [asyncio.create_task(read(page)) for page in await search(question)]
        if tasks:
            await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    tasks = [asyncio.create_task(one(question)) for question in questions]
    return {q: await task for q, task in zip(questions, tasks, strict=True)}


async def prefilled(search, read, questions):
    report = dict.fromkeys(questions)

    async def one(question):
        report[question] = await asyncio.gather(*map(read, await search(question)))

    async with asyncio.TaskGroup() as group:
        for question in questions:
            group.create_task(one(question))
    return report


async def sorted_at_the_end(search, read, questions):
    async def one(question):
        return question, await asyncio.gather(*map(read, await search(question)))

    found = dict([await each for each in asyncio.as_completed(map(one, questions))])
    return {question: found[question] for question in questions}


async def a_worker_each(search, read, questions):
    queue, found = asyncio.Queue(), {}

    async def worker():
        question = queue.get_nowait()
        pages = {page: asyncio.ensure_future(read(page)) for page in await search(question)}
        found[question] = [await task for task in pages.values()]

    for question in questions:
        queue.put_nowait(question)
    await asyncio.gather(*(worker() for _ in questions))
    return {question: found[question] for question in questions}


async def by_callbacks(search, read, questions):
    report, left = {question: [] for question in questions}, set()
    over = asyncio.Event()

    def start(call, then):
        task = asyncio.ensure_future(call)
        left.add(task)

        def done(task):
            then(task.result())
            left.discard(task)
            if not left:
                over.set()

        task.add_done_callback(done)

    def read_all(question, ids):
        report[question] = [None] * len(ids)
        for place, page in enumerate(ids):
            start(read(page), functools.partial(report[question].__setitem__, place))

    for question in questions:
        start(search(question), functools.partial(read_all, question))
    if questions:
        await over.wait()
    return report


# 1.3 -------------------------------------------------------------------------------------------


async def one_outcome(search, query, timeout):  # noqa: ASYNC109
    try:
        return await asyncio.wait_for(search(query), timeout)
    except Exception as error:  # noqa: BLE001
        return error


async def queue_and_join(search, queries, limit, timeout):  # noqa: ASYNC109
    queue, found = asyncio.Queue(), [None] * len(queries)
    for pair in enumerate(queries):
        queue.put_nowait(pair)

    async def worker():
        while True:
            place, query = await queue.get()
            found[place] = await one_outcome(search, query, timeout)
            queue.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    try:
        await queue.join()
    finally:
        for task in workers:
            task.cancel()
    return found


def the_gather_itself(search, queries, limit, timeout):
    slots = asyncio.Semaphore(limit)

    async def one(query):
        async with slots, asyncio.timeout(timeout):
            return await search(query)

    return asyncio.gather(*map(one, queries), return_exceptions=True)


async def tasks_in_a_group(search, queries, limit, timeout):  # noqa: ASYNC109
    slots = asyncio.Semaphore(limit)

    async def one(query):
        async with slots:
            return await one_outcome(search, query, timeout)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(query)) for query in queries]
    return [task.result() for task in tasks]


async def waited_for(search, queries, limit, timeout):  # noqa: ASYNC109
    slots = asyncio.Semaphore(limit)

    async def one(query):
        async with slots:
            return await asyncio.wait_for(search(query), timeout)

    tasks = [asyncio.create_task(one(query)) for query in queries]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [task.exception() or task.result() for task in tasks]


async def a_window_of_tasks(search, queries, limit, timeout):  # noqa: ASYNC109
    tasks, running = [], set()
    try:
        for query in queries:
            if len(running) == limit:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            tasks.append(asyncio.create_task(one_outcome(search, query, timeout)))
            running.add(tasks[-1])
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


async def by_the_window(search, queries, limit, timeout):  # noqa: ASYNC109
    calls = amap(
        functools.partial(one_outcome, search, timeout=timeout), queries, limit=limit, ordered=True
    )
    return [each.value async for each in calls]


# 3.1 -------------------------------------------------------------------------------------------


async def free_places(search, queries, limit):
    slots, tasks = asyncio.Semaphore(limit), []
    async with asyncio.TaskGroup() as group:
        source = iter(queries)
        while True:
            await slots.acquire()
            try:
                query = next(source)
            except StopIteration:
                break
            tasks.append(group.create_task(search(query)))
            tasks[-1].add_done_callback(lambda _: slots.release())
    return [task.result() for task in tasks]


async def places_as_they_come(search, queries, limit):
    found, source = [], iter(queries)

    async def worker():
        for query in source:
            place = len(found)
            found.append(None)
            found[place] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return found


async def workers_cancelled_by_hand(search, queries, limit):
    found, source = {}, enumerate(queries)

    async def worker():
        for number, query in source:
            found[number] = await search(query)

    tasks = [asyncio.create_task(worker()) for _ in range(limit)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [found[number] for number in sorted(found)]


class Window:
    def __init__(self, search, queries):
        self.search, self.source, self.found = search, enumerate(queries), {}

    async def work(self):
        while (pair := next(self.source, None)) is not None:
            self.found[pair[0]] = await self.search(pair[1])


async def of_an_object(search, queries, limit):
    window = Window(search, queries)
    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(window.work())
    return [answer for _, answer in sorted(window.found.items(), key=lambda pair: pair[0])]


async def each_starts_the_next(search, queries, limit):
    found, source = {}, enumerate(queries)
    async with asyncio.TaskGroup() as group:

        async def step(number, query):
            found[number] = await search(query)
            start()

        def start():
            pair = next(source, None)
            if pair is not None:
                group.create_task(step(*pair))

        for _ in range(limit):
            start()
    return [found[number] for number in range(len(found))]


# 3.3 -------------------------------------------------------------------------------------------


async def into_places(process_batch, items):
    found = [None] * len(items)

    async def solve(start, stop):
        try:
            found[start:stop] = await process_batch(items[start:stop])
        except ValueError as error:
            if stop - start == 1:
                found[start] = error
                return
            middle = (start + stop) // 2
            await solve(start, middle)
            await solve(middle, stop)

    await solve(0, len(items))
    return found


async def in_a_group(process_batch, items):
    try:
        return await process_batch(items)
    except ValueError as error:
        if len(items) == 1:
            return [error]
    half = len(items) // 2
    async with asyncio.TaskGroup() as group:
        halves = [group.create_task(in_a_group(process_batch, each))
                  for each in (items[:half], items[half:])]  # fmt: skip
    return halves[0].result() + halves[1].result()


async def as_it_goes(process_batch, items):
    async def parts(batch):
        try:
            outcome = await process_batch(batch)
        except ValueError as error:
            outcome = [error] if len(batch) == 1 else None
        if outcome is not None:
            for result in outcome:
                yield result
            return
        half = (len(batch) + 1) // 2
        for each in (batch[:half], batch[half:]):
            async for result in parts(each):
                yield result

    return [result async for result in parts(items)]


class Isolation:
    async def __call__(self, process_batch, items):
        outcome = await self.attempt(process_batch, items)
        if not isinstance(outcome, ValueError):
            return outcome
        if len(items) < 2:
            return [outcome]
        half = len(items) >> 1
        return [*await self(process_batch, items[:half]), *await self(process_batch, items[half:])]

    async def attempt(self, process_batch, items):
        try:
            return await process_batch(items)
        except ValueError as error:
            return error


an_isolation = Isolation()


async def by_levels(process_batch, items):
    """All batches of one size, then those of half of it."""
    found, batches = {}, [(0, items)]
    while batches:
        failed = []
        for start, batch in batches:
            try:
                found |= dict(enumerate(await process_batch(batch), start))
            except ValueError as error:
                if len(batch) == 1:
                    found[start] = error
                else:
                    half = len(batch) // 2
                    failed += [(start, batch[:half]), (start + half, batch[half:])]
        batches = failed
    return [found[place] for place in range(len(items))]


# 1.2, beside those of the notebook's own table ------------------------------------------------


async def by_a_url_object(session, url, query):
    response = await session.get(URL(url).joinpath("search").with_query(q=query))
    async with response:
        response.raise_for_status()
        return [found["id"] for found in (await response.json())["results"]]


async def quoted_by_hand(session, url, query):
    encoded = URL(f"{url}/search?q={quote(query, safe='')}", encoded=True)
    async with session.get(encoded, raise_for_status=True) as response:
        return [found["id"] for found in (await response.json())["results"]]


async def by_request_and_bytes(session, url, query):
    async with session.request("GET", f"{url}/search", params=[("q", query)]) as response:
        body = await response.read()
        if not response.ok:
            raise RuntimeError(response.status, body)
    return [each["id"] for each in json.loads(body)["results"]]


class Answer:
    """A class that looks at the status before anything else."""

    def __init__(self, response):
        self.response = response

    async def ids(self):
        if self.response.status // 100 != 2:
            raise ValueError(f"status {self.response.status}")
        return [*map(itemgetter("id"), json.loads(await self.response.text())["results"])]


async def with_a_class_for_the_answer(session, url, query):
    async with session.get(f"{url}/search?{urlencode({'q': query})}") as response:
        return await Answer(response).ids()


RIGHT = {
    "1.2": (
        by_a_url_object,
        quoted_by_hand,
        by_request_and_bytes,
        with_a_class_for_the_answer,
    ),
    "1.1": (
        report, in_a_group_each, by_number, waited_tasks, prefilled, sorted_at_the_end,
        a_worker_each, by_callbacks,
    ),
    "1.3": (
        outcomes, with_workers, queue_and_join, the_gather_itself, tasks_in_a_group, waited_for,
        a_window_of_tasks, by_the_window,
    ),
    "3.1": (
        workers, window_of_tasks, by_the_library, free_places, places_as_they_come,
        workers_cancelled_by_hand, of_an_object, each_starts_the_next,
    ),
    "3.3": (
        isolate, both_halves_at_once, with_a_stack, into_places, in_a_group, as_it_goes,
        an_isolation, by_levels,
    ),
    "2.1": (
        Bucket, TokenTakenFirst, NearlyOneIsOne, SleepsUntil, Theoretical, WithACondition,
        WithASemaphore, WithFutures, OfTheCourse,
    ),
    "2.2": (
        counting_down, calling_itself, acquire_and_release, with_an_inner_function, a_little_longer,
        keeps_the_error, no_coroutine_function, an_object, as_a_task, by_an_event,
    ),
    "3.2": (
        serve, with_queue_empty, by_queue_size, by_gather, by_a_task, by_asyncio_wait, of_a_class,
        two_at_once, callers_told_at_the_end,
    ),
    "2.3": (
        in_cases, shifted, rounded_down, matched, from_a_table, by_divmod, early, aimd,
    ),
}  # fmt: skip
