"""What happens to one query, taken down while it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from course_lib.rag.answer import StageTiming

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["StageFailed", "Trace"]


class StageFailed(Exception):  # noqa: N818 - says what happened; caught before anybody sees it
    """A stage of a query has failed.

    Attributes:
        stage: Which one.
        error: What it raised.
    """

    def __init__(self, stage: str, error: Exception) -> None:
        super().__init__(f"{stage}: {error}")
        self.stage = stage
        self.error = error


class Trace:
    """Where a query's time went, by the running loop's clock, and what was done for it.

    Attributes:
        stage: The stage that it is in, or was broken off in; "" between them.
        clock: The loop's time.
        started: When it began.
        degraded: What has been left out.
        calls: Calls made for it, by stage.
        service: Seconds that they took, by stage.
    """

    __slots__ = ("_done", "_elapsed", "calls", "clock", "degraded", "service", "stage", "started")

    def __init__(self) -> None:
        self.stage = ""
        self.clock = asyncio.get_running_loop().time
        self.started = self.clock()
        self.degraded: list[str] = []
        self.calls: dict[str, int] = {}
        self.service: dict[str, float] = {}
        self._elapsed: dict[str, float] = {}
        self._done: set[str] = set()

    def within(self, stage: str) -> _Within:
        """Count the time of a block to a stage, and not to the one round it.

        Raises:
            StageFailed: In place of an error of the block, unless it is one already.
        """
        return _Within(self, stage)

    def ended(self, stage: str, outer: str, seconds: float, *, done: bool) -> None:
        """Take down that a block of a stage has ended; if it was broken off, it stays the stage."""
        self._elapsed[stage] = self._elapsed.get(stage, 0.0) + seconds
        if outer:
            self._elapsed[outer] = self._elapsed.get(outer, 0.0) - seconds
        if done:
            self._done.add(stage)
            self.stage = outer

    def called(self, stage: str, seconds: float, attempts: int = 1) -> None:
        """Take down a call that was made for it."""
        self.calls[stage] = self.calls.get(stage, 0) + attempts
        self.service[stage] = self.service.get(stage, 0.0) + seconds

    def elapsed(self, stage: str) -> float:
        """Return the seconds spent in a stage."""
        return self._elapsed.get(stage, 0.0)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.started

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        """The stages that it has been in."""
        return tuple([self._timing(*each) for each in self._elapsed.items()])

    @property
    def from_cache(self) -> tuple[str, ...]:
        """The stages that it came through without a call."""
        spared = self._done - self.calls.keys()
        return tuple([each for each in self._elapsed if each in spared])

    @property
    def retries(self) -> int:
        """Calls made again."""
        return sum(calls - 1 for calls in self.calls.values())

    def _timing(self, stage: str, elapsed: float) -> StageTiming:
        service = min(elapsed, self.service.get(stage, 0.0))
        return StageTiming(stage, elapsed - service, service)


class _Within:
    """A block of a stage; a generator would cost each stage of each query twice as much."""

    __slots__ = ("_outer", "_stage", "_start", "_trace")

    def __init__(self, trace: Trace, stage: str) -> None:
        self._trace = trace
        self._stage = stage

    def __enter__(self) -> None:
        self._outer, self._trace.stage = self._trace.stage, self._stage
        self._start = self._trace.clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = self._trace.clock() - self._start
        self._trace.ended(self._stage, self._outer, seconds, done=error is None)
        if isinstance(error, Exception) and not isinstance(error, StageFailed):
            raise StageFailed(self._stage, error) from error
