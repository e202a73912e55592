"""Notebook 5: what its graders compute, and what their cards show."""

import pytest
from answers_monitoring import WRONG, limiting, longest, stops_at_an_empty_one
from exercise_support import card, wrong_answers

from course_lib.lab.exercises.monitoring.limiting import NETWORKS, effect_of


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_network_shows_what_the_capacities_say(network):
    """What more slots change, as simulated, agrees with the formula, without a tie."""
    effect = effect_of(network)
    assert effect.limiting == limiting(network.steps, network.rate)
    best, *others = sorted(effect.doubled.values())
    if effect.limiting is None:
        assert best == pytest.approx(effect.seconds)
    else:
        assert best < 0.9 * effect.seconds
        assert others == pytest.approx([effect.seconds] * len(others))


def test_the_card_shows_what_more_slots_change():
    """For the step that was named, beside the best of the others."""
    wrong = repr(card("5.3", longest))
    assert "11.51 s, 11.51 s, 9.52 s (wanted: the second the least)" in wrong


def test_what_was_right_before_an_error_stays_on_the_card():
    """Where a step has no limit, or a process has recorded nothing."""
    stops_at_none = wrong_answers(WRONG)["5.3"]["stops_at_none"]
    assert "✔ three that do not keep up" in repr(card("5.3", stops_at_none.function))
    assert "✔ p95 of three processes" in repr(card("5.2", stops_at_an_empty_one))
