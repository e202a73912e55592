"""The asynchronous iterator that `amap` and the chunked batches return."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from course_lib.batching.outcome import Outcome

if TYPE_CHECKING:
    from types import TracebackType

    from course_lib.batching.task_pool import Flight

__all__ = ["Outcomes"]

Output = TypeVar("Output")

_closing: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly


class Outcomes(AsyncIterator[Outcome[Output]], Generic[Output]):
    """Outcomes, as they are made. Nothing starts before the first is asked for.

    However the iteration ends, everything in flight is cancelled and the source closed:

    - at the end, after an error, or when the task that waits for an outcome is cancelled: before
      that is raised;
    - with `aclose()`, or at the end of `async with amap(...) as outcomes:`: before that returns;
    - after a plain `break` or `return`, as soon as nobody refers to this object any more: all is
      cancelled in that moment, and winds up while the loop runs on. (An asynchronous generator
      would do the same somewhat later; an object that stays in a variable goes on working.)
    """

    __slots__ = ("_bar", "_flight", "_over")

    def __init__(self, flight: Flight[Output], bar: Any = None) -> None:
        self._flight = flight
        self._bar = bar
        self._over = False

    def __repr__(self) -> str:
        state = "over" if self._over else self._flight
        return f"<{type(self).__name__} {state}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[Output]:
        if self._over:
            raise StopAsyncIteration
        self._flight.begin()
        try:
            outcome = await self._flight.next()
        except BaseException:
            await self.aclose()
            raise
        if self._bar is not None:
            self._bar.update()
        return outcome

    async def aclose(self) -> None:
        """Cancel what is in flight, wait until it has ended, and close the source."""
        self._over = True
        if self._bar is not None:
            self._bar.close()
        await self._flight.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_over", True):
            return
        if self._bar is not None:
            self._bar.close()
        loop = self._flight.loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and so is everything in it
                loop.call_soon_threadsafe(_abandon, self._flight)


def _abandon(flight: Flight[Any]) -> None:
    """Wind up what nobody can close any more; called in its loop."""
    task = asyncio.get_running_loop().create_task(flight.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
