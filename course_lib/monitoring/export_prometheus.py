"""A report in the text format that Prometheus reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from course_lib.monitoring.histogram import Distribution
    from course_lib.monitoring.report import Report

__all__ = ["BOUNDS", "to_prometheus"]

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets, in seconds."""

NAMES = {
    "service": "Seconds from start to end of a step.",
    "wait": "Seconds from the planned start to the start of a step.",
    "first_token": "Seconds from the start of a stream to its first token.",
}


def to_prometheus(report: Report, *, prefix: str = "pipeline") -> str:
    """Return a report in Prometheus' text exposition format, made by prometheus-client.

    Durations are histograms, since Prometheus can add those up over processes, which it cannot with
    quantiles. A bucket's count is exact to the width of the monitor's own buckets (0.5 %). For each
    step, with the label `step`:

    - `<prefix>_service_seconds`, `<prefix>_wait_seconds`, `<prefix>_first_token_seconds`: histograms;
    - `<prefix>_calls_total` with the label `outcome`: counters;
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
        for name, text in NAMES.items():
            family = HistogramMetricFamily(f"{self._prefix}_{name}_seconds", text, labels=["step"])
            for step in steps:
                values: Distribution | None = getattr(step, name)
                if values is not None:
                    family.add_metric([step.name], _buckets(values), values.total)
            yield family
        calls = CounterMetricFamily(
            f"{self._prefix}_calls", "Calls that ended.", labels=["step", "outcome"]
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
            in_flight.add_metric([step.name], step.in_flight)
        yield calls
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
