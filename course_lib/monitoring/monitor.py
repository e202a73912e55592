"""A monitor of named steps, and a block of code as one call of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from course_lib.clock import NANO
from course_lib.monitoring.callback import MonitorCallback, ending_of, innermost, is_rejection
from course_lib.monitoring.histogram import LONGEST
from course_lib.monitoring.records import OpenCall, Records
from course_lib.monitoring.report import ENDINGS, Ending

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from course_lib.monitoring.report import Report

__all__ = ["Measurement", "PerformanceMonitor"]


class PerformanceMonitor:
    """Counts calls of named steps, and how long they waited and worked.

        monitor = PerformanceMonitor()
        await chain.ainvoke(question, config={"callbacks": [monitor.callback]})
        with monitor.measure("parse"):
            ...
        monitor.report()["parse"].p99

    Memory does not grow with the number of calls. It may be used from several threads and event
    loops. Its clock is monotonic, and whole nanoseconds are counted, so that in virtual time sums,
    means, extremes and rates come out exactly; percentiles are within half a percent.

    Args:
        timer: Returns seconds that never go back; by default the running loop's clock where there
            is one, and `time.monotonic` otherwise.
        keep_spans: How many of the calls that ended last are kept one by one, for a timeline.
        max_runs: How many runs of callbacks may be in flight at once. Beyond that the oldest is
            given up: a retriever that is cancelled outside of any chain never tells its end.
        max_names: How many names have figures of their own. All others are counted together under
            "(other)", so that a name that holds a question or an id fills no memory.

    Raises:
        TypeError: `timer` is no function, or one of the numbers is none.
        ValueError: One of the numbers is out of range.
    """

    def __init__(
        self,
        *,
        timer: Callable[[], float] | None = None,
        keep_spans: int = 10_000,
        max_runs: int = 10_000,
        max_names: int = 1_000,
    ) -> None:
        if timer is not None and not callable(timer):
            raise TypeError(f"timer={timer!r}: a function that returns seconds, or None")
        _check_count("keep_spans", keep_spans, 0)
        _check_count("max_runs", max_runs, 1)
        _check_count("max_names", max_names, 1)
        self._records = Records(timer, keep_spans=keep_spans, max_names=max_names)
        self._callback = MonitorCallback(self._records, max_runs)

    @property
    def callback(self) -> MonitorCallback:
        """A handler that counts every step: `config={"callbacks": [monitor.callback]}`.

        It works for chains, models, retrievers and tools, called in any way, names each as LangChain
        does, and knows which ran in which: a step is counted at each level, a sequence as well as
        what is in it. For models that stream it counts the time to the first token.

        In a batch over a sequence, LangChain tells of all items' starts when the batch starts, and
        of all ends when it ends. There an item is taken to have *begun* with its first step and
        *ended* with its last; from the batch's start to its first step it *waited*. So `response`
        is the time from the batch's start until the item was done, `service` what is left of it
        without the first wait: its steps, and its waits for other items between them. The same
        holds for retries and fallbacks in `abatch`; in synchronous `batch`, for sequences only. An
        item of which no step ran (all came from a cache) keeps the batch's times.

        A run that is cancelled, or a stream that is closed early, counts as cancelled. Models,
        retrievers and tools do not always tell that they were: they count as cancelled when the
        step that they run in ends before them.

        A 429 of a provider is an error; those are counted as `rejected`, too, whichever client raises
        them: this package's, `openai` and `anthropic`, `httpx`, `requests`, `aiohttp`, and all whose
        errors carry the status as they do.
        """
        return self._callback

    def now(self) -> float:
        """Return the seconds on the monitor's clock, since it was made."""
        with self._records.lock:
            return self._records.clock.now()

    def record(
        self, name: str, duration: float, *, wait: float = 0.0, outcome: Ending = "ok"
    ) -> None:
        """Count a call that has just ended.

        Args:
            name: Name of the step.
            duration: Seconds that it took, from its start until now.
            wait: Seconds that it had waited before, since its planned start.
            outcome: "ok", "error" or "cancelled".

        Raises:
            TypeError: `name` is no string, or a duration no number.
            ValueError: A duration is negative, nan or above 292 years, or `outcome` is none.
        """
        if not isinstance(name, str):
            raise _nameless(name)
        if not (duration >= 0.0 and wait >= 0.0 and duration + wait <= LONGEST):
            raise ValueError(
                f"duration={duration}, wait={wait}: give seconds by a monotonic clock, 0 or more"
            )
        if outcome not in ENDINGS:
            raise ValueError(f"outcome={outcome!r}: one of {', '.join(map(repr, ENDINGS))}")
        records = self._records
        with records.lock:
            records.record(name, duration, wait, outcome)

    def measure(self, name: str, *, planned: float | None = None) -> Measurement:
        """Return a context manager that counts a block of code as one call.

            with monitor.measure("search"):
                documents = await client.search(question)

        Whatever is raised in the block is counted and goes on. Where callers come by a schedule,
        give their planned start: a caller who is late because the one before it took too long has
        waited, and what is measured from the real start leaves that out ("coordinated omission":
        Gil Tene, "How NOT to Measure Latency", 2013).

            start = monitor.now()
            ...
            with monitor.measure("search", planned=start + number / rate):

        Args:
            name: Name of the step.
            planned: When it should have started, in seconds as `now` tells them. A start ahead of
                the plan counts as in time.

        Raises:
            TypeError: `name` is no string, or `planned` no number.
            ValueError: `planned` is nan or infinite.
        """
        if not isinstance(name, str):
            raise _nameless(name)
        if planned is None:
            return Measurement(self._records, self._callback, name, None)
        if not math.isfinite(planned):
            raise ValueError(f"planned={planned}: seconds as `monitor.now()` tells them")
        return Measurement(self._records, self._callback, name, round(planned * NANO))

    def report(self) -> Report:
        """Return what was seen up to now.

        It takes as long for a million calls as for ten thousand: about a microsecond for each of
        the calls since the last report of which spans are kept, some milliseconds at most.
        """
        with self._records.lock:
            return self._records.report()

    def reset(self) -> None:
        """Forget all that has ended. Calls in flight are counted when they end, in full."""
        with self._records.lock:
            self._records.reset()

    def __repr__(self) -> str:
        with self._records.lock:
            tallies = self._records.tallies
            ended = sum(each.service.count for each in tallies.values())
            busy = sum(each.in_flight for each in tallies.values())
            return (
                f"<PerformanceMonitor: {len(tallies)} steps, {ended:,} calls, {busy:,} in flight>"
            )


class Measurement:
    """A context manager for one call, made by `PerformanceMonitor.measure`."""

    __slots__ = ("_call", "_name", "_outer", "_planned", "_records", "_runs")

    def __init__(
        self, records: Records, runs: MonitorCallback, name: str, planned: int | None
    ) -> None:
        self._records = records
        self._runs = runs
        self._name = name
        self._planned = planned
        self._call: OpenCall | None = None
        self._outer: OpenCall | None = None

    @property
    def wait(self) -> float:
        """Seconds from the planned start to the real one; 0 before it began."""
        return self._call.wait / NANO if self._call else 0.0

    def __enter__(self) -> Self:
        if self._call is not None:
            raise RuntimeError(
                f"this measurement of {self._name!r} has been used: call `monitor.measure` "
                "for each block"
            )
        with self._records.lock:
            self._call = self._records.begin(
                OpenCall, self._name, self._runs.innermost(), self._planned
            )
        self._outer = innermost.get()
        innermost.set(self._call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._call is None:
            return
        # No token: in a generator, the block may end in another context than it began in.
        if innermost.get() is self._call:
            innermost.set(self._outer)
        self._outer = None
        ending: Ending = "ok" if error is None else ending_of(error)
        rejected = error is not None and is_rejection(error)
        with self._records.lock:
            self._records.end(self._call, ending, rejected=rejected)


def _nameless(name: object) -> TypeError:
    return TypeError(f"name={name!r} is no name of a step: pass a string, such as 'search'")


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: a whole number, {least} or above")
    if value < least:
        raise ValueError(f"{name}={value}: {least} or above")
