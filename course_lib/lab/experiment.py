"""Real time: run a program against the real service, and keep what was seen.

Only ratios and lower bounds hold from machine to machine. Where a number must be exact, use
`simulate`, which runs the program in virtual time.
"""

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.lab.hygiene import note_gap
from course_lib.service import Ledger, Provider

__all__ = ["Measured", "measure"]

BEAT = 0.005
"""Seconds between two looks at the clock; what exceeds it is time in which the loop stood still."""

NOTABLE_GAP = 0.05
"""Seconds; a shorter stand-still is left out of `Measured.gaps`."""


@dataclass(frozen=True, slots=True, repr=False)
class Measured:
    """One run of one program.

    Attributes:
        name: What was run.
        value: What it returned.
        seconds: Wall time.
        cpu: CPU seconds of this process, all its threads, in that time.
        gaps: When the event loop stood still for 50 ms or more: (start, end) in seconds on the
            clock of `time.monotonic()`, the one that the provider's ledger uses.
        longest_gap: Seconds of the longest stand-still, short ones included.
        seen: What the provider saw; None if none was given. Read it as `ledger`.
    """

    name: str
    value: Any
    seconds: float
    cpu: float
    gaps: tuple[tuple[float, float], ...]
    longest_gap: float
    seen: Ledger | None

    def __repr__(self) -> str:
        text = f"{self.name}: {self.seconds:.3g} s, CPU {self.cpu:.2g} s"
        if self.seen is None:
            return text
        return f"{text}, {self.ledger.requests} requests, peak in flight {self.peak_in_flight}"

    @property
    def ledger(self) -> Ledger:
        """What the provider saw.

        Raises:
            ValueError: The run was measured without a provider.
        """
        if self.seen is None:
            raise ValueError("measured without a provider: pass `provider=` to measure")
        return self.seen

    @property
    def peak_in_flight(self) -> int:
        """Calls that the provider had in hand at once, at most."""
        return self.ledger.peak_in_flight


async def measure(
    program: Callable[[], Any],
    *,
    provider: Provider | None = None,
    name: str | None = None,
    blocks: bool = False,
) -> Measured:
    """Run `program` once and return what was seen, by this process and by the provider.

    Args:
        program: Function of no arguments. If what it returns can be awaited, it is.
        provider: Its ledger is cleared first and kept in the result.
        name: Shown in results; by default the function's own name.
        blocks: The program stands still on purpose: `hygiene` does not count it.

    Returns:
        The value and the measurements of this run.

    Raises:
        TypeError: `program` is not a function; whatever `program` raises.
    """
    _require_function(program)
    name = name or str(getattr(program, "__name__", "program"))
    if provider is not None:
        provider.reset()
    async with _watched_loop() as watch:
        wall, cpu = time.perf_counter(), time.process_time()
        value = program()
        if inspect.isawaitable(value):
            value = await value
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gaps = watch.gaps
    if not blocks:
        note_gap(watch.blocked, name)
    return Measured(
        name=name,
        value=value,
        seconds=wall,
        cpu=cpu,
        gaps=tuple(gap for gap in gaps if gap[1] - gap[0] >= NOTABLE_GAP),
        longest_gap=max((end - start for start, end in gaps), default=0.0),
        seen=None if provider is None else provider.ledger(),
    )


def _require_function(program: object) -> None:
    if inspect.iscoroutine(program):
        program.close()
    if not callable(program):
        raise TypeError(
            f"{program!r} is not a function: write `lambda: ...` round the call to be measured"
        )


@dataclass(slots=True)
class _Watch:
    """Stand-stills of a loop.

    Attributes:
        gaps: All of them, as (start, end).
        blocked: Seconds of the longest, without the time in which no processor was free: that is
            the machine's doing, not the program's.
    """

    gaps: list[tuple[float, float]] = field(default_factory=list)
    blocked: float = 0.0


@asynccontextmanager
async def _watched_loop() -> AsyncIterator[_Watch]:
    """Give what gets every stand-still of the running loop."""
    watch = _Watch()
    with _starvation() as seconds_starved:
        async with _beating(watch, seconds_starved):
            yield watch


@asynccontextmanager
async def _beating(watch: _Watch, seconds_starved: Callable[[], float]) -> AsyncIterator[None]:
    """Look at both clocks again and again, on the loop itself."""
    last, starved = time.monotonic(), seconds_starved()

    def look() -> None:
        nonlocal last, starved
        now, starved_now = time.monotonic(), seconds_starved()
        if now - last > 2 * BEAT:
            watch.gaps.append((last, now))
            watch.blocked = max(watch.blocked, now - last - (starved_now - starved))
        last, starved = now, starved_now

    async def beat() -> None:
        while True:
            look()
            await asyncio.sleep(BEAT)

    watcher = asyncio.create_task(beat(), name="lab: watch the loop")
    try:
        await asyncio.sleep(0)  # the first look, before the program starts
        yield
    finally:
        look()
        await _cancelled(watcher)


@contextmanager
def _starvation() -> Iterator[Callable[[], float]]:
    """Give a function: for how many seconds this thread was ready to run and had no processor.

    Linux tells; elsewhere it is 0.
    """
    try:
        file = Path("/proc/thread-self/schedstat").open("rb", buffering=0)  # noqa: SIM115 - below
    except OSError:
        yield lambda: 0.0
        return
    with file:
        yield lambda: int(os.pread(file.fileno(), 64, 0).split()[1]) / 1e9


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
