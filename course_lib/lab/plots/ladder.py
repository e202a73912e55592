"""One improvement after another: how many a second, and how long one waits."""

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.lab.plots.picture import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Picture,
    beside,
    in_style,
    name_rows,
)

__all__ = ["Rung", "ladder"]


class Rung(NamedTuple):
    """One state of a program.

    Attributes:
        throughput: Answers a second.
        p95: 95th percentile of the seconds that one waits for an answer.
        bound: Answers a second that the service allows at most in this state; None if not known.
    """

    throughput: float
    p95: float
    bound: float | None = None


def ladder(rungs: Mapping[str, Rung]) -> Picture:
    """Draw throughput and 95th percentile side by side, a row for each state, first one on top.

    The title says how many times the first one's throughput the last one has.

    Args:
        rungs: The states by name, in the order in which they were reached.

    Raises:
        ValueError: There is no state, or one without throughput.
    """
    if not rungs or any(rung.throughput <= 0 for rung in rungs.values()):
        raise ValueError("no throughput to draw: measure each rung first")
    first, *_, last = [*rungs, *rungs]
    gain = rungs[last].throughput / rungs[first].throughput
    said = f"{last}: {gain:.0f}x the throughput of {first}"
    with in_style():
        figure = Figure(figsize=(8.0, 1.8 + 0.45 * len(rungs)))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _throughputs(left, rungs)
        _waits(right, rungs)
        figure.suptitle(said, x=0.01, ha="left")
        if any(rung.bound is not None for rung in rungs.values()):
            figure.legend(loc="outside lower left")
        return Picture(figure, f"{said}. {_listed(rungs)}")


def _throughputs(axes: Axes, rungs: Mapping[str, Rung]) -> None:
    best = max(rung.throughput for rung in rungs.values())
    values = [rung.throughput for rung in rungs.values()]
    axes.barh(range(len(rungs)), values, color=[GREEN if v == best else BLUE for v in values])
    label = "what the service allows"
    for row, rung in enumerate(rungs.values()):
        beside(axes, max(rung.throughput, rung.bound or 0.0), row, f"{rung.throughput:.0f}/s")
        if rung.bound is not None:
            axes.plot([rung.bound] * 2, [row - 0.42, row + 0.42], "--", color=GREY, label=label)
            label = "_"  # once in the legend
    name_rows(axes, list(rungs))
    _dress(axes, "answers a second")


def _waits(axes: Axes, rungs: Mapping[str, Rung]) -> None:
    axes.barh(range(len(rungs)), [rung.p95 for rung in rungs.values()], color=ORANGE)
    for row, rung in enumerate(rungs.values()):
        beside(axes, rung.p95, row, f"{rung.p95:.2f} s")
    axes.tick_params(labelleft=False)
    _dress(axes, "p95, seconds")


def _dress(axes: Axes, label: str) -> None:
    axes.margins(x=0.22)  # room for the figures
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


def _listed(rungs: Mapping[str, Rung]) -> str:
    def one(name: str, rung: Rung) -> str:
        bound = "" if rung.bound is None else f", allowed {rung.bound:.0f}/s"
        return f"{name} {rung.throughput:.0f}/s{bound}, p95 {rung.p95:.2f} s"

    return "Bars of throughput and waiting: " + "; ".join(map(one, rungs, rungs.values())) + "."
