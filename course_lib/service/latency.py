"""How long the provider works on one request: constant, lognormal, or with a heavy tail."""

import math
import random
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from statistics import NormalDist
from typing import Self

from course_lib.service.values import LAST_SEED, Value, require_number, require_whole

__all__ = ["Latency"]

BITS = 52
"""Random bits of one draw: with half a step added it lies strictly between 0 and 1."""

NARROWEST = 1e-12
"""Logarithm of p99 / p50 at the least: next to each other, their quotient is rounded to 1."""

KINDS = ("constant", "lognormal", "heavy_tail")


@dataclass(frozen=True, slots=True, repr=False)
class Latency(Value):
    """Seconds of work for one request, drawn from a distribution that p50 and p99 fix.

    Make one with `Latency.constant`, `Latency.lognormal` or `Latency.heavy_tail`. One seed gives
    one sequence, and every draw uses one random number: the n-th request of two distributions
    with the same seed is equally lucky in both.

    Attributes:
        kind: "constant", "lognormal" or "heavy_tail".
        p50: Seconds that half of the requests stay below.
        p99: Seconds that 99 in 100 requests stay below; the same as `p50` if constant.
        seed: What the sequence of draws starts from.
    """

    kind: str
    p50: float
    p99: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={reprlib.repr(self.kind)}: give one of {', '.join(KINDS)}")
        require_whole("seed", self.seed, least=0, most=LAST_SEED)
        if self.kind == "constant":
            require_number("seconds", self.p50)
            if self.p99 != self.p50:
                raise ValueError(
                    f"p99={reprlib.repr(self.p99)}: a constant latency has p99 equal to p50"
                )
        else:
            require_number("p50", self.p50, above=0)
            require_number("p99", self.p99, above=self.p50)

    @classmethod
    def constant(cls, seconds: float) -> Self:
        """The same latency for every request; 0 answers as fast as the machine can.

        Args:
            seconds: Seconds of work, at least 0.
        """
        return cls("constant", seconds, seconds)

    @classmethod
    def lognormal(cls, p50: float, p99: float, *, seed: int = 0) -> Self:
        """The usual shape of a healthy service: the logarithm of the latency is normal.

        Args:
            p50: Median, in seconds.
            p99: 99th percentile, in seconds, above `p50`.
            seed: What the sequence of draws starts from.
        """
        return cls("lognormal", p50, p99, seed)

    @classmethod
    def heavy_tail(cls, p50: float, p99: float, *, seed: int = 0) -> Self:
        """A log-logistic latency: beyond p99 it falls like a power (a Pareto tail).

        With the same p50 and p99 as a lognormal, its worst request of many is far worse. The
        exponent of the tail is log(99) / log(p99 / p50).

        Args:
            p50: Median, in seconds.
            p99: 99th percentile, in seconds, above `p50`.
            seed: What the sequence of draws starts from.
        """
        return cls("heavy_tail", p50, p99, seed)

    def __repr__(self) -> str:
        if self.kind == "constant":
            return f"Latency.constant({self.p50:g})"
        return f"Latency.{self.kind}(p50={self.p50:g}, p99={self.p99:g}, seed={self.seed})"

    def sampler(self) -> Iterator[float]:
        """Return an endless iterator of latencies in seconds; the same sequence each time."""
        if self.kind == "constant":
            return repeat(self.p50)
        return map(self._quantile(), _uniform(self.seed))

    def samples(self, n: int) -> list[float]:
        """Return the first `n` latencies of the sequence, in seconds."""
        return list(islice(self.sampler(), n))

    def _quantile(self) -> Callable[[float], float]:
        """Return the inverse of the distribution function."""
        spread = max(NARROWEST, math.log(self.p99 / self.p50))
        if self.kind == "lognormal":
            normal = NormalDist(math.log(self.p50), spread / NormalDist().inv_cdf(0.99))
            return lambda u: math.exp(normal.inv_cdf(u))
        power = spread / math.log(99)
        return lambda u: self.p50 * (u / (1 - u)) ** power


def _uniform(seed: int) -> Iterator[float]:
    draw = random.Random(seed).getrandbits  # noqa: S311 - a model of latency, not a secret
    while True:
        yield (draw(BITS) + 0.5) / 2**BITS
