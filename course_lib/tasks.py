"""How what was started is seen to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["outlast"]


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
