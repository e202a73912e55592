"""The provider: a real HTTP service on this machine, in a process of its own.

    from course_lib import service

    with service.running(latency=service.Latency.constant(0.1)) as provider:
        ...  # call provider.url, then read provider.ledger()

It plays somebody else's system, so it uses nothing else of this package. It answers `/search` over
a handbook of short passages; how fast, how often and how reliably is set by value objects.

What is imported `as` itself is for the bench, which plays the provider in virtual time.
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
from course_lib.service.engine import Admitted as Admitted
from course_lib.service.engine import Dropped as Dropped
from course_lib.service.engine import Engine as Engine
from course_lib.service.engine import Failed as Failed
from course_lib.service.engine import Rejected as Rejected
from course_lib.service.engine import TooLarge as TooLarge
from course_lib.service.ledger import NO_ANSWER as NO_ANSWER
from course_lib.service.ledger import Call, Ledger
from course_lib.service.ledger import Recorder as Recorder
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
