"""`PriorityBatchProcessor` as its users see it."""

import asyncio
import re

import pytest
from batches_support import Service, kinds, outcomes
from batching_support import now, others, settle
from langchain_core.runnables import RunnableLambda

from course_lib.batching import (
    BatcherClosed,
    BatcherStatistics,
    PriorityBatchProcessor,
    WrongNumberOfResults,
)
from course_lib.errors import RateLimited
from course_lib.lab.clock import simulate


async def echo(items):
    """The simplest batch."""
    await asyncio.sleep(1)
    return items


def run(service, submissions, *, batch_size, **options):
    """Submit (item, priority) pairs all at once; return what came of them, and the seconds."""

    async def main():
        async with PriorityBatchProcessor(service, batch_size=batch_size, **options) as processor:
            return await outcomes(processor.submit(*each) for each in submissions)

    result = simulate(main)
    return kinds(result.value), result.seconds


def test_every_caller_gets_its_own_result():
    """In batches that are full, one after the other."""
    service = Service()
    found = run(service, [(n, 0) for n in range(10)], batch_size=4)
    assert found == ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18], 3.0)
    assert service.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_higher_goes_first_and_equals_in_the_order_they_came():
    """Also below zero and between whole numbers."""
    service = Service()
    run(service, enumerate([0, 5, -1, 5, 0.5, 0]), batch_size=2)
    assert service.batches == [[1, 3], [4, 0], [5, 2]]


@pytest.mark.parametrize("ageing", [30.0, None])
def test_items_are_never_compared(ageing):
    """Dicts of equal priority, objects, lists: any type will do."""
    items = [{"a": 1}, {"a": 1}, object(), [1], None, "text"]
    found, _ = run(echo, [(item, 1) for item in items], batch_size=2, ageing=ageing)
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
    _, seconds = run(service, [(n, 0) for n in range(12)], batch_size=2, concurrency=3)
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


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13, 64])
def test_one_bad_item_fails_alone(size):
    """With at most two calls a halving more than the batch itself."""
    for bad in {0, size // 2, size - 1}:
        service = Service(bad=[bad])
        found, _ = run(service, [(n, 0) for n in range(size)], batch_size=size)
        assert found == [2 * n if n != bad else "ValueError" for n in range(size)]
        assert len(service.batches) <= 1 + 2 * (size - 1).bit_length()


def test_a_service_in_trouble_is_not_called_more_often():
    """Its errors say nothing about an item: they fail the batch, in one call."""
    service = Service(bad=[3], error=RateLimited)
    found, _ = run(service, [(n, 0) for n in range(6)], batch_size=4)
    assert found == ["RateLimited"] * 4 + [8, 10]
    assert len(service.batches) == 2


def test_what_is_worth_halving_can_be_said():
    """By a function of the error."""
    service = Service(bad=[3])
    submissions = [(n, 0) for n in range(4)]
    found, _ = run(service, submissions, batch_size=4, isolate=lambda error: False)
    assert (found, len(service.batches)) == (["ValueError"] * 4, 1)
    service = Service(bad=[3], error=RateLimited)
    found, _ = run(service, submissions, batch_size=4, isolate=lambda error: True)
    assert found == [0, 2, 4, "RateLimited"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda items: items[1:], "a batch of 3 items was answered with 2 results: return one for"),
        (lambda items: [*items, 0], "a batch of 3 items was answered with 4 results"),
        (lambda items: None, "a batch of 3 items was answered with NoneType: return a list"),
        (lambda items: "abc", "answered with str: return a list"),
        (dict.fromkeys, "answered with dict: return a list"),
        (set, "answered with set: return a list"),
        (lambda items: (item for item in items), "answered with generator: return a list"),
    ],
)
def test_a_wrong_number_of_results_is_an_error_of_that_batch(answer, message):
    """It says so, is no reason to call again, and the next batch is not touched by it."""
    calls = []

    async def process(items):
        calls.append(items)
        return answer(items) if len(calls) == 1 else items

    async def main():
        async with PriorityBatchProcessor(process, batch_size=3) as processor:
            return await outcomes(processor.submit(n) for n in range(5))

    results = simulate(main).value
    assert kinds(results) == ["WrongNumberOfResults"] * 3 + [3, 4]
    assert all(message in str(error) for error in results[:3])
    assert len(calls) == 2


def test_an_exception_in_an_items_place_is_its_error():
    """So a batch function can say itself what failed."""

    async def process(items):
        return [
            KeyError(item) if item == 1 else StopIteration() if item == 2 else item
            for item in items
        ]

    found, _ = run(process, [(n, 0) for n in range(4)], batch_size=4)
    assert found == [0, "KeyError", "RuntimeError", 3]


def test_after_an_error_it_goes_on():
    """Nothing is stuck or lost: not those in the same batch, nor those behind."""
    service = Service(bad=range(4))
    found, _ = run(service, [(n, 0) for n in range(12)], batch_size=4)
    assert found == ["ValueError"] * 4 + [2 * n for n in range(4, 12)]


@pytest.mark.parametrize("moment", [0.5, 1.5])
def test_cancelling_a_caller_harms_nobody(moment):
    """Neither while its batch is in flight, nor while it waits: then its item is not processed."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(6)]
            await asyncio.sleep(moment)
            tasks[2].cancel()
            return await outcomes(tasks), processor.statistics()

    results, statistics = simulate(main).value
    assert kinds(results) == [0, 2, "CancelledError", 6, 8, 10]
    assert statistics.cancelled == 1
    assert service.batches[1] == ([3, 4] if moment == 0.5 else [2, 3])


def test_a_batch_that_nobody_waits_for_any_more_is_cancelled():
    """And the next one starts."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(4)]
            await asyncio.sleep(0.5)
            tasks[0].cancel()
            await settle()
            assert service.cancelled == 0
            tasks[1].cancel()
            return kinds(await outcomes(tasks))

    result = simulate(main)
    assert result.value == ["CancelledError"] * 2 + [4, 6]
    assert (service.cancelled, result.seconds) == (1, 1.5)


def test_the_others_of_a_halved_batch_are_not_asked_again_for_who_has_left():
    """Whoever gives up meanwhile is left out of further calls."""
    service = Service(bad=[0])

    async def main():
        async with PriorityBatchProcessor(service, batch_size=4) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(4)]
            await asyncio.sleep(0.5)
            tasks[3].cancel()
            return kinds(await outcomes(tasks))

    assert simulate(main).value == ["ValueError", 2, 4, "CancelledError"]
    assert service.batches == [[0, 1, 2, 3], [0, 1], [0], [1], [2]]


def test_leaving_the_block_answers_what_waits():
    """By default, and takes nothing more."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(5)]
            await settle()
            late = asyncio.get_running_loop().call_later(
                1.5, lambda: tasks.append(asyncio.ensure_future(processor.submit(9)))
            )
        assert (now(), others(), late.when()) == (3.0, set(), 1.5)
        return kinds(await outcomes(tasks)), repr(processor)

    found, shown = simulate(main).value
    assert found == [0, 2, 4, 6, 8, "BatcherClosed"]
    assert shown == "<PriorityBatchProcessor closed, 0 waiting, 0 batches in flight>"


def test_leaving_the_block_can_cancel_instead():
    """What waits and what is in flight fails, with an error that says why."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2, on_exit="cancel") as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(5)]
            await asyncio.sleep(1.5)
        assert (now(), others() - set(tasks)) == (1.5, set())
        return await outcomes(tasks)

    results = simulate(main).value
    assert kinds(results) == [0, 2] + ["BatcherClosed"] * 3
    assert "closed before this item was answered" in str(results[4])
    assert service.cancelled == 1


def test_an_error_in_the_block_fails_what_waits():
    """There is no point in going on; the error itself leaves the block."""
    service, tasks = Service(), []

    async def block():
        async with PriorityBatchProcessor(service, batch_size=2) as processor:
            tasks.extend(asyncio.ensure_future(processor.submit(n)) for n in range(5))
            await asyncio.sleep(0.5)
            raise KeyError("mine")

    async def main():
        with pytest.raises(KeyError, match="mine"):
            await block()
        return kinds(await outcomes(tasks)), now()

    assert simulate(main).value == (["BatcherClosed"] * 5, 0.5)


def test_a_cancelled_exit_stops_draining():
    """An interrupt is not kept waiting until everything is answered."""
    service, tasks = Service(), []

    async def block():
        async with PriorityBatchProcessor(service, batch_size=1) as processor:
            tasks.extend(asyncio.ensure_future(processor.submit(n)) for n in range(50))
            await settle()

    async def main():
        leaving = asyncio.ensure_future(block())
        await asyncio.sleep(2.5)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert (leaving.cancelled(), others() - set(tasks)) == (True, set())
        return kinds(await outcomes(tasks)), now()

    assert simulate(main).value == ([0, 2] + ["BatcherClosed"] * 48, 2.5)


def test_a_batch_that_is_cancelled_from_within_fails_and_no_more():
    """Its callers are not cancelled, and the next batch is processed."""

    async def process(items):
        if 0 in items:
            raise asyncio.CancelledError
        return items

    found, _ = run(process, [(n, 0) for n in range(4)], batch_size=2)
    assert found == ["RuntimeError", "RuntimeError", 2, 3]


def test_a_batch_task_that_somebody_cancels_is_an_error_for_its_callers():
    """They are told, rather than left waiting."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=2) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(4)]
            await asyncio.sleep(0.5)
            for task in others() - set(tasks):
                task.cancel()
            return kinds(await outcomes(tasks))

    assert simulate(main).value == ["RuntimeError", "RuntimeError", 4, 6]


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


def test_who_waits_for_room_may_give_up():
    """Its place goes to the next."""
    service = Service()

    async def main():
        async with PriorityBatchProcessor(service, batch_size=1, queue_size=1) as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(5)]
            await asyncio.sleep(0.5)
            tasks[3].cancel()
            tasks[1].cancel()
            return kinds(await outcomes(tasks))

    assert simulate(main).value == [0, "CancelledError", 4, "CancelledError", 8]
    assert service.batches == [[0], [2], [4]]


def test_who_gives_up_in_the_queue_makes_room_at_once():
    """The producer that waits for room goes on in that moment."""

    async def main():
        async with PriorityBatchProcessor(Service(), batch_size=1, queue_size=1) as processor:
            _, second = [await processor.enqueue(n) for n in range(2)]
            third = asyncio.ensure_future(processor.enqueue(2))
            await asyncio.sleep(0.5)
            assert not third.done()
            second.cancel()
            await settle()
            assert third.done()
            return await (await third), now()

    assert simulate(main).value == (4, 2.0)


def test_a_batch_is_cancelled_once_and_may_clean_up():
    """Leaving the block does not cut short the clean-up of one that nobody waits for."""
    cleaned = []

    async def process(items):
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
            cleaned.append(items)

    async def main():
        async with PriorityBatchProcessor(process, batch_size=1, on_exit="cancel") as processor:
            call = asyncio.ensure_future(processor.submit(1))
            await asyncio.sleep(0.5)
            call.cancel()
            await settle()
        return cleaned, now()

    assert simulate(main).value == ([[1]], 1.5)


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
    found, _ = run(RunnableLambda(echo), [(1, 0), (2, 0)], batch_size=2)
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
        ([echo], {"batch_size": 1, "ageing": 0}, "ageing=0: give a finite number, above 0"),
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


def test_errors_are_of_the_kinds_that_are_said():
    """So that callers can catch them as what they are."""
    assert issubclass(BatcherClosed, RuntimeError)
    assert issubclass(WrongNumberOfResults, ValueError)
