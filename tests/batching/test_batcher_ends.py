"""Callers that give up, and blocks that are left."""

import asyncio

import pytest
from batches_support import Service, kinds, outcomes
from batching_support import now, others, settle

from course_lib.batching import (
    PriorityBatchProcessor,
)
from course_lib.lab.simulation import simulate


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


def test_an_error_in_the_clean_up_of_a_batch_is_no_reason_to_call_it_again():
    """Leaving the block waits for the clean-up, and for nothing else."""
    calls = []

    async def process(items):
        calls.append(items)
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
            raise OSError("while leaving")

    async def main():
        async with PriorityBatchProcessor(process, batch_size=2, on_exit="cancel") as processor:
            tasks = [asyncio.ensure_future(processor.submit(n)) for n in range(2)]
            await asyncio.sleep(0.5)
        return kinds(await outcomes(tasks)), now()

    assert simulate(main).value == (["OSError", "OSError"], 1.5)
    assert calls == [[0, 1]]


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
