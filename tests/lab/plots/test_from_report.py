"""A monitor's report feeds the pictures."""

import pytest

from course_lib.lab import plots
from course_lib.monitoring import PerformanceMonitor


def report():
    """Three calls of one step, one of them failed, and one of another."""
    now = [0.0]
    monitor = PerformanceMonitor(timer=lambda: now[0])
    for seconds, outcome in ((1.0, "ok"), (2.0, "error"), (3.0, "cancelled")):
        now[0] += seconds
        monitor.record("search", seconds, wait=0.5, outcome=outcome)
    monitor.record("answer", 0.0)
    return monitor.report()


def test_a_timeline_shows_the_calls_of_a_step():
    """What failed or was cancelled got no good answer."""
    calls = plots.calls_of(report(), "search")
    assert [(call.start, call.end) for call in calls] == [(0.0, 1.0), (1.0, 3.0), (3.0, 6.0)]
    alt = plots.timeline(calls).alt
    assert "3 calls in 6.00 s" in alt
    assert "2 of them got no good answer" in alt


def test_percentiles_come_from_the_histograms():
    """As many durations as there were calls, also of those whose spans are gone."""
    found = plots.durations_of(report())
    assert found["search"] == pytest.approx([1.5, 2.5, 3.5], rel=0.005)
    assert found["answer"] == [0.0]
    assert "search 3" in plots.percentiles(found).alt


def test_times_and_steps_may_be_chosen():
    """The wait alone, of one step."""
    assert plots.durations_of(report(), steps=["search"], of="wait") == {
        "search": pytest.approx([0.5] * 3, rel=0.005)
    }


@pytest.mark.parametrize(
    "ask", [lambda r: plots.calls_of(r, "x"), lambda r: plots.durations_of(r, steps=["x"])]
)
def test_an_unknown_step_is_refused(ask):
    """With those that there are."""
    with pytest.raises(KeyError, match="no step 'x' in this report"):
        ask(report())
