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


def test_percentiles_come_from_the_histograms():
    """As many durations as there were calls, also of those whose spans are gone."""
    found = plots.durations_of(report())
    assert found["search"] == pytest.approx([1.5, 2.5, 3.5], rel=0.005)
    assert found["answer"] == [0.0]
    assert "search 3" in plots.percentiles(found).alt


def test_a_time_may_be_chosen():
    """The wait alone; a step that never waited is there as well."""
    found = plots.durations_of(report(), of="wait")
    assert found == {"search": pytest.approx([0.5] * 3, rel=0.005), "answer": [0.0]}
