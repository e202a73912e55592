"""Single flight: a computation that belongs to no caller, and those who wait for it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["Flight", "Flights", "Work"]

_inside: ContextVar[frozenset[Work]] = ContextVar("course_lib.caching.inside", default=frozenset())


class Work:
    """The task that computes the values of one or more flights.

    Attributes:
        task: The task, once it has been started.
        wanted: Flights that somebody still waits for.
    """

    __slots__ = ("task", "wanted")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wanted = 0

    def enter(self) -> None:
        """Mark the running context, and all that is started in it, as part of this work."""
        _inside.set(_inside.get() | {self})


class Flight:
    """One value being computed.

    Args:
        key: What it is kept under.
        work: What computes it.

    Attributes:
        loop: The event loop it belongs to.
        waiters: How many wait; an early refresh counts as one that never leaves.
        landed: Whether the end has come: a value, an error, or the computation was cancelled.
    """

    __slots__ = ("_asleep", "_outcome", "key", "landed", "loop", "waiters", "work")

    def __init__(self, key: Hashable, work: Work) -> None:
        self.key = key
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.waiters = 0
        self.landed = False
        self._outcome: tuple[bool, Any] | None = None
        self._asleep: dict[asyncio.Future[None], None] = {}  # in the order they came
        work.wanted += 1

    def refuse_itself(self) -> None:
        """Refuse to let a computation wait for its own end.

        Raises:
            RuntimeError: It would.
        """
        if self.work in _inside.get():
            raise RuntimeError(
                f"the computation of {self.key!r} asks the cache for {self.key!r}: compute it "
                "there without the cache, or under another key"
            )

    async def outcome(self) -> tuple[bool, Any]:
        """Wait for the end; return whether it failed, and the value or the error.

        Raises:
            asyncio.CancelledError: The caller was cancelled, or the computation was.
        """
        if not self.landed:
            bed: asyncio.Future[None] = self.loop.create_future()  # each their own: it is
            self._asleep[bed] = None  # cancelled with its caller
            try:
                await bed
            finally:
                self._asleep.pop(bed, None)
        if self._outcome is None:
            raise asyncio.CancelledError
        return self._outcome

    def land(self, outcome: tuple[bool, Any] | None) -> None:
        """Give the outcome to everybody who waits; None if there is none, and never will be.

        What has landed stays as it is.
        """
        if self.landed:
            return
        self.landed, self._outcome = True, outcome
        self.work.wanted -= 1
        if not self.loop.is_closed():
            for bed in self._asleep:
                if not bed.done():
                    bed.set_result(None)

    def abandon(self) -> None:
        """Stop the work, unless it computes something else that is wanted, or its loop is gone."""
        self.land(None)
        if not self.work.wanted and self.work.task is not None and not self.loop.is_closed():
            self.work.task.cancel()


class Flights:
    """Flights under way, by event loop and key.

    Those of one loop are not shared with another: whoever waited across loops would hang when the
    other stops. What was under way in a loop that has been closed is forgotten.
    """

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[asyncio.AbstractEventLoop, dict[Hashable, Flight]] = {}

    def __len__(self) -> int:
        return sum(len(table) for loop, table in self._tables.items() if not loop.is_closed())

    def here(self) -> dict[Hashable, Flight]:
        """Return those of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._tables:
            for other in [each for each in self._tables if each.is_closed()]:
                del self._tables[other]
            self._tables[loop] = {}
        return self._tables[loop]

    def is_current(self, flight: Flight) -> bool:
        """Return whether its result is still to be kept."""
        table = self._tables.get(flight.loop, {})
        return table.get(flight.key) is flight

    def remove(self, flights: Iterable[Flight]) -> None:
        """Forget these flights; others of the same keys stay."""
        for flight in flights:
            table = self._tables.get(flight.loop, {})
            if table.get(flight.key) is flight:
                del table[flight.key]
                if not table:
                    del self._tables[flight.loop]

    def disown(self, keys: Iterable[Hashable]) -> None:
        """Let those of these keys go on for who waits, but keep what they find for nobody else."""
        keys = list(keys)
        for loop, table in list(self._tables.items()):
            for key in keys:
                table.pop(key, None)
            if not table:
                del self._tables[loop]

    def clear(self) -> None:
        """Disown all."""
        self._tables.clear()
