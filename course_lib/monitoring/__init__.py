"""Scenario 5: monitoring that finds the bottleneck.

`PerformanceMonitor` records calls and makes a `Report` of them; `Histogram` is what it counts in.
"""

from course_lib.monitoring.histogram import Distribution, Histogram
from course_lib.monitoring.monitor import PerformanceMonitor
from course_lib.monitoring.report import Report, StepReport
from course_lib.monitoring.spans import Span

__all__ = ["Distribution", "Histogram", "PerformanceMonitor", "Report", "Span", "StepReport"]
