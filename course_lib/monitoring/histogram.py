"""A histogram of durations that is written in about a microsecond and can be merged."""

from __future__ import annotations

from typing import NoReturn

from course_lib.monitoring.distribution import Bucket, Distribution, filled
from course_lib.monitoring.log_linear import LONGEST, NANO

__all__ = ["Bucket", "Distribution", "Histogram"]


class Histogram(Distribution):
    """A `Distribution` that is being filled.

        latencies = Histogram()
        latencies.record(0.120)
        latencies.quantile(0.99)

    It takes no lock: where several threads record, hold one, or give each thread its own and merge.
    """

    __slots__ = ()

    def record(self, seconds: float, count: int = 1) -> None:
        """Add a duration, `count` times.

        Args:
            seconds: How long it took; 0 is a duration, too.
            count: How many took that long.

        Raises:
            ValueError: `seconds` is negative, nan or above 292 years, or `count` below 1.
        """
        if not 0.0 <= seconds <= LONGEST or count < 1:
            _refuse(seconds, count)
        nanoseconds = int(seconds * NANO + 0.5)
        # As `index_of`, without the call: this is the line that runs for every record.
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

    def merge(self, other: Distribution) -> None:
        """Add all that another holds; `a | b` makes a third instead.

        Raises:
            ValueError: The two differ in `relative_error`.
        """
        self._add(other)

    def snapshot(self) -> Distribution:
        """Return what it holds now; recording goes on without changing that."""
        return filled(Distribution(), self)


def _refuse(seconds: float, count: int) -> NoReturn:
    if count < 1:
        raise ValueError(f"count={count}: at least 1 duration")
    raise ValueError(
        f"seconds={seconds} is no duration: give the end minus the start by a monotonic clock, "
        f"0 to {LONGEST:.3g}"
    )
