"""Counts and limits as they change over time."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from course_lib.lab.plots.picture import BLUE, GREEN, GREY, ORANGE, RED, Picture, draw

__all__ = ["over_time"]

Steps = tuple[Sequence[float], Sequence[float]]
"""Times in seconds, and the value from each time on."""

WIDTHS = (2.6, 2.2, 1.8, 1.4, 1.4)
"""Points; of lines that lie on one another, the lower one shows at the sides of the upper one."""
BELOW = 0.02
"""Share of the height that is drawn below zero, where a line at zero lies on no axis."""


def over_time(
    series: Mapping[str, Steps],
    *,
    title: str,
    y: str,
    bound: tuple[str, Steps] | None = None,
) -> Picture:
    """Draw values that jump and then stay, such as calls let in so far, or a limit.

    Args:
        series: Steps by name; each value holds from its time up to the next.
        title: The message.
        y: What is drawn, with its unit.
        bound: Name and points of a line that should not be crossed; drawn straight, dashed.

    Raises:
        ValueError: A series has no points.
    """
    empty = [name for name, (times, _) in series.items() if not len(times)]
    if empty or not series:
        raise ValueError(f"no points to draw for {empty or 'anything'}: run the program first")

    def paint(axes: Axes) -> str:
        for (name, steps), colour, width in zip(
            series.items(), (BLUE, ORANGE, GREEN, RED, GREY), WIDTHS, strict=False
        ):
            axes.plot(*steps, drawstyle="steps-post", color=colour, lw=width, label=name)
        if bound is not None:
            axes.plot(*bound[1], "--", color=GREY, label=bound[0])
        highest = axes.get_ylim()[1]
        axes.set(xlabel="seconds", ylabel=y, ylim=(-BELOW * highest, highest), xlim=(0, None))
        axes.set_title(title)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        last = ", ".join(f"{name} ends at {steps[1][-1]:g}" for name, steps in series.items())
        return f"{title}. {y} over time: {last}."

    return draw(paint)
