"""Sliders over an exact experiment: the picture follows the hand."""

from __future__ import annotations

import base64
import inspect
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.lab.plots import Picture

__all__ = ["Play", "play"]

Range = tuple[float, float, float] | list[str]


class Play:
    """A picture under sliders, shown as a cell's result.

    Stored, and where no widgets are shown, it is the picture as it is at the start.

    Attributes:
        picture: The picture that is shown now.
        values: The values that it was drawn with, by name.
    """

    def __init__(self, draw: Callable[..., Picture], ranges: dict[str, Range]) -> None:
        # The import costs 0.1 s and is for the cells that play.
        import ipywidgets  # noqa: PLC0415

        self._draw = draw
        self._controls = _controls(draw, ranges)
        self.values = {name: control.value for name, control in self._controls.items()}
        self.picture = draw(**self.values)
        self._frame = ipywidgets.HTML(_html(self.picture))
        self._box = ipywidgets.VBox([*self._controls.values(), self._frame])
        for control in self._controls.values():
            control.observe(self._redraw, names="value")

    def __repr__(self) -> str:
        return repr(self.picture)

    def _repr_mimebundle_(
        self,
        include: object = None,
        exclude: object = None,
    ) -> tuple[dict[str, object], dict[str, object]]:
        data, metadata = self.picture._repr_mimebundle_(include, exclude)
        return self._box._repr_mimebundle_() | data, metadata

    def _redraw(self, _change: object) -> None:
        """Draw with the values of now; where that fails, keep the picture and say why."""
        self.values = {name: control.value for name, control in self._controls.items()}
        try:
            self.picture = self._draw(**self.values)
        except Exception as error:  # noqa: BLE001 - nobody would see it: no cell is running
            remark = f"{type(error).__name__}: {error}"
        else:
            remark = ""
        self._frame.value = _html(self.picture, remark)


def _html(picture: Picture, remark: str = "") -> str:
    """Return the picture with its words, which `ipywidgets.Image` has no place for."""
    pixels = base64.b64encode(picture.png).decode()
    told = f'<p role="alert">{escape(remark)}</p>' if remark else ""
    return f'{told}<img alt="{escape(picture.alt)}" src="data:image/png;base64,{pixels}">'


def play(draw: Callable[..., Picture], **ranges: Range) -> Play:
    """Show what `draw` draws, under a slider for each of its arguments.

    Meant for experiments in virtual time, which take milliseconds: each move of a slider runs the
    experiment again.

        lab.play(lost_to_the_limit, rate=(10, 100, 5), load=(10, 200, 10))

    Args:
        draw: Returns a picture; its defaults are the values at the start.
        ranges: For each argument the lowest value, the highest and the step between, or a list of
            words to choose from.

    Returns:
        What the cell shows as its last line.

    Raises:
        TypeError: An argument has no default or no range, or a range is no range.
        ValueError: A default lies outside its range.
    """
    return Play(draw, ranges)


def _controls(draw: Callable[..., Picture], ranges: dict[str, Range]) -> dict[str, Any]:
    """Return a control for each argument of `draw`, in its order."""
    arguments = inspect.signature(draw).parameters
    if unknown := [name for name in ranges if name not in arguments]:
        raise TypeError(f"{draw.__name__}() has no argument {unknown[0]!r} to play with")
    for name, argument in arguments.items():
        if argument.default is inspect.Parameter.empty:
            raise TypeError(f"give {name!r} of {draw.__name__}() a default: its value at the start")
        if name not in ranges:
            raise TypeError(f"give {name!r} a range: {name}=(lowest, highest, step)")
    return {name: _control(name, arguments[name].default, ranges[name]) for name in arguments}


def _control(name: str, start: Any, allowed: Range) -> Any:
    """Return a slider for three numbers, and buttons for words."""
    import ipywidgets  # noqa: PLC0415 - as above

    label = {"description": name.replace("_", " "), "style": {"description_width": "8em"}}
    if isinstance(allowed, list):
        if start not in allowed:
            raise _outside(name, start, allowed)
        return ipywidgets.ToggleButtons(options=allowed, value=start, **label)
    try:
        low, high, step = (float(value) for value in allowed)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is (lowest, highest, step), or a list: {allowed!r}") from None
    if step <= 0:
        raise ValueError(f"{name} has a step of {step:g}, which leads nowhere")
    if not low <= start <= high:
        raise _outside(name, start, f"{low:g} to {high:g}")
    whole = all(isinstance(value, int) for value in (*allowed, start))
    slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    number = int if whole else float
    return slider(
        value=start, min=number(low), max=number(high), step=number(step),
        layout={"width": "32em", "max_width": "100%"}, **label,
    )  # fmt: skip


def _outside(name: str, start: object, allowed: object) -> ValueError:
    return ValueError(f"{name} begins at {start!r}, and its range is {allowed}")
