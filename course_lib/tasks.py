"""How tasks that were started are seen to their end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["cancel_once", "error_of", "outlast", "report"]


async def outlast(pending: Callable[[], Collection[asyncio.Future[Any]]]) -> None:
    """Wait until nothing is pending any more, however often the caller is cancelled meanwhile.

    Args:
        pending: Returns what is not done yet; asked again after each change.

    Raises:
        asyncio.CancelledError: The caller was cancelled; in the end, and once.
    """
    cancelled: asyncio.CancelledError | None = None
    while waited_for := pending():
        try:
            await asyncio.wait(waited_for)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return why a task that is done has no result; a `CancelledError` where it was cancelled."""
    try:
        return task.exception()
    except asyncio.CancelledError as cancelled:
        return cancelled


def report(task: asyncio.Task[Any]) -> None:
    """Tell the loop's handler of an error in the clean-up of a task that was cancelled."""
    if not task.cancelled() and (error := task.exception()) is not None and task.cancelling():
        task.get_loop().call_exception_handler(
            {"message": "an item failed while it was cancelled", "exception": error, "task": task}
        )


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task, unless that has been done: a second time would disturb its clean-up."""
    if not task.cancelling():
        task.cancel()
