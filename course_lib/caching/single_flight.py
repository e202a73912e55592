"""At most one computation a key at a time, whoever asks and whoever gives up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from course_lib.caching.flight import Flight, Flights, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from course_lib.caching.memory import Entry, Memory
    from course_lib.caching.policy import Policy
    from course_lib.caching.statistics import Counts
    from course_lib.caching.store_tier import Tier

__all__ = ["Outcome", "SingleFlight"]

Outcome: TypeAlias = tuple[bool, Any]  # whether it failed; the value or the error
Compute: TypeAlias = "Callable[[list[Any]], Awaitable[Sequence[Outcome]]]"


class SingleFlight:
    """Finds out values that are not in memory: waits for who computes them, or has them computed.

    The computation is a task of its own, in a copy of the context of whoever came first. It goes on
    as long as anybody waits for one of its values; when nobody does any more, it is cancelled.
    A value that was set or invalidated meanwhile is given to those who wait, but not kept.

    Args:
        memory: The first tier.
        tier: The second, if there is one.
        policy: How long what is kept.
        counts: What is counted.
    """

    def __init__(self, memory: Memory, tier: Tier | None, policy: Policy, counts: Counts) -> None:
        self.flights = Flights()
        self._memory = memory
        self._tier = tier
        self._policy = policy
        self._counts = counts
        self._refreshing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def join(
        self, keys: Sequence[Hashable], compute: Compute, ttl: float | None
    ) -> list[Outcome]:
        """Return what becomes of each key; `keys` are distinct, and were not found in memory.

        Raises:
            asyncio.CancelledError: The caller was cancelled, or the computation was.
            RuntimeError: A computation asks for its own result.
        """
        with self._memory.lock:
            flights, new = self._board(keys)
        try:
            if new:
                self._start(new, lambda: self._look_up(new, compute, ttl))
            return [await flight.outcome() for flight in flights]
        finally:
            self._leave(flights)

    def refresh(self, key: Hashable, compute: Compute, ttl: float | None) -> None:
        """Begin to compute a value anew that is still good; nobody waits for it."""
        with self._memory.lock:
            here = self.flights.here()
            if key in here:
                return
            flight = here[key] = Flight(key, Work())
            flight.waiters = 1  # which never leaves
            self._counts.refreshes += 1
        task = self._start([flight], lambda: self._compute([flight], compute, ttl))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    def _board(self, keys: Sequence[Hashable]) -> tuple[list[Flight], list[Flight]]:
        here = self.flights.here()
        for key in keys:
            if key in here:
                here[key].refuse_itself()
        work = Work()
        new = []
        for key in keys:
            if key not in here:
                here[key] = Flight(key, work)
                new.append(here[key])
            here[key].waiters += 1
        self._counts.misses += len(new)
        self._counts.coalesced += len(keys) - len(new)
        return [here[key] for key in keys], new

    def _leave(self, flights: list[Flight]) -> None:
        with self._memory.lock:
            for flight in flights:
                flight.waiters -= 1
                if not flight.waiters and not flight.landed:
                    self.flights.remove([flight])
                    flight.abandon()

    def _start(
        self, flights: list[Flight], steps: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None]:
        work = flights[0].work
        task = asyncio.get_running_loop().create_task(self._fly(flights, steps))
        work.task = task
        task.add_done_callback(lambda _: self._end(flights))
        return task

    async def _fly(self, flights: list[Flight], steps: Callable[[], Awaitable[None]]) -> None:
        flights[0].work.enter()
        try:
            await steps()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self._fail(flights, error)

    def _end(self, flights: list[Flight]) -> None:
        """Let nobody wait for what will not come: the task may have been cancelled by others."""
        with self._memory.lock:
            self.flights.remove(flights)
        flights[0].work.task = None  # whose context holds the work: a circle, left to the collector
        for flight in flights:
            flight.land(None)

    async def _look_up(self, flights: list[Flight], compute: Compute, ttl: float | None) -> None:
        """Land the flights whose value is in the second tier; compute the others."""
        if self._tier is not None:
            found = await self._tier.read([str(flight.key) for flight in flights])
            landed = [flight for flight in flights if str(flight.key) in found]
            flights = [flight for flight in flights if str(flight.key) not in found]
            with self._memory.lock:
                self._counts.misses -= len(landed)
                self._counts.store_hits += len(landed)
            for flight in landed:
                entry = found[str(flight.key)]
                entry.weight = self._policy.weight(entry.value)
                self._keep(flight, entry)
                self._land(flight, entry.value)
        if flights:
            await self._compute(flights, compute, ttl)

    async def _compute(self, flights: list[Flight], compute: Compute, ttl: float | None) -> None:
        start = self._memory.now()
        outcomes = await compute([flight.key for flight in flights])
        cost = self._memory.now() - start
        if len(outcomes) != len(flights):
            raise ValueError(
                f"{len(flights)} values were to be computed, and {len(outcomes)} came back: "
                "return one for each key, in the order of the keys"
            )
        good = []
        for flight, (failed, value) in zip(flights, outcomes, strict=True):
            if failed:
                self._fail([flight], value)
            else:
                good.append((flight, self._entry(value, ttl, cost)))
        kept = {str(flight.key): entry for flight, entry in good if self._keep(flight, entry)}
        if self._tier is not None:
            await self._tier.write(kept)
        for flight, entry in good:
            self._land(flight, entry.value)

    def _entry(self, value: Any, ttl: float | None, cost: float) -> Entry:
        weight = self._policy.weight(value)
        with self._memory.lock:
            return self._policy.entry(value, weight, ttl=ttl, cost=cost)

    def _keep(self, flight: Flight, entry: Entry) -> bool:
        """Put an entry in memory, unless the key was set or invalidated since it took off."""
        with self._memory.lock:
            current = self.flights.is_current(flight)
            if current:
                self._memory.put(flight.key, entry)
            return current

    def _land(self, flight: Flight, value: Any) -> None:
        with self._memory.lock:  # before anybody wakes who may ask again
            self.flights.remove([flight])
        flight.land((False, value))

    def _fail(self, flights: Sequence[Flight], error: Exception) -> None:
        for flight in flights:
            with self._memory.lock:
                self._counts.errors += not flight.landed
                if (
                    self._policy.negative_ttl
                    and self.flights.is_current(flight)
                    and not self._memory.has(flight.key)
                ):
                    self._memory.put(flight.key, self._policy.failure(error))
                self.flights.remove([flight])
            flight.land((True, error))
