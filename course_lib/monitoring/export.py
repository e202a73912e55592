"""A report as other programs read it: spans as a trace file, figures as Prometheus text.

The trace file is what the Perfetto viewer (https://ui.perfetto.dev) opens. Its format: "Trace Event
Format" of Chrome's tracing, JSON object form: complete events (`"ph": "X"`) with start and duration
in microseconds, and metadata events (`"ph": "M"`) that name processes and lanes.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from course_lib.monitoring.histogram import Distribution
    from course_lib.monitoring.report import Report, Span

__all__ = ["to_chrome_trace", "to_json_lines", "to_prometheus", "write_trace"]

MICRO = 1_000_000
NANOSECONDS = 3  # decimals of a microsecond
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets that Prometheus is given, in seconds."""
TEXTS = {
    "service": "Seconds from start to end of a step.",
    "wait": "Seconds from the planned start to the start of a step.",
    "first_token": "Seconds from the start of a stream to its first token.",
}


def to_chrome_trace(report: Report) -> dict[str, Any]:
    """Return the spans in the trace event format.

    The viewer draws a lane for each thread, in which events may lie within each other, but must not
    overlap otherwise. Calls of one event loop do overlap. So each outermost call gets the first
    lane that is free, and the calls in it are drawn beneath it, as far as they fit: those that ran
    side by side with another one get a lane of their own. A call's wait before its start is given
    among its arguments.

    Returns:
        JSON values: write them with `write_trace`.
    """
    events: list[dict[str, Any]] = []
    by_process: dict[int, list[Span]] = defaultdict(list)
    for span in report.spans:
        by_process[span.process].append(span)
    for process, spans in by_process.items():
        lanes = _lanes(spans)
        events.append(_metadata("process_name", process, 0, f"process {process}"))
        events += [
            _metadata("thread_name", process, lane, f"lane {lane}")
            for lane in sorted(set(lanes.values()))
        ]
        events += [_event(span, lanes[span.id], report.started) for span in spans]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"dropped_spans": report.dropped_spans},
    }


def write_trace(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the spans to a trace file, to be opened at https://ui.perfetto.dev.

    The viewer reads the file in the browser; it is sent nowhere.

    Args:
        report: What a monitor saw.
        path: Of the file, by convention ending in `.json`; one that is there is replaced.

    Returns:
        The path.

    Raises:
        OSError: It cannot be written.
    """
    file = Path(path)
    file.write_text(json.dumps(to_chrome_trace(report)), encoding="utf-8")
    return file


def to_json_lines(report: Report) -> str:
    """Return the spans as JSON lines: one object a line, in the order of their ends."""
    return "".join(json.dumps(span.to_dict()) + "\n" for span in report.spans)


def to_prometheus(report: Report, *, prefix: str = "pipeline") -> str:
    """Return a report in Prometheus' text exposition format, made by prometheus-client.

    Durations are histograms, since Prometheus can add those up over processes, which it cannot with
    quantiles. A bucket's count is exact to the width of the monitor's own buckets (0.5 %). For each
    step, with the label `step`:

    - `<prefix>_service_seconds`, `<prefix>_wait_seconds`, `<prefix>_first_token_seconds`: histograms;
    - `<prefix>_calls_total` with the label `outcome`: counters;
    - `<prefix>_rejected_total`: a counter of the calls answered 429, which are among the errors;
    - `<prefix>_in_flight`: gauge.

    Args:
        report: What a monitor saw.
        prefix: What the names begin with: letters, digits and underscores.

    Raises:
        ValueError: The prefix is no name, or begins with a digit.
    """
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - used here only

    # Newer versions of Prometheus take any name, older ones do not.
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", prefix):
        raise ValueError(f"prefix={prefix!r}: give letters, digits and underscores: 'pipeline'")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report, prefix))
    return generate_latest(registry).decode()


def _metadata(name: str, process: int, lane: int, value: str) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": process, "tid": lane, "args": {"name": value}}


def _event(span: Span, lane: int, first: float) -> dict[str, Any]:
    start = round((span.start - first) * MICRO, NANOSECONDS)
    end = round((span.end - first) * MICRO, NANOSECONDS)
    return {
        "name": span.name,
        "cat": span.outcome,
        "ph": "X",
        "ts": start,
        "dur": round(end - start, NANOSECONDS),
        "pid": span.process,
        "tid": lane,
        "args": {
            "outcome": span.outcome,
            "wait_ms": round(span.wait * 1000, 6),
            "id": span.id,
            "parent": span.parent,
            "thread": span.thread,
        },
    }


def _lanes(spans: Sequence[Span]) -> Mapping[int, int]:
    """Return for each call, by id, a lane from 1 in which it overlaps none that it is not within."""
    placed: dict[int, int] = {}
    under_way: dict[int, list[Span]] = {}  # by lane: calls within each other, outermost first
    taken: list[tuple[float, int]] = []  # end of the outermost call, lane
    free: list[int] = []
    # What begins at one moment comes in the order of nesting.
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.id)):
        while taken and taken[0][0] <= span.start:
            heapq.heappush(free, heapq.heappop(taken)[1])
        lane = placed.get(span.parent, 0) if span.parent is not None else 0
        if not (lane and _fits(under_way[lane], span)):
            lane = heapq.heappop(free) if free else len(under_way) + 1
            under_way[lane] = []
            heapq.heappush(taken, (span.end, lane))
        under_way[lane].append(span)
        placed[span.id] = lane
    return placed


def _fits(calls: list[Span], span: Span) -> bool:
    """Whether a call lies within its parent in that one's lane, with none beside it."""
    while calls and calls[-1].end <= span.start and calls[-1].id != span.parent:
        calls.pop()
    return bool(calls) and calls[-1].id == span.parent and span.end <= calls[-1].end


class _Collector:
    """Hands a report to prometheus-client."""

    def __init__(self, report: Report, prefix: str) -> None:
        self._report = report
        self._prefix = prefix

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on the report."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        from prometheus_client.core import (  # noqa: PLC0415 - see above
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        steps = self._report.steps.values()
        for name, text in TEXTS.items():
            family = HistogramMetricFamily(f"{self._prefix}_{name}_seconds", text, labels=["step"])
            for step in steps:
                values: Distribution | None = getattr(step, name)
                if values is not None:
                    family.add_metric([step.name], _buckets(values), values.total)
            yield family
        calls = CounterMetricFamily(
            f"{self._prefix}_calls", "Calls that ended.", labels=["step", "outcome"]
        )
        rejected = CounterMetricFamily(
            f"{self._prefix}_rejected", "Calls that a provider answered 429.", labels=["step"]
        )
        in_flight = GaugeMetricFamily(
            f"{self._prefix}_in_flight",
            "Calls in flight when the report was made.",
            labels=["step"],
        )
        for step in steps:
            calls.add_metric([step.name, "ok"], step.succeeded)
            calls.add_metric([step.name, "error"], step.errors)
            calls.add_metric([step.name, "cancelled"], step.cancelled)
            rejected.add_metric([step.name], step.rejected)
            in_flight.add_metric([step.name], step.in_flight)
        yield calls
        yield rejected
        yield in_flight


def _buckets(values: Distribution) -> list[tuple[str, float]]:
    """Return the counts up to each bound, that of all durations last."""
    counts = [0] * len(BOUNDS)
    for bucket in values.buckets():
        middle = (bucket.lower + bucket.upper) / 2
        for index, bound in enumerate(BOUNDS):
            if middle <= bound:
                counts[index] += bucket.count
    return [
        *((str(b), float(n)) for b, n in zip(BOUNDS, counts, strict=True)),
        ("+Inf", values.count),
    ]
