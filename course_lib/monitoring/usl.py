"""How far it will scale: a fit of the universal scalability law to a sweep over concurrency.

The law (N. J. Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6):

    X(N) = rate * N / (1 + contention * (N - 1) + coherency * N * (N - 1))

`rate` (lambda) is what one gets done alone, `contention` (sigma) the share that has to queue,
`coherency` (kappa) the price of agreeing with each other. With contention alone throughput levels
off at rate / contention (Amdahl's law). With coherency it has a peak at
N = sqrt((1 - contention) / coherency), beyond which more at once get less done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Interval", "UslFit", "fit_usl"]

Array = NDArray[np.float64]
Interval = tuple[float, float]
"""Lower and upper end."""

FEWEST = 4  # distinct concurrencies: three parameters, and one to see how well they fit
PARAMETERS = 3
RESAMPLES = 1000
ROUNDING = 1e-20  # of squared relative errors: what a parameter more has to explain, at least


@dataclass(frozen=True, slots=True)
class UslFit:
    """The law as fitted, and how sure that is.

    Each interval has the level given as `level`. Measurements that follow the law to the last digit
    give intervals of no width.

    Attributes:
        rate: Finished per second by one alone (lambda).
        contention: Share of the work that has to queue, 0 or above (sigma).
        coherency: Price of agreement between each two, 0 or above (kappa).
        rate_interval: Of `rate`.
        contention_interval: Of `contention`.
        coherency_interval: Of `coherency`.
        peak: Concurrency of the highest throughput, at least 1; None if no peak is in
            sight (no coherency).
        peak_interval: Of `peak`; its upper end is infinite where the data allow for no peak.
        peak_throughput: Highest throughput, per second: at the peak, or, without one, the limit
            that it levels off at; infinite if it grows for ever.
        peak_throughput_interval: Of `peak_throughput`.
        r_squared: Share of the throughput's variance that the law explains, 1 at best.
        level: Confidence of the intervals, such as 0.95.
        measured: Lowest and highest concurrency measured; a peak beyond is an extrapolation.
    """

    rate: float
    contention: float
    coherency: float
    rate_interval: Interval
    contention_interval: Interval
    coherency_interval: Interval
    peak: float | None
    peak_interval: Interval
    peak_throughput: float
    peak_throughput_interval: Interval
    r_squared: float
    level: float
    measured: Interval

    def predict(self, concurrency: float) -> float:
        """Return the throughput that the law expects, per second.

        Args:
            concurrency: How many at once, 1 or above.

        Raises:
            ValueError: It is below 1 or not finite.
        """
        if not 1 <= concurrency < math.inf:
            raise ValueError(f"concurrency={concurrency!r}: give a finite number, 1 or above")
        parameters = np.array([self.rate, self.contention, self.coherency])
        return float(_law(parameters, np.array([float(concurrency)]))[0])

    @property
    def extrapolated(self) -> bool:
        """Whether the peak lies outside of what was measured: then measure there."""
        low, high = self.measured
        return self.peak is not None and not low <= self.peak <= high

    def __str__(self) -> str:
        law = (
            f"rate {self.rate:.3g}/s, contention {self.contention:.3g}, "
            f"coherency {self.coherency:.3g} (r² {self.r_squared:.3f})"
        )
        if self.peak is None:
            ceiling = f"levels off at {self.peak_throughput:.3g}/s" if self.contention else "grows"
            return f"{law}: no peak in sight, throughput {ceiling}"
        peak = f"peak {self.peak_throughput:.3g}/s at {self.peak:.3g} at once"
        interval = f"{self.level:.0%}: {self.peak_interval[0]:.3g} to {self.peak_interval[1]:.3g}"
        beyond = "; beyond what was measured" if self.extrapolated else ""
        return f"{law}: {peak} ({interval}{beyond})"


def fit_usl(
    concurrency: Sequence[float] | Array,
    throughput: Sequence[float] | Array,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> UslFit:
    """Fit the universal scalability law to throughput measured at several concurrencies.

    N/X is linear in 1, N - 1 and N(N - 1). The three factors are found by least squares on
    *relative* errors, under the condition that none is negative (with so few unknowns, the best of
    all subsets is the exact non-negative solution). Intervals come from a bootstrap of the relative residuals, scaled
    by sqrt(n / (n - 3)) for the parameters they were fitted with; percentiles of 1,000 resamples, seeded
    (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 9 and 13). With
    few points they are somewhat too narrow: of intervals called 95 %, 87 % held the true value with
    7 points and 3 % noise, 92 % with 21. Repeat the sweep, and give all of its points.

    Args:
        concurrency: How many were at once, 1 or above each; the same one may come repeatedly.
        throughput: Finished per second, above 0; one for each concurrency.
        level: Confidence of the intervals, between 0 and 1.
        seed: What the resampling starts from.

    Raises:
        ValueError: The lengths differ, a number is out of range, or fewer than 4 different
            concurrencies were measured.
    """
    n, x = _checked(concurrency, throughput, level)
    fitted = _fit(n, x[None])[0]
    model = _law(fitted, n)
    samples = _resampled(n, model, x / model - 1, seed)
    peaks, tops = _peaks(samples)
    (peak,), (top,) = _peaks(fitted[None])

    def interval(values: Array) -> Interval:
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        return float(ends[0]), float(ends[1])

    rate, contention, coherency = map(float, fitted)
    intervals = [interval(column) for column in samples.T]
    return UslFit(
        rate=rate,
        contention=contention,
        coherency=coherency,
        rate_interval=intervals[0],
        contention_interval=intervals[1],
        coherency_interval=intervals[2],
        peak=float(peak) if math.isfinite(peak) else None,
        peak_interval=interval(peaks),
        peak_throughput=float(top),
        peak_throughput_interval=interval(tops),
        r_squared=_explained(x, model),
        level=level,
        measured=(float(n.min()), float(n.max())),
    )


def _checked(concurrency: Any, throughput: Any, level: float) -> tuple[Array, Array]:
    n, x = np.asarray(concurrency, dtype=float), np.asarray(throughput, dtype=float)
    if n.ndim != 1 or n.shape != x.shape:
        raise ValueError(
            f"concurrency has shape {n.shape}, throughput {x.shape}: give one throughput for each"
        )
    for name, values, least in (("concurrency", n, 1.0), ("throughput", x, 5e-324)):
        wrong = values[~((values >= least) & (values < math.inf))]
        if wrong.size:
            bound = "1 or above" if least == 1 else "above 0"
            raise ValueError(f"{name} has {wrong[0]:g}: give finite numbers, {bound}")
    if len(different := np.unique(n)) < FEWEST:
        raise ValueError(
            f"{len(different)} different concurrencies: measure at {FEWEST} or more, from 1 to "
            "beyond where throughput stops growing"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    return n, x


def _law(parameters: Array, n: Array) -> Array:
    rate, contention, coherency = parameters
    return np.asarray(rate * n / (1 + contention * (n - 1) + coherency * n * (n - 1)))


def _fit(n: Array, x: Array) -> Array:
    """Return the parameters for each row of throughputs: shape (rows, points) to (rows, 3)."""
    columns = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=-1)
    scale = columns.max(axis=0)  # of one size, so that the solution is exact
    weighted = (columns / scale) * (x / n)[..., None]  # times the factors this should be 1
    best = np.zeros((len(x), PARAMETERS))
    least = np.full(len(x), np.inf)
    for chosen in product([True], [False, True], [False, True]):  # from the simplest law on
        solution = np.zeros_like(best)
        part = weighted[..., chosen]
        solution[:, chosen] = np.linalg.pinv(part).sum(axis=-1)
        error = ((weighted @ solution[..., None])[..., 0] - 1.0) ** 2
        total = np.where((solution >= 0).all(axis=1), error.sum(axis=1), np.inf)
        better = total < least - ROUNDING
        best[better], least[better] = solution[better], total[better]
    best = best / scale
    return np.stack([1 / best[:, 0], best[:, 1] / best[:, 0], best[:, 2] / best[:, 0]], axis=1)


def _resampled(n: Array, model: Array, residuals: Array, seed: int) -> Array:
    """Return the parameters of sweeps that might as well have been measured: shape (resamples, 3)."""
    spread = (residuals - residuals.mean()) * math.sqrt(len(n) / (len(n) - PARAMETERS))
    drawn = np.random.default_rng(seed).choice(spread, size=(RESAMPLES, len(n)))
    return _fit(n, model * np.maximum(1 + drawn, 0.01))  # no throughput is 0 or less


def _peaks(parameters: Array) -> tuple[Array, Array]:
    """Return for each row the concurrency of its peak, infinite without one, and its throughput."""
    rate, contention, coherency = parameters.T
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = np.sqrt(np.maximum(1 - contention, 0.0) / coherency)
        peak = np.where(coherency > 0, np.maximum(peak, 1.0), np.inf)
        limit = np.where(contention > 0, rate / contention, np.inf)
    finite = np.where(np.isfinite(peak), peak, 1.0)
    return peak, np.where(np.isfinite(peak), _law(parameters.T, finite), limit)


def _explained(x: Array, model: Array) -> float:
    unexplained, total = ((x - model) ** 2).sum(), ((x - x.mean()) ** 2).sum()
    return float(1 - unexplained / total) if total > 0 else 1.0
