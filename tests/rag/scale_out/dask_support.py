"""Pipelines that the tests of Dask's workers have built in them, and a scheduler for all tests."""

import asyncio
import logging
import multiprocessing
import os
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import forkserver
from pathlib import Path

from course_lib.async_batch import ServiceClient
from course_lib.rag.scale_out import RedisTokenBucket

PRELOAD = [
    "course_lib.async_batch",
    "course_lib.caching",
    "course_lib.rag.scale_out.dask_workers",
    "redis",
]


class UnreadableError(Exception):
    """Can be written and not read, as errors of several client libraries."""

    def __init__(self, message, *, response):
        super().__init__(message)


@asynccontextmanager
async def doubling(folder=None):
    """Double numbers; what else a number does is in `oddities`. Notes in a folder who came and left."""
    note(folder, "opened")
    async with asyncio.TaskGroup():  # is to be left by the task that entered it
        yield double
    note(folder, "closed")


async def double(number):
    """Take a hundredth of a second, and double."""
    await asyncio.sleep(0.01)
    match number:
        case 3:
            raise ValueError("3 is refused")
        case 5:
            raise UnreadableError("5 is refused", response=object())
        case 7:
            return asyncio.current_task()  # cannot be sent
        case 9:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
    return 2 * number


@asynccontextmanager
async def counting(peaks):
    """Say how many are at work in this process, in a file of its own."""
    at_work = 0

    async def call(number):
        nonlocal at_work
        at_work += 1
        with (Path(peaks) / f"{os.getpid()}").open("a") as file:
            file.write(f"{at_work}\n")
        await asyncio.sleep(0.002)
        at_work -= 1
        return number

    yield call


@asynccontextmanager
async def sleeping(folder):
    """Sleep for ever; note who was cancelled."""

    async def call(number):
        note(folder, f"began-{number}")
        try:
            await asyncio.sleep(3600)
        finally:
            note(folder, f"cancelled-{number}")

    yield call


@asynccontextmanager
async def failing():
    """Cannot be built."""
    raise ConnectionError("nobody is there")
    yield


@asynccontextmanager
async def searching(url, redis, log, *, rate, capacity, hold=None):
    """Search, within a rate that all workers share; each grant is noted by the server's clock.

    The query `hold` waits in the first worker that has it, until the process is killed.
    """
    with Logged(log, redis, "shared", rate=rate, capacity=capacity, patience=60) as bucket:
        async with ServiceClient(url) as client:

            async def search(query):
                await bucket.aacquire()
                documents = await client.search(query, k=1)
                held = Path(log).with_name("held")
                if query == hold and not held.exists():
                    held.write_text(f"{os.getpid()}")
                    await asyncio.sleep(3600)
                return [document.id for document in documents]

            yield search


class Logged(RedisTokenBucket):
    """Writes down what is granted, in a file: (time on the server's clock, weight)."""

    def __init__(self, log, *arguments, **options):
        super().__init__(*arguments, **options)
        self.log = Path(log)

    def _ask(self, weights, **stakes):
        answer = super()._ask(weights, **stakes)
        with self.log.open("a") as file:
            for weight, letter in zip(weights, answer.decided, strict=False):
                if letter == "g":
                    file.write(f"{answer.now!r} {weight}\n")
        return answer


def grants(log):
    """Return what `Logged` has written, by all processes."""
    lines = Path(log).read_text().splitlines()
    return [tuple(map(float, line.split())) for line in lines]


def note(folder, what):
    """Leave a mark that other processes see."""
    if folder is not None:
        (Path(folder) / f"{what}-{os.getpid()}").touch()


def notes(folder, what):
    """Return the marks of one kind."""
    return sorted(path.name for path in Path(folder).glob(f"{what}-*"))


@contextmanager
def forked():
    """Have Dask fork its workers from a process that has imported what they need: far less work."""
    import dask

    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    forkserver.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@contextmanager
def scheduler(n):
    """Run a scheduler with workers, in a thread of this process."""
    from distributed import LocalCluster

    with (
        forked(),
        LocalCluster(
            n_workers=n,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL + 1,
        ) as cluster,
    ):
        yield cluster.scheduler_address
