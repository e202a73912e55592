"""Scenario 3: batching strategies."""

from course_lib.batching.outcome import Outcome
from course_lib.batching.outcomes import Outcomes
from course_lib.batching.retry import Backoff
from course_lib.batching.window import amap

__all__ = ["Backoff", "Outcome", "Outcomes", "amap"]
