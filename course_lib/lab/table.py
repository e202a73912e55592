"""A small table that reads well in a notebook, in a terminal and in a stored output."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Table"]

CELL = "padding:2px 12px;text-align:{align}"


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Rows of text under a head.

    Attributes:
        head: Names of the columns; the first column is aligned left, the others right.
        rows: The cells, as text with their units.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __repr__(self) -> str:
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        return "\n".join(_padded(line, widths) for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(_cell("th", i, text) for i, text in enumerate(self.head))
        rows = ("".join(_cell("td", i, text) for i, text in enumerate(row)) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _padded(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if i else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def _cell(tag: str, column: int, text: str) -> str:
    style = CELL.format(align="right" if column else "left")
    return f'<{tag} style="{style}">{escape(text)}</{tag}>'
