"""How long a value is kept, how much it weighs, and when it is computed anew before its time."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from course_lib.caching.memory import EARLY, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.clock import Clock

__all__ = ["Policy"]


class Policy:
    """Makes entries of values.

    Its methods that read the clock or draw are called with the cache's lock held.

    Args:
        clock: The cache's time.
        ttl: Seconds that a value is kept; None for ever.
        jitter: Share of them, from 0 to below 1, by which each value's time is shortened at most.
        negative_ttl: Seconds that an error is kept; 0 for not at all.
        early: How eagerly a value is refreshed before its time: XFetch's beta; 0 for never.
        weigh: Returns a value's bytes.
        seed: What the draws start from.

    Raises:
        ValueError: An argument is out of range.
    """

    __slots__ = ("_clock", "_draw", "_jitter", "_weigh", "early", "negative_ttl", "ttl")

    def __init__(
        self,
        clock: Clock,
        *,
        ttl: float | None,
        jitter: float,
        negative_ttl: float,
        early: float,
        weigh: Callable[[Any], float] | None,
        seed: int,
    ) -> None:
        self.ttl = math.inf if ttl is None else checked_ttl(ttl)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter={jitter!r}: give a share of the ttl, from 0 to below 1")
        if not 0 <= negative_ttl < math.inf:
            raise ValueError(f"negative_ttl={negative_ttl!r}: give seconds, or 0 to keep no error")
        if not 0 <= early < math.inf:
            raise ValueError(f"early={early!r}: give 0 for never, 1 for the usual eagerness")
        self.negative_ttl = negative_ttl
        self.early = early
        self._clock = clock
        self._jitter = jitter
        self._weigh = weigh
        self._draw = random.Random(seed).random  # noqa: S311 - spreads load, keeps no secret

    def weight(self, value: Any) -> float:
        """Return the bytes of a value; 0 in a cache that does not weigh.

        Raises:
            ValueError: `weigh` returned no weight.
        """
        if self._weigh is None:
            return 0
        weight = self._weigh(value)
        if not 0 <= weight < math.inf:
            raise ValueError(f"weigh({value!r:.80}) returned {weight!r}: return bytes, 0 or more")
        return weight

    def entry(
        self, value: Any, weight: float, *, ttl: float | None = None, cost: float = 0.0
    ) -> Entry:
        """Return the entry of a value.

        Args:
            value: What is kept.
            weight: What `weight` returned for it.
            ttl: Seconds, if not as given for all.
            cost: Seconds that its computation took.
        """
        seconds = self.ttl if ttl is None else ttl
        if self._jitter:
            seconds *= 1 - self._jitter * self._draw()
        return Entry(value, self._clock.now() + seconds - EARLY, cost, weight)

    def failure(self, error: Exception) -> Entry:
        """Return the entry of an error."""
        return Entry(error, self._clock.now() + self.negative_ttl - EARLY, failed=True)

    def is_due(self, entry: Entry) -> bool:
        """Draw whether whoever uses this entry now is to have it computed anew.

        The closer the end and the longer the computation, the likelier: with the time left `r` and
        the cost `c` it is `exp(-r / (beta * c))`, so that among many users one of them starts in
        time. With `n` uses a second the first is drawn when about `beta * c * ln(n * beta * c)` is
        left: values that are slow to compute and much asked for are refreshed long before the end.

        Source: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede
        Prevention", PVLDB 8(8), 2015, Algorithm XFetch: refresh if
        `now - cost * beta * ln(rand()) >= expiry`.
        """
        if not self.early or not entry.cost:
            return False
        head_start = -entry.cost * self.early * math.log(1 - self._draw())  # of (0, 1]
        return self._clock.now() + head_start >= entry.expires


def checked_ttl(ttl: float) -> float:
    """Return the seconds.

    Raises:
        ValueError: They are not above 0.
    """
    if not ttl > 0:
        raise ValueError(f"ttl={ttl!r} keeps nothing: give seconds above 0, or None for ever")
    return ttl
