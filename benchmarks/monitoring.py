"""What it costs to be watched: a record, a call of a Runnable, and memory after 10 million calls.

The bound of a record is `list.append`, which forgets nothing and so has no bound of memory. Handlers
are given by `config={"callbacks": [...]}` to a Runnable that does nothing; what is shown is the time
of a call with the handler, less that of one without.
"""

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from course_lib.monitoring import Histogram, PerformanceMonitor

try:
    from hdrh.histogram import HdrHistogram
except ImportError:  # it has no wheels for some platforms
    HdrHistogram = None

RECORDS = 10_000
CALLS = 100
ROUNDS = 50  # short ones, of which the best is shown: what disturbs a measurement only adds to it
AFFORDABLE = 25
"""Microseconds that the monitor may add to a call of a Runnable."""
TEN_MILLION = 10_000_000
KEPT = 200_000  # calls after which memory is looked at
ENOUGH = 20_000  # calls after which the monitor's memory no longer grows
COLLECTED = 2_000  # calls that the collector keeps
MEBIBYTE = 2**20
SOURCE = random.Random(5)
DURATIONS = [SOURCE.lognormvariate(-2, 1) for _ in range(10_000)]


def hdr_recorder() -> Callable[[float], Any]:
    histogram = HdrHistogram(1, 3_600_000_000, 2)  # microseconds, two figures
    return lambda seconds: histogram.record_value(int(seconds * 1e6))


def measured(monitor: PerformanceMonitor) -> Callable[[float], Any]:
    def record(_: float) -> None:
        with monitor.measure("step"):
            pass

    return record


def spanned() -> Callable[[float], Any]:
    """Return what starts and ends a span of OpenTelemetry's SDK that nobody exports."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")

    def record(_: float) -> None:
        with tracer.start_as_current_span("step"):
            pass

    return record


def prometheus() -> Callable[[float], Any]:
    histogram = PrometheusHistogram("step", "of a chain", registry=CollectorRegistry())
    return histogram.observe


def recorders() -> dict[str, Callable[[float], Any]]:
    """Return, by name, what takes one duration; each is fresh."""
    monitor, kept = PerformanceMonitor(), PerformanceMonitor()
    found: dict[str, Callable[[float], Any]] = {
        "list.append (the bound)": [].append,
        "Histogram.record": Histogram().record,
        "monitor.record": lambda seconds: monitor.record("step", seconds),
        "monitor.measure": measured(kept),
        "Prometheus histogram": prometheus(),
        "OpenTelemetry span": spanned(),
    }
    if HdrHistogram is not None:
        found["HdrHistogram"] = hdr_recorder()
    return found


def cost_of_record(record: Callable[[float], Any]) -> float:
    """Return the microseconds of one record, in a loop that costs nothing to speak of."""
    durations = DURATIONS * (RECORDS // len(DURATIONS))
    start = time.perf_counter()
    for seconds in durations:
        record(seconds)
    return (time.perf_counter() - start) / RECORDS * 1e6


def records() -> None:
    """Print what a record costs."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, record in recorders().items():
            best[name] = min(best.get(name, float("inf")), cost_of_record(record))
    print(f"{'µs a record':<34}")
    for name, cost in best.items():
        print(f"{name:<34}{cost:9.2f}")


class Plain:
    """Keeps the durations of runs by name, as usually written."""

    def __init__(self) -> None:
        self.starts: dict[UUID, tuple[str, float]] = {}
        self.durations: dict[str, list[float]] = {}

    def begin(self, run: UUID, name: str) -> None:
        """Note when a run began."""
        self.starts[run] = name, time.perf_counter()

    def end(self, run: UUID) -> None:
        """Keep how long it took."""
        name, start = self.starts.pop(run)
        self.durations.setdefault(name, []).append(time.perf_counter() - start)


class SyncHandler(BaseCallbackHandler):
    """Called in the loop's thread pool: two hops a call."""

    def __init__(self) -> None:
        self.plain = Plain()

    def on_chain_start(self, *_: Any, run_id: UUID, name: str = "", **__: Any) -> None:
        """See `Plain`."""
        self.plain.begin(run_id, name)

    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """See `Plain`."""
        self.plain.end(run_id)


class InlineHandler(SyncHandler):
    """The same, called where the step runs."""

    run_inline = True


class AsyncHandler(AsyncCallbackHandler):
    """The same, as coroutines."""

    def __init__(self) -> None:
        self.plain = Plain()

    async def on_chain_start(self, *_: Any, run_id: UUID, name: str = "", **__: Any) -> None:
        """See `Plain`."""
        self.plain.begin(run_id, name)

    async def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """See `Plain`."""
        self.plain.end(run_id)


class SpanHandler(BaseCallbackHandler):
    """Makes a span of OpenTelemetry of each run."""

    run_inline = True

    def __init__(self) -> None:
        self.tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")
        self.spans: dict[UUID, Any] = {}

    def on_chain_start(self, *_: Any, run_id: UUID, name: str = "", **__: Any) -> None:
        """Start a span."""
        self.spans[run_id] = self.tracer.start_span(name)

    def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """End it."""
        self.spans.pop(run_id).end()


HANDLERS: dict[str, Callable[[], Any]] = {
    "no handler": lambda: None,
    "monitor.callback": lambda: PerformanceMonitor().callback,
    "plain handler, inline": InlineHandler,
    "plain handler, async": AsyncHandler,
    "plain handler, sync": SyncHandler,
    "RunCollectorCallbackHandler": RunCollectorCallbackHandler,
    "OpenTelemetry spans, inline": SpanHandler,
}


async def answer(question: str) -> str:
    return question


STEP = RunnableLambda(answer)


async def cost_of_call(handler: Any) -> float:
    """Return the microseconds of one call of a Runnable that does nothing."""
    config = {"callbacks": [handler]} if handler else {}
    start = time.perf_counter()
    for _ in range(CALLS):
        await STEP.ainvoke("why?", config=config)
    return (time.perf_counter() - start) / CALLS * 1e6


async def calls() -> None:
    """Print what each handler adds to a call."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, make in HANDLERS.items():
            gc.collect()  # what the last one kept is not this one's cost
            best[name] = min(best.get(name, float("inf")), await cost_of_call(make()))
    bare = best.pop("no handler")
    print(f"\n{'µs a call of a Runnable':<34}{'added':>9}{'in all':>9}")
    print(f"{'no handler':<34}{0:9.1f}{bare:9.1f}")
    for name, cost in best.items():
        print(f"{name:<34}{cost - bare:9.1f}{cost:9.1f}")
    added = best["monitor.callback"] - bare
    say(f"the monitor adds {added:.0f} µs to a call: at most {AFFORDABLE}", added <= AFFORDABLE)


def memory_of(make: Callable[[], Callable[[float], Any]], count: int) -> int:
    """Return the bytes that are kept after so many calls."""
    gc.collect()
    tracemalloc.start()
    record = make()
    for number in range(count):
        record(DURATIONS[number % len(DURATIONS)] * (1 + number / count))
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept


def repeated() -> Callable[[float], Any]:
    histogram = Histogram()
    return lambda seconds: histogram.record(seconds, TEN_MILLION // KEPT)


def repeated_hdr() -> Callable[[float], Any]:
    histogram = HdrHistogram(1, 3_600_000_000, 2)
    return lambda seconds: histogram.record_value(int(seconds * 1e6), TEN_MILLION // KEPT)


def monitored() -> Callable[[float], Any]:
    monitor = PerformanceMonitor()
    return lambda seconds: monitor.record("step", seconds)


def collected() -> Callable[[float], Any]:
    collector = RunCollectorCallbackHandler()
    config: Any = {"callbacks": [collector]}
    step = RunnableLambda(lambda seconds: seconds)
    return lambda seconds: step.invoke(seconds, config=config)


def memory() -> None:
    """Print what is kept after 10 million calls, and whether the monitor's memory stands still.

    The histograms take each of 200,000 durations fifty times. The monitor takes 200,000 calls, and
    is held to what it kept after a tenth of that. What keeps everything is measured with fewer
    calls, and its memory multiplied.
    """
    early, late = memory_of(monitored, ENOUGH), memory_of(monitored, KEPT)
    kept = {
        "list": memory_of(lambda: [].append, KEPT) * TEN_MILLION / KEPT,
        "Histogram": memory_of(repeated, KEPT),
        "monitor (10,000 spans)": late,
        "RunCollectorCallbackHandler": memory_of(collected, COLLECTED) * TEN_MILLION / COLLECTED,
    }
    if HdrHistogram is not None:
        kept["HdrHistogram"] = memory_of(repeated_hdr, KEPT)
    print(f"\n{'MiB after 10 million calls':<34}")
    for name, size in kept.items():
        print(f"{name:<34}{size / MEBIBYTE:9,.2f}")
    growth = late / early
    print()
    say(
        f"after {KEPT:,} calls the monitor keeps {growth:.2f}x what it kept after {ENOUGH:,}",
        growth < 1.1,
    )


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


def main() -> None:
    records()
    asyncio.run(calls())
    memory()
