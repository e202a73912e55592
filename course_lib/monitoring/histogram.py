"""A histogram of durations: written in about a microsecond, merged without loss.

Count, sum and extremes are exact, quantiles within 0.5 %. Durations are kept as whole nanoseconds in
*log-linear* buckets, the layout of HdrHistogram (Gil Tene, hdrhistogram.org): each power of two is
divided into 2 ** `bits` buckets, numbered without a gap, so that none is wider than its lower bound /
2 ** `bits`. Those in use are kept in a dict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from course_lib.clock import NANO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LONGEST", "Bucket", "Distribution", "Histogram"]

LONGEST = 2.0**63 / NANO
"""Seconds that fit, 292 years: what makes the number of buckets finite."""
FINEST, COARSEST = 1e-5, 0.25
"""Relative errors that make sense, as shares."""
HAIR = 1 - 1e-12  # 0.07 * 100 is a hair above 7, and the 7th value is meant

Made = TypeVar("Made", bound="Distribution")


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many durations lie within one bucket, both bounds in seconds and included."""

    lower: float
    upper: float
    count: int


class Distribution:
    """Durations that were recorded, as far as a histogram remembers them; it does not change.

    Memory depends on how widely the durations are spread, not on how many there are: at most
    128 buckets for each doubling, usually some hundreds in all.

    `count`, `total`, `minimum` and `maximum` are exact: `total` is a sum of whole nanoseconds, so
    that it does not depend on the order of recording or merging. Two are equal if they hold the
    same.

    Args:
        relative_error: A quantile may be off by this share of itself (or by half a nanosecond).

    Raises:
        ValueError: `relative_error` is not between 0.00001 and 0.25.
    """

    __slots__ = ("_bits", "_buckets", "_count", "_maximum", "_minimum", "_nanoseconds")

    def __init__(self, *, relative_error: float = 0.005) -> None:
        if not FINEST <= relative_error <= COARSEST:
            raise ValueError(
                f"relative_error={relative_error}: a share from {FINEST} to {COARSEST}, such as 0.005"
            )
        self._bits = math.ceil(math.log2(0.5 / relative_error))
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._nanoseconds = 0
        self._minimum = math.inf
        self._maximum = -math.inf

    @property
    def relative_error(self) -> float:
        """The largest error of a quantile, as a share of it: half a bucket."""
        return 2.0 ** -(self._bits + 1)

    @property
    def count(self) -> int:
        """Durations recorded."""
        return self._count

    @property
    def total(self) -> float:
        """Their sum, in seconds, each taken to the nanosecond."""
        return self._nanoseconds / NANO

    @property
    def mean(self) -> float:
        """Their mean, in seconds; nan if there are none."""
        return self._nanoseconds / (self._count * NANO) if self._count else math.nan

    @property
    def minimum(self) -> float:
        """The shortest, in seconds, exactly; nan if there are none."""
        return self._minimum if self._count else math.nan

    @property
    def maximum(self) -> float:
        """The longest, in seconds, exactly; nan if there are none."""
        return self._maximum if self._count else math.nan

    def quantile(self, q: float) -> float:
        """Return a duration that a share `q` of all do not exceed, in seconds.

        The quantile is an order statistic, nothing between two values: of n durations the one at
        rank ceil(q n), or the first for q = 0 (definition 1 of Hyndman and Fan, "Sample Quantiles
        in Statistical Packages", 1996). The answer is the middle of its bucket; nan if there are
        none.

        Args:
            q: A share: 0.99 for the 99th percentile.

        Raises:
            ValueError: `q` is not between 0 and 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q={q}: a share from 0 to 1, such as 0.99 for the 99th percentile")
        rank = math.ceil(q * self._count * HAIR)
        if rank <= 1:
            return self.minimum
        if rank >= self._count:
            return self.maximum
        for index in sorted(self._buckets):
            rank -= self._buckets[index]
            if rank <= 0:
                break
        lower, upper = _bounds(index, self._bits)
        return min(max((lower + upper) / 2 / NANO, self._minimum), self._maximum)

    def buckets(self) -> Iterator[Bucket]:
        """Yield the buckets in use, shortest durations first."""
        for index in sorted(self._buckets):
            lower, upper = _bounds(index, self._bits)
            yield Bucket(lower / NANO, upper / NANO, self._buckets[index])

    def copy(self) -> Self:
        """Return another that holds the same."""
        return _filled(type(self)(), self)

    def __or__(self, other: Distribution) -> Self:
        """Return one that holds both: equal to the one that all durations were recorded in.

        Raises:
            ValueError: The two differ in `relative_error`.
        """
        if not isinstance(other, Distribution):
            return NotImplemented
        both = self.copy()
        both._add(other)
        return both

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Distribution):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it is compared by what it holds

    def __repr__(self) -> str:
        if not self._count:
            return f"<{type(self).__name__}: empty>"
        shares = ", ".join(f"p{100 * q:g} {self.quantile(q):.3g} s" for q in (0.5, 0.95, 0.99))
        return f"<{type(self).__name__} of {self._count:,}: mean {self.mean:.3g} s, {shares}>"

    def to_dict(self) -> dict[str, Any]:
        """Return all that it holds as JSON values: integers and the two extremes in seconds."""
        return {
            "bits": self._bits,
            "nanoseconds": self._nanoseconds,
            "minimum": self._minimum if self._count else None,
            "maximum": self._maximum if self._count else None,
            "buckets": [list(item) for item in sorted(self._buckets.items())],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return what `to_dict` was called on.

        Raises:
            ValueError: The values are none that `to_dict` returns.
        """
        made = cls()
        for name, value in _checked(state).items():
            setattr(made, name, value)
        return made

    def _add(self, other: Distribution) -> None:
        if other._bits != self._bits:
            raise ValueError(
                f"relative_error={other.relative_error} cannot be merged into "
                f"{self.relative_error}: make both with the same"
            )
        mine = self._buckets
        for index, count in other._buckets.copy().items():
            mine[index] = mine.get(index, 0) + count
        self._count += other._count
        self._nanoseconds += other._nanoseconds
        self._minimum = min(self._minimum, other._minimum)
        self._maximum = max(self._maximum, other._maximum)

    def _state(self) -> tuple[object, ...]:
        return (self._bits, self._buckets, self._nanoseconds, self._minimum, self._maximum)


class Histogram(Distribution):
    """A `Distribution` that is being filled.

        latencies = Histogram()
        latencies.record(0.120)
        latencies.quantile(0.99)

    It takes no lock: where several threads record, hold one, or give each thread its own and merge.
    """

    __slots__ = ()

    def record(self, seconds: float, count: int = 1) -> int:
        """Add a duration, `count` times.

        Args:
            seconds: How long it took; 0 is a duration, too.
            count: How many took that long.

        Returns:
            What one of them is counted as, in whole nanoseconds.

        Raises:
            ValueError: `seconds` is negative, nan or above 292 years, or `count` below 1.
        """
        if not 0.0 <= seconds <= LONGEST or count < 1:
            _refuse(seconds, count)
        nanoseconds = int(seconds * NANO + 0.5)
        # As `_index_of`, without the call: this is the line that runs for every record.
        bits = self._bits
        shift = nanoseconds.bit_length() - bits - 1
        index = nanoseconds if shift <= 0 else (shift << bits) + (nanoseconds >> shift)
        buckets = self._buckets
        buckets[index] = buckets.get(index, 0) + count
        self._count += count
        self._nanoseconds += nanoseconds * count
        if seconds < self._minimum:
            self._minimum = float(seconds)
        if seconds > self._maximum:
            self._maximum = float(seconds)
        return nanoseconds

    def merge(self, other: Distribution) -> None:
        """Add all that another holds; `a | b` makes a third instead.

        Raises:
            ValueError: The two differ in `relative_error`.
        """
        self._add(other)

    def snapshot(self) -> Distribution:
        """Return what it holds now; recording goes on without changing that."""
        return _filled(Distribution(), self)


def _filled(made: Made, source: Distribution) -> Made:
    """Make an empty one hold what another holds, and return it."""
    made._bits = source._bits  # noqa: SLF001 - of the same family
    made._add(source)  # noqa: SLF001
    return made


def _refuse(seconds: float, count: int) -> NoReturn:
    if count < 1:
        raise ValueError(f"count={count}: at least 1 duration")
    raise ValueError(
        f"seconds={seconds} is no duration: give the end minus the start by a monotonic clock, "
        f"0 to {LONGEST:.3g}"
    )


def _index_of(nanoseconds: int, bits: int) -> int:
    """Return the number of the bucket of a duration."""
    shift = nanoseconds.bit_length() - bits - 1
    return nanoseconds if shift <= 0 else (shift << bits) + (nanoseconds >> shift)


def _bounds(index: int, bits: int) -> tuple[int, int]:
    """Return the first and the last nanosecond of a bucket."""
    shift = max(0, (index >> bits) - 1)
    lower = (index - (shift << bits)) << shift
    return lower, lower + (1 << shift) - 1


def _checked(state: Mapping[str, Any]) -> dict[str, Any]:
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
    if not 0 <= min(buckets, default=0) <= max(buckets, default=0) <= _index_of(2**63, bits):
        return False
    spans = {index: _bounds(index, bits) for index in buckets}
    least = sum(spans[index][0] * count for index, count in buckets.items())
    most = sum(spans[index][1] * count for index, count in buckets.items())
    return bool(least <= total <= most)


def _fits(low: Any, high: Any, bits: int, buckets: dict[int, int]) -> bool:
    """Whether the extremes lie in the outermost buckets."""
    if not buckets:
        return low is high is None
    first, last = (_index_of(int(seconds * NANO + 0.5), bits) for seconds in (low, high))
    return bool(low <= high and first == min(buckets) and last == max(buckets))
