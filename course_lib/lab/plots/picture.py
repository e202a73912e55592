"""A drawn figure with its text alternative."""

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import resources

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "Picture",
    "beside",
    "draw",
    "in_style",
    "name_rows",
    "project",
]

STYLE = str(resources.files("course_lib.lab.plots") / "course.mplstyle")

BEAMER = {"figure.dpi": 136, "savefig.dpi": 136, "lines.linewidth": 2.5}
"""On top of the style: the same layout, larger as a whole, with lines that carry across a room."""

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#555555"
"""The style's colours by name: blue and orange to compare, green for good, red for bad."""

_projected = False


def project(*, on: bool) -> None:
    """Draw what is drawn from now on for a beamer, or no more."""
    global _projected  # noqa: PLW0603 - one beamer a kernel
    _projected = on


def in_style() -> AbstractContextManager[None]:
    """Draw in the course's style for the length of a `with` block."""
    chosen: AbstractContextManager[None] = style.context([STYLE, BEAMER] if _projected else STYLE)
    return chosen


class Picture:
    """A figure as PNG, and the same message in words for those who do not see it.

    Displayed as the last expression of a cell. It is drawn once, when it is made, outside pyplot,
    so that no figure stays open.

    Args:
        figure: A drawn figure; kept as `.figure` to be changed or saved.
        alt: The message of the picture in one or two sentences.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        self.figure = figure
        self.alt = alt
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        self.png = buffer.getvalue()

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(
        self,
        include: object = None,
        exclude: object = None,
    ) -> tuple[dict[str, object], dict[str, object]]:
        del include, exclude  # both forms are always wanted
        return (
            {"image/png": self.png, "text/plain": self.alt},
            {"image/png": {"alt": self.alt}},
        )


def draw(paint: Callable[[Axes], str], *, size: tuple[float, float] | None = None) -> Picture:
    """Return what `paint` draws on fresh axes, in the course's style.

    Args:
        paint: Draws on the axes it is given and returns the text alternative.
        size: Width and height in inches; by default the style's.
    """
    with in_style():
        figure = Figure(figsize=size)
        alt = paint(figure.subplots())
        return Picture(figure, alt)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart of horizontal bars, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def beside(axes: Axes, end: float, row: int, text: str) -> None:
    """Write a figure beside a horizontal bar that ends there."""
    axes.annotate(text, (end, row), xytext=(6, 0), textcoords="offset points", va="center")
