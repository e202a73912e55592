"""For a beamer: larger type in the notebook, larger pictures with the same layout."""

from dataclasses import dataclass

__all__ = ["Projector", "projector"]

LARGER = """<style>:root {
  --jp-code-font-size: 18px; --jp-content-font-size1: 19px; --jp-code-line-height: 1.4; }
</style>"""
AS_BEFORE = "<style></style>"


@dataclass(frozen=True, slots=True, repr=False)
class Projector:
    """Whether the notebook is shown for a beamer; as a cell's result it changes the page's type.

    Attributes:
        on: Whether it is.
    """

    on: bool

    def __repr__(self) -> str:
        return f"projector {'on: larger type, larger pictures' if self.on else 'off'}"

    def _repr_html_(self) -> str:
        return f"{LARGER if self.on else AS_BEFORE}<p>{self!r}</p>"


def projector(on: bool = True) -> Projector:  # noqa: FBT001, FBT002 - lab.projector(False) reads well
    """Show the notebook for a beamer, from the cell on that ends with this call.

    Larger type lasts as long as that cell's output stands in the page; pictures are larger that are
    drawn from now on.

    Args:
        on: False ends it.
    """
    from course_lib.lab.plots import project  # noqa: PLC0415 - matplotlib, where it is asked for

    project(on=on)
    return Projector(on)
