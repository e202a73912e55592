"""The arithmetic of a token bucket: how much there is, and when there is enough."""

from typing import Final

__all__ = ["EARLY", "Level"]

EARLY: Final = 1e-8
"""Seconds that somebody may be let in early.

The one tolerance: clocks round (virtual time to nanoseconds at each step, an event loop by the
resolution of its clock), and a caller woken exactly on time must find enough, or it would be woken for ever. What is
taken early stays owed, so it does not add up.
"""


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

    def spend(self, weight: float, now: float) -> None:
        """Take `weight` tokens, which are due."""
        if now >= self._full_at + self._spent / self.rate:
            self._full_at, self._spent = now, 0.0
        self._spent += weight
        self.served += 1

    def give_back(self, weight: float, spent_at: float, now: float) -> None:
        """Return what was spent for nothing, as far as that is safe.

        Had it not been spent, the bucket might have been full since, and let that much time pass
        unused: at most `rate * (now - spent_at)`, which is therefore kept. Given back at once,
        it costs nothing.
        """
        unused = max(0.0, weight - self.rate * (now - spent_at))
        self._spent = max(0.0, self._spent - unused)
        self.served -= 1
