"""Scenario 2: limits on rate and concurrency that hold."""

from course_lib.rate_limiting.aimd import Aimd, Policy
from course_lib.rate_limiting.gate import Gate, GateStatistics
from course_lib.rate_limiting.limited import Limited, limited
from course_lib.rate_limiting.token_bucket import BucketStatistics, TokenBucket

__all__ = [
    "Aimd",
    "BucketStatistics",
    "Gate",
    "GateStatistics",
    "Limited",
    "Policy",
    "TokenBucket",
    "limited",
]
