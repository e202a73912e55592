"""How long the event loop was blocked, and by what."""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import threading
import time
from collections import Counter
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from course_lib.checks import require_positive
from course_lib.monitoring.histogram import Distribution, Histogram
from course_lib.table import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType, TracebackType

    from course_lib.monitoring.monitor import PerformanceMonitor

__all__ = ["Block", "LoopLag"]

UNSEEN = "(not seen)"
"""Culprit of a block in which no thread could look, as a C function kept the interpreter's lock."""

KEPT = 1000  # blocks
LOOKS = 5  # at the stack, for each budget that a block lasts
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class Block:
    """One time in which the loop stood still.

    Attributes:
        start: When the loop should have gone on, in seconds on the timer.
        seconds: For how long it did not.
        where: The code that most looks at the stack showed, as `file:line function`.
        step: The monitored step that it belonged to; None if none is known.
    """

    start: float
    seconds: float
    where: str
    step: str | None


class LoopLag:
    """Watches the running event loop: a heartbeat that comes late tells for how long it was blocked.

        async with LoopLag(monitor=monitor) as lag:
            await chain.abatch(questions)
        print(lag)

    A timer in the loop is the heartbeat; `lag` is by how much it comes late. When it is later than
    the budget, a thread looks at the stack of the loop's thread, again and again until the
    beat comes, and so finds the code that holds it. A block is known to within the interval.

    It measures real time, by nature: virtual time stands still while code computes or blocks. In a
    simulation it therefore tells for how long the *machine* was busy with one thing. A simulated
    deadlock then ends at the time limit instead, since the heartbeat goes on.

    A busy machine, a debugger or a garbage collection delay a beat as well. What keeps Python's
    lock for the whole of its time (some C functions do) cannot be looked at meanwhile, and is found
    in the moment after it, or counted as "(not seen)".

    Args:
        interval: Seconds between two beats.
        budget: Seconds of lag from which on it counts as a block.
        monitor: Tells which step a block belongs to: the innermost one that the task is in.
        timer: Returns seconds of real time; by default `time.monotonic`.

    Raises:
        ValueError: A number is not above 0, or not finite.

    Attributes:
        lags: Distribution of the lags of all beats.
        count: Blocks.
        total: Their seconds, all together.
        longest: Seconds of the longest lag, also below the budget.
    """

    def __init__(
        self,
        *,
        interval: float = 0.01,
        budget: float = 0.05,
        monitor: PerformanceMonitor | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        require_positive(interval=interval, budget=budget)
        self.interval, self.budget = interval, budget
        self.count = 0
        self.total = 0.0
        self._timer = timer or time.monotonic
        self._monitor = monitor
        self._lags = Histogram()
        self._blocks: list[Block] = []
        self._by_place: dict[str, float] = {}
        self._by_step: dict[str, float] = {}
        self._seen: Counter[tuple[str, str | None]] = Counter()  # since the last beat
        self._lock = (
            threading.Lock()
        )  # held for what both threads touch: `_seen`, `_beats`, `_last`
        self._beats = 0
        self._last = 0.0
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._watcher: threading.Thread | None = None

    @property
    def lags(self) -> Distribution:
        """Distribution of the lags of all beats, in seconds."""
        return self._lags.snapshot()

    @property
    def longest(self) -> float:
        """Seconds of the longest lag, 0.0 if there was no beat."""
        return self._lags.maximum if self._lags.count else 0.0

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The last thousand blocks, in order."""
        return tuple(self._blocks)

    @property
    def culprits(self) -> Mapping[str, float]:
        """Seconds of blocking by place in the code (file, line and function), the worst first."""
        return _worst_first(self._by_place)

    @property
    def steps(self) -> Mapping[str, float]:
        """Seconds of blocking by monitored step, the worst first; what has no step is left out."""
        return _worst_first(self._by_step)

    def __repr__(self) -> str:
        if not self.count:
            return f"<LoopLag: never blocked, longest lag {duration(self.longest)}>"
        worst = next(iter(self.culprits))
        return (
            f"<LoopLag: blocked {self.count} times, {duration(self.total)} in all, at most "
            f"{duration(self.longest)}; most by {worst}>"
        )

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("this LoopLag is in use: make one for each block that is watched")
        self._loop = asyncio.get_running_loop()
        self._stop.clear()
        self._last = self._timer()
        self._handle = self._loop.call_later(self.interval, self._beat)
        self._watcher = threading.Thread(
            target=self._watch,
            args=(self._loop, threading.get_ident()),
            name="monitoring: loop lag",
            daemon=True,
        )
        self._watcher.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None and self._watcher is not None:
            self._handle.cancel()
            self._note()  # what blocked up to this moment
            self._stop.set()
            self._watcher.join()
        self._loop = self._handle = self._watcher = None

    def _beat(self) -> None:
        self._note()
        if self._loop is not None:
            self._handle = self._loop.call_later(self.interval, self._beat)

    def _note(self) -> None:
        """Count the lag since the last beat, in the loop's thread."""
        with self._lock:
            now, last = self._timer(), self._last
            self._last = now
            self._beats += 1
            seen, self._seen = self._seen, Counter()
        lag = max(0.0, now - last - self.interval)
        self._lags.record(lag)
        if lag >= self.budget:
            self._count(last + self.interval, lag, seen)

    def _count(self, start: float, lag: float, seen: Counter[tuple[str, str | None]]) -> None:
        seen = seen or Counter({(UNSEEN, None): 1})
        self.count += 1
        self.total += lag
        looks = seen.total()
        for (where, step), number in seen.items():
            seconds = lag * number / looks
            self._by_place[where] = self._by_place.get(where, 0.0) + seconds
            if step is not None:
                self._by_step[step] = self._by_step.get(step, 0.0) + seconds
        (where, step), _ = seen.most_common(1)[0]
        self._blocks = [*self._blocks[1 - KEPT :], Block(start, lag, where, step)]

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """Look at the loop's thread while a beat is overdue, in a thread of its own."""
        pause = self.budget
        while not self._stop.wait(pause):
            with self._lock:
                beats, overdue = self._beats, self._timer() - self._last - self.interval
            if overdue >= self.budget:
                self._look(beats, loop, thread)
            pause = max(self.budget - overdue, self.budget / LOOKS)

    def _look(self, beats: int, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented, for debuggers
        if frame is None:
            return
        found = (_place_of(frame), None if self._monitor is None else _step_of(self._monitor, loop))
        with self._lock:
            if self._beats == beats:  # else it looked at what came after the block
                self._seen[found] += 1


def _worst_first(seconds: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType(dict(sorted(seconds.items(), key=lambda item: -item[1])))


def _step_of(monitor: PerformanceMonitor, loop: asyncio.AbstractEventLoop) -> str | None:
    """Return the name of the step that the loop's current task is in; asked from another thread."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    # A copy, since the task's own context is in use. Python 3.11 has no `get_context`.
    get = getattr(task, "get_context", None)
    own = [each for each in gc.get_referents(task) if isinstance(each, Context)]
    context = get() if get is not None else own[0]
    call = context.copy().run(monitor.callback.innermost)
    return None if call is None else call.tally.name


def _place_of(frame: FrameType) -> str:
    """Return the innermost place outside of libraries, as `file:line function`."""
    own = next((each for each in _stack(frame) if not _is_library(each)), frame)
    file = Path(own.f_code.co_filename)
    name = "cell" if "ipykernel" in file.parent.name else file.name
    return f"{name}:{own.f_lineno} {own.f_code.co_qualname.replace('<locals>.', '')}"


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of what the loop runs now, innermost first; not those that run the loop."""
    while frame is not None and frame.f_code.co_name != "_run_once":
        yield frame
        frame = frame.f_back


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith((*_LIBRARIES, "<"))
