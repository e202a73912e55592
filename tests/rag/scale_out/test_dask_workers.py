"""The parts of `Workers`, each without processes: the host of a pipeline, and the way to it."""

import asyncio
import functools
import pickle
import threading
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed", reason="distributed is in the extra `scale`")

from distributed import Reschedule
from distributed.scheduler import KilledWorker

from course_lib.batching import Outcome
from course_lib.errors import RateLimited, Unavailable
from course_lib.lab import simulate
from course_lib.rag.scale_out.chunk import QueryChunk, RemoteError, cut
from course_lib.rag.scale_out.dask_workers import (
    DaskWorkers,
    PipelineHost,
    _require_sendable,
    opened_answer,
    opened_queries,
    packed_answer,
    packed_queries,
    undisturbed,
)


class Scheduler:
    """Stands in for a client of Dask: answers chunks by a function of their queries."""

    def __init__(self, answer):
        self.answer = answer
        self.chunks = []
        self.released = 0

    def submit(self, *call, **options):
        queries = opened_queries(call[-1])
        self.chunks.append(queries)
        return Future(asyncio.create_task(self.work(queries)), self)

    async def work(self, queries):
        await asyncio.sleep(1)
        return [packed_answer(Outcome(0, self.answer(query))) for query in queries]


class Future:
    def __init__(self, task, scheduler):
        self.task, self.scheduler = task, scheduler

    def __await__(self):
        return self.task.__await__()

    def release(self):
        self.scheduler.released += 1
        self.task.cancel()


def deadly(number):
    """Kill each worker that has 2."""
    if number == 2:
        raise KilledWorker("key", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)
    return 10 * number


def ask(answer, *queries, start=5):
    """Have workers answer a chunk; return the outcomes and the stand-in."""
    scheduler = Scheduler(answer)

    async def main():
        return await DaskWorkers(scheduler, "host", 1, 2).ask(QueryChunk(start, list(queries)))

    return simulate(main).value, scheduler


def test_what_kills_its_workers_fails_alone():
    """The rest of its chunk is done query by query, under the same indexes."""
    outcomes, scheduler = ask(deadly, 1, 2, 3)
    assert [outcome.index for outcome in outcomes] == [5, 6, 7]
    assert [outcome.value for outcome in outcomes] == [10, None, 30]
    assert isinstance(outcomes[1].error, Unavailable)
    assert str(outcomes[1].error).startswith("4 workers died")
    assert scheduler.chunks == [[1, 2, 3], [1], [2], [3]]
    assert scheduler.released == 4


def test_a_scheduler_that_is_gone_is_not_asked_again():
    """Each query of the chunk learns of it."""

    def gone(number):
        raise CancelledError

    outcomes, scheduler = ask(gone, 1, 2)
    assert [type(outcome.error) for outcome in outcomes] == [Unavailable, Unavailable]
    assert len(scheduler.chunks) == 1


def test_who_is_cancelled_gives_up_the_chunk():
    """So that the worker learns of it."""

    async def main():
        scheduler = Scheduler(deadly)
        task = asyncio.create_task(DaskWorkers(scheduler, "host", 1, 2).ask(QueryChunk(0, [1])))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), scheduler.released

    assert simulate(main).value == (True, 1)


def pipeline(log, *, failures=0, seconds=1.0):
    """Return a factory whose pipeline takes a second, after so many failures to build it."""

    @asynccontextmanager
    async def make():
        log.append("build")
        if len(log) <= failures:
            raise OSError("not yet")

        async def call(number):
            log.append(number)
            await asyncio.sleep(seconds)
            return number

        yield call
        log.append("close")

    return make


def values(parcels):
    """Return what each query has for outcome."""
    return [opened_answer(0, parcel) for parcel in parcels]


def test_a_chunk_goes_before_the_next_which_fills_the_last_places():
    """Five places, two chunks of eight: no place is empty before all have begun."""
    log = []

    async def main():
        host = PipelineHost(pipeline(log), 5, own=False)
        await host.setup(None)
        chunks = [packed_queries(list(range(start, start + 8))) for start in (0, 8)]
        parcels = await asyncio.gather(*map(host.answer, "ab", chunks))
        await host.teardown(None)
        return values(parcels[0]), values(parcels[1])

    run = simulate(main)
    assert log == ["build", *range(16), "close"]
    assert run.seconds == 4
    first, second = run.value
    assert [outcome.wait for outcome in first] == [0] * 5 + [1] * 3
    assert [outcome.wait for outcome in second] == [1] * 2 + [2] * 5 + [3]
    assert {outcome.service for outcome in first + second} == {1}


def test_a_pipeline_that_could_not_be_built_is_built_again():
    """By the next chunk; those before have the reason for outcome."""
    log = []

    async def main():
        host = PipelineHost(pipeline(log, failures=2), 5, own=False)
        with pytest.raises(OSError, match="not yet"):
            await host.setup(None)
        before = values(await host.answer("a", packed_queries([1, 2])))
        after = values(await host.answer("b", packed_queries([1, 2])))
        await host.teardown(None)
        return before, after

    before, after = simulate(main).value
    assert [str(outcome.error) for outcome in before] == [
        "the pipeline cannot be built in a worker (OSError: not yet)"
    ] * 2
    assert [outcome.value for outcome in after] == [1, 2]
    assert log == ["build", "build", "build", 1, 2, "close"]


@pytest.mark.parametrize(
    ("start", "finish", "stopped"),
    [("executing", "released", True), ("executing", "memory", False), ("ready", "released", False)],
)
def test_a_chunk_that_nobody_wants_is_stopped(start, finish, stopped):
    """It is to be done again should somebody want it after all; others go on."""

    async def main():
        host = PipelineHost(pipeline([]), 5, own=False)
        await host.setup(None)
        chunk = asyncio.create_task(host.answer("a", packed_queries([1])))
        other = asyncio.create_task(host.answer("b", packed_queries([1])))
        await asyncio.sleep(0.5)
        host.transition("a", start, finish, stimulus_id="x")
        host.transition("c", start, finish)
        await asyncio.wait([chunk, other])
        await host.teardown(None)
        return chunk.exception(), values(other.result())[0].value

    error, value = simulate(main).value
    assert isinstance(error, Reschedule) == stopped
    assert value == 1


def test_a_pipeline_closes_after_what_passes_through_it():
    """Which is stopped first."""
    log = []

    async def main():
        host = PipelineHost(pipeline(log, seconds=100), 5, own=False)
        await host.setup(None)
        chunk = asyncio.create_task(host.answer("a", packed_queries([1])))
        await asyncio.sleep(1)
        await host.teardown(None)
        await asyncio.wait([chunk])
        return chunk.exception()

    run = simulate(main)
    assert isinstance(run.value, Reschedule)
    assert (log, run.seconds) == (["build", 1, "close"], 1)


def test_errors_of_the_tree_travel_whole():
    """With what they say about coming back."""
    sent = Outcome(0, None, RateLimited("slow down", retry_after=2.5), 0.25, 0.5, 3)
    outcome = opened_answer(7, packed_answer(sent))
    assert (outcome.index, outcome.wait, outcome.service, outcome.attempts) == (7, 0.25, 0.5, 3)
    assert (str(outcome.error), outcome.error.retry_after) == ("slow down", 2.5)


def test_an_answer_that_cannot_be_read_is_an_outcome():
    """Such as one of a class that is not known here."""
    parcel = pickle.dumps(Outcome(0, Ellipsis)).replace(b"Ellipsis", b"Elliptic")
    outcome = opened_answer(7, parcel)
    assert isinstance(outcome.error, RemoteError)
    assert "the answer to query 7 cannot be read here: AttributeError" in str(outcome.error)


def test_queries_are_cut_in_order_and_none_is_lost():
    """The last chunk is what is left; nothing is read before it is needed."""
    read = iter(range(10))
    chunks = cut(read, 4)
    assert next(chunks) == QueryChunk(0, [0, 1, 2, 3])
    assert next(read) == 4
    assert list(chunks) == [QueryChunk(4, [5, 6, 7, 8]), QueryChunk(8, [9])]
    assert list(QueryChunk(8, ["a", "b"]).singly()) == [QueryChunk(8, ["a"]), QueryChunk(9, ["b"])]


def test_what_must_end_does_so_before_a_cancellation_goes_on():
    """Also a second one."""

    async def main():
        done = []

        async def work():
            await asyncio.sleep(10)
            done.append(True)

        task = asyncio.create_task(undisturbed(work()))
        for _ in range(2):
            await asyncio.sleep(1)
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), done

    run = simulate(main)
    assert run.value == (True, [True])
    assert run.seconds == 10


def test_a_factory_is_named_without_its_arguments():
    """Addresses among them may hold passwords."""
    make = functools.partial(pipeline, "redis://:hush@127.0.0.1", threading.Lock())
    with pytest.raises(
        TypeError, match=r"make_pipeline=partial\(pipeline, ...\) cannot"
    ) as refused:
        _require_sendable(make)
    assert "hush" not in str(refused.value)
