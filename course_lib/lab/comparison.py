"""Variants of one program side by side: interleaved rounds, medians, and the ratio to a bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from course_lib.lab.experiment import Measured, measure
from course_lib.service import Provider
from course_lib.table import Table

__all__ = ["Comparison", "Variant", "compare"]


@dataclass(frozen=True, slots=True)
class Variant:
    """All rounds of one variant.

    Attributes:
        name: As given to `compare`.
        runs: One measurement a round.
    """

    name: str
    runs: tuple[Measured, ...]

    @property
    def seconds(self) -> float:
        """Median wall time of the rounds, in seconds."""
        return median(run.seconds for run in self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """Shortest and longest wall time, in seconds."""
        times = [run.seconds for run in self.runs]
        return min(times), max(times)

    @property
    def cpu(self) -> float:
        """Median CPU time of this process, in seconds."""
        return median(run.cpu for run in self.runs)

    @property
    def last(self) -> Measured:
        """The last round, with its value and what the provider saw."""
        return self.runs[-1]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The result of `compare`: one row a variant, in the order given.

    Attributes:
        variants: The rows.
        bound: Seconds below which no program can come, as the caller reckons; None if not given.
    """

    variants: tuple[Variant, ...]
    bound: float | None

    def __getitem__(self, name: str) -> Variant:
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise KeyError(f"no variant {name!r}: there are {known}")

    def speedup(self, name: str, *, over: str | None = None) -> float:
        """How many times faster `name` is than `over` (by default the first), by medians."""
        slow = self.variants[0] if over is None else self[over]
        return slow.seconds / self[name].seconds

    @property
    def values_agree(self) -> bool:
        """Whether all variants returned equal values in the last round."""
        first, *others = [variant.last.value for variant in self.variants]
        return all(value == first for value in others)

    def table(self) -> Table:
        """The comparison as a table: median, spread, CPU, speed-up, ratio to the bound."""
        bound = [] if self.bound is None else ["of the bound"]
        head = ["variant", "median", "fastest", "slowest", "CPU", "speed-up", *bound]
        return Table(head, [self._row(variant) for variant in self.variants])

    def _row(self, variant: Variant) -> Sequence[str]:
        fastest, slowest = variant.spread
        bound = [] if self.bound is None else [f"{variant.seconds / self.bound:.1f}x"]
        times = [f"{t:.3f} s" for t in (variant.seconds, fastest, slowest, variant.cpu)]
        return [variant.name, *times, f"{self.speedup(variant.name):.1f}x", *bound]

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


async def compare(
    variants: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 3,
    bound: float | None = None,
    provider: Provider | None = None,
    blocks: bool = False,
) -> Comparison:
    """Measure variants in turn, round after round, so that a busy moment hits all of them alike.

    Each round starts with another variant, so that none always runs first.

    Args:
        variants: Functions of no arguments by name; the first is the one others are compared with.
        rounds: How often each is run.
        bound: Seconds that no variant can beat (latency, waves, capacity), for the ratio to it.
        provider: Its ledger is kept with each run.
        blocks: Some variant blocks the event loop on purpose.

    Returns:
        Medians, spreads and the measurements behind them.

    Raises:
        ValueError: No variants, no rounds, or a bound that is not above 0.
    """
    if not variants or rounds < 1:
        raise ValueError("compare needs at least one variant and one round")
    if bound is not None and not bound > 0:
        raise ValueError(f"bound={bound} is no time: give seconds above 0, or leave it out")
    names = list(variants)
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            run = await measure(variants[name], provider=provider, name=name, blocks=blocks)
            runs[name].append(run)
    return Comparison(tuple(Variant(name, tuple(runs[name])) for name in names), bound)
