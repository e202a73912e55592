"""The value objects: checked when made, the same after a trip through JSON, seeded draws."""

import json
import math
import statistics
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.service import (
    Behaviour,
    Capacity,
    Faults,
    Generation,
    Latency,
    RateLimit,
    TokenLimit,
)

SECONDS = st.floats(min_value=1e-4, max_value=10)
SEEDS = st.integers(min_value=0, max_value=2**32)
SPREAD = {"p50": SECONDS, "p99": SECONDS.map(lambda x: x + 11), "seed": SEEDS}
LATENCIES = st.one_of(
    st.builds(Latency.constant, SECONDS),
    st.builds(Latency.lognormal, **SPREAD),
    st.builds(Latency.heavy_tail, **SPREAD),
)
SHARES = st.floats(min_value=0, max_value=1 / 3)
BEHAVIOURS = st.builds(
    Behaviour,
    LATENCIES,
    st.none() | st.builds(RateLimit, SECONDS, st.integers(1, 100)),
    st.none() | st.builds(Capacity, st.integers(1, 100)),
    st.none() | st.builds(Faults, SHARES, SHARES, SHARES, SEEDS),
)


@given(BEHAVIOURS)
def test_a_behaviour_survives_json(behaviour):
    """What is sent is what arrives."""
    assert Behaviour.from_dict(json.loads(json.dumps(behaviour.to_dict()))) == behaviour


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Latency.constant(-1), "seconds=-1: give a number at least 0"),
        (lambda: Latency.constant(math.nan), "seconds=nan"),
        (lambda: Latency.constant("fast"), "seconds='fast'"),
        (lambda: Latency.constant(True), "seconds=True"),
        (lambda: Latency.lognormal(0, 1), "p50=0: give a number above 0"),
        (lambda: Latency.lognormal(0.2, 0.1), "p99=0.1: give a number above 0.2"),
        (lambda: Latency.heavy_tail(0.2, math.inf), "p99=inf"),
        (lambda: Latency.lognormal(0.1, 0.2, seed=-1), "seed=-1"),
        (lambda: Latency("slow", 1, 1), "kind='slow'"),
        (lambda: Latency("constant", 1, 2), "p99=2"),
        (lambda: RateLimit(0, 1), "rate=0"),
        (lambda: RateLimit(1, 0), "burst=0"),
        (lambda: RateLimit(1, 1.5), "burst=1.5: give a whole number"),
        (lambda: Capacity(0), "slots=0: give a whole number of at least 1"),
        (lambda: Faults(error=1.1), "error=1.1: give a number at least 0 and at most 1"),
        (lambda: Faults(error=0.6, hang=0.6), "shares add up to at most 1"),
        (lambda: Latency.constant(10**400), "seconds=1000.*: give a number at least 0 and at most"),
        (lambda: Latency.lognormal(5e-324, 1), "p50=5e-324: give a number above 0"),
        (lambda: Latency.lognormal(1, 2, seed=10**400), "seed=1000.*: give a whole number"),
        (lambda: RateLimit(5e-324, 1), "rate=5e-324: give a number above 0 and at most 1e"),
        (lambda: RateLimit(1e308, 1), "rate=1e\\+308"),
        (lambda: RateLimit(1, 10**400), "burst=1000.*: give a whole number of at least 1 and at"),
        (lambda: TokenLimit(10**400), "tokens_per_minute=1000"),
        (lambda: Generation(0, 5e-324), "tokens_per_second=5e-324"),
        (lambda: Generation(0, 1e308), "tokens_per_second=1e"),
        (lambda: Behaviour(0.1), r"latency=0.1: give a Latency\(...\)"),
        (lambda: Behaviour(capacity=8), r"capacity=8: give a Capacity\(...\)"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(make, reason):
    """The message names the value and the fix."""
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"speed": 1}, "no field 'speed'"),
        ({"capacity": {"slots": 1, "size": 2}}, "Capacity has no field 'size'"),
        ({"rate_limit": {"rate": 1}}, "RateLimit needs 'burst'"),
        ({"capacity": 8}, "8 is no JSON object of slots"),
        ([], "is no JSON object"),
    ],
)
def test_json_that_does_not_fit_is_refused(data, reason):
    """Unknown, missing and misplaced fields are errors, never ignored."""
    with pytest.raises(ValueError, match=reason):
        Behaviour.from_dict(data)


def test_a_change_leaves_the_rest_alone_and_none_switches_off():
    """Only the parts named change; a latency that is off is 0 s."""
    old = Behaviour(Latency.constant(1), RateLimit(5, 2), Capacity(3))
    new = old.changed({"latency": None, "rate_limit": None, "faults": {"error": 0.5}})
    assert new == Behaviour(Latency.constant(0), None, Capacity(3), Faults(0.5))


@given(LATENCIES)
def test_one_seed_gives_one_sequence(latency):
    """Two samplers of a latency draw the same, so that a run can be repeated."""
    assert list(islice(latency.sampler(), 20)) == latency.samples(20)


@given(LATENCIES)
def test_every_latency_is_finite_and_not_negative(latency):
    """No draw breaks the loop's timers."""
    assert all(0 <= seconds < math.inf for seconds in latency.samples(50))


@pytest.mark.parametrize("make", [Latency.lognormal, Latency.heavy_tail])
def test_percentiles_may_be_as_near_or_as_far_as_numbers_can(make):
    """Two whose quotient is rounded to 1, and the smallest and the largest that are taken."""
    near = make(2 - 2**-52, 2).samples(100)
    assert near == pytest.approx([2] * 100)
    assert all(0 <= seconds < math.inf for seconds in make(1e-9, 1e9).samples(10_000))


@pytest.mark.parametrize("make", [Latency.lognormal, Latency.heavy_tail])
def test_percentiles_are_those_asked_for(make):
    """Half of many draws lie below p50, one in a hundred above p99."""
    cuts = statistics.quantiles(make(0.1, 0.5, seed=1).samples(100_000), n=100)
    assert cuts[49] == pytest.approx(0.1, rel=0.02)
    assert cuts[98] == pytest.approx(0.5, rel=0.05)


def test_the_heavy_tail_is_heavier():
    """With the same p50 and p99, its worst of many draws is far worse."""
    worst_normal = max(Latency.lognormal(0.1, 1).samples(100_000))
    assert max(Latency.heavy_tail(0.1, 1).samples(100_000)) > 2 * worst_normal


def test_another_seed_gives_another_sequence():
    """The seed matters."""
    assert Latency.lognormal(1, 2, seed=1).samples(5) != Latency.lognormal(1, 2, seed=2).samples(5)


def test_faults_come_in_the_shares_asked_for():
    """Many draws split as the shares say, the same for one seed."""
    faults = Faults(error=0.2, drop=0.1, hang=0.05, seed=3)
    drawn = list(islice(faults.sampler(), 20_000))
    assert drawn == list(islice(faults.sampler(), 20_000))
    for kind in ("error", "drop", "hang"):
        assert drawn.count(kind) / len(drawn) == pytest.approx(getattr(faults, kind), abs=0.01)


def test_a_value_shows_how_it_is_made():
    """The repr is what one would type."""
    assert repr(Latency.constant(0.1)) == "Latency.constant(0.1)"
    assert repr(Latency.lognormal(0.1, 0.5)) == "Latency.lognormal(p50=0.1, p99=0.5, seed=0)"
