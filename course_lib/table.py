"""Tables: text in a terminal and in a stored output, HTML in a notebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Table", "duration", "html_table", "number", "text_table"]

_CELL = "padding:2px 12px;text-align:{align}"
_UNITS = (("s", 0.9995), ("ms", 0.9995e-3))  # seconds from which on: 999.6 ms is 1 s
_PER_SECOND = {"s": 1, "ms": 1e3, "µs": 1e6}


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
        return text_table([self.head, *self.rows])

    def _repr_html_(self) -> str:
        return html_table([self.head, *self.rows])


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Return cells in columns, the first one aligned left, the others right.

    Args:
        lines: The head and the rows, of as many cells each.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def html_table(lines: Sequence[Sequence[str]]) -> str:
    """Return the same in HTML."""
    head, *rows = lines
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def duration(seconds: float) -> str:
    """Return seconds with three figures and a unit that suits them."""
    if math.isnan(seconds):
        return "-"
    unit = next((unit for unit, least in _UNITS if seconds >= least), "µs")
    return f"{number(seconds * _PER_SECOND[unit])} {unit}"


def number(value: float) -> str:
    """Return a number with three figures, or with all that are before the point."""
    if math.isnan(value):
        return "-"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"  # noqa: PLR2004 - 3 figures


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(
        f'<{tag} style="{_CELL.format(align="right" if column else "left")}">{escape(cell)}</{tag}>'
        for column, cell in enumerate(cells)
    )
