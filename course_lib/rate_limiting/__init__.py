"""Scenario 2: limits on rate and concurrency that hold.

`TokenBucket` bounds a rate, `Gate` a rate and how many are inside at once, `Aimd` finds out how many
that should be, and `limited` puts a Runnable behind a gate and tries again what was rejected.

Beneath: a `Level` is the bucket's arithmetic, a `WaitingLine` lets those who wait pass in order, a
`Waiter` is one of them (a coroutine or a thread), and `Clock` tells the time.
"""

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
