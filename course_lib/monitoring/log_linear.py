"""Log-linear buckets: each power of two of nanoseconds is divided into equally many.

The layout of HdrHistogram (Gil Tene, hdrhistogram.org): 2 ** `bits` buckets for each power of two,
numbered without a gap, so that none is wider than its lower bound / 2 ** `bits`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COARSEST", "FINEST", "LONGEST", "NANO", "bounds", "checked_state", "index_of"]

NANO = 1_000_000_000
LONGEST = 2.0**63 / NANO
"""Seconds that fit, 292 years: what makes the number of buckets finite."""
FINEST, COARSEST = 1e-5, 0.25
"""Relative errors that make sense, as shares."""


def index_of(nanoseconds: int, bits: int) -> int:
    """Return the number of the bucket of a duration."""
    shift = nanoseconds.bit_length() - bits - 1
    return nanoseconds if shift <= 0 else (shift << bits) + (nanoseconds >> shift)


def bounds(index: int, bits: int) -> tuple[int, int]:
    """Return the first and the last nanosecond of a bucket."""
    shift = max(0, (index >> bits) - 1)
    lower = (index - (shift << bits)) << shift
    return lower, lower + (1 << shift) - 1


def checked_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a distribution's slots from what its `to_dict` returned.

    Raises:
        ValueError: They are none that it returns, or contradict each other.
    """
    try:
        bits, total, buckets = state["bits"], state["nanoseconds"], dict(state["buckets"])
        low, high = state["minimum"], state["maximum"]
        sound = _sound(bits, total, buckets) and _fits(low, high, bits, buckets)
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(f"{state!r:.100} is no distribution: pass what `to_dict` returned")
    return {
        "_bits": bits,
        "_buckets": buckets,
        "_count": sum(buckets.values()),
        "_nanoseconds": total,
        "_minimum": low if buckets else math.inf,
        "_maximum": high if buckets else -math.inf,
    }


def _sound(bits: Any, total: Any, buckets: dict[Any, Any]) -> bool:
    """Whether the numbers are whole, in range, and the sum is one that the buckets allow."""
    numbers = [bits, total, *buckets, *buckets.values()]
    if any(type(number) is not int for number in numbers):
        return False
    coarse, fine = (math.ceil(math.log2(0.5 / error)) for error in (COARSEST, FINEST))
    if not coarse <= bits <= fine or min(buckets.values(), default=1) < 1:
        return False
    if not 0 <= min(buckets, default=0) <= max(buckets, default=0) <= index_of(2**63, bits):
        return False
    spans = {index: bounds(index, bits) for index in buckets}
    least = sum(spans[index][0] * count for index, count in buckets.items())
    most = sum(spans[index][1] * count for index, count in buckets.items())
    return bool(least <= total <= most)


def _fits(low: Any, high: Any, bits: int, buckets: dict[int, int]) -> bool:
    """Whether the extremes lie in the outermost buckets."""
    if not buckets:
        return low is high is None
    first, last = (index_of(int(seconds * NANO + 0.5), bits) for seconds in (low, high))
    return bool(low <= high and first == min(buckets) and last == max(buckets))
