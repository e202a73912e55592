"""The closing checklist: each line is ticked by a value that a cell computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

__all__ = ["Checklist", "checklist"]


@dataclass(frozen=True, slots=True, repr=False)
class Checklist:
    """Statements with a tick or a cross.

    Attributes:
        lines: Whether each statement holds.
    """

    lines: Mapping[str, bool]

    @property
    def complete(self) -> bool:
        """Whether every statement holds."""
        return all(self.lines.values())

    def __repr__(self) -> str:
        return "\n".join(f"{'✔' if held else '✘'} {text}" for text, held in self.lines.items())

    def _repr_html_(self) -> str:
        rows = (
            f'<div><b style="color:{"#009E73" if held else "#D55E00"}">'
            f"{'✔' if held else '✘'}</b> {escape(text)}</div>"
            for text, held in self.lines.items()
        )
        return "".join(rows)


def checklist(lines: Mapping[str, object]) -> Checklist:
    """Return the statements, ticked where the value beside them is true.

    Args:
        lines: What holds if the value, computed by a cell above, is true.
    """
    return Checklist({text: bool(held) for text, held in lines.items()})
