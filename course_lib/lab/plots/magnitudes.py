"""Quantities of very different size, on a logarithmic scale."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from course_lib.lab.plots.picture import BLUE, GREEN, Picture, beside, draw, name_rows

__all__ = ["magnitudes"]

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))


def magnitudes(seconds: Mapping[str, float], *, title: str, x: str) -> Picture:
    """Draw times as bars on a logarithmic scale: each grid line right is ten times more.

    Args:
        seconds: Times above 0 by name.
        title: The message.
        x: What is measured; the axis says it with its unit.

    Raises:
        ValueError: A time is not above 0, so has no place on the scale.
    """
    wrong = [name for name, value in seconds.items() if not value > 0]
    if wrong or not seconds:
        raise ValueError(f"a time is above 0, but {wrong or 'there are none'}: measure first")
    least = min(seconds.values())

    def paint(axes: Axes) -> str:
        rows = range(len(seconds))
        colours = [GREEN if value == least else BLUE for value in seconds.values()]
        axes.barh(rows, list(seconds.values()), color=colours)
        axes.set_xscale("log")
        axes.set_xlim(least / 3, max(seconds.values()) * 6)
        for row, value in zip(rows, seconds.values(), strict=True):
            beside(axes, value, row, _readable(value))
        name_rows(axes, list(seconds))
        axes.set(xlabel=f"{x}, seconds (logarithmic)")
        axes.set_title(title)
        listed = ", ".join(f"{name} {_readable(value)}" for name, value in seconds.items())
        return f"{title}. {x} on a logarithmic scale: {listed}."

    return draw(paint, size=(8.0, 1.4 + 0.4 * len(seconds)))


def _readable(seconds: float) -> str:
    unit, name = next(pair for pair in UNITS if seconds >= pair[0])
    return f"{seconds / (unit or 1e-9):.3g} {name}"
