"""The provider: a real HTTP service on this machine, in a process of its own.

    from course_lib import service

    with service.running(latency=service.Latency.constant(0.1)) as provider:
        ...  # call provider.url, then read provider.ledger()

It plays somebody else's system, so it uses nothing else of this package. It answers `/search` over
a handbook of short passages; how fast, how often and how reliably is set by value objects.
"""

from course_lib.service.behaviour import (
    Behaviour,
    Capacity,
    Faults,
    Generation,
    Latency,
    RateLimit,
    TokenLimit,
)
from course_lib.service.ledger import Call, Ledger
from course_lib.service.process import Provider, running, start

__all__ = [
    "Behaviour",
    "Call",
    "Capacity",
    "Faults",
    "Generation",
    "Latency",
    "Ledger",
    "Provider",
    "RateLimit",
    "TokenLimit",
    "running",
    "start",
]
