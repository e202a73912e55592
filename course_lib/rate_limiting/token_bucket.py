"""A token bucket that keeps its promise: exact, fair, shared, and safe to cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from langchain_core.rate_limiters import BaseRateLimiter

from course_lib.checks import require_positive
from course_lib.clock import Clock
from course_lib.rate_limiting.level import EARLY, Level
from course_lib.rate_limiting.turn import LoopTurn, ThreadTurn, Turn
from course_lib.rate_limiting.waiters import Line

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BucketStatistics", "TokenBucket"]


T = TypeVar("T", bound=Turn)


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
        self.line = Line(self._level, Clock(timer, exclusive=True))
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
        turn = self._arrive(ThreadTurn, weight, blocking)
        if isinstance(turn, Turn):
            try:
                turn.wait()
            except BaseException:
                self._abandon(turn)
                raise
            return True
        return turn

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
        turn = self._arrive(LoopTurn, weight, blocking)
        if isinstance(turn, Turn):
            try:
                await turn.wait()
            except BaseException:
                self._abandon(turn)
                raise
            return True
        return turn

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
        self.check(weight)
        line, level = self.line, self._level
        with line.lock:
            now = line.clock.now()
            if line:
                line.advance()
            if not line and level.due(weight) - now <= EARLY:
                level.spend(weight, now)
                return True
            if not blocking:
                self._refused += 1
                return False
            turn = kind(weight, now)
            line.join(turn, self._admit)
            line.advance()
            return turn

    def _admit(self, turn: Turn, now: float) -> None:
        self._waits += now - turn.arrived
        self._longest_wait = max(self._longest_wait, now - turn.arrived)
        turn.grant(now)

    def _abandon(self, turn: Turn) -> None:
        """Let somebody go who was interrupted, perhaps just after their turn had come."""
        with self.line.lock:
            self._cancelled += 1
            self.line.leave(turn)
            if turn.granted_at is not None:
                self._waits -= turn.granted_at - turn.arrived
                self._level.give_back(turn.weight, turn.granted_at, self.line.clock.now())
            self.line.advance()
