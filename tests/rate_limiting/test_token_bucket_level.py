"""The arithmetic of a token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_support import excess, tokens_left

from course_lib.rate_limiting.token_bucket import Level
from course_lib.rate_limiting.waiters import EARLY

RATES = st.sampled_from([0.5, 1.0, 3.0, 10.0, 5000.0])
CAPACITIES = st.sampled_from([1.0, 1.2, 2.0, 7.5, 50.0])
STEPS = st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 1)), min_size=1, max_size=40)


@given(RATES, CAPACITIES, st.floats(0, 1), STEPS)
def test_spent_as_soon_as_due_it_keeps_the_bound_and_wastes_nothing(rate, capacity, share, steps):
    """Whoever comes when: due exactly when an ideal bucket has enough, and never above the bound."""
    level, now, log = Level(rate, capacity, share * capacity), 0.0, []
    for pause, part in steps:
        weight = part * capacity
        ideal = tokens_left(log, rate, capacity, share * capacity, now := now + pause / rate)
        assert level.tokens(now) == pytest.approx(ideal, abs=1e-6)
        now = max(now, level.due(weight))
        assert tokens_left(log, rate, capacity, share * capacity, now) >= weight - 1e-6
        assert level.take(weight, now)
        log.append((now, weight))
    assert excess(log, rate, capacity) < 1e-6


def test_lateness_is_never_lost_while_there_is_room_for_it():
    """Tokens taken late by up to `(capacity - 1) / rate` leave the rate as it was."""
    level = Level(10, 1.5, 0)
    for n in range(1, 1001):
        assert level.due(1) == pytest.approx(n / 10)
        assert level.take(1, level.due(1) + 0.05 * (n % 2))


def test_rounding_does_not_add_up():
    """After a million tokens the next one is due to the nanosecond."""
    level = Level(3, 1, 0)
    for n in range(1, 1_000_001):
        level.take(1, n / 3)
    assert abs(level.due(1) - 1_000_001 / 3) < EARLY


def test_what_is_not_due_is_not_spent():
    """Asked a moment too early it says so, and nothing changes."""
    level = Level(10, 5, 0)
    assert not level.take(1, 0.1 - 2 * EARLY)
    assert level.take(1, 0.1)
    assert (level.tokens(0.1), level.served) == (0, 1)


def test_what_is_given_back_at_once_costs_nothing():
    """As if it had never been spent."""
    level = Level(10, 5, 5)
    level.take(4, 1.0)
    level.give_back(4, 1.0, 1.0)
    assert level.tokens(1.0) == 5


def test_what_is_given_back_late_never_makes_a_burst():
    """It may have been full since: what would have been lost then is not given back."""
    level = Level(10, 5, 5)
    level.take(4, 0.0)
    level.take(4, 0.3)
    level.give_back(4, 0.0, 0.3)
    assert excess([(0.3, 4), (0.3, level.tokens(0.3))], 10, 5) <= 0
