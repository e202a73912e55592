"""What may choose the size of the next chunk: the load of this machine, or what the service does."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from course_lib.checks import require_seconds, require_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.batching.task_pool import Outcome

__all__ = ["Chunk", "CpuMeter", "CpuSignal", "LatencySignal", "Signal"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk that has ended.

    Attributes:
        outcomes: What became of its items, at least one.
        seconds: From its first start to its last end.
    """

    outcomes: tuple[Outcome[Any], ...]
    seconds: float


@runtime_checkable
class Signal(Protocol):
    """Chooses the size of the next chunk.

    Attributes:
        size: How many items the next chunk has, at least 1.
    """

    size: int

    def observe(self, chunk: Chunk) -> None:
        """Learn what came of a chunk, and set `size` for the next."""


class CpuMeter:
    """The load of the machine's processors since it was last asked.

    `psutil.cpu_percent()` has no "last time" at its first call and returns 0.0; afterwards it has
    one for all its callers in a thread. This one begins to count when it is made, keeps its own
    last time, and says nothing rather than something random over too short a time: the counters
    move in steps of 10 ms.
    """

    SHORTEST = 0.1
    """Seconds between two readings, at least, as psutil recommends."""

    def __init__(self) -> None:
        import psutil  # noqa: PLC0415 - only where the load of this machine is asked for

        self._processors = psutil.cpu_count() or 1
        self._busy, self._total = _cpu_seconds()

    def __call__(self) -> float | None:
        """Return the share of busy time, 0 to 1; None if it was last told a moment ago."""
        busy, total = _cpu_seconds()
        passed = total - self._total
        if passed < self.SHORTEST * self._processors:
            return None
        load = (busy - self._busy) / passed
        self._busy, self._total = busy, total
        return min(1.0, max(0.0, load))


def _cpu_seconds() -> tuple[float, float]:
    """Return the seconds that all processors together were busy, and all of their seconds."""
    import psutil  # noqa: PLC0415 - see above

    times = psutil.cpu_times()
    # Linux counts guests among the users' time as well, and waiting for disks is not being busy.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


class CpuSignal:
    """Doubles the chunk while this machine is idle, halves it while it is busy.

    That serves work that this machine computes. A program that waits for a service reads "idle",
    however overloaded the service is, and a busy neighbour makes it slow for nothing.

    Args:
        start: Size of the first chunk.
        most: Size of the largest chunk.
        idle: Load below which it grows, as a share from 0 to 1.
        busy: Load above which it shrinks.
        load: Returns the load since it was last asked, or None where it cannot say; by default
            a `CpuMeter`.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        start: int = 4,
        *,
        most: int = 256,
        idle: float = 0.5,
        busy: float = 0.8,
        load: Callable[[], float | None] | None = None,
    ) -> None:
        require_whole(start=start)
        require_whole(most=most, least=start)
        if not 0 <= idle <= busy <= 1:
            raise ValueError(f"idle={idle!r}, busy={busy!r}: give 0 <= idle <= busy <= 1")
        self.size = start
        self.load: float | None = None
        self._most, self._idle, self._busy = most, idle, busy
        self._read = load or CpuMeter()

    def __repr__(self) -> str:
        seen = "no load read yet" if self.load is None else f"load {self.load:.0%}"
        return f"<{type(self).__name__} size={self.size}, {seen}>"

    def observe(self, chunk: Chunk) -> None:  # noqa: ARG002 - it looks at the machine instead
        """Read the load, and set the size."""
        load = self._read()
        if load is None:
            return
        self.load = load
        if load < self._idle:
            self.size = min(self._most, 2 * self.size)
        elif load > self._busy:
            self.size = max(1, self.size // 2)


class LatencySignal:
    """Climbs to the size where the service gives most for the time it takes: its knee.

    What it climbs is *power*: answers a second, divided by the mean latency. Below a service's
    capacity more calls at once mean more answers at the same latency; above it, the same answers at
    a higher latency. Power is highest in between, where every place is taken and nobody queues
    (L. Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
    communications", ICC 1979). What fails is no answer, so that a service which rejects at once
    does not look fast.

    It starts with steps that double. A step that does not help is taken back, and followed by one
    half as long the other way. When the shortest (an eighth of the size) helps neither way, it
    stays, and looks around again after a while. No step is longer than to half or twice the size.

    Args:
        start: Size of the first chunk.
        most: Size of the largest chunk.
        sample: Items by which a size is judged, at least; more where latencies vary more.
        margin: Share by which a step has to be better to count.
        patience: How many samples it stays where it is before it looks around again.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        start: int = 4,
        *,
        most: int = 256,
        sample: int = 32,
        margin: float = 0.05,
        patience: int = 8,
    ) -> None:
        require_whole(start=start, sample=sample, patience=patience)
        require_whole(most=most, least=start)
        require_seconds(margin=margin)
        self.size = self._best = self._step = start
        self.power: float | None = None
        self._most, self._sample, self._margin, self._patience = most, sample, margin, patience
        self._seen: list[Chunk] = []
        self._direction, self._misses, self._rest = 1, 0, 0

    def __repr__(self) -> str:
        seen = "nothing seen yet" if self.power is None else f"power {self.power:.3g}/s²"
        return f"<{type(self).__name__} size={self.size}, best {self._best}, {seen}>"

    def observe(self, chunk: Chunk) -> None:
        """Take the chunk into the sample; when that is complete, judge it and set the size."""
        if len(chunk.outcomes) < self.size:  # the last one, which says little
            return
        self._seen.append(chunk)
        if len(self._seen) * self.size >= self._sample:
            self._judge(_power(self._seen))
            self._seen = []
            self.size = self._next()

    def _judge(self, power: float) -> None:
        if self.power is None:
            self.power = power
        elif self.size == self._best:
            self._revisit(self.power, power)
        elif power > self.power * (1 + self._margin):
            self._best, self.power = self.size, power
            self._step, self._misses = 2 * self._step, 0
        else:
            self._turn()

    def _revisit(self, before: float, power: float) -> None:
        self.power = (before + power) / 2
        if power < before / 2:  # the service has changed: search anew, from here
            self.power, self._misses, self._rest = power, 0, 0
            self._step = max(1, self._best // 2)

    def _turn(self) -> None:
        shortest = max(1, self._best // 8)
        self._misses = self._misses + 1 if self._step <= shortest else 0
        self._direction = -self._direction
        self._step = max(shortest, self._step // 2)
        if self._misses > 1:
            self._rest = self._patience

    def _next(self) -> int:
        if self._rest > 0:
            self._rest -= 1
            return self._best
        if not 1 <= self._best + self._direction < self._most + 1:  # nothing to find that way
            self._turn()
        step = min(self._step, self._best if self._direction > 0 else self._best // 2)
        return min(self._most, self._best + self._direction * step)


def _power(chunks: list[Chunk]) -> float:
    """Return answers a second, divided by their mean latency; 0.0 if there are none."""
    answered = [outcome.service for chunk in chunks for outcome in chunk.outcomes if outcome.ok]
    seconds = sum(chunk.seconds for chunk in chunks)
    latency = fmean(answered) if answered else 0.0
    return len(answered) / seconds / latency if seconds > 0 and latency > 0 else 0.0
