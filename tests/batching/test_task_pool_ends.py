"""However an `amap` ends, nothing is left behind."""

import asyncio
import gc
from functools import partial

import pytest
from batching_support import Source, Step, Stop, now, others, settle

from course_lib.batching import amap, batch_in_chunks
from course_lib.lab.simulation import simulate


def fails_at(place):
    """Make a step that takes a second, or half of it and an error at one place."""
    return Step(
        lambda item: 0.5 if item == place else 1.0,
        lambda item: ValueError(f"no {item}") if item == place else None,
    )


PATIENT = {"return_exceptions": True}
KINDS = pytest.mark.parametrize("kind", ["sync", "later"])


@KINDS
def test_an_error_cancels_the_rest_and_is_raised(kind):
    """What is in flight has ended and the source is closed before the consumer learns of it."""

    async def main():
        step, source = fails_at(2), Source()
        with pytest.raises(ValueError, match="no 2"):
            async for _ in amap(step, getattr(source, kind)(), limit=4):
                pass
        assert (step.inside, sorted(step.cancelled), others()) == (0, [0, 1, 3], set())
        assert (source.closed, source.read) == (True, 4)

    assert simulate(main).seconds == (0.5 if kind == "sync" else 0.6)


def test_what_was_there_before_the_error_is_yielded_first():
    """Work that was done is not lost; what comes after it is."""

    async def main():
        step = Step(float, lambda item: ValueError("bad") if item == 3 else None)
        outcomes = amap(step, [1, 2, 3, 4], limit=4)
        first = await anext(outcomes)
        await asyncio.sleep(5)
        second = await anext(outcomes)
        with pytest.raises(ValueError, match="bad"):
            await anext(outcomes)
        return [first.value, second.value], now(), step.cancelled

    assert simulate(main).value == ([1, 2], 6.0, [4])


def test_errors_are_outcomes_on_request():
    """Then each item has one, and nothing is cancelled."""

    async def main():
        return [o async for o in amap(fails_at(2), range(4), limit=2, return_exceptions=True)]

    outcomes = simulate(main).value
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert [outcome.ok for outcome in outcomes] == [True, True, False, True]
    with pytest.raises(ValueError, match="no 2"):
        outcomes[2].result()


@KINDS
def test_after_a_plain_break_all_is_cancelled_at_once(kind):
    """And winds up while the loop runs on."""

    async def main():
        step, source = Step(lambda item: item + 1), Source()
        async for _ in amap(step, getattr(source, kind)(), limit=4):
            break
        await settle()
        assert step.inside == 0
        await asyncio.sleep(0.5)
        assert (others(), source.closed) == (set(), True)

    assert simulate(main).seconds == 1.5


def test_after_a_break_at_the_end_of_the_program_nothing_is_left():
    """`asyncio.run` ends the rest without a complaint."""
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        async for _ in amap(Step(lambda item: item * 1000), Source().sync(), limit=4):
            return

    asyncio.run(main())
    gc.collect()
    assert complaints == []


def test_an_error_in_the_loops_body_ends_it_too():
    """As soon as the error has left the function."""

    async def main():
        step = Step(lambda item: item + 1)

        async def consume():
            async for _ in amap(step, range(100), limit=4):
                raise KeyError("mine")

        with pytest.raises(KeyError):
            await consume()
        await settle()
        return step.inside, others()

    assert simulate(main).value == (0, set())


@KINDS
def test_closing_waits_until_all_has_ended(kind):
    """With `aclose` or `async with`, also where cleaning up takes its time."""

    async def slow_to_leave(item):
        try:
            await asyncio.sleep(item)
        finally:
            await asyncio.sleep(0.25)

    async def main():
        source = Source()
        async with amap(slow_to_leave, getattr(source, kind)(), limit=4) as outcomes:
            await anext(outcomes)
        assert (others(), source.closed, now()) == (set(), True, 0.5)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
        await outcomes.aclose()

    simulate(main)


@KINDS
def test_cancelling_the_consumer_cancels_the_rest(kind):
    """Before the consumer's own clean-up goes on; a second cancellation does not cut that short."""

    async def main():
        step, source = Step(lambda _: 10), Source()

        async def consume():
            try:
                async for _ in amap(step, getattr(source, kind)(), limit=4):
                    pass
            finally:
                seen.append((step.inside, source.closed))

        seen = []
        consumer = asyncio.ensure_future(consume())
        await asyncio.sleep(1)
        consumer.cancel()
        await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.wait([consumer])
        assert consumer.cancelled()
        assert (seen, others()) == ([(0, True)], set())

    simulate(main)


def test_a_timeout_round_one_outcome_ends_the_iteration():
    """As it would an asynchronous generator."""

    async def main():
        outcomes = amap(Step(lambda _: 10), range(9), limit=2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(outcomes), 1)
        return [outcome async for outcome in outcomes], others()

    assert simulate(main).value == ([], set())


def test_an_item_that_is_cancelled_by_itself_is_an_error():
    """Not a cancellation of the consumer, who did nothing to deserve it."""

    async def step(_):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    async def main():
        with pytest.raises(RuntimeError, match="item 0 was cancelled"):
            await anext(amap(step, [1], limit=1))

    simulate(main)


def test_a_stop_raised_by_an_item_does_not_end_the_consumers_loop():
    """It arrives as an error; a silent end would look like success."""

    async def step(_):
        raise StopAsyncIteration

    async def main():
        with pytest.raises(RuntimeError, match="item 0 raised StopAsyncIteration"):
            async for _ in amap(step, [1], limit=1):
                pass

    simulate(main)


def test_an_error_while_cleaning_up_is_reported():
    """To the loop's handler, and it hides nothing."""

    async def step(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            raise OSError("while leaving") from None
        raise ValueError("the first")

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: reports.append(c))
        with pytest.raises(ValueError, match="the first"):
            await anext(amap(step, [1, 2], limit=2))
        await settle()
        return [str(report["exception"]) for report in reports]

    assert simulate(main).value == ["while leaving"]


def test_an_item_may_close_the_window_that_it_is_in():
    """It does not wait for itself."""

    async def main():
        async def step(item):
            await asyncio.sleep(item)
            await outcomes.aclose()

        outcomes = amap(step, [1, 2, 3], limit=3)
        return [outcome async for outcome in outcomes], others()

    assert simulate(main).value == ([], set())


MACHINES = pytest.mark.parametrize(
    "batch", [partial(amap, limit=2, attempts=3), partial(batch_in_chunks, size=2)]
)


@MACHINES
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
def test_what_is_no_exception_is_no_outcome(batch, error):
    """It is raised at once, whatever is said of errors, and nothing goes on."""
    step = Step(lambda _: 0.001, lambda item: error() if item == 3 else None)
    seen = []

    async def main():
        async for outcome in batch(step, range(50), return_exceptions=True):
            seen.append(outcome.value)  # noqa: PERF401 - what was there before the error

    with pytest.raises(error):
        asyncio.run(main())
    assert seen == [0, 1, 2][: len(seen)]
    assert (step.inside, len(step.started)) == (0, 4)


@MACHINES
def test_an_interrupt_reaches_the_consumer_where_the_loop_runs_on(batch):
    """As a notebook's does, which must not wait for ever."""

    async def main():
        return [o async for o in batch(Step(float, lambda _: KeyboardInterrupt()), [0], **PATIENT)]

    loop = asyncio.new_event_loop()
    consumer = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(consumer)
    assert not consumer.done()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(consumer)
    assert isinstance(consumer.exception(), KeyboardInterrupt)
    loop.close()


@MACHINES
def test_a_cancellation_that_an_item_raises_is_its_own_error(batch):
    """Where errors are outcomes the others stand; it is never handed out as it is."""
    step = Step(float, lambda item: asyncio.CancelledError() if item == 1 else None)

    async def main():
        return [o async for o in batch(step, range(4), ordered=True, **PATIENT)]

    outcomes = simulate(main).value
    assert [outcome.value for outcome in outcomes] == [0, None, 2, 3]
    assert isinstance(outcomes[1].error, RuntimeError)
    assert isinstance(outcomes[1].error.__cause__, asyncio.CancelledError)
