"""At most one computation a key at a time among threads, for synchronous code."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from course_lib.caching.memory import Entry, Memory
    from course_lib.caching.policy import Policy
    from course_lib.caching.single_flight import Outcome
    from course_lib.caching.statistics import Counts
    from course_lib.caching.store_tier import Tier

__all__ = ["ThreadFlight"]

Compute: TypeAlias = "Callable[[list[Any]], Sequence[Outcome]]"
_INTERRUPTED: Final = object()


class _Leading(Future[Any]):
    """One key that a thread computes; others wait for its outcome."""

    def __init__(self, key: Hashable) -> None:
        super().__init__()
        self.key = key
        self.thread = threading.get_ident()


class ThreadFlight:
    """Finds out values that are not in memory: the first thread computes one, the others wait.

    Unlike a task, a thread cannot be cancelled, and computes for itself. If it is interrupted,
    those who wait take over.

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

    def join(self, keys: Sequence[Hashable], compute: Compute, ttl: float | None) -> list[Outcome]:
        """Return what becomes of each key; `keys` are distinct, and were not found in memory.

        Raises:
            RuntimeError: A computation asks for its own result.
            BaseException: The thread was interrupted.
        """
        flights, new = self._board(keys)
        if new:
            self._lead(new, compute, ttl)  # before it waits for others, who may wait for it
        return [self._outcome(flight, compute, ttl) for flight in flights]

    def disown(self, key: Hashable) -> None:
        """Give what is being computed to those who wait, and keep it for nobody else."""
        self.flights.pop(key, None)

    def _board(self, keys: Sequence[Hashable]) -> tuple[list[_Leading], list[_Leading]]:
        with self._memory.lock:
            for key in keys:
                if key in self.flights and self.flights[key].thread == threading.get_ident():
                    raise RuntimeError(
                        f"the computation of {key!r} asks the cache for {key!r}: compute it there "
                        "without the cache, or under another key"
                    )
            new = [_Leading(key) for key in keys if key not in self.flights]
            self.flights.update({flight.key: flight for flight in new})
            self._counts.misses += len(new)
            self._counts.coalesced += len(keys) - len(new)
            return [self.flights[key] for key in keys], new

    def _outcome(self, flight: _Leading, compute: Compute, ttl: float | None) -> Outcome:
        outcome = flight.result()
        if outcome is _INTERRUPTED:
            [outcome] = self.join([flight.key], compute, ttl)
        return outcome  # type: ignore[no-any-return]

    def _lead(self, flights: list[_Leading], compute: Compute, ttl: float | None) -> None:
        try:
            self._look_up(flights, compute, ttl)
        except Exception as error:  # noqa: BLE001 - it is raised by whoever gets the outcome
            for flight in flights:
                self._land(flight, (True, error))
        finally:
            for flight in flights:
                self._land(flight, _INTERRUPTED)  # without effect where it has landed

    def _look_up(self, flights: list[_Leading], compute: Compute, ttl: float | None) -> None:
        missing = flights if self._tier is None else self._from_store(flights, self._tier)
        if not missing:
            return
        start = self._memory.now()
        outcomes = compute([flight.key for flight in missing])
        cost = self._memory.now() - start
        kept = {}
        for flight, (failed, value) in zip(missing, outcomes, strict=True):
            if failed:
                self._land(flight, (True, value))
            elif (entry := self._keep(flight, self._entry(value, ttl, cost))) is not None:
                kept[str(flight.key)] = entry
        if self._tier is not None:
            self._tier.write_sync(kept)
        for flight, outcome in zip(missing, outcomes, strict=True):
            self._land(flight, outcome)

    def _from_store(self, flights: list[_Leading], tier: Tier) -> list[_Leading]:
        found = tier.read_sync([str(flight.key) for flight in flights])
        for flight in flights:
            if (entry := found.get(str(flight.key))) is not None:
                entry.weight = self._policy.weight(entry.value)
                self._keep(flight, entry)
                self._land(flight, (False, entry.value))
        with self._memory.lock:
            self._counts.misses -= len(found)
            self._counts.store_hits += len(found)
        return [flight for flight in flights if not flight.done()]

    def _entry(self, value: Any, ttl: float | None, cost: float) -> Entry:
        weight = self._policy.weight(value)
        with self._memory.lock:
            return self._policy.entry(value, weight, ttl=ttl, cost=cost)

    def _keep(self, flight: _Leading, entry: Entry) -> Entry | None:
        """Put an entry in memory and return it; None if the key was set or invalidated since."""
        with self._memory.lock:
            if self.flights.get(flight.key) is not flight:
                return None
            self._memory.put(flight.key, entry)
            return entry

    def _land(self, flight: _Leading, outcome: Any) -> None:
        if flight.done():
            return
        with self._memory.lock:  # before anybody wakes who may ask again
            current = self.flights.get(flight.key) is flight
            if current:
                del self.flights[flight.key]
            if outcome is not _INTERRUPTED and outcome[0]:
                self._counts.errors += 1
                if current and self._policy.negative_ttl:
                    self._memory.put(flight.key, self._policy.failure(outcome[1]))
        flight.set_result(outcome)
