"""Stages in virtual time, for exact grading: each call takes the time it is given."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from course_lib.errors import BadRequest, RateLimited, Unavailable

__all__ = ["EMPTY", "Returning", "Step", "StepCalls"]

Step = Callable[[Any], Awaitable[Any]]

EMPTY: tuple[Any, ...] = ("", [], 0, None, False)
"""Results that are there, though none of them is true."""


class StepCalls:
    """A step that answers after a given time, and counts.

    Args:
        name: Put round the item that it is given: `"rerank"` answers `rerank(search(question 1))`.
        seconds: What a call takes; by item where it is a mapping.
        failing: How many times an item fails (`Unavailable`) before it is answered.
        senseless: Items that are refused as `BadRequest`, always.
        closed: From when to when (seconds) every call is refused with `RateLimited`, at once.

    Attributes:
        made: Calls by item.
        rejected: Calls that were refused with `RateLimited`.
        peak: Calls under way at once, at most.
    """

    def __init__(
        self,
        name: str = "step",
        seconds: float | Mapping[str, float] = 0.1,
        *,
        failing: Mapping[str, int] | None = None,
        senseless: Collection[str] = (),
        closed: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.name = name
        self.made: Counter[str] = Counter()
        self.rejected = self.peak = self.inside = 0
        self._seconds = seconds
        self._failing = dict(failing or {})
        self._senseless = senseless
        self._closed = closed

    async def __call__(self, item: Any) -> Any:
        """Answer, later.

        Raises:
            RateLimited: It is closed; `retry_after` says for how long.
            Unavailable: The item is to fail once more.
            BadRequest: The item is a senseless one.
        """
        text = str(item)
        self.made[text] += 1
        self._refuse()
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(self._seconds_of(text))
        finally:
            self.inside -= 1
        if text in self._senseless:
            raise BadRequest(f"no answer to {text!r}")
        if self._failing.get(text, 0) > 0:
            self._failing[text] -= 1
            raise Unavailable(f"no answer to {text!r}")
        return self.answer(text)

    def answer(self, item: str) -> Any:
        """What it answers."""
        return f"{self.name}({item})"

    def _refuse(self) -> None:
        begin, end = self._closed
        now = asyncio.get_running_loop().time()
        if begin <= now < end:
            self.rejected += 1
            raise RateLimited("too many requests", retry_after=end - now)

    def _seconds_of(self, item: str) -> float:
        if isinstance(self._seconds, Mapping):
            return self._seconds.get(item, 0.1)
        return self._seconds


class Returning(StepCalls):
    """A step that answers everything with one value.

    Args:
        value: The value.
    """

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value

    def answer(self, item: str) -> Any:  # noqa: ARG002 - whatever it is
        """The value."""
        return self._value
