"""The universal scalability law, fitted to what is known."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.monitoring.usl import fit_usl

SWEEP = (1, 2, 4, 8, 16, 32, 64)


def law(n, rate, contention, coherency):
    return rate * n / (1 + contention * (n - 1) + coherency * n * (n - 1))


def measured(*parameters, sweep=SWEEP):
    return [law(n, *parameters) for n in sweep]


def noisy(*parameters, seed, spread=0.03):
    factors = 1 + spread * np.random.default_rng(seed).standard_normal(len(SWEEP))
    return measured(*parameters) * factors


@settings(max_examples=40)
@given(st.floats(0.01, 1e5), st.floats(0, 2), st.floats(1e-6, 0.5))
def test_what_follows_the_law_is_found_again(rate, contention, coherency):
    """All three parameters, over seven orders of throughput."""
    fit = fit_usl(SWEEP, measured(rate, contention, coherency))
    assert fit.rate == pytest.approx(rate, rel=1e-6)
    assert fit.contention == pytest.approx(contention, rel=1e-5, abs=1e-8)
    assert fit.coherency == pytest.approx(coherency, rel=1e-5, abs=1e-9)
    assert fit.r_squared == pytest.approx(1)


def test_the_peak_is_where_the_law_has_its_maximum():
    """Found on a fine grid as well."""
    fit = fit_usl(SWEEP, measured(100, 0.05, 0.001))
    grid = np.arange(1, 100, 0.01)
    best = grid[np.argmax([fit.predict(n) for n in grid])]
    assert fit.peak == pytest.approx(best, abs=0.01)
    assert fit.peak_throughput == pytest.approx(max(fit.predict(n) for n in grid))
    assert not fit.extrapolated
    assert "peak 904/s at 30.8 at once" in str(fit)


def test_a_peak_beyond_the_sweep_is_called_an_extrapolation():
    """It is a guess until it is measured."""
    sweep = (1, 2, 3, 4, 6)
    fit = fit_usl(sweep, measured(100, 0.05, 0.001, sweep=sweep))
    assert fit.peak == pytest.approx(30.8, abs=0.1)
    assert fit.extrapolated
    assert "beyond what was measured" in str(fit)


def test_without_coherency_no_peak_is_in_sight():
    """Throughput levels off, as Amdahl's law has it."""
    fit = fit_usl(SWEEP, measured(100, 0.05, 0))
    assert fit.peak is None
    assert fit.peak_throughput == pytest.approx(2000)
    assert not fit.extrapolated
    assert "no peak in sight, throughput levels off at 2e+03/s" in str(fit)


def test_what_scales_without_bound_has_no_limit():
    """Neither contention nor coherency."""
    fit = fit_usl(SWEEP, measured(100, 0, 0))
    assert fit.peak is None
    assert fit.peak_throughput == math.inf
    assert str(fit).endswith("no peak in sight, throughput grows")


def test_what_never_gains_has_its_peak_at_one():
    """More at once only get less done."""
    fit = fit_usl(SWEEP, measured(100, 1.2, 0.1))
    assert fit.peak == 1
    assert fit.peak_throughput == pytest.approx(100)


def test_no_parameter_is_negative_where_throughput_grows_more_than_its_share():
    """Two that get more than twice as much done are taken as noise."""
    fit = fit_usl(SWEEP, [n**1.1 for n in SWEEP])
    assert fit.contention == 0
    assert fit.coherency == 0


@settings(max_examples=40)
@given(st.lists(st.floats(0.5, 1.5), min_size=7, max_size=7))
def test_no_other_parameters_fit_better(factors):
    """The fit is the least of squared relative errors, of N/X, over all that are not negative."""
    throughput = measured(100, 0.05, 0.001) * np.array(factors)
    fit = fit_usl(SWEEP, throughput)

    def error(rate, contention, coherency):
        return sum(
            (x / law(n, rate, contention, coherency) - 1) ** 2
            for n, x in zip(SWEEP, throughput, strict=True)
        )

    least = error(fit.rate, fit.contention, fit.coherency)
    for change in (0.99, 1.01):
        assert least <= error(fit.rate * change, fit.contention, fit.coherency) + 1e-12
        assert least <= error(fit.rate, fit.contention * change, fit.coherency) + 1e-12
        assert least <= error(fit.rate, fit.contention, fit.coherency * change) + 1e-12
    for step in (1e-4, 1e-2):
        assert least <= error(fit.rate, fit.contention + step, fit.coherency) + 1e-12
        assert least <= error(fit.rate, fit.contention, fit.coherency + step) + 1e-12


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 60 sweeps with noise; with seven points somewhat less often, as the docstring says."""
    fits = [fit_usl(SWEEP, noisy(100, 0.05, 0.001, seed=seed)) for seed in range(60)]
    for name, truth in (("rate", 100), ("contention", 0.05), ("coherency", 0.001)):
        intervals = [getattr(fit, f"{name}_interval") for fit in fits]
        assert 45 <= sum(low <= truth <= high for low, high in intervals) <= 60


def test_an_interval_encloses_its_figure_and_narrows_with_its_level():
    """Half of the confidence is the narrower claim."""
    throughput = noisy(100, 0.05, 0.001, seed=1)
    wide, narrow = fit_usl(SWEEP, throughput), fit_usl(SWEEP, throughput, level=0.5)
    for fit in (wide, narrow):
        assert fit.peak_interval[0] < fit.peak < fit.peak_interval[1]
        low, high = fit.peak_throughput_interval
        assert low < fit.peak_throughput < high
    assert wide.peak_interval[0] < narrow.peak_interval[0]
    assert narrow.peak_interval[1] < wide.peak_interval[1]


def test_an_uncertain_peak_has_no_upper_end():
    """Where some of what might have been measured has no peak."""
    fit = fit_usl(SWEEP, noisy(100, 0.05, 1e-5, seed=3))
    assert fit.peak_interval[1] == math.inf


def test_one_seed_gives_one_answer():
    """A notebook shows the same figures each time."""
    throughput = noisy(100, 0.05, 0.001, seed=1)
    assert fit_usl(SWEEP, throughput) == fit_usl(SWEEP, throughput)
    assert fit_usl(SWEEP, throughput) != fit_usl(SWEEP, throughput, seed=1)


def test_constant_throughput_is_one_that_never_gains():
    """And there is no variance to be explained."""
    fit = fit_usl(SWEEP, [100] * len(SWEEP))
    assert fit.contention == pytest.approx(1)
    assert fit.r_squared == 1


@pytest.mark.parametrize(
    ("concurrency", "throughput", "message"),
    [
        ([1, 2, 3], [1, 2, 3], "3 different concurrencies: measure at 4 or more"),
        ([1, 2, 3, 3], [1, 2, 3, 3], "3 different concurrencies"),
        ([0, 1, 2, 3], [1, 1, 1, 1], "concurrency has 0"),
        ([1, 2, 3, 4], [1, 2, 0, 4], "throughput has 0"),
        ([1, 2, 3, 4], [1, 2, -1, 4], "throughput has -1"),
        ([1, 2, 3, math.inf], [1, 2, 3, 4], "concurrency has inf"),
        ([1, 2, 3, 4], [1, 2, math.nan, 4], "throughput has nan"),
        ([1, 2, 3, 4], [1, 2, 3], "one throughput for each"),
    ],
)
def test_what_cannot_be_fitted_is_refused(concurrency, throughput, message):
    """With the value, and with what to give instead."""
    with pytest.raises(ValueError, match=message):
        fit_usl(concurrency, throughput)


@pytest.mark.parametrize("concurrency", [0, 0.5, math.nan, math.inf])
def test_only_a_concurrency_can_be_predicted_for(concurrency):
    """One or more, at once."""
    with pytest.raises(ValueError, match="1 or above"):
        fit_usl(SWEEP, measured(100, 0.05, 0.001)).predict(concurrency)


def test_a_level_is_a_share():
    """Not a percentage."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_usl(SWEEP, measured(100, 0.05, 0.001), level=95)


def test_the_package_loads_numpy_only_for_the_fit():
    """Whoever only monitors does not pay for it; everything that it exports is there."""
    program = (
        "import sys, course_lib.monitoring as m; assert 'numpy' not in sys.modules; m.fit_usl;"
        "assert 'numpy' in sys.modules; print([n for n in m.__all__ if not hasattr(m, n)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
