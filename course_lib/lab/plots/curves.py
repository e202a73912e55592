"""Measured points beside a formula; durations by percentile, and how a report has them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from course_lib.lab.plots.picture import BLUE, GREEN, ORANGE, RED, Picture, draw
from course_lib.monitoring import Report

__all__ = ["durations_of", "percentiles", "versus_model"]

Points = tuple[Sequence[float], Sequence[float]]
"""x values and y values."""

PERCENTILES = {1: "min", 2: "p50", 10: "p90", 100: "p99", 1000: "p99.9", 10_000: "p99.99"}
"""Names by rarity: one in so many durations is longer."""


def versus_model(
    measured: Mapping[str, Points],
    model: Mapping[str, Points],
    *,
    title: str,
    x: str,
    y: str,
    steps: bool = False,
) -> Picture:
    """Draw measured points over the curves that a formula gives.

    Args:
        measured: Points by name, as x and y values.
        model: Curves by name, as x and y values; a curve and points of one name share a colour.
        title: The message.
        x: Label of the x axis, with its unit.
        y: Label of the y axis, with its unit.
        steps: The model jumps, and x is a whole number: each value holds from the x before it up
            to its own.
    """
    style = "steps-pre" if steps else "default"
    names = list(dict.fromkeys([*model, *measured]))

    def paint(axes: Axes) -> str:
        for name, colour in zip(names, (BLUE, ORANGE, GREEN, RED), strict=False):
            if name in model:
                axes.plot(
                    *model[name], drawstyle=style, color=colour, alpha=0.7, label=f"{name}: model"
                )
            if name in measured:
                axes.plot(*measured[name], "o", color=colour, label=f"{name}: measured")
        axes.set(xlabel=x, ylabel=y, ylim=(0, None))
        if steps:  # of whole numbers
            axes.locator_params("x", integer=True)
        axes.set_title(title)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return f"{title}. Measured points beside the model's curve for {', '.join(names)}."

    return draw(paint)


def percentiles(durations: Mapping[str, Sequence[float]], *, title: str | None = None) -> Picture:
    """Draw durations by percentile, the tail stretched: each step right is ten times rarer.

    Args:
        durations: Seconds by name; at least one each.
        title: The message; by default the 99th percentiles.

    Raises:
        ValueError: A name has no durations.
    """
    empty = [name for name, values in durations.items() if not len(values)]
    if empty or not durations:
        raise ValueError(f"no durations to draw for {empty or 'anything'}: measure some first")
    p99 = {name: float(np.percentile(values, 99)) for name, values in durations.items()}
    said = ", ".join(f"{name} {value:.3f} s" for name, value in p99.items())

    def paint(axes: Axes) -> str:
        for name, values in durations.items():
            ordered = np.sort(np.asarray(values, dtype=float))
            one_in = 1 / (1 - np.arange(len(ordered)) / len(ordered))
            axes.plot(one_in, ordered, drawstyle="steps-post", label=name)
        axes.set_xscale("log")
        longest = max(len(values) for values in durations.values())
        ticks = [one_in for one_in in PERCENTILES if one_in <= longest]
        axes.set_xticks(ticks, [PERCENTILES[one_in] for one_in in ticks])
        axes.minorticks_off()
        axes.set(xlabel="percentile", ylabel="seconds", ylim=(0, None))
        axes.set_title(title or f"p99: {said}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return f"Percentile curves; the 99th percentiles are: {said}."

    return draw(paint)


def durations_of(
    report: Report, *, of: Literal["service", "wait", "response"] = "response"
) -> dict[str, Sequence[float]]:
    """Return the durations of each step for `plots.percentiles`, out of its histogram.

    Args:
        report: What a monitor saw.
        of: Which time is meant: `response` is what a caller waits, from the planned start.

    Returns:
        Seconds by name, each within 0.5 %, as many as there were calls; steps without durations
        are left out.
    """
    found: dict[str, Sequence[float]] = {}
    for name, step in report.steps.items():
        buckets = list(getattr(step, of).buckets())
        if buckets:
            middles = [(bucket.lower + bucket.upper) / 2 for bucket in buckets]
            found[name] = np.repeat(middles, [bucket.count for bucket in buckets]).tolist()
    return found
