"""A token bucket that keeps its promise: exact, fair, shared, and safe to cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from langchain_core.rate_limiters import BaseRateLimiter

from course_lib.checks import require_positive
from course_lib.clock import Clock
from course_lib.rate_limiting.waiters import EARLY, LoopWaiter, ThreadWaiter, Waiter, WaitingLine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BucketStatistics", "Level", "TokenBucket"]

T = TypeVar("T", bound=Waiter)


@dataclass(frozen=True, slots=True)
class BucketStatistics:
    """What a bucket has done since it was made.

    Attributes:
        tokens: Tokens in it now.
        waiting: Callers that wait now.
        admitted: Callers that got their tokens, those of gates included.
        refused: Calls with `blocking=False` that got none.
        cancelled: Callers that gave up while they waited.
        waits: Seconds that callers have waited, in total, but for those of gates.
        longest_wait: Seconds that the slowest of them waited.
    """

    tokens: float
    waiting: int
    admitted: int
    refused: int
    cancelled: int
    waits: float
    longest_wait: float


class TokenBucket(BaseRateLimiter):
    """Lets callers through at a rate, with bursts up to a capacity.

        bucket = TokenBucket(rate=50, capacity=10)
        model = ChatOpenAI(rate_limiter=bucket)  # or, by hand:
        await bucket.aacquire()

    - In *any* t seconds at most `capacity + rate * t` tokens are given out.
    - First come, first served, whatever the weights. Nobody overtakes; `blocking=False` neither.
    - Whoever is cancelled costs nothing and delays nobody.
    - Any number of threads and event loops may share it. Nobody polls: there is one timer.

    Saturated, it gives out `rate` tokens a second. Timers are late by a millisecond or so, and what
    is made up for lateness is a small burst, so it takes room in the bucket: with a capacity of
    `1 + rate * d` nothing is lost while timers are at most d seconds late. With a capacity of 1
    each late timer costs its lateness, because the bound comes first.

    What it is not: a limit on how many are at work at once (see `Gate`), and a limit for several
    processes. A loop that is blocked also delays those who wait behind it in other loops.

    Args:
        rate: Tokens a second.
        capacity: Tokens that it holds, at least 1: the largest burst, and the largest weight.
        initial: Tokens at the start, from 0 to `capacity`; by default it is full.
        timer: Returns seconds. By default the running event loop's time where there is one, so
            that it works in virtual time, and the machine's (`time.monotonic`) otherwise.

    Attributes:
        line: Those who wait; a `Gate` sends its callers there, too.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        rate: float,
        capacity: float,
        *,
        initial: float | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        require_positive(rate=rate, capacity=capacity)
        if capacity < 1:
            raise ValueError(f"capacity={capacity!r} never holds the one token of a call: give 1")
        initial = capacity if initial is None else initial
        if not 0 <= initial <= capacity:
            raise ValueError(f"initial={initial!r}: give tokens from 0 to capacity={capacity!r}")
        self._level = Level(rate, capacity, initial)
        self.line = WaitingLine(self._level, Clock(timer, exclusive=True))
        self._refused = self._cancelled = 0
        self._waits = self._longest_wait = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._level.rate

    @property
    def capacity(self) -> float:
        """Tokens that it holds."""
        return self._level.capacity

    def __repr__(self) -> str:
        tokens = max(0.0, self._level.tokens(self.line.clock.seen()))
        return (
            f"<TokenBucket rate={self.rate:g}/s, {tokens:.3g} of {self.capacity:g} tokens, "
            f"{len(self.line)} waiting>"
        )

    def statistics(self) -> BucketStatistics:
        """Return what it has done, as a frozen value."""
        with self.line.lock:
            return BucketStatistics(
                tokens=max(0.0, self._level.tokens(self.line.clock.seen())),
                waiting=len(self.line),
                admitted=self._level.served,
                refused=self._refused,
                cancelled=self._cancelled,
                waits=self._waits,
                longest_wait=self._longest_wait,
            )

    def acquire(self, *, blocking: bool = True, weight: float = 1) -> bool:
        """Take tokens, from synchronous code.

        Args:
            blocking: Whether to wait for them.
            weight: Tokens wanted.

        Returns:
            True; False only if `blocking` is false and it would have had to wait.

        Raises:
            ValueError: The weight is not above 0, or more than the capacity.
            RuntimeError: It would wait inside an event loop in virtual time.
        """
        waiter = self._arrive(ThreadWaiter, weight, blocking)
        if waiter is True or waiter is False:
            return waiter
        try:
            waiter.wait()
        except BaseException:
            self._abandon(waiter)
            raise
        return True

    async def aacquire(self, *, blocking: bool = True, weight: float = 1) -> bool:
        """Take tokens, from a coroutine; see `acquire`.

        Args:
            blocking: Whether to wait for them.
            weight: Tokens wanted.

        Returns:
            True; False only if `blocking` is false and it would have had to wait.

        Raises:
            ValueError: The weight is not above 0, or more than the capacity.
        """
        waiter = self._arrive(LoopWaiter, weight, blocking)
        if waiter is True or waiter is False:
            return waiter
        try:
            await waiter.wait()
        except BaseException:
            self._abandon(waiter)
            raise
        return True

    def check(self, weight: float) -> None:
        """Refuse a weight that could never be had.

        Raises:
            ValueError: It is not above 0, or more than the capacity.
        """
        if not 0 < weight <= self._level.capacity:
            raise ValueError(
                f"weight={weight!r}: give more than 0 and at most capacity={self.capacity!r}"
            )

    def _arrive(self, kind: Callable[[float, float], T], weight: float, blocking: bool) -> T | bool:  # noqa: FBT001 - handed on
        """Take tokens and return True; or else return the place in the line, or False."""
        line, level = self.line, self._level
        if not 0 < weight <= level.capacity:
            self.check(weight)
        with line.lock:
            now = line.clock.now()
            if line.waiters and not blocking:
                line.advance(now)
            if not line.waiters and level.take(weight, now):
                return True
            if not blocking:
                self._refused += 1
                return False
            waiter = kind(weight, now)
            line.join(waiter, self._admit)
            line.advance(now)
            return waiter

    def _admit(self, waiter: Waiter, now: float) -> None:
        self._waits += now - waiter.arrived
        self._longest_wait = max(self._longest_wait, now - waiter.arrived)
        waiter.grant(now)

    def _abandon(self, waiter: Waiter) -> None:
        """Let somebody go who was interrupted, perhaps just after their turn had come."""
        with self.line.lock:
            self._cancelled += 1
            self.line.leave(waiter)
            now = self.line.clock.now()
            if waiter.granted_at is not None:
                self._waits -= waiter.granted_at - waiter.arrived
                self._level.give_back(waiter.weight, waiter.granted_at, now)
            self.line.advance(now)


class Level:
    """The level of a token bucket, counted in tokens spent since it was last full.

    Saturated, the n-th token is there at `start + (n - capacity) / rate`, whenever the others were
    taken: lateness is never lost and rounding does not add up. That is the virtual scheduling of
    the generic cell rate algorithm (GCRA, ITU-T I.371), for requests of different weights. Only
    when the bucket is full does time pass unused.

    It only counts: it neither waits nor locks, and must be told the time.

    Args:
        rate: Tokens a second.
        capacity: Tokens it holds; at most `capacity + rate * t` are spent in any t seconds.
        initial: Tokens at time 0.

    Attributes:
        served: How often tokens were spent and not given back.
    """

    __slots__ = ("_full_at", "_spent", "capacity", "rate", "served")

    def __init__(self, rate: float, capacity: float, initial: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self._full_at = 0.0
        self._spent = capacity - initial
        self.served = 0

    def tokens(self, now: float) -> float:
        """Return what is in it; below 0 by a hair where somebody was let in early."""
        return min(self.capacity, self.capacity - self._spent + (now - self._full_at) * self.rate)

    def due(self, weight: float) -> float:
        """Return the time in seconds from which `weight` tokens can be spent."""
        return self._full_at + (self._spent + weight - self.capacity) / self.rate

    def take(self, weight: float, now: float) -> bool:
        """Spend `weight` tokens if they are due; say whether they were."""
        if now >= self._full_at + self._spent / self.rate:
            self._full_at, self._spent = now, weight
        elif self.due(weight) - now <= EARLY:
            self._spent += weight
        else:
            return False
        self.served += 1
        return True

    def give_back(self, weight: float, taken_at: float, now: float) -> None:
        """Return what was spent for nothing, as far as that is safe.

        Had it not been spent, the bucket might have been full since, and let that much time pass
        unused: at most `rate * (now - taken_at)`, which is therefore kept. Given back at once,
        it costs nothing.
        """
        unused = max(0.0, weight - self.rate * (now - taken_at))
        self._spent = max(0.0, self._spent - unused)
        self.served -= 1
