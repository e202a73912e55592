"""At most one computation a key at a time among threads, for synchronous code."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from course_lib.caching.memory import Entry, Memory
    from course_lib.caching.policy import Policy
    from course_lib.caching.statistics import Counts
    from course_lib.caching.tier import Tier

__all__ = ["ThreadFlight"]

_INTERRUPTED = object()


class _Leading(Future[Any]):
    """What other threads wait for while the thread that came first computes."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()


class ThreadFlight:
    """Finds out a value that is not in memory: the first thread computes it, the others wait.

    Unlike a task, a thread cannot be cancelled, and computes for itself. If it is interrupted,
    the next one that waits takes over.

    Args:
        memory: The first tier.
        tier: The second, if there is one.
        policy: How long what is kept.
        counts: What is counted.
    """

    def __init__(self, memory: Memory, tier: Tier | None, policy: Policy, counts: Counts) -> None:
        self.flights: dict[Hashable, _Leading] = {}
        self._memory = memory
        self._tier = tier
        self._policy = policy
        self._counts = counts

    def join(self, key: Hashable, compute: Callable[[], Any], ttl: float | None) -> Any:
        """Return the value of a key that was not found in memory.

        Raises:
            RuntimeError: The computation asks for its own result.
            Exception: Whatever the computation raised.
        """
        flight, leads = self._board(key)
        if leads:
            return self._lead(key, flight, compute, ttl)
        while (value := flight.result()) is _INTERRUPTED:
            with self._memory.lock:
                flight = self.flights.setdefault(key, own := _Leading())
            if flight is own:
                return self._lead(key, flight, compute, ttl)
        return value

    def disown(self, key: Hashable) -> None:
        """Give what is being computed to those who wait, and keep it for nobody else."""
        self.flights.pop(key, None)

    def _board(self, key: Hashable) -> tuple[_Leading, bool]:
        with self._memory.lock:
            flight = self.flights.setdefault(key, own := _Leading())
            if flight is own:
                self._counts.misses += 1
                return flight, True
            if flight.thread == threading.get_ident():
                raise RuntimeError(
                    f"the computation of {key!r} asks the cache for {key!r}: compute it there "
                    "without the cache, or under another key"
                )
            self._counts.coalesced += 1
            return flight, False

    def _lead(
        self, key: Hashable, flight: _Leading, compute: Callable[[], Any], ttl: float | None
    ) -> Any:
        try:
            value = self._look_up(key, flight, compute, ttl)
        except Exception as error:
            self._fail(key, flight, error)
            flight.set_exception(error)
            raise
        except BaseException:  # KeyboardInterrupt: it is this thread's alone
            self._remove(key, flight)
            flight.set_result(_INTERRUPTED)
            raise
        self._remove(key, flight)
        flight.set_result(value)
        return value

    def _look_up(
        self, key: Hashable, flight: _Leading, compute: Callable[[], Any], ttl: float | None
    ) -> Any:
        if self._tier is not None:
            found = self._tier.read_sync([str(key)])
            if (entry := found.get(str(key))) is not None:
                with self._memory.lock:
                    self._counts.misses -= 1
                    self._counts.store_hits += 1
                self._keep(key, flight, entry)
                return entry.value
        start = monotonic()
        value = compute()
        cost = monotonic() - start
        weight = self._policy.weight(value)
        with self._memory.lock:
            entry = self._policy.entry(value, weight, ttl=ttl, cost=cost)
        if self._keep(key, flight, entry) and self._tier is not None:
            self._tier.write_sync({str(key): entry})
        return value

    def _keep(self, key: Hashable, flight: _Leading, entry: Entry) -> bool:
        with self._memory.lock:
            current = self.flights.get(key) is flight
            if current:
                self._memory.put(key, entry)
            return current

    def _fail(self, key: Hashable, flight: _Leading, error: Exception) -> None:
        with self._memory.lock:
            self._counts.errors += 1
            if self._policy.negative_ttl and self.flights.get(key) is flight:
                self._memory.put(key, self._policy.failure(error))
        self._remove(key, flight)

    def _remove(self, key: Hashable, flight: _Leading) -> None:
        with self._memory.lock:
            if self.flights.get(key) is flight:
                del self.flights[key]
