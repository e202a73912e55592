"""When an item is tried again, and after what pause."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from course_lib.checks import require_number, require_positive, require_seconds, require_whole
from course_lib.errors import RateLimited, TimedOut, Unavailable, rate_limit_of, service_error_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["LONGEST_WAIT", "TRANSIENT", "Backoff", "Retry", "within"]

T = TypeVar("T")

TRANSIENT: Final[tuple[type[Exception], ...]] = (
    RateLimited,
    Unavailable,
    TimeoutError,  # `course_lib.errors.TimedOut` is one
    ConnectionError,
)
"""Errors after which trying again may help, and which say nothing about the item."""

LONGEST_WAIT: Final = 60.0
"""Seconds for which a `Retry-After` is obeyed, where nothing else is said. It is advice: one that asks
for a day (a daily limit) would hold the caller up for a day, who could have asked somebody else."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses whose longest doubles each time, up to a cap; each is drawn evenly from 0 to that.

    So calls that failed together do not come back together. This is "full jitter" in M. Brooker,
    "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), which there finishes with the
    fewest calls. The draw depends on seed, call and attempt alone, so that a run can be repeated
    in whichever order its calls fail.

    Attributes:
        first: Seconds of the first pause, at most.
        most: Seconds of any pause, at most.
        seed: Another seed gives other pauses; processes that call one service need one each. None
            draws one.
    """

    first: float = 0.1
    most: float = 10.0
    seed: int | None = 0

    def __post_init__(self) -> None:
        require_seconds(first=self.first)
        require_number(most=self.most, least=self.first)
        if self.seed is None:
            object.__setattr__(self, "seed", random.getrandbits(64))

    def seconds(self, call: int, attempt: int) -> float:
        """Return the pause of a call after its attempt number `attempt` (from 1)."""
        longest = min(self.most, self.first * 2.0 ** min(attempt - 1, 1000))
        return longest * self.draw(call, attempt)

    def draw(self, call: int, attempt: int) -> float:
        """Return the random number of that pause, from 0 to below 1."""
        return random.Random(f"{self.seed}/{call}/{attempt}").random()  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Retry:
    """What is done about an attempt that fails or takes too long.

    Errors of other people's clients count as those of `course_lib.errors` that say the same; see
    `service_error_of`.

    Attributes:
        attempts: How often a call is made, at most.
        timeout: Seconds for one attempt; None for no limit.
        on: Errors after which it is made again.
        backoff: Pauses between attempts.
        longest_wait: Seconds that a provider's `retry_after` may ask for.
    """

    attempts: int = 1
    timeout: float | None = None
    on: tuple[type[Exception], ...] = TRANSIENT
    backoff: Backoff = field(default_factory=Backoff)
    longest_wait: float = LONGEST_WAIT

    def __post_init__(self) -> None:
        require_whole(attempts=self.attempts)
        require_seconds(longest_wait=self.longest_wait)
        if self.timeout is not None:
            require_positive(timeout=self.timeout)
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

    def pause(self, call: int, attempt: int, error: Exception) -> float | None:
        """Return the seconds until the next attempt, or None if there is none.

        A rate limit waits for its `retry_after` first.

        Raises:
            RateLimited: It asks for more than `longest_wait`: the caller decides.
        """
        if not self.again(attempt, error):
            return None
        return self.told(error) + self.backoff.seconds(call, attempt)

    def again(self, attempt: int, error: Exception) -> bool:
        """Return whether another attempt is made after the one of this number (from 1)."""
        if attempt >= self.attempts:
            return False
        if isinstance(error, self.on) or isinstance(service_error_of(error), self.on):
            return True
        _note(error, f"Not tried again: {type(error).__name__} is not among `retry_on`.")
        return False

    def told(self, error: Exception) -> float:
        """Return the seconds that a provider asks to wait, 0.0 if it did not say.

        Raises:
            RateLimited: They are more than `longest_wait`: the caller decides.
        """
        limit = rate_limit_of(error)
        if limit is None:
            return 0.0
        if limit.retry_after <= self.longest_wait:
            return limit.retry_after
        told, most = limit.retry_after, self.longest_wait
        _note(
            limit,
            f"Not tried again: {told:g} s were asked for, and {most:g} s are the longest wait.",
        )
        if limit is error:
            raise limit
        raise limit from error


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
