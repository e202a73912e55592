"""A block of code as one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from course_lib.clock import NANO
from course_lib.monitoring.call import Call
from course_lib.monitoring.runs import innermost, outcome_of

if TYPE_CHECKING:
    from types import TracebackType

    from course_lib.monitoring.records import Ledger
    from course_lib.monitoring.runs import Runs

__all__ = ["Measurement"]


class Measurement:
    """A context manager for one call, made by `PerformanceMonitor.measure`."""

    __slots__ = ("_call", "_ledger", "_name", "_outer", "_planned", "_runs")

    def __init__(self, ledger: Ledger, runs: Runs, name: str, planned: int | None) -> None:
        self._ledger = ledger
        self._runs = runs
        self._name = name
        self._planned = planned
        self._call: Call | None = None
        self._outer: Call | None = None

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
        with self._ledger.lock:
            self._call = self._ledger.begin(Call, self._name, self._runs.innermost(), self._planned)
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
        with self._ledger.lock:
            self._ledger.end(self._call, "ok" if error is None else outcome_of(error))
