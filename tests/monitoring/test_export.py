"""What other programs read: Prometheus text, a trace file, JSON lines."""

import asyncio
import json
from contextlib import suppress

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_support import CHAIN, batch, run
from prometheus_client.parser import text_string_to_metric_families

from course_lib.errors import RateLimited
from course_lib.lab import simulate
from course_lib.monitoring.export import to_chrome_trace, to_json_lines, to_prometheus, write_trace
from course_lib.monitoring.monitor import PerformanceMonitor
from course_lib.monitoring.report import Report, Span

NUMBER, TEXT = {"type": "number", "minimum": 0}, {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
TRACE = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    {
                        "required": ["name", "cat", "ph", "ts", "dur", "pid", "tid"],
                        "additionalProperties": False,
                        "properties": {
                            "name": TEXT, "cat": TEXT, "ph": {"const": "X"}, "ts": NUMBER,
                            "dur": NUMBER, "pid": WHOLE, "tid": WHOLE, "args": {"type": "object"},
                        },
                    },
                    {
                        "required": ["name", "ph", "pid", "args"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"enum": ["process_name", "thread_name"]}, "ph": {"const": "M"},
                            "pid": WHOLE, "tid": WHOLE,
                            "args": {"type": "object", "required": ["name"],
                                     "properties": {"name": TEXT}},
                        },
                    },
                ]
            },
        },
    },
}  # fmt: skip
"""The part of the trace event format that is used: complete events, and names of lanes."""


def report_of(*spans):
    return Report({}, 10.0, 0.0, tuple(spans))


def complete(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def assert_drawable(trace):
    """In one lane, events lie apart or within each other, as the viewer demands."""
    lanes = {}
    for event in complete(trace):
        lanes.setdefault((event["pid"], event["tid"]), []).append(event)
    for events in lanes.values():
        stack = []
        for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
            end = event["ts"] + event["dur"]
            while stack and stack[-1] <= event["ts"] + 1e-6:
                stack.pop()
            assert not stack or end <= stack[-1] + 1e-6
            stack.append(end)


def test_a_trace_keeps_to_the_trace_event_format():
    """By a schema written from its description."""
    report, _ = run(CHAIN, batch(30))
    trace = to_chrome_trace(report)
    jsonschema.validate(trace, TRACE)
    assert len(complete(trace)) == len(report.spans) == 120
    assert_drawable(trace)


def test_times_are_microseconds_since_the_beginning():
    """Whatever the monitor's clock showed then."""
    spans = (Span("a", 100.5, 100.75, wait=0.125, id=1, outcome="error", thread="MainThread"),)
    (event,) = complete(to_chrome_trace(Report({}, 1.0, 100.0, spans)))
    assert (event["ts"], event["dur"]) == (500_000, 250_000)
    assert event["cat"] == event["args"]["outcome"] == "error"
    assert event["args"]["wait_ms"] == 125
    assert event["args"]["thread"] == "MainThread"


def test_a_call_is_drawn_beneath_the_one_that_it_ran_in():
    """Two items side by side, each with its steps in its own lane."""
    trace = to_chrome_trace(
        report_of(
            Span("item", 0, 4, id=1), Span("step", 1, 2, id=3, parent=1),
            Span("item", 0, 5, id=2), Span("step", 1, 5, id=4, parent=2),
        )
    )  # fmt: skip
    lanes = {event["args"]["id"]: event["tid"] for event in complete(trace)}
    assert lanes[1] == lanes[3] != lanes[2] == lanes[4]
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"]
    assert names == ["process 0", "lane 1", "lane 2"]


def test_children_side_by_side_do_not_share_a_lane():
    """One is drawn beneath the parent, the other has a lane of its own."""
    trace = to_chrome_trace(
        report_of(
            Span("both", 0, 4, id=1), Span("left", 0, 3, id=2, parent=1),
            Span("right", 1, 4, id=3, parent=1), Span("later", 3, 4, id=4, parent=1),
        )
    )  # fmt: skip
    lanes = {event["name"]: event["tid"] for event in complete(trace)}
    assert lanes == {"both": 1, "left": 1, "right": 2, "later": 1}


@st.composite
def forests(draw):
    """Calls with parents, within them or not."""
    spans = []
    for number in range(1, draw(st.integers(1, 25)) + 1):
        start = draw(st.integers(0, 20))
        end = start + draw(st.integers(0, 10))
        parent = draw(st.none() | st.integers(0, 25))
        spans.append(Span("s", start / 10, end / 10, id=number, parent=parent, process=number % 2))
    return spans


@settings(max_examples=50)
@given(forests())
def test_any_spans_can_be_drawn(spans):
    """Evicted parents, children that outlive theirs, calls that take no time."""
    trace = to_chrome_trace(report_of(*spans))
    jsonschema.validate(trace, TRACE)
    assert len(complete(trace)) == len(spans)
    assert_drawable(trace)


def test_as_few_lanes_as_calls_at_once():
    """A lane is used again when it is free."""
    report, _ = run([CHAIN[2]], ("closed", 40, 5), root=False)
    assert {event["tid"] for event in complete(to_chrome_trace(report))} == {1, 2, 3, 4, 5}


def test_a_trace_file_is_json(tmp_path):
    """With names in any language; written again, it is replaced."""
    spans = report_of(Span("étape 步骤", 0.0, 1.0, id=1))
    path = write_trace(spans, tmp_path / "trace.json")
    assert write_trace(spans, str(path)) == path
    assert json.loads(path.read_text(encoding="utf-8")) == to_chrome_trace(spans)


def test_json_lines_give_the_spans_back():
    """One a line."""
    report, _ = run(CHAIN, batch(5))
    lines = to_json_lines(report).splitlines()
    assert tuple(Span.from_dict(json.loads(line)) for line in lines) == report.spans


def test_without_spans_there_is_an_empty_trace():
    """And no line."""
    jsonschema.validate(to_chrome_trace(report_of()), TRACE)
    assert to_json_lines(report_of()) == ""


async def some_calls():
    monitor = PerformanceMonitor()
    for milliseconds in (1, 20, 20, 300):
        with monitor.measure("search"):
            await asyncio.sleep(milliseconds / 1000)
    monitor.record("search", 0.02, wait=3.0, outcome="error")
    with suppress(RateLimited), monitor.measure("ask"):
        raise RateLimited("429")
    monitor.record('a "name"\\ with\nmore', 0.5, outcome="cancelled")
    return monitor.report()


def families(report, **options):
    return {
        each.name: each for each in text_string_to_metric_families(to_prometheus(report, **options))
    }


def value(family, suffix, **labels):
    (found,) = [
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    ]
    return found


def test_prometheus_reads_what_is_written():
    """Parsed by its own client: histograms, counters, a gauge."""
    report = simulate(some_calls).value
    found = families(report)
    service = found["pipeline_service_seconds"]
    assert service.type == "histogram"
    assert value(service, "_count", step="search") == 5
    assert value(service, "_sum", step="search") == pytest.approx(report["search"].total)
    assert value(service, "_bucket", step="search", le="0.025") == 4
    assert value(service, "_bucket", step="search", le="0.25") == 4
    assert value(service, "_bucket", step="search", le="+Inf") == 5
    assert value(found["pipeline_wait_seconds"], "_bucket", step="search", le="2.5") == 4
    calls = found["pipeline_calls"]
    assert calls.type == "counter"
    assert value(calls, "_total", step="search", outcome="ok") == 4
    assert value(calls, "_total", step="search", outcome="error") == 1
    assert value(found["pipeline_in_flight"], "", step="search") == 0
    assert found["pipeline_rejected"].type == "counter"
    assert value(found["pipeline_rejected"], "_total", step="ask") == 1
    assert value(found["pipeline_rejected"], "_total", step="search") == 0


def test_any_name_of_a_step_survives():
    """Quotes, backslashes and line breaks are escaped."""
    found = families(simulate(some_calls).value)
    name = 'a "name"\\ with\nmore'
    assert value(found["pipeline_calls"], "_total", step=name, outcome="cancelled") == 1


def test_buckets_never_fall():
    """As Prometheus demands of a cumulative histogram."""
    report, _ = run(CHAIN, batch(50))
    service = families(report, prefix="rag")["rag_service_seconds"]
    for name in report.steps:
        counts = [
            sample.value
            for sample in service.samples
            if sample.name.endswith("_bucket") and sample.labels["step"] == name
        ]
        assert counts == sorted(counts)
        assert counts[-1] == report[name].count


@pytest.mark.parametrize("prefix", ["", "1", "two words", "é-"])
def test_a_prefix_that_is_no_name_is_refused(prefix):
    """With what one looks like."""
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        to_prometheus(simulate(some_calls).value, prefix=prefix)
