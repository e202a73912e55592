"""What is sent between a process and its workers: chunks of queries, or why that was not possible."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["QueryChunk", "RemoteError", "cut"]


class RemoteError(Exception):
    """What a worker returned or raised and could not be sent; the message says what it was."""


@dataclass(frozen=True, slots=True)
class QueryChunk:
    """Queries that follow each other.

    Attributes:
        start: Index of the first.
        queries: One or more.
    """

    start: int
    queries: list[Any]

    @property
    def indexes(self) -> range:
        """Their places among all queries."""
        return range(self.start, self.start + len(self.queries))

    def singly(self) -> Iterator[QueryChunk]:
        """Yield a chunk for each query."""
        for index, query in zip(self.indexes, self.queries, strict=True):
            yield QueryChunk(index, [query])


def cut(queries: Iterator[Any], size: int) -> Iterator[QueryChunk]:
    """Yield chunks of `size` queries, the last one of what is left; read no further than needed."""
    start = 0
    while some := list(islice(queries, size)):
        yield QueryChunk(start, some)
        start += len(some)
