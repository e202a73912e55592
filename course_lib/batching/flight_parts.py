"""Small parts of a flight: its items, what is ready, and the gate that it may pass."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractAsyncContextManager

    from course_lib.batching.outcome import Outcome

__all__ = ["GateLike", "Item", "Ready", "error_of"]

Output = TypeVar("Output")


class GateLike(Protocol):
    """What may be given in place of a number: `course_lib.rate_limiting.Gate` is one."""

    @property
    def concurrency(self) -> int:
        """How many may be inside at once."""

    def slot(self) -> AbstractAsyncContextManager[Any]:
        """Return a place inside, for one call."""


class Item:
    """One item on its way."""

    __slots__ = ("attempts", "holds", "index", "service", "since", "value", "wait")

    def __init__(self, index: int, value: Any, since: float) -> None:
        self.index = index
        self.value = value
        self.since = since  # when it was there, then when its last attempt ended
        self.wait = self.service = 0.0
        self.attempts = 0
        self.holds = True  # a place


class Ready(Generic[Output]):
    """Outcomes that nobody has fetched yet, in the order in which they are to be fetched."""

    __slots__ = ("_any_order", "_by_index", "_next")

    def __init__(self, *, ordered: bool) -> None:
        self._any_order: deque[Outcome[Output]] = deque()
        self._by_index: dict[int, Outcome[Output]] | None = {} if ordered else None
        self._next = 0

    def put(self, outcome: Outcome[Output]) -> None:
        """Keep an outcome until it is fetched."""
        if self._by_index is None:
            self._any_order.append(outcome)
            return
        self._by_index[outcome.index] = outcome
        while (following := self._by_index.pop(self._next, None)) is not None:
            self._any_order.append(following)
            self._next += 1

    def get(self) -> Outcome[Output] | None:
        """Return the next outcome, if there is one."""
        return self._any_order.popleft() if self._any_order else None

    def clear(self) -> None:
        """Forget all of them."""
        self._any_order.clear()
        if self._by_index is not None:
            self._by_index.clear()


def error_of(index: int, task: asyncio.Task[Any]) -> BaseException | None:
    """Return why an item has no value, as something that can be raised in its consumer."""
    if task.cancelled():
        return RuntimeError(f"item {index} was cancelled from within or outside, but not by `amap`")
    error = task.exception()
    if isinstance(error, StopAsyncIteration):  # it would end the consumer's loop silently
        stopped = RuntimeError(f"item {index} raised StopAsyncIteration")
        stopped.__cause__ = error
        return stopped
    return error
