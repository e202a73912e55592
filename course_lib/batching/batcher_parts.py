"""Small parts of a batcher: its errors, its statistics, and a batch in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from course_lib.tasks import cancel_once

if TYPE_CHECKING:
    import asyncio

    from course_lib.batching.waiting import Entry

__all__ = ["Batch", "BatcherClosed", "BatcherStatistics"]

Output = TypeVar("Output")


class BatcherClosed(RuntimeError):  # noqa: N818 - says what happened
    """The block was left before this item was answered."""


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """What has been done since the block was entered.

    Attributes:
        waiting: Items that wait for a batch now, those for which the queue has no room included.
        running: Batches in flight now.
        batches: Batches started.
        calls: Calls made, those to find a bad item included.
        largest: Items in the largest batch.
        answered: Items that have got their result.
        failed: Items that have got an error.
        cancelled: Items whose callers gave up.
    """

    waiting: int = 0
    running: int = 0
    batches: int = 0
    calls: int = 0
    largest: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0


class Batch(Generic[Output]):
    """Entries that go together."""

    __slots__ = ("entries", "task")

    def __init__(self, entries: list[Entry[Output]]) -> None:
        self.entries = entries
        self.task: asyncio.Task[None] | None = None
        for entry in entries:
            entry.batch = self

    def abandon(self) -> None:
        """One has given up; when all have, the batch is for nobody."""
        if self.task is not None and all(entry.answer.done() for entry in self.entries):
            cancel_once(self.task)
