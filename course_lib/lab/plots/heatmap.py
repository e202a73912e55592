"""Ratios over two parameters, as a grid of numbers."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from course_lib.lab.plots.picture import ORANGE, Picture, draw

__all__ = ["heatmap"]


def heatmap(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    x: str,
    y: str,
    region: tuple[float, float] | None = None,
    scale: tuple[float, float] | None = None,
) -> Picture:
    """Draw ratios as a grid of numbers on a (logarithmic) colour scale.

    Args:
        values: Ratios above 0, shape (rows, columns).
        rows: Labels of the rows.
        columns: Labels of the columns.
        title: The message.
        x: Label of the columns' axis.
        y: Label of the rows' axis.
        region: Cells whose value lies between these two, both included, are framed.
        scale: Ratios at the two ends of the colour scale, so that pictures can be compared; by
            default the smallest and the largest value.

    Raises:
        ValueError: A value is not above 0, so is no ratio.
    """
    grid = np.asarray(values, dtype=float)
    if not (grid > 0).all():
        raise ValueError("a ratio is above 0: measure before drawing")
    low, high = region or (np.inf, -np.inf)
    darkest, brightest = np.log(scale or (grid.min(), grid.max()))
    framed = np.argwhere((grid >= low) & (grid <= high))

    def paint(axes: Axes) -> str:
        logs = np.log(grid)
        axes.imshow(logs, cmap="cividis", aspect="auto", vmin=darkest, vmax=brightest)
        for (row, column), value in np.ndenumerate(grid):
            ink = "black" if logs[row, column] > (darkest + brightest) / 2 else "white"
            axes.text(column, row, f"{value:.1f}x", ha="center", va="center", color=ink)
        for row, column in framed:
            corner = (column - 0.47, row - 0.46)
            axes.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, ec=ORANGE, lw=3))
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(visible=False)
        axes.set_title(title)
        return f"{title}. Values from {grid.min():.1f}x to {grid.max():.1f}x."

    return draw(paint, size=(8.0, 1.7 + 0.4 * len(rows)))
