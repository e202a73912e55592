"""Spans as a trace file, which the Perfetto viewer (https://ui.perfetto.dev) opens.

Format: "Trace Event Format" of Chrome's tracing, JSON object form: complete events (`"ph": "X"`) with
start and duration in microseconds, and metadata events (`"ph": "M"`) that name processes and lanes.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from course_lib.monitoring.report import Report, Span

__all__ = ["to_chrome_trace", "to_json_lines", "write_trace"]

MICRO = 1_000_000
NANOSECONDS = 3  # decimals of a microsecond


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
