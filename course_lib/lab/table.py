"""A small table that reads well in a notebook, in a terminal and in a stored output."""

from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.table import html_table, text_table

__all__ = ["Table"]


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
