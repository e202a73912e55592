"""Crowds of callers that fail, give up and change their minds, and an account of what became of them.

Each storm of `STORMS` runs one technique in virtual time: callers come at random moments, a part of
them gives up at a random moment, a part is to fail, and meanwhile somebody turns the knobs. Each of
`FAULTS` has a real provider misbehave, and counts what its callers are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from course_lib import service
from course_lib.async_batch import ServiceClient
from course_lib.batching import Backoff, MicroBatcher, PriorityBatchProcessor, amap
from course_lib.caching import AsyncCache
from course_lib.errors import ServiceError
from course_lib.lab import simulate
from course_lib.rate_limiting import Gate, TokenBucket

Call = Callable[[int], Awaitable[int]]
Round = Callable[[random.Random, int], Awaitable[Counter[str]]]

SECONDS = 10.0  # virtual: for how long callers come
PATIENCE = 3_600.0  # virtual: who has not come back by then never will
GIVE_UP, FAIL = 0.2, 0.1  # shares of the callers
A_ROUND = 500  # callers in one simulation
COLUMNS = ("answered", "failed as planned", "gave up", "lost", "stuck", "leaked")
BAD = COLUMNS[3:]


class Planned(Exception):  # noqa: N818 - not an error of the program: what a caller is to be told
    """What a storm has some calls fail with."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave, and how its callers go on nevertheless.

    Attributes:
        name: What the table calls it.
        behaviour: The provider's.
        ends: Whether it is killed and started again in the midst of the calls.
    """

    name: str
    behaviour: service.Behaviour
    ends: bool = False


SOON = service.Latency.constant(0.002)
FAULTS = (
    Fault("one in five answered with 500", service.Behaviour(SOON, faults=service.Faults(0.2))),
    Fault("one in five cut off", service.Behaviour(SOON, faults=service.Faults(drop=0.2))),
    Fault("one in fifty never answered", service.Behaviour(SOON, faults=service.Faults(hang=0.02))),
    Fault("all of these", service.Behaviour(SOON, faults=service.Faults(0.1, 0.1, 0.02))),
    Fault("100/s, the rest refused with 429", service.Behaviour(SOON, service.RateLimit(100, 10))),
    Fault("killed, and started again", service.Behaviour(SOON), ends=True),
)


def storm(one: Round, operations: int, seed: int = 0) -> Counter[str]:
    """Return what became of `operations` callers, in rounds with a seed each."""
    total: Counter[str] = Counter()
    for number, start in enumerate(range(0, operations, A_ROUND)):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - no cryptography
        size = min(A_ROUND, operations - start)
        total += simulate(lambda c=chance, n=size: one(c, n), limit=10 * PATIENCE).value
    return total


async def crowd(chance: random.Random, size: int, call: Call) -> Counter[str]:
    """Have callers come and give up, and return what became of them.

    A caller that is told anything but its own answer or its own error is lost; one that is told
    nothing is stuck.
    """
    loop, given_up = asyncio.get_running_loop(), set()

    def end(task: asyncio.Task[str]) -> str:
        if not task.done():
            return "stuck"
        if task.cancelled():
            return "gave up" if task in given_up else "lost"
        return task.result()

    def give_up(task: asyncio.Task[str]) -> None:
        if task.cancel():
            given_up.add(task)

    coming = [(number, chance.uniform(0, SECONDS)) for number in range(size)]
    callers = [loop.create_task(_told(call, number, at)) for number, at in coming]
    for task in callers:
        if chance.random() < GIVE_UP:
            loop.call_later(chance.uniform(0, 2 * SECONDS), give_up, task)
    await asyncio.wait(callers, timeout=PATIENCE)
    return Counter(map(end, callers))


async def _told(call: Call, number: int, at: float) -> str:
    """Come at a moment, call, and return what that was."""
    await asyncio.sleep(at)
    try:
        return "answered" if await call(number) == number else "lost"
    except Planned as error:
        return "failed as planned" if error.args == (number,) else "lost"
    except Exception:  # noqa: BLE001 - whatever else it is told
        return "lost"


async def leaked(before: set[asyncio.Task[object]]) -> Counter[str]:
    """Count the tasks that are there and were not before, after some time to end."""
    await asyncio.sleep(SECONDS)
    return Counter({"leaked": len(asyncio.all_tasks() - before)})


async def _work(chance: random.Random, number: int) -> int:
    """Answer a caller, or fail as planned; which of the two follows from its number."""
    await asyncio.sleep(chance.expovariate(20))
    if random.Random(number).random() < FAIL:  # noqa: S311 - no cryptography
        raise Planned(number)
    return number


async def _batch(chance: random.Random, numbers: list[int]) -> list[int | Exception]:
    calls = [_work(chance, number) for number in numbers]
    found = await asyncio.gather(*calls, return_exceptions=True)
    return [each for each in found if isinstance(each, (int, Exception))]


async def bucket(chance: random.Random, size: int) -> Counter[str]:
    """Tokens of a bucket, by weights."""
    before, tokens = asyncio.all_tasks(), TokenBucket(size / SECONDS, 20)

    async def call(number: int) -> int:
        await tokens.aacquire(weight=chance.choice((0.5, 1, 3)))
        return await _work(chance, number)

    return await crowd(chance, size, call) + await leaked(before)


async def gate(chance: random.Random, size: int) -> Counter[str]:
    """Slots of a gate that is resized and cooled down meanwhile, by priorities, nested too."""
    before = asyncio.all_tasks()
    door = Gate(concurrency=5, bucket=TokenBucket(2 * size / SECONDS, 20), ageing=2.0)

    async def call(number: int) -> int:
        async with door.slot(priority=number % 3):
            if number % 7:
                return await _work(chance, number)
            async with door.slot():
                return await _work(chance, number)

    async def turn() -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.1, 1))
            door.concurrency = chance.randint(1, 40)
            if chance.random() < GIVE_UP:
                door.cool_down(chance.uniform(0, 1))

    turning = asyncio.create_task(turn())
    ends = await crowd(chance, size, call)
    turning.cancel()
    left = door.statistics()
    return ends + Counter(stuck=left.waiting, leaked=left.inside) + await leaked(before)


async def window(chance: random.Random, size: int) -> Counter[str]:
    """Items through `amap`, one caller for all of them."""
    before, ends = asyncio.all_tasks(), Counter[str]()
    arguments = {"limit": chance.randint(1, 50), "ordered": chance.random() < 1 / 2}
    seen = set()
    gives_up_after = size if chance.random() > GIVE_UP else chance.randint(1, size)
    work = partial(_work, chance)
    items = amap(work, range(size), return_exceptions=True, **arguments)
    async with items as outcomes:
        async for outcome in outcomes:
            right = outcome.error is None and outcome.value == outcome.index
            planned = isinstance(outcome.error, Planned) and outcome.error.args == (outcome.index,)
            known = outcome.index in seen or not (right or planned)
            ends["lost" if known else "answered" if right else "failed as planned"] += 1
            seen.add(outcome.index)
            if len(seen) == gives_up_after:
                break
    missing = size - len(seen)
    ends["gave up" if gives_up_after < size else "stuck"] += missing
    return +ends + await leaked(before)


async def micro(chance: random.Random, size: int) -> Counter[str]:
    """Single calls answered by batches."""
    before = asyncio.all_tasks()
    options = {"max_wait": chance.choice((0.0, 0.05)), "concurrency": chance.randint(1, 4)}
    batcher = MicroBatcher(partial(_batch, chance), max_size=chance.randint(1, 32), **options)
    async with batcher:
        ends = await crowd(chance, size, batcher)
    return ends + await leaked(before)


async def priorities(chance: random.Random, size: int) -> Counter[str]:
    """Items by priorities, answered by batches."""
    before = asyncio.all_tasks()
    processor = PriorityBatchProcessor(
        partial(_batch, chance), batch_size=chance.randint(1, 32), ageing=2.0
    )
    async with processor:
        ends = await crowd(chance, size, lambda number: processor.submit(number, number % 3))
    return ends + await leaked(before)


async def cache(chance: random.Random, size: int) -> Counter[str]:
    """Questions of a cache whose entries expire and are invalidated meanwhile, ten callers a key."""
    before, kept = asyncio.all_tasks(), AsyncCache(ttl=1.0, maxsize=size // 20 + 1, jitter=0.1)

    async def call(number: int) -> int:
        key = number // 10
        if chance.random() < 1 / 20:
            await kept.invalidate(key)
        try:
            answer = await kept.get_or_compute(key, lambda: _work(chance, key))
        except Planned as error:  # each of those who share it is told
            raise Planned(number) if error.args == (key,) else error from error
        return number if answer == key else -1

    return await crowd(chance, size, call) + await leaked(before)


STORMS: dict[str, Round] = {
    "TokenBucket": bucket,
    "Gate": gate,
    "amap": window,
    "MicroBatcher": micro,
    "PriorityBatchProcessor": priorities,
    "AsyncCache": cache,
}


async def survive(fault: Fault, calls: int) -> Counter[str]:
    """Return what callers are told by a provider with a fault: "right", "told" or "wrong".

    They try up to eight times. "told" are those that end with a `ServiceError`, "wrong" those that
    end with anything else, or with another answer than that of a provider without faults.
    """
    questions = [f"How does a cache expire entry {number % 20}?" for number in range(calls)]
    with service.running(latency=None) as well:
        async with ServiceClient(well.url) as client:
            wanted = {each: await client.search(each) for each in questions[:20]}
    ends: Counter[str] = Counter()
    provider = service.start(endpoints={"/search": fault.behaviour})
    port = int(provider.url.rpartition(":")[2])
    again: asyncio.Task[service.Provider] | None = None
    try:
        async with ServiceClient(provider.url, timeout=3, max_connections=20) as client:
            options = {"limit": 20, "attempts": 8, "backoff": Backoff(0.05, 2.0)}
            async with amap(
                client.search, questions, return_exceptions=True, **options
            ) as outcomes:
                async for outcome in outcomes:
                    if fault.ends and again is None and sum(ends.values()) >= calls // 4:
                        again = asyncio.create_task(_again(provider, port, fault))
                    said = outcome.error
                    right = said is None and outcome.value == wanted[questions[outcome.index]]
                    told = isinstance(said, ServiceError)
                    ends["right" if right else "told" if told else "wrong"] += 1
    finally:
        provider.stop()
        if again is not None:
            with contextlib.suppress(Exception):
                (await again).stop()
    ends["wrong"] += calls - sum(ends.values())
    return ends


async def _again(provider: service.Provider, port: int, fault: Fault) -> service.Provider:
    """Stop a provider in the midst of its work, and start another in its place."""
    await asyncio.to_thread(provider.stop)
    return await asyncio.to_thread(service.start, endpoints={"/search": fault.behaviour}, port=port)
