"""Median times as bars, with the bound that no program can beat."""

import numpy as np
from matplotlib.axes import Axes

from course_lib.lab.comparison import Comparison, Variant
from course_lib.lab.plots.picture import BLUE, GREEN, GREY, Picture, beside, draw, name_rows

__all__ = ["bars"]


def bars(comparison: Comparison) -> Picture:
    """Draw medians as bars with their spread, and the bound as a line.

    Args:
        comparison: What `compare` returned.
    """
    fastest = min(comparison.variants, key=lambda variant: variant.seconds)
    first = comparison.variants[0]

    def paint(axes: Axes) -> str:
        _bars(axes, comparison, fastest)
        if comparison.bound is not None:
            label = f"bound {comparison.bound:.2f} s"
            axes.axvline(comparison.bound, color=GREY, linestyle="--", label=label)
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        axes.set(xlabel="seconds (median; thin line: fastest to slowest round)", xlim=(0, None))
        gain = comparison.speedup(fastest.name)
        axes.set_title(f"{fastest.name}: {gain:.1f}x as fast as {first.name}")
        return _alternative(comparison)

    return draw(paint, size=(8.0, 1.4 + 0.45 * len(comparison.variants)))


def _bars(axes: Axes, comparison: Comparison, fastest: Variant) -> None:
    variants = comparison.variants
    medians = np.array([variant.seconds for variant in variants])
    spreads = np.array([variant.spread for variant in variants]).T
    colours = [GREEN if variant is fastest else BLUE for variant in variants]
    axes.barh(range(len(variants)), medians, xerr=np.abs(spreads - medians), color=colours)
    for row, (middle, slowest) in enumerate(zip(medians, spreads[1], strict=True)):
        beside(axes, slowest, row, f"{middle:.2f} s")
    name_rows(axes, [variant.name for variant in variants])
    axes.margins(x=0.14)


def _alternative(comparison: Comparison) -> str:
    listed = ", ".join(f"{each.name} {each.seconds:.2f} s" for each in comparison.variants)
    if comparison.bound is None:
        return f"Bar chart of median times: {listed}."
    return f"Bar chart of median times: {listed}; no program can beat {comparison.bound:.2f} s."
