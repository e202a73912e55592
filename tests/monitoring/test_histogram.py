import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring_support import DURATIONS, exact_quantile

from course_lib.monitoring import Distribution, Histogram

QUANTILES = (0, 0.01, 0.07, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1)


def filled(durations, **options):
    histogram = Histogram(**options)
    for seconds in durations:
        histogram.record(seconds)
    return histogram


def assert_close(found, exact, share):
    assert abs(found - exact) <= share * exact + 0.5e-9 * (1 + 1e-6)


@given(DURATIONS)
def test_quantiles_are_within_half_a_percent_of_the_order_statistics(durations):
    """Whatever is recorded: bounds of buckets, zeros, ties, days beside nanoseconds."""
    histogram = filled(durations)
    for q in QUANTILES:
        assert_close(histogram.quantile(q), exact_quantile(durations, q), 0.005)


@pytest.mark.parametrize("error", [1e-5, 0.0001, 0.01, 0.25])
@settings(max_examples=30)
@given(durations=DURATIONS)
def test_quantiles_keep_the_relative_error_that_was_asked_for(error, durations):
    """The error is that of half a bucket."""
    histogram = filled(durations, relative_error=error)
    assert histogram.relative_error <= error
    for q in QUANTILES:
        assert_close(histogram.quantile(q), exact_quantile(durations, q), error)


@pytest.mark.parametrize(
    "draw",
    [
        lambda random: 0.1,
        lambda random: random.lognormvariate(-2, 2),
        lambda random: random.paretovariate(0.5) / 1e6,
        lambda random: random.choice([1e-6, 10.0]),
        lambda random: random.expovariate(10),
    ],
    ids=["constant", "lognormal", "heavy tail", "two modes", "exponential"],
)
def test_percentiles_of_many_calls_are_within_one_percent(draw):
    """The distributions that averages lie about."""
    source = random.Random(5)
    durations = [draw(source) for _ in range(20_000)]
    histogram = filled(durations)
    for q in (0.5, 0.95, 0.99, 0.999):
        assert histogram.quantile(q) == pytest.approx(exact_quantile(durations, q), rel=0.01)


def test_a_rank_is_not_moved_by_rounding():
    """0.07 * 100 is a hair above 7 in binary, and the 7th of 100 is meant."""
    histogram = filled([each / 1000 for each in range(1, 101)])
    assert histogram.quantile(0.07) == pytest.approx(0.007, rel=0.005)
    assert histogram.quantile(0.29) == pytest.approx(0.029, rel=0.005)


@given(DURATIONS)
def test_count_sum_and_extremes_are_exact(durations):
    """The sum is one of whole nanoseconds."""
    histogram = filled(durations)
    assert histogram.count == len(durations)
    assert (histogram.minimum, histogram.maximum) == (min(durations), max(durations))
    total = sum(int(seconds * 1e9 + 0.5) for seconds in durations)
    assert histogram.total == total / 10**9
    assert sum(Histogram().record(seconds) for seconds in durations) == total
    assert histogram.mean == pytest.approx(histogram.total / len(durations), rel=1e-12)


@given(st.lists(DURATIONS, min_size=1, max_size=5), st.randoms())
def test_merged_parts_equal_the_whole(parts, source):
    """In any order, by `merge` as by `|`."""
    whole = filled([seconds for part in parts for seconds in part])
    source.shuffle(parts)
    merged, union = Histogram(), Histogram()
    for part in parts:
        merged.merge(filled(part))
        union |= filled(part)
    assert merged == union == whole
    assert merged.to_dict() == whole.to_dict()


@given(DURATIONS)
def test_a_histogram_survives_json(durations):
    """Extremes and sum to the last bit."""
    histogram = filled(durations)
    assert Histogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram


@given(DURATIONS)
def test_buckets_hold_all_that_was_recorded(durations):
    """In ascending order, without overlap, each recorded value inside one."""
    buckets = list(filled(durations).buckets())
    assert sum(bucket.count for bucket in buckets) == len(durations)
    edges = [edge for bucket in buckets for edge in (bucket.lower, bucket.upper)]
    assert edges == sorted(edges)
    assert edges[0] - 1e-9 <= min(durations) <= max(durations) <= edges[-1] + 1e-9


def test_a_count_records_many_at_once():
    """As often as if each had been recorded by itself."""
    at_once = Histogram()
    at_once.record(0.3, 1000)
    assert at_once == filled([0.3] * 1000)


def test_an_empty_histogram_knows_no_durations():
    """It says nan, not 0, and survives JSON."""
    empty = Histogram()
    assert (empty.count, empty.total) == (0, 0.0)
    for value in (empty.mean, empty.minimum, empty.maximum, empty.quantile(0.5)):
        assert math.isnan(value)
    assert list(empty.buckets()) == []
    assert Histogram.from_dict(empty.to_dict()) == empty
    assert repr(empty) == "<Histogram: empty>"


def test_memory_depends_on_the_spread_not_on_the_number():
    """A million calls of 10,000 lengths, from 0.1 ms to 1 s, fall into fewer than 1,800 buckets."""
    histogram = Histogram()
    for each in range(1, 10_001):
        histogram.record(each / 10_000, 100)
    assert histogram.count == 1_000_000
    assert len(list(histogram.buckets())) < 1800
    widest = Histogram()
    for power in range(63):
        for part in range(128):
            widest.record((2**power + part * 2 ** max(0, power - 7)) / 1e9)
    assert len(list(widest.buckets())) < 64 * 128


@pytest.mark.parametrize("seconds", [-1e-9, math.nan, math.inf, -math.inf, 1e11])
def test_what_is_no_duration_is_refused(seconds):
    """And leaves the histogram as it was."""
    histogram = filled([0.1])
    with pytest.raises(ValueError, match="is no duration: give the end minus the start"):
        histogram.record(seconds)
    assert histogram == filled([0.1])


def test_the_longest_duration_fits():
    """292 years are in range, in the finest histogram too."""
    assert filled([2.0**63 / 1e9], relative_error=1e-5).quantile(0.5) == 2.0**63 / 1e9


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_one_is_refused(count):
    """Nothing recorded is nothing to record."""
    with pytest.raises(ValueError, match="at least 1 duration"):
        Histogram().record(0.1, count)


@pytest.mark.parametrize("error", [0, -0.1, 0.5, math.nan])
def test_a_relative_error_out_of_range_is_refused(error):
    """The message says what is in range."""
    with pytest.raises(ValueError, match="a share from 1e-05 to 0.25"):
        Histogram(relative_error=error)


@pytest.mark.parametrize("q", [-0.1, 1.1, 99, math.nan])
def test_a_quantile_is_a_share(q):
    """99 is no quantile; the message says what is."""
    with pytest.raises(ValueError, match="such as 0.99 for the 99th percentile"):
        filled([0.1]).quantile(q)


def test_histograms_of_different_precision_are_not_merged():
    """Their buckets do not fit each other."""
    with pytest.raises(ValueError, match="make both with the same"):
        filled([0.1]).merge(filled([0.1], relative_error=0.1))
    assert filled([0.1]) != filled([0.1], relative_error=0.1)


def test_copies_and_snapshots_stay_as_they_were():
    """Recording goes on in the original alone; a snapshot cannot be recorded in."""
    histogram = filled([0.1, 0.2], relative_error=1e-5)
    copy, snapshot = histogram.copy(), histogram.snapshot()
    assert copy == snapshot == histogram
    histogram.record(0.3)
    assert copy == snapshot != histogram
    assert type(copy) is Histogram
    assert type(snapshot) is Distribution
    assert not hasattr(snapshot, "record")


def test_the_repr_tells_the_percentiles():
    """With the number of durations."""
    assert repr(filled([0.1] * 2000)) == (
        "<Histogram of 2,000: mean 0.1 s, p50 0.1 s, p95 0.1 s, p99 0.1 s>"
    )


def sound():
    return filled([0.1, 0.1, 2.0]).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"bits": "7"},
        {"bits": 40},
        {"nanoseconds": -1},
        {"nanoseconds": 10**12},
        {"minimum": 0.2},
        {"maximum": None},
        {"minimum": 3.0},
        {"buckets": [[1, -1]]},
        {"buckets": [[-5, 1]]},
        {"buckets": [[1.5, 1]]},
        {"buckets": None},
        {"buckets": []},
        {"buckets": [[10**9, 1]]},
    ],
    ids=str,
)
def test_values_that_no_histogram_has_are_refused(change):
    """What comes from elsewhere is checked, before a quantile of it misleads."""
    with pytest.raises(ValueError, match="is no distribution: pass what `to_dict` returned"):
        Histogram.from_dict({**sound(), **change})
    assert Histogram.from_dict(sound()).count == 3


def test_a_missing_value_is_refused():
    """As is what is no mapping at all."""
    for state in ({}, [], None):
        with pytest.raises(ValueError, match="is no distribution"):
            Histogram.from_dict(state)
