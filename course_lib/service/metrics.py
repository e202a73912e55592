"""The ledger's counts in Prometheus' text format."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from course_lib.service.ledger import Ledger, Recorder

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["exposition"]


async def exposition(recorder: Recorder) -> tuple[bytes, str]:
    """Return the text and its content type.

    The counts begin again with each reset of the ledger, which Prometheus takes for a restart.
    """
    ledger = recorder.ledger(last=0)
    # In a thread: the first time, the import takes longer than many requests.
    return await asyncio.to_thread(_render, ledger, recorder.in_flight, recorder.seconds)


def _render(ledger: Ledger, in_flight: int, seconds: float) -> tuple[bytes, str]:
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - slow to import
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Counts(Collector):
        def collect(self) -> Iterator["Metric"]:
            return _families(ledger, in_flight, seconds)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Counts())
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _families(ledger: Ledger, in_flight: int, seconds: float) -> Iterator["Metric"]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        SummaryMetricFamily,
    )

    outcomes = CounterMetricFamily("provider_requests", "Finished requests.", labels=["outcome"])
    for outcome in ("answered", "rejected", "errors", "dropped"):
        outcomes.add_metric([outcome], getattr(ledger, outcome))
    yield outcomes
    yield CounterMetricFamily(
        "provider_connections", "Connections that carried a request.", ledger.connections
    )
    yield GaugeMetricFamily("provider_in_flight", "Accepted, not yet answered.", in_flight)
    finished = ledger.answered + ledger.rejected + ledger.errors + ledger.dropped
    yield SummaryMetricFamily(
        "provider_request_seconds", "From arrival to end.", count_value=finished, sum_value=seconds
    )
