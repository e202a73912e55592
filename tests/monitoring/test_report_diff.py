"""Two reports side by side."""

import math

import pytest

from course_lib.monitoring.monitor import PerformanceMonitor
from course_lib.monitoring.report_diff import diff


def report(steps, seconds=10.0):
    """A report of durations by step, observed for so long."""
    now = [0.0]
    monitor = PerformanceMonitor(timer=lambda: now[0])
    now[0] = 100.0
    with monitor.measure("run"):
        now[0] += seconds
    for name, durations in steps.items():
        for duration in durations:
            monitor.record(name, duration)
    return monitor.report()


BEFORE = report({"search": [1.0, 1.0, 3.0, 3.0], "old": [1.0]})
AFTER = report({"new": [0.1], "search": [0.5, 0.5, 1.5, 1.5]})


def test_a_step_is_set_beside_itself():
    """Each figure as a ratio: half is 0.5."""
    search = diff(BEFORE, AFTER)["search"]
    for figure in ("mean", "p50", "p95", "p99"):
        assert search.ratio(figure) == pytest.approx(0.5, rel=0.01)
    assert search.ratio("throughput") == pytest.approx(1)
    assert search.ratio("errors") == 1


def test_steps_that_came_or_went_are_listed():
    """In the order of the first report, new ones last."""
    both = diff(BEFORE, AFTER)
    assert list(both.steps) == ["run", "search", "old", "new"]
    assert both.came == ("new",)
    assert both.went == ("old",)
    assert math.isnan(both["old"].ratio("mean"))


def test_as_text_it_is_a_table():
    """Both figures and their ratio; a dash where there is none."""
    lines = repr(diff(BEFORE, AFTER)).splitlines()
    assert lines[0].split() == ["step", "mean", "p50", "p95", "p99", "throughput", "errors"]
    assert "2 s → 1 s (0.5x)" in lines[2]
    assert "0.4/s → 0.4/s (1x)" in lines[2]
    assert lines[2].endswith("0 → 0")
    assert "1 s → -" in lines[3]
    assert "- → 100 ms" in lines[4]


def test_in_a_notebook_it_is_a_table():
    """Names are escaped."""
    html = diff(BEFORE, report({"<b>": [1.0]}))._repr_html_()
    assert html.startswith("<table>")
    assert "&lt;b&gt;" in html
    assert html.count("<tr>") == 5


def test_errors_out_of_none_are_infinitely_more():
    """And no ratio is shown for them."""
    monitor = PerformanceMonitor()
    monitor.record("search", 1.0, outcome="error")
    assert diff(BEFORE, monitor.report())["search"].ratio("errors") == math.inf


def test_what_is_not_there_is_refused_with_what_is():
    """Steps and figures."""
    with pytest.raises(
        KeyError, match="no step 'sear' in either report: there are 'run', 'search'"
    ):
        diff(BEFORE, AFTER)["sear"]
    with pytest.raises(ValueError, match="figure='p90': choose from mean"):
        diff(BEFORE, AFTER)["search"].ratio("p90")
