"""Which clock an event loop keeps: the machine's, as threads do, or one of its own (virtual time).

What threads and loops share (a gate, a cache, a monitor) asks here, and so do those who wait by
real time only and have to refuse a loop that does not.
"""

from __future__ import annotations

import asyncio
import time

# The documented `asyncio.get_running_loop` raises where no loop runs, and each step of a thread would
# pay for that exception. This one returns None there. In spite of its name it is public: it stands
# in `asyncio.events.__all__`, for writers of event loops.
from asyncio import _get_running_loop as running_loop
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["running_loop", "timer_of"]


def timer_of(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    """Return the function that tells a loop's time: `time.monotonic`, unless it keeps its own.

    asyncio's loops keep the machine's time. So does uvloop, and says so in other words: its `time`
    is its own, though what it tells is the machine's.

    Args:
        loop: The loop, or None where none runs.

    Returns:
        A function that returns seconds. It is `time.monotonic` itself for all that keep the
        machine's time, so that two timers are compared by identity.
    """
    if loop is None or type(loop).time is asyncio.BaseEventLoop.time:
        return time.monotonic
    if type(loop).__module__.partition(".")[0] == "uvloop":
        return time.monotonic
    return loop.time
