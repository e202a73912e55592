import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitoring_support import SetClock

from course_lib.errors import RateLimited
from course_lib.monitoring import PerformanceMonitor, Report

CALLS = st.lists(
    st.tuples(
        st.sampled_from(["retrieve", "rerank", "generate"]),
        st.floats(0, 100),
        st.sampled_from([0.0, 0.25, 3.0]),
        st.sampled_from(["ok", "ok", "error", "cancelled"]),
    ),
    max_size=40,
)


def recorded(calls, clock=None, **options):
    clock = clock or SetClock()
    monitor = PerformanceMonitor(timer=clock, **options)
    for name, duration, wait, outcome in calls:
        clock.advance(1.0)
        monitor.record(name, duration, wait=wait, outcome=outcome)
    return monitor.report()


def small():
    return recorded([("retrieve", 0.5, 0.0, "ok"), ("rerank", 0.25, 0.125, "error")])


@given(CALLS)
def test_a_report_survives_json(calls):
    """Histograms, spans and all figures are the same on the other side."""
    report = recorded(calls)
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@given(CALLS, CALLS)
def test_merged_reports_count_as_one_monitor_would_have(first, second):
    """On one clock, the merged report has the figures of the whole."""
    clock = SetClock()
    monitors = [PerformanceMonitor(timer=clock) for _ in range(3)]
    for number, calls in enumerate((first, second)):
        for name, duration, wait, outcome in calls:
            clock.advance(1.0)
            for each in (monitors[number], monitors[2]):
                each.record(name, duration, wait=wait, outcome=outcome)
    one, other, whole = (each.report() for each in monitors)
    merged = one.merge(other, same_clock=True)
    assert merged.steps == whole.steps
    assert (merged.started, merged.seconds) == (whole.started, whole.seconds)
    assert len(merged.spans) == len(whole.spans)


def test_processes_side_by_side_add_their_throughput():
    """Their clocks have nothing in common: all start together, and last as long as the longest."""
    clock = SetClock()
    one = recorded([("search", 0.5, 0.0, "ok")] * 10, clock)
    other = recorded([("search", 0.5, 0.0, "ok")] * 20, clock)
    merged = one.merge(other)
    assert (one.seconds, other.seconds, merged.seconds) == (9.5, 19.5, 19.5)
    assert merged["search"].count == 30
    assert merged["search"].throughput == 30 / 19.5
    assert merged["search"].mean_in_flight == 15 / 19.5
    assert min(span.start for span in merged.spans) == merged.started == one.started


def test_merged_percentiles_are_those_of_all_calls():
    """Not an average of percentiles: 99 fast calls here and one slow there have a p95 of 0.1 s."""
    one = recorded([("search", 0.1, 0.0, "ok")] * 99)
    other = recorded([("search", 10.0, 0.0, "ok")])
    assert one.merge(other)["search"].p95 == pytest.approx(0.1, rel=0.005)


def test_merged_spans_keep_their_parents():
    """Numbers are given anew, so that no two calls share one."""
    reports = []
    for _ in range(3):
        monitor = PerformanceMonitor(timer=SetClock())
        with monitor.measure("outer"), monitor.measure("inner"):
            pass
        reports.append(monitor.report())
    merged = reports[0].merge(*reports[1:])
    spans = {span.id: span for span in merged.spans}
    assert len(spans) == 6
    parents = [spans[span.parent].name for span in merged.spans if span.name == "inner"]
    assert parents == ["outer"] * 3
    assert len({span.parent for span in merged.spans}) == 4


def test_rejections_add_up_and_survive_json():
    """As all counts do."""
    monitor = PerformanceMonitor(timer=SetClock())
    with suppress(RateLimited), monitor.measure("search"):
        raise RateLimited("429")
    report = monitor.report()
    merged = report.merge(Report.from_dict(report.to_dict()))
    assert (merged["search"].count, merged["search"].errors, merged["search"].rejected) == (2, 2, 2)


def test_merging_nothing_changes_nothing():
    """A report alone, or with one in which nothing happened."""
    empty = PerformanceMonitor(timer=SetClock()).report()
    assert small().merge() == small()
    assert small().merge(empty).steps == small().steps
    assert small().merge(empty, same_clock=True).seconds == small().seconds
    assert empty.merge(small()).steps == small().steps


def test_a_step_has_all_its_figures():
    """Of three calls, one failed and one was cancelled, in the four seconds observed."""
    report = recorded(
        [
            ("search", 1.0, 0.0, "ok"),
            ("search", 2.0, 0.5, "error"),
            ("search", 3.0, 0.0, "cancelled"),
        ]
    )
    step = report["search"]
    assert (step.count, step.succeeded, step.errors, step.cancelled) == (3, 1, 1, 1)
    assert (step.total, step.mean, step.average) == (6.0, 2.0, 2.0)
    assert (step.minimum, step.maximum) == (1.0, 3.0)
    assert step.p50 == pytest.approx(2.0, rel=0.005)
    assert (step.p95, step.p99) == (3.0, 3.0)
    assert (step.wait.total, step.wait.count, step.response.maximum) == (0.5, 3, 3.0)
    assert step.response.total == 6.5
    assert step.first_token is None
    assert (report.started, report.seconds) == (-0.5, 3.5)
    assert (step.throughput, step.mean_in_flight) == (3 / 3.5, 6 / 3.5)


def test_a_response_is_the_wait_and_the_service():
    """Also of calls before the first that had to wait."""
    step = recorded([("a", 1.0, 0.0, "ok"), ("a", 1.0, 2.0, "ok"), ("a", 1.0, 0.0, "ok")])["a"]
    assert (step.response.minimum, step.response.maximum, step.response.count) == (1.0, 3.0, 3)
    assert (step.wait.minimum, step.wait.maximum, step.wait.count) == (0.0, 2.0, 3)
    assert step.service.maximum == 1.0


def test_without_waits_response_equals_service():
    """And every wait is 0."""
    step = recorded([("a", 1.0, 0.0, "ok")] * 3)["a"]
    assert step.response == step.service
    assert (step.wait.count, step.wait.maximum) == (3, 0.0)


def test_steps_come_in_the_order_of_their_appearance():
    """By name, by iteration, by membership."""
    report = recorded([("b", 1.0, 0.0, "ok"), ("a", 1.0, 0.0, "ok"), ("b", 1.0, 0.0, "ok")])
    assert list(report) == list(report.steps) == ["b", "a"]
    assert len(report) == 2
    assert "a" in report
    assert "c" not in report


def test_an_unknown_step_is_refused_with_those_there_are():
    """A misspelt name is found at once."""
    with pytest.raises(KeyError, match="no step 'retrive' in this report: there are 'retrieve'"):
        small()["retrive"]


def test_a_report_is_a_table():
    """One line a step, in columns, with units."""
    report = recorded(
        [("retrieve", 0.5, 0.0, "ok"), ("rerank", 0.0025, 0.25, "error")] * 2, SetClock()
    )
    assert str(report).splitlines() == [
        "step      calls  errors  cancelled    mean     p50     p95     p99     max  wait p99  throughput  in flight",
        "retrieve      2       0          0  500 ms  500 ms  500 ms  500 ms  500 ms      0 µs     0.571/s      0.286",
        "rerank        2       2          0  2.5 ms  2.5 ms  2.5 ms  2.5 ms  2.5 ms    250 ms     0.571/s    0.00143",
    ]


def test_a_report_is_an_html_table():
    """Names are escaped: they may come from anywhere."""
    html = recorded([("<script>", 0.5, 0.0, "ok")])._repr_html_()
    assert html.startswith("<table><thead><tr><th")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "500 ms" in html


def test_a_report_of_nothing_says_so():
    """No step, no time, no error."""
    report = PerformanceMonitor().report()
    assert (len(report), report.seconds, report.spans) == (0, 0.0, ())
    assert str(report) == "<Report: nothing recorded>"
    assert report._repr_html_().endswith("<tbody></tbody></table>")


def test_without_time_observed_there_is_no_rate():
    """One call that took no time: nan, not a division by zero."""
    step = recorded([("a", 0.0, 0.0, "ok")])["a"]
    assert math.isnan(step.throughput)
    assert math.isnan(step.mean_in_flight)
    assert "-/s" in str(recorded([("a", 0.0, 0.0, "ok")]))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": None},
        {"steps": [{}]},
        {"spans": [{"name": "a"}]},
        {"spans": [{"name": "a", "start": 2.0, "end": 1.0}]},
        {"spans": [{"name": "a", "start": "1", "end": "2"}]},
        {"spans": [{"name": "a", "start": 1.0, "end": 2.0, "outcome": "fine"}]},
        {"surprise": 1},
    ],
    ids=str,
)
def test_values_that_no_report_has_are_refused(change):
    """The message says where to get them."""
    with pytest.raises(ValueError, match="pass what `to_dict` returned"):
        Report.from_dict({**small().to_dict(), **change})


def test_a_negative_count_is_refused():
    """Counts of a step are whole numbers from 0."""
    state = small().to_dict()
    state["steps"][0]["errors"] = -1
    with pytest.raises(ValueError, match="errors=-1 of step 'retrieve' is no count"):
        Report.from_dict(state)


def test_reports_and_steps_do_not_change():
    """They are frozen, and the monitor goes on without them."""
    clock = SetClock()
    monitor = PerformanceMonitor(timer=clock)
    monitor.record("a", 1.0)
    report = monitor.report()
    before = report.to_dict()
    monitor.record("a", 5.0, wait=1.0)
    assert report.to_dict() == before
    with pytest.raises(AttributeError):
        report["a"].errors = 7
