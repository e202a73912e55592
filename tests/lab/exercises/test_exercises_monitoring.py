"""Notebook 5: what its graders compute, and what their cards show."""

import pytest
from answers_monitoring import FAR_OFF, largest_mean_of_a_step, percentile, stops_at_an_empty_one
from exercise_support import card

from course_lib.lab.exercises.monitoring.merged_p99 import dashboard
from course_lib.lab.exercises.monitoring.to_mend import NETWORKS, effect_of, report_of
from course_lib.monitoring import bottleneck


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_network_shows_what_its_report_says(network):
    """What more slots change, as simulated, agrees with the formula and with the library, without a tie."""
    effect = effect_of(network)
    rates = {name: slots / each for name, (each, slots) in network.steps.items() if slots}
    smallest = min(rates, key=rates.get, default=None)
    keeps_up = smallest is None or rates[smallest] >= network.rate
    assert effect.limiting == (None if keeps_up else smallest)
    assert bottleneck(report_of(network)).step == effect.limiting
    best, *others = sorted(effect.doubled.values())
    if effect.limiting is None:
        assert best == pytest.approx(effect.seconds)
    else:
        assert best < 0.97 * effect.seconds
        assert others == pytest.approx([effect.seconds] * len(others))


def test_the_card_shows_what_more_slots_change():
    """For the step that was named, beside the best of the others."""
    wrong = repr(card("5.3", largest_mean_of_a_step))
    assert "5.45 s, 5.45 s, 4.85 s (wanted: the second the least)" in wrong


def test_what_was_right_before_an_error_stays_on_the_card():
    """Where a process has recorded nothing."""
    assert "✔ p95 of three processes" in repr(card("5.2", stops_at_an_empty_one))


def test_the_faulty_dashboard_is_right_for_one_process_and_wrong_for_two():
    """A fault that a test with one process does not show."""
    assert dashboard(FAR_OFF[:1], 0.99) == percentile(FAR_OFF[:1], 0.99)
    assert dashboard(FAR_OFF, 0.99) < percentile(FAR_OFF, 0.99) / 2
