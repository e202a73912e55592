"""What fails in a `PriorityBatchProcessor`, and what does not."""

import asyncio

import pytest
from batches_support import Service, kinds, outcomes, submit_all
from batching_support import Stop

from course_lib.batching import (
    BatcherClosed,
    MicroBatcher,
    PriorityBatchProcessor,
    WrongNumberOfResults,
)
from course_lib.errors import BadRequest, RateLimited
from course_lib.lab.simulation import simulate


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13, 64])
def test_one_bad_item_fails_alone(size):
    """With at most two calls a halving more than the batch itself."""
    for bad in {0, size // 2, size - 1}:
        service = Service(bad=[bad])
        found, _ = submit_all(service, [(n, 0) for n in range(size)], batch_size=size)
        assert found == [2 * n if n != bad else "ValueError" for n in range(size)]
        assert len(service.batches) <= 1 + 2 * (size - 1).bit_length()


def test_a_service_in_trouble_is_not_called_more_often():
    """Its errors say nothing about an item: they fail the batch, in one call."""
    service = Service(bad=[3], error=RateLimited)
    found, _ = submit_all(service, [(n, 0) for n in range(6)], batch_size=4)
    assert found == ["RateLimited"] * 4 + [8, 10]
    assert len(service.batches) == 2


def test_what_is_worth_halving_can_be_said():
    """By a function of the error."""
    service = Service(bad=[3])
    submissions = [(n, 0) for n in range(4)]
    found, _ = submit_all(service, submissions, batch_size=4, isolate=lambda error: False)
    assert (found, len(service.batches)) == (["ValueError"] * 4, 1)
    service = Service(bad=[3], error=RateLimited)
    found, _ = submit_all(service, submissions, batch_size=4, isolate=lambda error: True)
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

    found, _ = submit_all(process, [(n, 0) for n in range(4)], batch_size=4)
    assert found == [0, "KeyError", "RuntimeError", 3]


def test_what_is_no_exception_is_never_an_answer():
    """In an item's place it is raised: a cancellation, that nobody asked for, as an error."""

    async def process(items):
        places = [asyncio.CancelledError(), Stop(), GeneratorExit()]
        return [places[item] if item < len(places) else item for item in items]

    async def main():
        async with PriorityBatchProcessor(process, batch_size=5) as processor:
            answers = [await processor.enqueue(n) for n in range(5)]
            await asyncio.wait(answers)
            return [answer.exception() for answer in answers], processor.statistics()

    errors, statistics = simulate(main).value
    assert kinds(errors) == ["RuntimeError", "Stop", "GeneratorExit", None, None]
    assert isinstance(errors[0].__cause__, asyncio.CancelledError)
    assert (statistics.failed, statistics.answered) == (3, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
def test_what_is_no_exception_is_raised_by_every_call_of_its_batch(error):
    """It is no error of an item, to be looked for, and it leaves the program."""
    calls = []

    async def process(items):
        calls.append(items)
        raise error

    async def main():
        async with PriorityBatchProcessor(process, batch_size=4) as processor:
            await asyncio.gather(*(processor.submit(n) for n in range(4)))

    with pytest.raises(error):
        asyncio.run(main())
    assert calls == [[0, 1, 2, 3]]


def test_an_interrupt_reaches_the_callers_where_the_loop_runs_on():
    """As a notebook's does, which must not wait for ever."""

    async def process(items):
        raise KeyboardInterrupt

    async def main():
        async with MicroBatcher(process, max_size=4) as batcher:
            return await batcher(1)

    loop = asyncio.new_event_loop()
    caller = loop.create_task(main())
    for done in (False, True):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(caller)
        assert caller.done() == done
    assert isinstance(caller.exception(), KeyboardInterrupt)
    loop.close()


def test_an_error_in_saying_what_is_worth_halving_is_raised():
    """By the calls of that batch; it was not cancelled, and is not said to be."""
    wrong = lambda error: error.status == 400  # noqa: E731 - a ValueError has none
    found, _ = submit_all(Service(bad=[0]), [(n, 0) for n in range(4)], batch_size=2, isolate=wrong)
    assert found == ["AttributeError", "AttributeError", 4, 6]


def test_after_an_error_it_goes_on():
    """Nothing is stuck or lost: not those in the same batch, nor those behind."""
    service = Service(bad=range(4))
    found, _ = submit_all(service, [(n, 0) for n in range(12)], batch_size=4)
    assert found == ["ValueError"] * 4 + [2 * n for n in range(4, 12)]


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


def test_a_batch_that_is_cancelled_from_within_fails_and_no_more():
    """Its callers are not cancelled, and the next batch is processed."""

    async def process(items):
        if 0 in items:
            raise asyncio.CancelledError
        return items

    found, _ = submit_all(process, [(n, 0) for n in range(4)], batch_size=2)
    assert found == ["RuntimeError", "RuntimeError", 2, 3]


def test_errors_are_of_the_kinds_that_are_said():
    """So that callers can catch them as what they are."""
    assert issubclass(BatcherClosed, RuntimeError)
    assert issubclass(WrongNumberOfResults, ValueError)


ERRORS = [
    ValueError("bad"),
    BadRequest("400"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ExceptionGroup("several", [ValueError("bad"), RateLimited("429")]),
    RecursionError("too deep"),
    StopAsyncIteration("stop"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("batcher", [MicroBatcher, PriorityBatchProcessor])
def test_whatever_is_wrong_with_an_item_its_companions_have_their_results(batcher, error):
    """Alone or twice in a batch, whether it is raised or stands in the item's place."""

    async def raising(items):
        if "bad" in items:
            raise error
        return items

    async def in_place(items):
        return [error if item == "bad" else item for item in items]

    async def answers(process):
        size = "max_size" if batcher is MicroBatcher else "batch_size"
        async with batcher(process, **{size: 8}) as one:
            call = one if batcher is MicroBatcher else one.submit
            return await outcomes(call(item) for item in [1, "bad", 3, 4, "bad", 6, 7, 8, "bad"])

    for process in (raising, in_place):
        found = simulate(lambda process=process: answers(process)).value
        assert found == [1, error, 3, 4, error, 6, 7, 8, error]
