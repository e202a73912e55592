"""What happens to one query, taken down while it happens."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from course_lib.rag.answer import StageTiming

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        started: When it began.
        degraded: What has been left out.
        calls: Calls made for it, by stage.
        service: Seconds that they took, by stage.
    """

    __slots__ = ("_done", "_elapsed", "calls", "degraded", "service", "stage", "started")

    def __init__(self) -> None:
        self.stage = ""
        self.started = asyncio.get_running_loop().time()
        self.degraded: list[str] = []
        self.calls: dict[str, int] = {}
        self.service: dict[str, float] = {}
        self._elapsed: dict[str, float] = {}
        self._done: set[str] = set()

    @contextmanager
    def within(self, stage: str) -> Iterator[None]:
        """Count the time of a block to a stage, and not to the one round it.

        Raises:
            StageFailed: In place of an error of the block, unless it is one already.
        """
        clock = asyncio.get_running_loop().time
        outer, start = self.stage, clock()
        self.stage = stage
        try:
            yield
        except StageFailed:
            raise
        except Exception as error:
            raise StageFailed(stage, error) from error
        finally:
            seconds = clock() - start
            self._elapsed[stage] = self._elapsed.get(stage, 0.0) + seconds
            if outer:
                self._elapsed[outer] = self._elapsed.get(outer, 0.0) - seconds
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
        return asyncio.get_running_loop().time() - self.started

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        """The stages that it has been in."""
        return tuple(map(self._timing, self._elapsed))

    @property
    def from_cache(self) -> tuple[str, ...]:
        """The stages that it came through without a call."""
        return tuple(each for each in self._elapsed if each in self._done - self.calls.keys())

    @property
    def retries(self) -> int:
        """Calls made again."""
        return sum(calls - 1 for calls in self.calls.values())

    def _timing(self, stage: str) -> StageTiming:
        elapsed = self._elapsed[stage]
        service = min(elapsed, self.service.get(stage, 0.0))
        return StageTiming(stage, elapsed - service, service)
