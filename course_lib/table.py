"""Tables, such as that of a report: text in a terminal, HTML in a notebook."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from course_lib.monitoring.report import Report
    from course_lib.monitoring.step_report import StepReport

__all__ = ["as_html", "as_text", "duration", "html_table", "number", "text_table"]

_CELL = "padding:2px 12px;text-align:{align}"
_HEAD = ("step", "calls", "errors", "cancelled", "mean", "p50", "p95", "p99", "max", "wait p99")
_UNITS = (("s", 0.9995), ("ms", 0.9995e-3))  # seconds from which on: 999.6 ms is 1 s
_PER_SECOND = {"s": 1, "ms": 1e3, "µs": 1e6}
_RATES = ("throughput", "in flight")


def as_text(report: Report) -> str:
    """Return the table of a report in columns."""
    return text_table(_lines(report))


def as_html(report: Report) -> str:
    """Return the same table in HTML."""
    return html_table(_lines(report))


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


def _row(step: StepReport) -> tuple[str, ...]:
    counts = (step.count, step.errors, step.cancelled)
    service = (step.mean, step.p50, step.p95, step.p99, step.maximum)
    return (
        step.name,
        *(f"{count:,}" for count in counts),
        *map(duration, (*service, step.wait.quantile(0.99))),
        f"{number(step.throughput)}/s",
        number(step.mean_in_flight),
    )


def _lines(report: Report) -> list[tuple[str, ...]]:
    return [(*_HEAD, *_RATES), *map(_row, report.steps.values())]


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(
        f'<{tag} style="{_CELL.format(align="right" if column else "left")}">{escape(cell)}</{tag}>'
        for column, cell in enumerate(cells)
    )
