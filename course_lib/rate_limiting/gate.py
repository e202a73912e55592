"""One gate for everything that calls a provider: rate and concurrency, decided together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from course_lib.checks import require_positive, require_seconds, require_whole
from course_lib.clock import Clock
from course_lib.rate_limiting.admission import Admission
from course_lib.rate_limiting.pool import Unmetered
from course_lib.rate_limiting.slot import Slot
from course_lib.rate_limiting.waiters import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from course_lib.rate_limiting.aimd import Policy
    from course_lib.rate_limiting.token_bucket import TokenBucket

__all__ = ["Gate", "GateStatistics"]


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """What a gate has done since it was made.

    Attributes:
        inside: Slots in use now.
        waiting: Callers that wait now.
        admitted: Callers let in.
        cancelled: Callers that gave up while they waited.
        rejected: Calls that the provider answered 429.
        rejected_by_step: The same, by the name given as `step`.
        waits: Seconds that those admitted have waited, in total.
        longest_wait: Seconds that the slowest of them waited.
        cooling: Seconds until the cool-down is over, 0.0 if there is none.
    """

    inside: int
    waiting: int
    admitted: int
    cancelled: int
    rejected: int
    rejected_by_step: Mapping[str, int]
    waits: float
    longest_wait: float
    cooling: float


class Gate:
    """Lets at most so many in at once, and none faster than a bucket allows.

        gate = Gate(concurrency=8, bucket=TokenBucket(rate=50, capacity=10))
        async with gate.slot():  # or `with gate.slot():` in a thread
            await client.search(question)

    - **One for all.** Calls of several batches, steps, event loops and threads may share it, and
      the limits hold for all of them together.
    - **Rate first, slot last.** Whoever is first in line waits for tokens while a slot is free,
      and takes both in one moment. Nobody occupies a slot while they wait for the rate. Nor are
      tokens put by while all slots are taken: what enters keeps the bucket's bound.
    - **Priority with ageing.** Higher goes first; equals in the order they came. A step of priority
      counts as much as `ageing` seconds of waiting, so nobody starves.
    - **A shared cool-down.** `cool_down(seconds)` holds everybody back. A `RateLimited` that leaves
      the block does that by itself, for its `retry_after`, and is counted under the slot's `step`.
    - **Nested calls.** A caller inside that asks for another slot (through a nested Runnable) uses
      the one it has, and pays the rate. Of several at once, each waits until the one before has
      left: so there is no deadlock, and never more than `concurrency` at work. Wrap the steps that
      call the provider, not the whole chain, where they are to run side by side.
    - Whoever is cancelled, wherever they are, costs nothing and delays nobody.
    - A synchronous `with` whose thread runs an event loop waits for the rate only: where it would
      have to wait for others to leave, who may need that loop, it raises a `RuntimeError`.

    It bounds what this process does: a provider may count otherwise. A call that is inside and
    hangs keeps its slot: set a timeout in the block, where it does not count the wait.

    Args:
        concurrency: How many may be inside at once.
        bucket: Their rate; other gates and chat models may share it. By default there is none.
        ageing: Seconds of waiting that outweigh one step of priority; None lets the higher go first
            for ever, so that the lower may starve.
        policy: Moves `concurrency` by what comes back, such as `Aimd()`.
        timer: Returns seconds, for a gate without a bucket; a bucket brings its own. See
            `TokenBucket`.

    Raises:
        ValueError: An argument is out of range, or both `bucket` and `timer` are given.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        bucket: TokenBucket | None = None,
        ageing: float | None = 30.0,
        policy: Policy | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        require_whole(concurrency=concurrency)
        if ageing is not None:
            require_positive(ageing=ageing)
        if bucket is not None and timer is not None:
            raise ValueError("timer= is given beside a bucket: give it to the bucket")
        rate = Line(Unmetered(), Clock(timer, exclusive=True)) if bucket is None else bucket.line
        self._bucket = bucket
        self._lock = rate.lock
        self._admission = Admission(concurrency, rate, ageing, policy)

    def __repr__(self) -> str:
        now = self.statistics()
        bucket = "" if self._bucket is None else f", {self._bucket!r}"
        cooling = f", cooling down for {now.cooling:.3g} s" if now.cooling else ""
        return f"<Gate {now.inside} of {self.concurrency} inside, {now.waiting} waiting{cooling}{bucket}>"

    @property
    def concurrency(self) -> int:
        """How many may be inside at once. May be set while it is in use.

        More slots are taken at once by those who wait. With fewer, nobody is evicted, and nobody
        else is let in until enough have left.
        """
        return self._admission.root.limit

    @concurrency.setter
    def concurrency(self, concurrency: int) -> None:
        require_whole(concurrency=concurrency)
        self._admission.resize(concurrency)

    def slot(self, *, weight: float = 1, priority: float = 0, step: str = "") -> Slot:
        """Return a place inside, to be entered with `async with` (or `with`, in a thread).

        Args:
            weight: Tokens it takes from the bucket. It is one slot, whatever the weight.
            priority: 0 or higher; higher goes first.
            step: What a 429 is counted under.

        Raises:
            ValueError: The weight could never be had, or the priority is below 0 or not finite.
        """
        if self._bucket is not None:
            self._bucket.check(weight)
        else:
            require_positive(weight=weight)
        if not (priority >= 0 and math.isfinite(priority)):
            raise ValueError(f"priority={priority!r}: 0 is the lowest; give others a higher one")
        return Slot(self._admission, weight, priority, step)

    def cool_down(self, seconds: float) -> None:
        """Let nobody in for a while; those inside go on.

        Args:
            seconds: For how long from now on. A cool-down that lasts longer stays as it is.

        Raises:
            ValueError: They are below 0 or not finite.
        """
        require_seconds(seconds=seconds)
        self._admission.cool_down(seconds)

    def statistics(self) -> GateStatistics:
        """Return what it has done, as a frozen value."""
        counts = self._admission
        with self._lock:
            return GateStatistics(
                inside=counts.root.inside,
                waiting=counts.waiting,
                admitted=counts.admitted,
                cancelled=counts.cancelled,
                rejected=counts.rejected.total(),
                rejected_by_step=MappingProxyType(dict(counts.rejected)),
                waits=counts.waits,
                longest_wait=counts.longest_wait,
                cooling=counts.cooling,
            )
