"""When an item is tried again, and after what pause."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from course_lib.batching.arguments import require_seconds, require_whole
from course_lib.errors import RateLimited, TimedOut, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["TRANSIENT", "Backoff", "Retry", "within"]

T = TypeVar("T")

TRANSIENT: Final[tuple[type[Exception], ...]] = (
    RateLimited,
    Unavailable,
    TimeoutError,  # `course_lib.errors.TimedOut` is one
    ConnectionError,
)
"""Errors after which trying again may help, and which say nothing about the item."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double, each shortened by up to a half at random.

    The random part keeps calls that failed together from coming back together. This is "equal
    jitter" in M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). It is
    drawn from seed, item and attempt, so that a run can be repeated.

    Attributes:
        first: Seconds of the first pause, at most.
        most: Seconds of the longest pause.
        seed: Another seed gives other pauses; processes that call one service need one each.
    """

    first: float = 0.1
    most: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_seconds(first=self.first)
        require_seconds(most=self.most, least=self.first)

    def seconds(self, index: int, attempt: int) -> float:
        """Return the pause of item `index` after its attempt number `attempt` (from 1)."""
        longest = min(self.most, self.first * 2.0 ** min(attempt - 1, 1000))
        draw = random.Random(f"{self.seed}/{index}/{attempt}").random()  # noqa: S311 - no secret
        return longest * (1 - draw / 2)


@dataclass(frozen=True, slots=True)
class Retry:
    """What is done about an attempt that fails or takes too long.

    Attributes:
        attempts: How often an item is tried, at most.
        timeout: Seconds for one attempt; None for no limit.
        on: Errors after which it is tried again.
        backoff: Pauses between attempts.
    """

    attempts: int = 1
    timeout: float | None = None
    on: tuple[type[Exception], ...] = TRANSIENT
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        require_whole(attempts=self.attempts)
        if self.timeout is not None:
            require_seconds(timeout=self.timeout, above=0.0)
        for kind in self.on:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise TypeError(f"retry_on={self.on!r}: give classes of exceptions, in a tuple")

    async def limited(self, index: int, attempt: Awaitable[T]) -> T:
        """Await one attempt.

        Raises:
            TimedOut: It took longer than `timeout`; it has been cancelled.
        """
        if self.timeout is None:
            return await attempt
        return await within(self.timeout, attempt, f"item {index}")

    def pause(self, index: int, attempt: int, error: Exception) -> float | None:
        """Return the seconds until the next attempt, or None if there is none.

        A `RateLimited` waits for its `retry_after` first.
        """
        if attempt >= self.attempts:
            return None
        if not isinstance(error, self.on):
            _note(error, f"Not tried again: {type(error).__name__} is not among `retry_on`.")
            return None
        told = error.retry_after if isinstance(error, RateLimited) else 0.0
        return told + self.backoff.seconds(index, attempt)


async def within(seconds: float, attempt: Awaitable[T], name: str) -> T:
    """Await an attempt for so many seconds.

    Args:
        seconds: How long.
        attempt: What is awaited.
        name: Who gave no answer, for the error.

    Raises:
        TimedOut: It took longer; it has been cancelled. A `TimeoutError` of its own stays one.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await attempt
    except TimeoutError as error:
        if not limit.expired():  # its own
            raise
        raise TimedOut(f"{name} gave no answer within {seconds:g} s") from error


def _note(error: Exception, text: str) -> None:
    if text not in getattr(error, "__notes__", ()):  # one error may be raised many times
        error.add_note(text)
