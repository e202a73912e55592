"""Scenario 5: monitoring that finds the bottleneck.

`PerformanceMonitor` records calls and makes a `Report` of them; `Histogram` is what it counts in.

`bottleneck` names the step that the pipeline waits for, `littles_law` checks the report's figures,
`diff` sets two reports side by side, `LoopLag` finds what blocks the event loop, and `fit_usl` says
how far it will scale. `to_prometheus`, `to_chrome_trace`, `write_trace` and `to_json_lines` export.
"""

from typing import TYPE_CHECKING, Any

from course_lib.extras import needs
from course_lib.monitoring.bottleneck import Bottleneck, bottleneck
from course_lib.monitoring.export import to_chrome_trace, to_json_lines, to_prometheus, write_trace
from course_lib.monitoring.histogram import Distribution, Histogram
from course_lib.monitoring.littles_law import LittlesLaw, littles_law
from course_lib.monitoring.loop_lag import LoopLag
from course_lib.monitoring.monitor import PerformanceMonitor
from course_lib.monitoring.report import Report, Span, StepReport
from course_lib.monitoring.report_diff import ReportDiff, StepDiff, diff
from course_lib.monitoring.station import Station

if TYPE_CHECKING:
    from course_lib.monitoring.usl import UslFit, fit_usl

__all__ = [
    "Bottleneck",
    "Distribution",
    "Histogram",
    "LittlesLaw",
    "LoopLag",
    "PerformanceMonitor",
    "Report",
    "ReportDiff",
    "Span",
    "Station",
    "StepDiff",
    "StepReport",
    "UslFit",
    "bottleneck",
    "diff",
    "fit_usl",
    "littles_law",
    "to_chrome_trace",
    "to_json_lines",
    "to_prometheus",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    """Load the fit, and numpy with it, when it is asked for: it doubles the time of an import."""
    if name in ("UslFit", "fit_usl"):
        with needs("monitoring"):
            from course_lib.monitoring import usl  # noqa: PLC0415 - see above

        return getattr(usl, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
