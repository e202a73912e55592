"""`MicroBatcher` as its users see it."""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from batches_support import Service, kinds, outcomes
from batching_support import now, others
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda, RunnableParallel

from course_lib.batching import MicroBatcher, amap
from course_lib.lab.simulation import simulate


def run(batcher, arrivals):
    """Call for each item at its time; return (result, time) for each."""

    async def call(time, item):
        await asyncio.sleep(time)
        try:
            return await batcher(item), now()
        except ValueError as error:
            return error, now()

    async def main():
        async with batcher:
            return await asyncio.gather(*(call(*each) for each in arrivals))

    return simulate(main).value


def test_calls_of_one_moment_go_together():
    """Each gets its own result."""
    service = Service()
    assert run(MicroBatcher(service, max_size=8), [(0, n) for n in range(5)]) == [
        (2 * n, 1.0) for n in range(5)
    ]
    assert service.batches == [[0, 1, 2, 3, 4]]


def test_a_call_that_is_alone_goes_at_once():
    """What comes while it is in flight makes up the next batch, in the order it came."""
    service = Service()
    found = run(MicroBatcher(service, max_size=8), [(0, 0), (0.4, 1), (0.2, 2), (0.9, 3)])
    assert [time for _, time in found] == [1, 2, 2, 2]
    assert service.batches == [[0], [2, 1, 3]]


def test_with_a_wait_the_first_waits_for_others_that_long():
    """And no longer; the time counts from when it came."""
    service = Service()
    found = run(MicroBatcher(service, max_size=8, max_wait=0.3), [(0, 0), (0.2, 1), (0.4, 2)])
    assert found == [(0, 1.3), (2, 1.3), (4, 2.3)]
    assert service.batches == [[0, 1], [2]]


def test_a_full_batch_waits_for_nothing():
    """It goes as soon as it is full."""
    service = Service()
    batcher = MicroBatcher(service, max_size=2, max_wait=0.3, concurrency=9)
    assert run(batcher, [(0, 0), (0.1, 1), (0.2, 2)]) == [(0, 1.1), (2, 1.1), (4, 1.5)]


def test_when_the_first_gives_up_the_next_one_waits_its_own_time():
    """A timer that rings for one who has left starts nothing too soon."""
    service = Service()

    async def main():
        async with MicroBatcher(service, max_size=8, max_wait=1.0) as batcher:
            first = asyncio.ensure_future(batcher(1))
            await asyncio.sleep(0.5)
            second = asyncio.ensure_future(batcher(2))
            await asyncio.sleep(0.1)
            first.cancel()
            return await second, now()

    assert simulate(main).value == (4, 2.5)
    assert service.batches == [[2]]


def test_leaving_the_block_does_not_wait_for_company():
    """What waits for a full batch goes at once."""
    service = Service()

    async def main():
        async with MicroBatcher(service, max_size=8, max_wait=60.0) as batcher:
            call = asyncio.ensure_future(batcher(1))
            await asyncio.sleep(0.5)
        return await call, now()

    assert simulate(main).value == (2, 1.5)


def test_a_cancelled_caller_hangs_nobody():
    """Not even all of them but one."""

    async def main():
        async with MicroBatcher(Service(), max_size=8) as batcher:
            calls = [asyncio.ensure_future(batcher(n)) for n in range(6)]
            await asyncio.sleep(0.5)
            for call in calls[:5]:
                call.cancel()
            return kinds(await outcomes(calls)), now()

    assert simulate(main).value == (["CancelledError"] * 5 + [10], 1.0)


def test_a_bad_item_fails_alone():
    """Its companions get their results."""
    found = run(MicroBatcher(Service(bad=[2]), max_size=8), [(0, n) for n in range(5)])
    assert [r if isinstance(r, int) else str(r) for r, _ in found] == [0, 2, "bad: [2]", 6, 8]


class Callbacks(AsyncCallbackHandler):
    """Notes which runs there were."""

    def __init__(self):
        self.seen = []

    async def on_chain_start(self, serialized, inputs, **options):
        """Note a start."""
        self.seen.append((options["name"], inputs))


def test_it_drops_into_a_chain():
    """Ten items that flow through three steps share its calls; callbacks see each as a run."""
    service, callbacks = Service(), Callbacks()

    async def add(item):
        return item + 1

    async def main():
        async with MicroBatcher(service, max_size=16, name="double") as batcher:
            chain = RunnableLambda(add) | batcher | add
            config = {"callbacks": [callbacks]}
            window = amap(chain, range(10), limit=10, ordered=True, config=config)
            return [outcome.value async for outcome in window]

    assert simulate(main).value == [2 * (n + 1) + 1 for n in range(10)]
    assert service.batches == [list(range(1, 11))]
    assert [inputs for name, inputs in callbacks.seen if name == "double"] == list(range(1, 11))


def test_abatch_and_parallel_steps_coalesce_too():
    """Whatever calls it at one moment."""
    service = Service()

    async def main():
        async with MicroBatcher(service, max_size=16) as batcher:
            both = RunnableParallel(a=batcher, b=batcher)
            return await batcher.abatch([1, 2, 3]), await both.ainvoke(4)

    assert simulate(main).value == ([2, 4, 6], {"a": 8, "b": 8})
    assert service.batches == [[1, 2, 3], [4, 4]]


async def answers(texts: Sequence[str]) -> list[int | Exception]:
    """A batch call that says what it takes; an error stands in the place of a result."""
    return [len(text) for text in texts]


async def unfinished(texts: "NowhereDefined") -> list[int]:  # noqa: F821 - that is the point
    """A batch call whose annotations cannot be read."""
    return [len(text) for text in texts]


async def bare(texts: list) -> tuple[int, str]:
    """A batch call that does not say of what."""
    return (len(texts), "")


@pytest.mark.parametrize(
    ("call_batch", "types"),
    [
        (answers, (str, int)),
        (RunnableLambda(answers), (str, int)),
        (partial(answers), (str, int)),
        (DeterministicFakeEmbedding(size=3).aembed_documents, (str, list[float])),
        (unfinished, (Any, Any)),
        (bare, (Any, Any)),
        (Service(), (Any, Any)),
    ],
)
def test_its_types_are_those_of_one_in_a_batch(call_batch, types):
    """As far as the batch call says; the schemas can be had in any case."""
    batcher = MicroBatcher(call_batch, max_size=2)
    assert (batcher.InputType, batcher.OutputType) == types
    assert batcher.get_input_jsonschema()["title"] == "MicroBatcherInput"
    assert batcher.get_output_jsonschema()["title"] == "MicroBatcherOutput"


def test_it_has_no_sync_side_and_says_so():
    """It never hands its input back; nor does it swallow arguments."""
    batcher = MicroBatcher(Service(), max_size=2, name="embed")
    with pytest.raises(TypeError, match="embed has no sync implementation: `await batcher"):
        batcher.invoke(1)

    async def main():
        async with batcher:
            with pytest.raises(TypeError, match="embed takes no temperature"):
                await batcher.ainvoke(1, temperature=2)

    simulate(main)


def test_outside_its_block_a_batcher_is_refused():
    """As a function and as a step."""

    async def main():
        batcher = MicroBatcher(Service(), max_size=2)
        with pytest.raises(RuntimeError, match="this MicroBatcher is not open: use it inside"):
            await batcher(1)
        with pytest.raises(RuntimeError, match="this MicroBatcher is not open: use it inside"):
            await batcher.ainvoke(1)
        return repr(batcher), others()

    shown = "<MicroBatcher closed, 0 waiting, 0 batches in flight>"
    assert simulate(main).value == (shown, set())


def plain(items):
    """Not async."""
    return items


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([plain], {"max_size": 1}, "call_batch=<function plain"),
        ([Service()], {"max_size": 0}, "max_size=0: give a whole number, 1 or above"),
        ([Service()], {"max_size": 1, "max_wait": -1}, "max_wait=-1: give a finite number, 0 or"),
        ([Service()], {"max_size": 1, "concurrency": 0}, "concurrency=0: give a whole number"),
    ],
)
def test_bad_input_to_a_batcher_is_refused_at_once(arguments, options, message):
    """When it is made, with the name, the value and the fix."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        MicroBatcher(*arguments, **options)
