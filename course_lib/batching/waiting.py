"""Items that wait for a batch: a bounded queue in an order that is settled on arrival."""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

    from course_lib.batching.batcher_parts import Batch

__all__ = ["Entry", "Waiting"]

Output = TypeVar("Output")

_PLACE = attrgetter("place")


class Entry(Generic[Output]):
    """One item and its caller.

    Attributes:
        item: What is to be processed.
        place: Sorts those who wait: the lowest goes first, and no two are equal. So items are never
            compared, and may be of any type.
        arrived: When it came, in seconds on the loop's clock.
        answer: What the caller waits for in the end.
        admission: What the caller waits for at first, while the queue is full.
        batch: What it is processed in, once it is.
    """

    __slots__ = ("admission", "answer", "arrived", "batch", "item", "place")

    def __init__(
        self, item: Any, place: tuple[float, int], arrived: float, answer: asyncio.Future[Output]
    ) -> None:
        self.item = item
        self.place = place
        self.arrived = arrived
        self.answer = answer
        self.admission: asyncio.Future[None] | None = None
        self.batch: Batch[Output] | None = None


class Waiting(Generic[Output]):
    """Entries in the queue, and behind it those for which it has no room yet.

    The next batch takes the first of all, in the queue or behind it, so that a full queue does not
    turn the order round.

    Args:
        size: How many the queue holds.
    """

    __slots__ = ("_outside", "_queue", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        # Lists that stay sorted: an entry leaves from the middle as easily as from the front.
        self._queue: list[Entry[Output]] = []
        self._outside: list[Entry[Output]] = []

    def __len__(self) -> int:
        return len(self._queue) + len(self._outside)

    @property
    def queued(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    @property
    def first(self) -> Entry[Output]:
        """The entry that goes first; there must be one."""
        return self._next()[0]

    def _next(self) -> list[Entry[Output]]:
        if not self._queue:
            return self._outside
        ahead = self._outside and self._outside[0].place < self._queue[0].place
        return self._outside if ahead else self._queue

    def add(self, entry: Entry[Output]) -> None:
        """Put an entry in its place; where the queue is full, it gets an `admission`."""
        if len(self._queue) < self._size:
            insort(self._queue, entry, key=_PLACE)
        else:
            entry.admission = entry.answer.get_loop().create_future()
            insort(self._outside, entry, key=_PLACE)

    def remove(self, entry: Entry[Output]) -> None:
        """Have an entry wait no more, if it does."""
        for entries in (self._queue, self._outside):
            index = bisect_left(entries, entry.place, key=_PLACE)
            if index < len(entries) and entries[index] is entry:
                del entries[index]
        self._admit()

    def take(self, most: int) -> list[Entry[Output]]:
        """Remove and return the first `most` entries, or as many as there are."""
        taken: list[Entry[Output]] = []
        while len(taken) < most and len(self) > 0:
            entry = self._next().pop(0)
            _let_in(entry)
            taken.append(entry)
        self._admit()
        return taken

    def _admit(self) -> None:
        while self._outside and len(self._queue) < self._size:
            entry = self._outside.pop(0)
            _let_in(entry)
            insort(self._queue, entry, key=_PLACE)


def _let_in(entry: Entry[Any]) -> None:
    if entry.admission is not None and not entry.admission.done():
        entry.admission.set_result(None)
