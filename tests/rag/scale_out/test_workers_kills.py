"""Workers of our own against the real provider: killed, without Redis for a while, interrupted."""

import asyncio
import functools
import os
import signal
import sys
import tempfile
import time
from collections import Counter

import psutil
import pytest

pytest.importorskip("distributed", reason="distributed is in the extra `scale`")

import dask_support
from dask_support import forked, grants, notes
from scale_support import PATIENCE, excess

from course_lib import service
from course_lib.lab.leftovers import find_leftovers
from course_lib.rag.scale_out import Workers

RATE, CAPACITY = 100, 20
SLACK = 1e-3  # tokens: the server's clock counts microseconds

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


async def until(condition):
    """Wait until something holds that another process brings about."""
    for _ in range(PATIENCE * 100):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")


def test_a_worker_killed_and_redis_restarted_in_the_middle(own_server, tmp_path):
    """Each query is answered once, and no window holds more than rate and burst allow."""
    queries = [f"question {number}" for number in range(120)]
    log, held = tmp_path / "log", tmp_path / "held"
    make = functools.partial(
        dask_support.searching, rate=RATE, capacity=CAPACITY, hold="question 40"
    )

    async def main(url):
        async with Workers(functools.partial(make, url, own_server.url, log)) as workers:
            before = await workers.pids()
            began = time.monotonic()
            task = asyncio.create_task(everything(workers.map(queries)))
            await until(held.exists)
            os.kill(int(held.read_text()), signal.SIGKILL)
            await asyncio.to_thread(own_server.stop)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(own_server.start)
            return before, began, await task

    with forked(), service.running(latency=service.Latency.constant(0.02)) as provider:
        pids, began, outcomes = asyncio.run(main(provider.url))
        ledger = provider.ledger()
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(queries)))
    assert [outcome.error for outcome in outcomes if not outcome.ok] == []
    assert int(held.read_text()) in pids
    asked = Counter(call.query for call in ledger.calls)
    assert set(asked) == set(queries)
    assert asked["question 40"] == 2
    granted = grants(log)
    assert excess(granted, RATE, CAPACITY) < SLACK
    assert ledger.requests <= len(granted)  # the provider has seen none that was not granted
    assert too_early(ledger.calls, began) == []


async def everything(answers):
    """Return all outcomes."""
    return [outcome async for outcome in answers]


def too_early(calls, began):
    """Return the calls with which the provider has seen more than the limit allows since then.

    A call may come any time after its tokens were granted, so that two can come closer together
    than they were granted: only a count from the beginning is exact in the provider's ledger.
    """
    calls = sorted(calls, key=lambda call: call.start)
    return [
        call
        for count, call in enumerate(calls, 1)
        if count > CAPACITY + RATE * (call.start - began) + SLACK
    ]


@pytest.mark.nightly
@pytest.mark.usefixtures("interrupts")
def test_workers_of_ours_are_quiet_on_loopback_and_leave_nothing(tmp_path, capfd, monkeypatch):
    """Also when they are interrupted, as Jupyter does with all of a kernel's children, and left."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    async def run(seen):
        async with Workers(functools.partial(dask_support.sleeping, tmp_path)) as workers:
            pids = await workers.pids()
            for pid in pids:
                os.kill(pid, signal.SIGINT)
            mapping = asyncio.create_task(everything(workers.map(range(100))))
            await until(lambda: len(notes(tmp_path, "began")) == 100)
            seen += listening()
            assert await workers.pids() == pids
            await mapping

    async def main():
        task = asyncio.create_task(run(seen := []))
        await until(lambda: seen or task.done())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return seen, find_leftovers()

    path = list(sys.path)
    before = {leftover.text for leftover in find_leftovers()}
    addresses, left = asyncio.run(main())
    assert len(addresses) > 4
    assert {address.ip for address in addresses} == {"127.0.0.1"}
    assert {leftover.text for leftover in left} <= before
    assert len(notes(tmp_path, "cancelled")) == 100
    assert list(folder.iterdir()) == []
    assert sys.path == path
    assert capfd.readouterr() == ("", "")


def listening():
    """Return the addresses on which this process and its children listen."""
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield connection.laddr


@pytest.mark.nightly
def test_cancelled_while_they_start_they_leave_nothing():
    """However early."""

    async def main():
        task = asyncio.create_task(Workers(dask_support.doubling, n=1).__aenter__())
        await until(lambda: worker_processes() or task.done())
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), worker_processes()

    assert asyncio.run(main()) == (True, [])


def worker_processes():
    """Return the children that multiprocessing has spawned."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
