"""Where items come from, and how sources end."""

import asyncio
import io
import itertools

import pytest
from batching_support import Source, Step, Stop, others

from course_lib.batching import amap
from course_lib.lab.simulation import simulate

KINDS = pytest.mark.parametrize("kind", ["sync", "later"])


async def listed(*arguments, **options):
    """All outcomes of an `amap`."""
    return [outcome async for outcome in amap(*arguments, **options)]


def test_an_endless_asynchronous_source_is_read_as_places_become_free():
    """And an item's wait counts from when it was handed over."""
    read = []

    async def source():
        for number in itertools.count():
            await asyncio.sleep(0.1)
            read.append(number)
            yield 1.0

    async def main():
        async with amap(Step(), source(), limit=2) as outcomes:
            first = [await anext(outcomes) for _ in range(3)]
            return first, len(read)

    outcomes, count = simulate(main).value
    assert [(outcome.wait, outcome.service) for outcome in outcomes] == [(0, 1)] * 3
    assert count == 4


def test_a_window_can_be_the_source_of_another():
    """Items flow through both; the steps overlap."""

    async def second(outcome):
        await asyncio.sleep(0.1)
        return outcome.value

    async def main():
        first = amap(Step(lambda _: 0.1), range(8), limit=1)
        return await listed(second, first, limit=1)

    result = simulate(main)
    assert [outcome.value for outcome in result.value] == list(range(8))
    assert result.seconds == 0.9


@KINDS
def test_a_window_that_was_never_iterated_closes_its_source(kind):
    """Which has not begun either."""

    async def main():
        source = getattr(Source(), kind)()
        async with amap(Step(), source, limit=1):
            pass
        with pytest.raises((StopIteration, StopAsyncIteration)):
            await anext(source) if kind == "later" else next(source)

    async def wrapped():
        try:
            await main()
        except RuntimeError as error:  # how a coroutine reports a StopIteration
            raise AssertionError from error

    simulate(wrapped)


@KINDS
@pytest.mark.parametrize("patient", [False, True])
def test_an_error_of_the_source_is_raised(kind, patient):
    """At once, or where errors are outcomes after those of the items that it gave."""

    def items():
        yield from range(3)
        raise OSError("torn tape")

    async def main():
        seen = []
        step = Step(lambda _: 1.0)
        source = getattr(Source(items()), kind)()

        async def consume():
            async for outcome in amap(step, source, limit=5, return_exceptions=patient):
                seen.append(outcome.value)  # noqa: PERF401 - what was there before the error

        with pytest.raises(OSError, match="torn tape"):
            await consume()
        return seen, step.inside, others()

    assert simulate(main).value == ([0, 1, 2] if patient else [], 0, set())


def test_a_file_stays_its_owners_to_close():
    """Only generators are closed."""
    file = io.StringIO("a\nb\n")

    async def main():
        async with amap(Step(lambda _: 1), file, limit=1) as outcomes:
            await anext(outcomes)

    simulate(main)
    assert not file.closed


@KINDS
@pytest.mark.parametrize("place", [0, 3])
def test_what_is_no_exception_ends_all_of_it_at_once(kind, place):
    """Also where errors are outcomes: what was stopped halfway is not the whole of the source."""

    def items():
        yield from range(place)
        raise Stop

    async def main():
        step, seen = Step(lambda _: 1.0), []
        source = getattr(Source(items()), kind)()
        window = amap(step, source, limit=5, return_exceptions=True)
        with pytest.raises(Stop):
            seen.append(await anext(window))
        with pytest.raises(StopAsyncIteration):
            await anext(window)
        return seen, step.inside, others()

    assert simulate(main).value == ([], 0, set())


def test_an_interrupt_while_the_source_is_read_reaches_loop_and_consumer():
    """Though an item that ends has it read, and the loop runs on, as a notebook's does."""

    def items():
        yield from range(3)
        raise KeyboardInterrupt

    loop = asyncio.new_event_loop()
    consumer = loop.create_task(listed(Step(lambda _: 0.001), items(), limit=2))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(consumer)
    assert not consumer.done()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(consumer)
    assert isinstance(consumer.exception(), KeyboardInterrupt)
    loop.close()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("sync", asyncio.CancelledError),
        ("later", asyncio.CancelledError),
        ("sync", StopAsyncIteration),  # of the other kind Python itself makes a RuntimeError
    ],
)
def test_what_would_end_the_consumer_silently_is_an_error_of_the_source(kind, error):
    """A cancellation that nobody asked for, or a stop of something within it."""

    def items():
        yield from range(3)
        raise error

    async def main():
        with pytest.raises(RuntimeError, match="the source of the inputs"):
            await listed(Step(lambda _: 1.0), getattr(Source(items()), kind)(), limit=2)
        return others()

    assert simulate(main).value == set()


class Stream:
    """A stream that is no generator, and says which tasks close it."""

    def __init__(self):
        self.reader, self.closed_by = None, []

    def __aiter__(self):
        """It is its own iterator."""
        return self

    async def __anext__(self):
        """It has no end."""
        self.reader = asyncio.current_task()
        return 1.0

    async def aclose(self):
        """Note by whom."""
        self.closed_by.append(asyncio.current_task())


def test_a_stream_is_closed_once_and_by_who_reads_it():
    """Its cancel scopes belong to that task; a second time might be too much for it."""

    async def main():
        stream = Stream()
        async with amap(Step(), stream, limit=2) as outcomes:
            await anext(outcomes)
        assert stream.reader is not asyncio.current_task()
        return stream.closed_by == [stream.reader]

    assert simulate(main).value


def test_a_stream_that_nobody_has_read_is_closed_all_the_same():
    """Whether its reader was never made, or cancelled before it began."""

    async def main():
        never, cancelled = Stream(), Stream()
        async with amap(Step(), never, limit=2):
            pass
        async with amap(Step(), cancelled, limit=2) as outcomes:
            asking = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(0)
            for task in others():
                task.cancel()
            await asyncio.wait([asking])
        assert cancelled.reader is None
        return len(never.closed_by), len(cancelled.closed_by)

    assert simulate(main).value == (1, 1)
