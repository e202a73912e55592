"""Calling a batch so that one bad item fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from course_lib.retry import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from course_lib.batching.waiting import Entry

__all__ = ["Isolation", "WrongNumberOfResults"]

Output = TypeVar("Output")


class WrongNumberOfResults(ValueError):  # noqa: N818 - says what happened
    """A batch was not answered with one result for each of its items, in their order."""


class Isolation(Generic[Output]):
    """Calls a batch, and halves it where that fails.

    Each half is called again, and so on down to single items: one bad item among n costs at most
    `2 * ceil(log2(n))` further calls, b bad ones at most b times that, and never more than `2n - 2`.
    All the others get their results. An error that is about the service and not about an item
    (a rate limit, a time limit, a broken connection) is not halved, which would be many more calls
    to a service in trouble: it fails the batch.

    Args:
        call: Processes a list of items, and returns one result for each.
        isolate: Whether an error may be due to one of the items; by default as said above.

    Attributes:
        calls: How often `call` was called.
        answered: Items that have got a result.
        failed: Items that have got an error.
    """

    def __init__(
        self,
        call: Callable[[list[Any]], Awaitable[Any]],
        isolate: Callable[[Exception], bool] | None = None,
    ) -> None:
        self._call = call
        self._isolate = isolate or (lambda error: not isinstance(error, TRANSIENT))
        self.calls = self.answered = self.failed = 0

    async def answer(self, entries: list[Entry[Output]]) -> None:
        """Give every entry a result or an error; those whose callers gave up are left out."""
        entries = [entry for entry in entries if not entry.answer.done()]
        if not entries:
            return
        self.calls += 1
        try:
            results = _checked(await self._call([entry.item for entry in entries]), len(entries))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            if len(entries) == 1 or not self._worth_halving(error):
                self.settle(entries, [error] * len(entries))
                return
            middle = len(entries) // 2
            await self.answer(entries[:middle])
            await self.answer(entries[middle:])
        else:
            self.settle(entries, results)

    def settle(self, entries: Iterable[Entry[Output]], results: Iterable[Any]) -> None:
        """Give every entry its result or error, unless its caller has given up."""
        for entry, result in zip(entries, results, strict=True):
            if entry.answer.done():
                continue
            if isinstance(result, StopIteration):  # a future refuses it
                result = RuntimeError(f"the item was answered with {result!r}")  # noqa: PLW2901
            if isinstance(result, Exception):
                self.failed += 1
                entry.answer.set_exception(result)
            else:
                self.answered += 1
                entry.answer.set_result(result)

    def _worth_halving(self, error: Exception) -> bool:
        return not isinstance(error, WrongNumberOfResults) and self._isolate(error)


def _checked(results: Any, count: int) -> Iterable[Any]:
    if not isinstance(results, Sized) or isinstance(results, str | bytes | Mapping | AbstractSet):
        raise WrongNumberOfResults(
            f"a batch of {count} items was answered with {type(results).__name__}: return a list "
            "with one result for each item, in their order"
        )
    if len(results) != count:
        raise WrongNumberOfResults(
            f"a batch of {count} items was answered with {len(results)} results: return one for "
            "each item, in their order (an exception in the place of one that failed)"
        )
    return results  # type: ignore[return-value] # what has a length can be iterated over
