"""A query's time budget: how much is left, and what the stages ahead are expected to take."""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["Budget", "Pace", "until"]

_SHARE: Final = 0.125  # of a new observation in the mean, and twice that in the deviation
_DEVIATIONS: Final = 2.0
_MARGIN: Final = (
    0.1  # of the mean, at the least: a stage that always takes as long may be late, too
)
_HALF_LIFE: Final = 10.0
"""Seconds in which an expectation halves when nothing is observed: so that a stage that was left out
for its slowness is tried again."""


@dataclass(slots=True)
class _Estimate:
    mean: float
    deviation: float
    at: float


class Pace:
    """What stages are expected to take: mean and deviation of late, as TCP estimates round trips.

    V. Jacobson, "Congestion avoidance and control" (1988), with two deviations on top of the mean,
    or a tenth of it if that is more.
    """

    def __init__(self) -> None:
        self._estimates: dict[str, _Estimate] = {}

    def observe(self, stage: str, seconds: float) -> None:
        """Take in what a stage took, with its waits."""
        now = asyncio.get_running_loop().time()
        known = self._estimates.get(stage)
        if known is None:
            self._estimates[stage] = _Estimate(seconds, seconds / 2, now)
            return
        miss = seconds - known.mean
        known.mean += _SHARE * miss
        known.deviation += 2 * _SHARE * (abs(miss) - known.deviation)
        known.at = now

    def expected(self, stage: str) -> float:
        """Return the seconds that a stage will most likely not exceed; 0.0 if it was never seen."""
        known = self._estimates.get(stage)
        if known is None:
            return 0.0
        age = asyncio.get_running_loop().time() - known.at
        margin = max(_DEVIATIONS * known.deviation, _MARGIN * known.mean)
        return (known.mean + margin) * math.exp2(-age / _HALF_LIFE)


class Budget:
    """The time that one query has.

    Args:
        seconds: From now on; None for any number.
        pace: What the stages take.

    Attributes:
        seconds: As given.
        end: When it is used up, on the running loop's clock; None for never.
    """

    __slots__ = ("_pace", "end", "seconds")

    def __init__(self, seconds: float | None, pace: Pace) -> None:
        self.seconds = seconds
        self.end = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._pace = pace

    def left(self) -> float:
        """Return the seconds that are left; infinite if there is no limit."""
        return math.inf if self.end is None else self.end - asyncio.get_running_loop().time()

    def suffices(self, *stages: str, share: float = 1.0) -> bool:
        """Return whether the time that is left is what these stages are expected to take, or more.

        Args:
            *stages: The stages ahead.
            share: How much of the expected time is to be there.
        """
        if self.end is None:
            return True
        return self.left() >= share * sum(map(self._pace.expected, stages))

    def latest(self, stage: str) -> float | None:
        """Return by when everything before a stage must be done, for that stage to have its time.

        A stage that was never seen is to have half of what is left.
        """
        if self.end is None:
            return None
        return self.end - (self._pace.expected(stage) or self.left() / 2)


def until(when: float | None) -> AbstractAsyncContextManager[Any]:
    """Return `asyncio.timeout_at`, or nothing at the cost of nothing where there is no end."""
    return nullcontext() if when is None else asyncio.timeout_at(when)
