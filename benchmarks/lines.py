"""A line of a table: what a call costs beside a peer, the bare thing or the bound, in one run."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Line", "Measure", "Pairs", "Result", "figure", "measured", "row"]

MICRO = 1e6

Measure = Callable[[], Awaitable[float]]
"""Returns seconds a call."""

Pairs = Mapping[str, tuple[Measure, Measure]]
"""By name of the line, what measures it and what stands beside it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One claim of cost.

    Attributes:
        name: What is called.
        beside: What others do for the same, or the bare thing, or the bound.
        wanted: What it may cost at most, in the unit of `of`.
        of: What `wanted` counts: microseconds ("µs"), or times another cost ("asking", "peer").
        why: Why what stands beside it is ahead, where it is; one sentence for the report.
    """

    name: str
    beside: str
    wanted: float
    of: str = "µs"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a line came to: medians over the rounds, in seconds a call.

    Attributes:
        line: The claim.
        ours: What it costs.
        beside: What stands beside it costs.
        asking: What it costs to ask LangChain whether anybody watches.
    """

    line: Line
    ours: float
    beside: float
    asking: float

    @property
    def value(self) -> float:
        """What it costs in the unit of what is wanted."""
        return (
            self.ours / {"µs": 1 / MICRO, "peer": self.beside, "asking": self.asking}[self.line.of]
        )

    @property
    def holds(self) -> bool:
        """Whether it costs no more than is wanted."""
        return self.value <= self.line.wanted


async def measured(
    lines: Sequence[Line], pairs: Pairs, asking: Measure, rounds: int
) -> list[Result]:
    """Return the results of those lines that the pairs measure.

    In each round all are measured one after the other, so that what disturbs a round disturbs its
    neighbours, too.

    Raises:
        KeyError: There is no line of a pair's name.
    """
    known = {line.name: line for line in lines}
    taken: dict[Line, list[tuple[float, float, float]]] = {known[name]: [] for name in pairs}
    for _ in range(rounds):
        for line, results in taken.items():
            ours, beside = pairs[line.name]
            results.append((await ours(), await beside(), await asking()))
    return [
        Result(line, *(median(column) for column in zip(*results, strict=True)))
        for line, results in taken.items()
    ]


def row(result: Result) -> list[str]:
    """Return the cells of a table in a terminal."""
    line, name = result.line, {"µs": "µs", "peer": "x beside it", "asking": "x asking"}
    return [
        line.name,
        figure(result.ours),
        f"{line.beside}: {figure(result.beside)}",
        f"{result.value:.2f} {name[line.of]}",
        f"{line.wanted:g}",
        "holds" if result.holds else "DOES NOT HOLD",
    ]


def figure(seconds: float) -> str:
    """Return seconds as microseconds, with as many figures as make sense."""
    return f"{seconds * MICRO:,.2f}" if seconds < 1e-5 else f"{seconds * MICRO:,.0f}"
