"""Wrong answers to notebooks 1 to 3, each with what it is told: each breaks one sentence of the text."""

import asyncio

from right_answers_1_to_3 import Refilled, counting_down, early, fitting, now, refuse, settle

from course_lib.errors import RateLimited

# 2.1 -------------------------------------------------------------------------------------------


class RefundWithoutALock(Refilled):
    async def acquire(self):
        self.refill()
        self.tokens -= 1
        if self.tokens < 0:
            try:
                await asyncio.sleep(-self.tokens / self.rate)
            except asyncio.CancelledError:
                self.tokens += 1
                raise


class LateWakeUpsLost(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.tokens, self.filled = 1, now()
            self.tokens -= 1


class LateBucket(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            self.tokens -= 1
            if self.tokens < 0:
                await asyncio.sleep(-self.tokens / self.rate)
                self.tokens, self.filled = 0, now()


class WithoutALock(Refilled):
    async def acquire(self):
        self.refill()
        while self.tokens < 1 - 1e-9:
            await asyncio.sleep((1 - self.tokens) / self.rate)
            self.refill()
        self.tokens -= 1


class Polls(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            while self.tokens < 1 - 1e-9:
                await asyncio.sleep(0.01)
                self.refill()
            self.tokens -= 1


class LoopsOnRounding(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            while self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1


class StartsEmpty(Refilled):
    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.tokens = 0

    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1


class Overtakes(Refilled):
    """Whoever finds a token takes it, past those who wait."""

    async def acquire(self):
        self.refill()
        if self.tokens >= 1:
            self.tokens -= 1
            return
        async with self.lock:
            while True:
                self.refill()
                if self.tokens >= 1 - 1e-9:
                    break
                await asyncio.sleep((1 - self.tokens) / self.rate)
            self.tokens -= 1


class OneATick(Refilled):
    """Its own numbers, in place of those it is given."""

    async def acquire(self):
        async with self.lock:
            self.rate, self.capacity = 10, 5
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1


class NeverWakes(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep(10_000)
            self.tokens -= 1


class TokenLostWithItsOwner(Refilled):
    """A server hands out tokens, also to those who leave in that moment."""

    def __init__(self, rate, capacity):
        super().__init__(rate, capacity)
        self.queue, self.server = asyncio.Queue(), None

    async def acquire(self):
        self.server = self.server or asyncio.ensure_future(self.serve())
        turn = asyncio.get_running_loop().create_future()
        self.queue.put_nowait(turn)
        await turn

    async def serve(self):
        while True:
            turn = await self.queue.get()
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1
            if not turn.done():
                turn.set_result(None)


# 2.2 -------------------------------------------------------------------------------------------


def waiting(seconds):
    """Right, but for how long it waits."""

    async def answer(search, query, slots, attempts):
        for attempt in range(attempts):
            try:
                async with slots:
                    return await search(query)
            except RateLimited as error:
                if attempt == attempts - 1:
                    raise
                await asyncio.sleep(seconds(error))
        return None

    return answer


sleep_0 = waiting(lambda _: 0)
always_a_second = waiting(lambda _: 1.0)
a_fifth_longer = waiting(lambda error: 1.2 * error.retry_after)


async def error_returned(search, query, slots, attempts):
    try:
        return await counting_down(search, query, slots, attempts)
    except RateLimited as error:
        return error


async def other_error_returned(search, query, slots, attempts):
    try:
        return await counting_down(search, query, slots, attempts)
    except RateLimited:
        raise
    except Exception as error:  # noqa: BLE001 - the mistake
        return error


async def never_taken_again(search, query, slots, attempts):
    async with slots:
        for attempt in range(attempts):
            try:
                return await search(query)
            except RateLimited as error:
                if attempt == attempts - 1:
                    raise
                slots.release()
                await asyncio.sleep(error.retry_after)
    return None


async def slot_lost_on_an_error(search, query, slots, attempts):
    for attempt in range(attempts):
        await slots.acquire()
        try:
            answer = await search(query)
        except RateLimited as error:
            slots.release()
            if attempt == attempts - 1:
                raise
            await asyncio.sleep(error.retry_after)
        else:
            slots.release()
            return answer
    return None


async def sleeps_after_the_last(search, query, slots, attempts):
    for attempt in range(attempts):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)
            if attempt == attempts - 1:
                raise
    return None


async def empty_is_no_answer(search, query, slots, attempts):
    answer = None
    for attempt in range(attempts):
        try:
            async with slots:
                answer = await search(query)
        except RateLimited as error:
            if attempt == attempts - 1:
                raise
            await asyncio.sleep(error.retry_after)
        if answer:
            return answer
    return answer or "nothing"


async def three_attempts(search, query, slots, attempts):
    return await counting_down(search, query, slots, 3)


async def retries_a_key_error(search, query, slots, attempts):
    try:
        return await counting_down(search, query, slots, attempts)
    except KeyError:
        return await counting_down(search, query, slots, attempts)


async def first_attempt_without(search, query, slots, attempts):
    try:
        return await search(query)
    except RateLimited as error:
        if attempts == 1:
            raise
        await asyncio.sleep(error.retry_after)
    return await counting_down(search, query, slots, attempts - 1)


# 2.3 -------------------------------------------------------------------------------------------


def zero(limit, rejected, used):
    return limit // 2 if rejected else limit + (used == limit)


def three_quarters(limit, rejected, used):
    return max(1, limit * 3 // 4) if rejected else limit + (used == limit)


def per_refusal(limit, rejected, used):
    return max(1, limit >> rejected) if rejected else limit + (used == limit)


def not_cut_when_unused(limit, rejected, used):
    return limit if used < limit else early(limit, rejected, used)


def shrinks_unused(limit, rejected, used):
    return max(1, limit - 1) if used < limit and not rejected else early(limit, rejected, used)


def capped(limit, rejected, used):
    return limit if limit >= 1_000 and not rejected else early(limit, rejected, used)


def at_least_two(limit, rejected, used):
    return max(2, early(limit, rejected, used))


def rounded_up(limit, rejected, used):
    return -(-limit // 2) if rejected else early(limit, rejected, used)


def nearly_full_is_full(limit, rejected, used):
    return limit + 1 if not rejected and used >= limit - 1 else early(limit, rejected, used)


def half_when_many_are_refused(limit, rejected, used):
    return limit if rejected == 1 and limit > 50 else early(limit, rejected, used)


def two_at_a_time(limit, rejected, used):
    return (
        limit + 2 if limit > 30 and not rejected and used == limit else early(limit, rejected, used)
    )


# 3.2 -------------------------------------------------------------------------------------------


async def taken(queue, size):
    batch = [await queue.get()]
    while len(batch) < size and not queue.empty():
        batch.append(queue.get_nowait())
    return batch


async def cannot_end_in_flight(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            settle(batch, fitting(batch, await process_batch([entry.item for entry in batch])))
        except BaseException as error:  # noqa: BLE001 - the mistake
            refuse(batch, error)


async def by_item(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            items = [entry.item for entry in batch]
            results = dict(zip(items, await process_batch(items), strict=True))
            settle(batch, [results[item] for item in items])
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)


async def error_as_result(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            results = fitting(batch, await process_batch([entry.item for entry in batch]))
        except Exception as error:  # noqa: BLE001 - for the callers
            results = [error] * len(batch)
        settle(batch, results)


async def empty_results_left_out(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            results = fitting(batch, await process_batch([entry.item for entry in batch]))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)
            continue
        for entry, result in zip(batch, results, strict=True):
            if result and not entry.answer.done():
                entry.answer.set_result(result)


async def too_many_not_noticed(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            results = await process_batch([entry.item for entry in batch])
            settle(batch, fitting(batch, results[: len(batch)]))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)


async def four_at_a_time(queue, process_batch, size):
    while True:
        batch = await taken(queue, 4)
        try:
            settle(batch, fitting(batch, await process_batch([entry.item for entry in batch])))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch, error)


async def leaver_forgotten_on_error(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            results = fitting(batch, await process_batch([entry.item for entry in batch]))
        except Exception as error:  # noqa: BLE001 - for the callers
            for entry in batch:
                entry.answer.set_exception(error)
        else:
            settle(batch, results)


async def only_the_first_is_told(queue, process_batch, size):
    while True:
        batch = await taken(queue, size)
        try:
            settle(batch, fitting(batch, await process_batch([entry.item for entry in batch])))
        except Exception as error:  # noqa: BLE001 - for the callers
            refuse(batch[:1], error)


# 1.1, 1.3, 3.1 ---------------------------------------------------------------------------------


async def a_hundred_at_once(search, read, questions):
    async def one(question):
        return question, await asyncio.gather(*map(read, await search(question)))

    report = {}
    for start in range(0, len(questions), 100):
        report |= await asyncio.gather(*map(one, questions[start : start + 100]))
    return report


async def pages_at_the_end(search, read, questions):
    searches = [asyncio.create_task(search(question)) for question in questions]
    ids = [await task for task in searches]
    pages = [[asyncio.create_task(read(page)) for page in each] for each in ids]
    found = [[await task for task in each] for each in pages]
    return dict(zip(questions, found, strict=True))


async def one_reader(search, read, questions):
    """All searches at once, and pages one at a time."""
    reading = asyncio.Lock()

    async def one(question):
        pages = []
        for page in await search(question):
            async with reading:
                pages.append(await read(page))
        return pages

    found = await asyncio.gather(*map(one, questions))
    return dict(zip(questions, found, strict=True))


async def workers_go_on(search, queries, limit, timeout):  # noqa: ASYNC109
    queue, found = asyncio.Queue(), [None] * len(queries)
    for pair in enumerate(queries):
        queue.put_nowait(pair)

    async def worker():
        while True:
            place, query = await queue.get()
            try:
                found[place] = await asyncio.wait_for(search(query), timeout)
            except Exception as error:  # noqa: BLE001
                found[place] = error
            finally:
                queue.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    await queue.join()
    for task in workers:
        task.cancel()
    return found


async def no_answers(search, queries, limit, timeout):  # noqa: ASYNC109
    return []


async def error_held_back(search, queries, limit):
    found, source, errors = {}, enumerate(queries), []

    async def worker():
        for number, query in source:
            try:
                found[number] = await search(query)
            except Exception as error:  # noqa: BLE001 - the mistake
                errors.append(error)
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(found))]


async def stops_at_empty(search, queries, limit):
    found, source = [], iter(queries)

    async def worker():
        while query := next(source, None):
            place = len(found)
            found.append(None)
            found[place] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return found


async def one_for_equal_queries(search, queries, limit):
    found, source = {}, iter(queries)

    async def worker():
        for query in source:
            found.setdefault(query)
            found[query] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return list(found.values())


async def one_waits_in_a_queue(search, queries, limit):
    queue, found = asyncio.Queue(1), {}

    async def feed():
        for pair in enumerate(queries):
            await queue.put(pair)
        for _ in range(limit):
            await queue.put(None)

    async def worker():
        while (pair := await queue.get()) is not None:
            found[pair[0]] = await search(pair[1])

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        for _ in range(limit):
            group.create_task(worker())
    return [found[number] for number in range(len(found))]


# 3.3 -------------------------------------------------------------------------------------------


async def odd_one_lost(process_batch, items):
    try:
        return list(await process_batch(items))
    except ValueError as error:
        if len(items) == 1:
            return [error]
        half = len(items) // 2
        first = await odd_one_lost(process_batch, items[:half])
        return first + await odd_one_lost(process_batch, items[half : 2 * half])


async def refusal_in_a_half_kept(process_batch, items):
    try:
        return list(await process_batch(items))
    except ValueError as error:
        if len(items) == 1:
            return [error]
        half = len(items) // 2
        calls = (
            refusal_in_a_half_kept(process_batch, each) for each in (items[:half], items[half:])
        )
        parts = await asyncio.gather(*calls, return_exceptions=True)
        return [each for part in parts for each in (part if isinstance(part, list) else [part])]


async def type_errors_kept(process_batch, items):
    try:
        return list(await process_batch(items))
    except (ValueError, TypeError) as error:
        if len(items) == 1:
            return [error]
        half = len(items) // 2
        first = await type_errors_kept(process_batch, items[:half])
        return first + await type_errors_kept(process_batch, items[half:])


WRONG = {
    "3.3": {
        odd_one_lost: "when the number of items is odd",
        refusal_in_a_half_kept: "also when a half meets it",
        type_errors_kept: "only a `ValueError` has a place",
    },
    "1.1": {
        a_hundred_at_once: "only 100 questions are under way at once",
        pages_at_the_end: "before the last search has ended",
        one_reader: "the pages of a question wait for one another",
    },
    "1.3": {
        workers_go_on: "the tasks that it has made go on",
        no_answers: "it returns no answers",
    },
    "3.1": {
        error_held_back: "the error is held back",
        stops_at_empty: "an answer to *each* query",
        one_for_equal_queries: "an answer to *each* query",
        one_waits_in_a_queue: "some wait, in a queue",
    },
    "2.1": {
        RefundWithoutALock: "those who wait already",
        LateWakeUpsLost: "each late wake-up is lost",
        LateBucket: "the others wait for those who gave up",
        WithoutALock: "it polls",
        Polls: "it polls",
        LoopsOnRounding: "The clock has stood",
        StartsEmpty: "it starts full",
        Overtakes: "callers overtake one another",
        OneATick: "whatever rate and capacity are",
        NeverWakes: "still wait after 600 s",
        TokenLostWithItsOwner: "the others wait for those who gave up",
    },
    "2.2": {
        sleep_0: "comes back before it was told to",
        always_a_second: "as each refusal says",
        a_fifth_longer: "waits longer than it was told to",
        error_returned: "the error is returned as if it were an answer",
        other_error_returned: "raised, not returned",
        never_taken_again: "not taken again",
        slot_lost_on_an_error: "a slot is not given back",
        sleeps_after_the_last: "once more after the last attempt",
        empty_is_no_answer: "whatever it is",
        three_attempts: "at most `attempts` calls",
        retries_a_key_error: "catch nothing else",
        first_attempt_without: "each attempt takes a slot",
    },
    "3.2": {
        cannot_end_in_flight: "cannot be stopped",
        by_item: "whatever the items are",
        error_as_result: "`set_exception`, not `set_result`",
        empty_results_left_out: "results `None` or `0`",
        too_many_not_noticed: "fewer or more results",
        four_at_a_time: "the argument `size` is to be used",
        leaver_forgotten_on_error: "since its caller has left",
        only_the_first_is_told: "belongs to the callers of that batch",
    },
    "2.3": {
        zero: "`next_limit(1, 1, 1)` gives 0, not 1",
        three_quarters: "halve the limit",
        per_refusal: "however many that were",
        not_cut_when_unused: "a refusal counts",
        shrinks_unused: "else let it stay",
        capped: "it has no cap",
        at_least_two: "stop at 1",
        rounded_up: "`limit // 2`",
        nearly_full_is_full: "grow only if",
        half_when_many_are_refused: "however many that were",
        two_at_a_time: "no steps but one",
    },
}
