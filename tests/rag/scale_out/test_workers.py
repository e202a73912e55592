"""Workers at a scheduler that runs already: what comes back, and when it ends."""

import asyncio
import contextlib
import functools
import importlib
import itertools
import threading

import pytest

pytest.importorskip("distributed", reason="distributed is in the extra `scale`")

import dask_support
from dask_support import notes, scheduler

from course_lib.errors import Unavailable
from course_lib.lab import simulate
from course_lib.rag.scale_out import RemoteError, Workers


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers."""
    with scheduler(2) as address:
        yield address


@pytest.fixture
def answers(address):
    """Map numbers through a pipeline; return the outcomes by index, after a check for doubles."""

    def run(make, numbers, **options):
        async def main():
            async with Workers(make, address=address, n=2, **options) as workers:
                return [outcome async for outcome in workers.map(numbers)]

        outcomes = asyncio.run(main())
        by_index = {outcome.index: outcome for outcome in outcomes}
        assert len(by_index) == len(outcomes)
        return by_index

    return run


def test_each_query_has_one_outcome_and_errors_are_outcomes(answers):
    """Also an error or a value that cannot be sent, and a query cancelled from within."""
    outcomes = answers(dask_support.doubling, range(100), chunk=7)
    assert sorted(outcomes) == list(range(100))
    odd = {index: outcome.error for index, outcome in outcomes.items() if not outcome.ok}
    assert sorted(odd) == [3, 5, 7, 9]
    assert isinstance(odd[3], ValueError)
    assert str(odd[3]) == "3 is refused"
    assert isinstance(odd[5], RemoteError)
    assert str(odd[5]) == "UnreadableError: 5 is refused"
    assert isinstance(odd[7], RemoteError)
    assert "Task cannot be sent from a worker" in str(odd[7])
    assert "cancelled from within" in str(odd[9])
    good = [outcome for outcome in outcomes.values() if outcome.ok]
    assert all(outcome.value == 2 * outcome.index for outcome in good)
    assert all(outcome.service >= 0.009 for outcome in good)


def test_a_query_that_cannot_be_sent_fails_alone(answers):
    """Those of its chunk are answered."""
    queries = [1, threading.Lock(), 2]
    outcomes = answers(dask_support.doubling, queries)
    assert [outcomes[0].value, outcomes[2].value] == [2, 4]
    assert isinstance(outcomes[1].error, TypeError)


def test_no_queries_have_no_outcomes(answers):
    """And nothing is sent."""
    assert answers(dask_support.doubling, []) == {}


def test_a_function_of_a_notebook_will_do(answers):
    """It need not be in a module that workers can import, nor have a name."""
    factor = 5

    @contextlib.asynccontextmanager
    async def here():
        async def call(number):
            return factor * number

        yield call

    assert answers(lambda: here(), [3])[0].value == 15  # noqa: PLW0108 - a lambda is the point


def test_a_runnable_will_do(answers):
    """What a pipeline is, in the end."""
    from langchain_core.runnables import RunnableLambda

    @contextlib.asynccontextmanager
    async def here():
        yield RunnableLambda(dask_support.double)

    assert answers(here, [4])[0].value == 8


def test_a_pipeline_is_opened_and_closed_once_in_each_worker(answers, tmp_path):
    """However many chunks pass through it; closed by the task that opened it."""
    answers(functools.partial(dask_support.doubling, tmp_path), range(10, 50), chunk=2)
    opened = notes(tmp_path, "opened")
    assert len(opened) == 2
    assert [name.replace("closed", "opened") for name in notes(tmp_path, "closed")] == opened


def test_each_worker_keeps_to_its_concurrency_over_all_chunks(answers, tmp_path):
    """Though it has two of them at a time."""
    make = functools.partial(dask_support.counting, tmp_path)
    answers(make, range(200), concurrency=5, chunk=4)
    peaks = [max(map(int, file.read_text().split())) for file in tmp_path.iterdir()]
    assert max(peaks) == 5


def test_leaving_early_cancels_the_work_in_the_workers(address, tmp_path, eventually):
    """While they stay open for more; the rest of an endless source is not read."""
    read = itertools.count()

    async def main():
        make = functools.partial(dask_support.sleeping, tmp_path)
        async with Workers(make, address=address, n=2, concurrency=2) as workers:
            answers = workers.map(read)
            waiting = asyncio.create_task(anext(answers))
            await asyncio.to_thread(eventually, lambda: len(notes(tmp_path, "began")) >= 4)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            began = len(notes(tmp_path, "began"))
            await asyncio.to_thread(eventually, lambda: len(notes(tmp_path, "cancelled")) >= began)

    asyncio.run(main())
    assert next(read) == 12  # chunks of 2: four that are worked on, and one more for each worker


def test_closing_cancels_a_map_that_nobody_ended(address, tmp_path, eventually):
    """An object that stays in a variable, as in a notebook, holds nothing up."""

    async def main():
        make = functools.partial(dask_support.sleeping, tmp_path)
        async with Workers(make, address=address, n=2, concurrency=1) as workers:
            answers = workers.map(range(100))
            waiting = asyncio.create_task(anext(answers))
            await asyncio.to_thread(eventually, lambda: notes(tmp_path, "began"))
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(RuntimeError, match="not open"):
            workers.map([1])

    asyncio.run(main())


def test_a_pipeline_that_cannot_be_built_says_why_at_once(answers):
    """As the error that it raised in the worker."""
    with pytest.raises(ConnectionError, match="nobody is there") as caught:
        answers(dask_support.failing, [1])
    assert "raised in a worker that was to build failing" in caught.value.__notes__[0]


def test_a_module_that_workers_lack_is_named(answers, tmp_path, monkeypatch):
    """As on another machine, where the function of a module cannot be imported."""
    (tmp_path / "only_here.py").write_text("def make():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="No module named 'only_here'"):
        answers(importlib.import_module("only_here").make, [1])


def test_what_cannot_be_sent_to_a_worker_is_refused(answers):
    """With what to do instead."""
    client = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot be sent .*: build clients"):
        answers(lambda: client, [1])


def test_what_is_no_pipeline_is_refused(answers):
    """Neither what cannot be entered, nor what cannot be called."""
    with pytest.raises(TypeError, match="context manager"):
        answers(lambda: 1, [1])
    with pytest.raises(TypeError, match="what make_pipeline gives=1 is neither"):
        answers(lambda: contextlib.nullcontext(1), [1])
    with pytest.raises(TypeError, match="make_pipeline=1 is not a function"):
        Workers(1)


def test_too_few_workers_are_not_waited_for_for_ever(address):
    """Nor is a scheduler that is not there."""

    async def main(**options):
        async with Workers(dask_support.doubling, **options):
            pass

    with pytest.raises(Unavailable, match=r"fewer than n=3 workers after 0\.2 s: start some"):
        asyncio.run(main(address=address, n=3, patience=0.2))
    with pytest.raises(Unavailable, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        asyncio.run(main(address="tcp://127.0.0.1:9", patience=0.2))


def test_misuse_is_refused_with_a_way_out(address):
    """Opened twice, not opened, one query for many, in virtual time."""
    workers = Workers(dask_support.doubling, address=address)
    with pytest.raises(RuntimeError, match="use them inside"):
        workers.map([1])

    async def main():
        async with workers:
            with pytest.raises(RuntimeError, match="open already"):
                await workers.__aenter__()
            with pytest.raises(TypeError, match="put it into a list"):
                workers.map("one")
            with pytest.raises(TypeError, match="not iterable"):
                workers.map(1)
            assert len(await workers.pids()) == 2
            assert "open" in repr(workers)

    asyncio.run(main())
    assert "closed" in repr(workers)
    with pytest.raises(RuntimeError, match="virtual time"):
        simulate(workers.__aenter__)


@pytest.mark.parametrize("name", ["n", "concurrency", "chunk", "patience"])
def test_numbers_out_of_range_are_refused(name):
    """By name, before anything starts."""
    with pytest.raises(ValueError, match=f"{name}=0"):
        Workers(dask_support.doubling, **{name: 0})


def test_few_queries_are_shared_out():
    """A chunk is no larger than what gives every worker its part."""
    sized = Workers(dask_support.doubling, concurrency=50)
    assert [sized._size(range(count), 4) for count in (0, 1, 10, 199, 201)] == [1, 1, 3, 50, 50]
    assert sized._size(iter(()), 4) == 50
    assert Workers(dask_support.doubling, chunk=9)._size(range(4), 4) == 9
