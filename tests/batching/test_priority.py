"""`PriorityBatchProcessor` as its users see it."""

import asyncio
import re

import pytest
from batches_support import Service, outcomes, submit_all
from batching_support import now
from langchain_core.runnables import RunnableLambda

from course_lib.batching import (
    BatcherStatistics,
    PriorityBatchProcessor,
)
from course_lib.lab.simulation import simulate


async def echo(items):
    """The simplest batch."""
    await asyncio.sleep(1)
    return items


def test_every_caller_gets_its_own_result():
    """In batches that are full, one after the other."""
    service = Service()
    found = submit_all(service, [(n, 0) for n in range(10)], batch_size=4)
    assert found == ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18], 3.0)
    assert service.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_higher_goes_first_and_equals_in_the_order_they_came():
    """Also below zero and between whole numbers."""
    service = Service()
    submit_all(service, enumerate([0, 5, -1, 5, 0.5, 0]), batch_size=2)
    assert service.batches == [[1, 3], [4, 0], [5, 2]]


@pytest.mark.parametrize("ageing", [30.0, None])
def test_items_are_never_compared(ageing):
    """Dicts of equal priority, objects, lists: any type will do."""
    items = [{"a": 1}, {"a": 1}, object(), [1], None, "text"]
    found, _ = submit_all(echo, [(item, 1) for item in items], batch_size=2, ageing=ageing)
    assert found == items


def test_an_item_waits_for_no_company_when_idle():
    """It is on its way within the moment; what comes meanwhile makes up the next batch."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=4) as processor:
            first = asyncio.ensure_future(processor.submit(1))
            await asyncio.sleep(0.5)
            await asyncio.gather(*(processor.submit(n) for n in range(2, 5)))
            return await first

    assert simulate(main).value == 2
    assert (service.batches, service.times) == ([[1], [2, 3, 4]], [0.0, 1.0])


def test_what_callers_submit_on_an_answer_joins_the_next_batch():
    """Eight callers in a loop keep batches of eight."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=8) as processor:

            async def caller():
                for _ in range(3):
                    await processor.submit(1)

            await asyncio.gather(*(caller() for _ in range(8)))

    assert simulate(main).seconds == 3.0
    assert [len(batch) for batch in service.batches] == [8, 8, 8]


def test_several_batches_may_be_in_flight():
    """If asked, and no more than that."""
    service = Service()
    _, seconds = submit_all(service, [(n, 0) for n in range(12)], batch_size=2, concurrency=3)
    assert (service.peak, seconds) == (3, 2.0)


@pytest.mark.parametrize(("ageing", "served_at"), [(2.0, 10.0), (4.0, 20.0), (None, None)])
def test_with_ageing_nobody_starves(ageing, served_at):
    """Urgent ones keep coming, twice as many as can be done.

    One of lower priority goes when it has waited for what the difference is worth; without ageing,
    never.
    """
    service = Service()

    async def main():
        options = {"batch_size": 1, "ageing": ageing, "on_exit": "cancel"}
        async with PriorityBatchProcessor(service, **options) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n, priority=5)) for n in range(2)]
            tasks.append(asyncio.ensure_future(processor.submit("low")))
            for n in range(100):
                tasks.append(asyncio.ensure_future(processor.submit(n, priority=5)))
                await asyncio.sleep(0.5)
        await outcomes(tasks)

    simulate(main)
    if ageing is None:
        assert ["low"] not in service.batches
    else:  # those who came before it outranked them are served first, one a second
        assert service.times[service.batches.index(["low"])] == pytest.approx(
            2 * served_at + 2, abs=1
        )


def test_a_full_queue_makes_producers_wait():
    """Two in flight and three in the queue: `enqueue` returns when there is room for one more."""

    async def main():
        async with PriorityBatchProcessor(Service(), batch_size=2, queue_size=3) as processor:
            futures, times = [], []
            for n in range(9):
                futures.append(await processor.enqueue(n))
                times.append(now())
            return times, await asyncio.gather(*futures)

    assert simulate(main).value == ([0, 0, 0, 0, 0, 1, 1, 2, 2], [*range(0, 18, 2)])


def test_a_full_queue_does_not_turn_the_order_round():
    """The most urgent goes with the next batch, though the queue has no room for it."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2, queue_size=2) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(8)]
            await asyncio.sleep(0.5)
            tasks.append(asyncio.ensure_future(processor.submit(100, priority=9)))
            await outcomes(tasks)

    simulate(main)
    assert service.batches == [[0, 1], [100, 2], [3, 4], [5, 6], [7]]


def test_statistics_say_what_has_been_done():
    """As a frozen value."""
    service = Service(bad=[1])

    async def main():
        async with PriorityBatchProcessor(service, batch_size=4) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(6)]
            await asyncio.sleep(0.5)
            during = processor.statistics()
            await outcomes(tasks)
            return during, processor.statistics()

    during, after = simulate(main).value
    assert during == BatcherStatistics(waiting=2, running=1, batches=1, calls=1, largest=4)
    assert after == BatcherStatistics(batches=2, calls=6, largest=4, answered=5, failed=1)


def test_a_runnable_will_do():
    """One that takes a list."""
    found, _ = submit_all(RunnableLambda(echo), [(1, 0), (2, 0)], batch_size=2)
    assert found == [1, 2]


def test_it_can_be_opened_again():
    """After it was closed, with counts from zero."""

    async def main():
        processor = PriorityBatchProcessor(echo, batch_size=2)
        for _ in range(2):
            async with processor:
                await processor.submit(1)
        return processor.statistics().batches

    assert simulate(main).value == 1


def test_outside_its_block_it_is_refused():
    """Before, after, twice, in another loop, and from within its own batch."""
    processor = PriorityBatchProcessor(echo, batch_size=1)

    async def main():
        with pytest.raises(RuntimeError, match="not open: use it inside `async with`"):
            await processor.submit(1)
        async with processor:
            with pytest.raises(RuntimeError, match="is open already: share it"):
                await processor.__aenter__()
            with pytest.raises(RuntimeError, match="opened in another event loop: open one in"):
                await asyncio.wait_for(asyncio.to_thread(asyncio.run, processor.submit(1)), 60)
        with pytest.raises(RuntimeError, match="not open"):
            await processor.submit(1)

    asyncio.run(main())


def test_a_batch_cannot_wait_for_itself():
    """It would be stuck; it is told so."""

    async def process(items):
        return [await processor.submit(item) for item in items]

    processor = PriorityBatchProcessor(process, batch_size=1)

    async def main():
        async with processor:
            with pytest.raises(RuntimeError, match="waits for itself"):
                await processor.submit(1)

    simulate(main)


def plain(items):
    """Not async."""
    return items


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([plain], {"batch_size": 1}, "is neither a Runnable nor `async def`: pass a coroutine"),
        ([echo], {"batch_size": 0}, "batch_size=0: give a whole number, 1 or above"),
        ([echo], {"batch_size": 1, "concurrency": 0}, "concurrency=0: give a whole number"),
        ([echo], {"batch_size": 1, "queue_size": 0}, "queue_size=0: give a whole number"),
        ([echo], {"batch_size": 1, "ageing": 0}, "ageing=0: give a finite number above 0"),
        ([echo], {"batch_size": 1, "on_exit": "wait"}, "on_exit='wait': give one of drain, cancel"),
        ([echo], {"batch_size": 1, "isolate": True}, "isolate=True: give a function of the error"),
    ],
)
def test_bad_input_to_a_processor_is_refused_at_once(arguments, options, message):
    """When it is made, with the name, the value and the fix."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        PriorityBatchProcessor(*arguments, **options)


def test_a_priority_that_is_no_number_is_refused():
    """When it is submitted."""

    async def main():
        async with PriorityBatchProcessor(echo, batch_size=1) as processor:
            with pytest.raises(ValueError, match="priority=nan: give a finite number"):
                await processor.submit(1, priority=float("nan"))

    simulate(main)
