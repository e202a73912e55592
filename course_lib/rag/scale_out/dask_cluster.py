"""Clients of Dask: of worker processes started here, or of a scheduler that runs somewhere."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from course_lib.errors import Unavailable
from course_lib.tasks import outlast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

__all__ = ["SLOTS", "connected", "own_cluster", "undisturbed"]

LOOPBACK: Final = "127.0.0.1"
SLOTS: Final = 2
"""Chunks that a worker of ours takes at once: the second fills places that the first leaves."""

ADVICE: Final = (
    "the worker processes did not start. A script that is run as a file starts them below "
    '`if __name__ == "__main__":`, since each of them imports that file first'
)


@asynccontextmanager
async def own_cluster(n: int) -> AsyncIterator[Any]:
    """Run a scheduler in this process and `n` workers in processes of their own, on loopback.

    They say nothing: that a worker is gone and another started is what they are there for.

    Raises:
        RuntimeError: They did not start.
    """
    import distributed  # noqa: PLC0415 - heavy

    _begin_helper()
    with TemporaryDirectory(prefix="course-dask-", ignore_cleanup_errors=True) as folder:
        make: Any = distributed.LocalCluster  # annotated as if it were synchronous
        cluster = make(
            n_workers=n,
            threads_per_worker=SLOTS,
            processes=True,
            host=LOOPBACK,
            asynchronous=True,
            silence_logs=logging.CRITICAL + 1,
            dashboard_address=None,
            # Any free port in place of the dashboard's own, of which Dask warns when it is taken.
            scheduler_kwargs={
                "dashboard": False,
                "dashboard_address": f"{LOOPBACK}:0",
                "local_directory": folder,
            },
            memory_limit=None,  # a share of the machine's would have it restart workers
            local_directory=folder,
        )
        try:
            try:
                await undisturbed(cluster)
            except RuntimeError as error:
                raise RuntimeError(ADVICE) from error
            yield cluster
        finally:
            await undisturbed(cluster.close())


@asynccontextmanager
async def connected(scheduler: Any, patience: float) -> AsyncIterator[Any]:
    """Give a client of a scheduler.

    Args:
        scheduler: Its address, or our own.
        patience: Seconds for it to answer.

    Raises:
        Unavailable: It did not answer.
    """
    import distributed  # noqa: PLC0415 - heavy

    make: Any = distributed.Client  # annotated as if it were synchronous
    client = make(scheduler, asynchronous=True, set_as_default=False, timeout=patience)
    try:
        try:
            await client
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"no Dask scheduler answers at {scheduler} within {patience:g} s: see that "
                "`dask scheduler` runs there, or leave `address` out"
            ) from error
        yield client
    finally:
        await undisturbed(client.close())


def _begin_helper() -> None:
    """Have Dask's helper thread, which never ends, be one that the process's end does not wait for.

    A thread is a daemon if the one that starts it is.
    """
    from distributed.utils import offload  # noqa: PLC0415 - heavy

    async def first() -> None:
        await offload(int)

    thread = threading.Thread(target=lambda: asyncio.run(first()), daemon=True)
    thread.start()
    thread.join()


async def undisturbed(work: Awaitable[Any]) -> None:
    """Await something to its end, however often the caller is cancelled, and pass that on then.

    What is cancelled while processes start or end would leave some of them.
    """
    task = asyncio.ensure_future(_awaited(work))
    try:
        await outlast(lambda: [] if task.done() else [task])
    except asyncio.CancelledError:
        task.exception()  # seen
        raise
    task.result()


async def _awaited(work: Awaitable[Any]) -> None:
    await work
