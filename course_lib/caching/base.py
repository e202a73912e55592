"""What a cache is made of: two tiers, a policy, and the computations under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from course_lib.caching.codec import JsonCodec
from course_lib.caching.memory import Memory
from course_lib.caching.policy import Policy, checked_ttl
from course_lib.caching.single_flight import SingleFlight
from course_lib.caching.statistics import CacheStatistics, Counts
from course_lib.caching.store_tier import Tier
from course_lib.caching.threads import ThreadFlight
from course_lib.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from langchain_core.stores import BaseStore

    from course_lib.caching.memory import Entry
    from course_lib.caching.single_flight import Outcome

__all__ = ["CacheBase"]


class CacheBase:
    """Holds what `AsyncCache` is made of; its arguments are explained there."""

    def __init__(
        self,
        *,
        ttl: float | None,
        maxsize: int | None,
        jitter: float = 0.0,
        negative_ttl: float = 0.0,
        early: float = 0.0,
        max_bytes: float | None = None,
        weigh: Callable[[Any], float] | None = None,
        copy: Callable[[Any], Any] | None = None,
        store: BaseStore[str, bytes] | None = None,
        store_timeout: float = 1.0,
        codec: JsonCodec | None = None,
        timer: Callable[[], float] | None = None,
        seed: int = 0,
    ) -> None:
        _check_sizes(maxsize, max_bytes, weigh, store_timeout)
        clock = Clock(timer, ageing=True)
        self._memory = memory = Memory(maxsize, max_bytes, clock)
        self._lock, self._find = memory.lock, memory.find  # looked up once
        self._policy = policy = Policy(
            clock,
            ttl=ttl,
            jitter=jitter,
            negative_ttl=negative_ttl,
            early=early,
            weigh=weigh,
            seed=seed,
        )
        self._counts = counts = Counts()
        self._tier = tier = (
            Tier(store, codec or JsonCodec(), memory, policy.ttl, store_timeout)
            if store is not None
            else None
        )
        self._flight = SingleFlight(memory, tier, policy, counts)
        self._threads = ThreadFlight(memory, tier, policy, counts)
        self._reads: dict[Hashable, object] = {}  # the last `get` that asked the store for a key
        self._copy = copy
        # Whether a value that is found is handed out as it is, with nothing else to think of.
        self._plain = copy is None and not policy.early and not policy.negative_ttl

    def __repr__(self) -> str:
        ttl, size = self._policy.ttl, self._memory.maxsize
        return (
            f"<{type(self).__name__} {len(self._memory.entries)} of {size:g} values, ttl={ttl:g} s, "
            f"{self.statistics().hit_ratio:.0%} hits>"
        )

    @property
    def has_store(self) -> bool:
        """Whether there is a second tier."""
        return self._tier is not None

    def statistics(self) -> CacheStatistics:
        """Return what it has done, as a frozen value."""
        memory, counts = self._memory, self._counts
        with memory.lock:
            return CacheStatistics(
                hits=memory.hits,
                store_hits=counts.store_hits,
                misses=counts.misses,
                coalesced=counts.coalesced,
                refreshes=counts.refreshes,
                evictions=memory.evictions,
                expired=memory.expired,
                errors=counts.errors,
                store_errors=self._tier.errors if self._tier else 0,
                size=len(memory.entries),
                bytes=memory.weight,
                in_flight=len(self._flight.flights) + len(self._threads.flights),
            )

    def find_many(self, keys: Iterable[Hashable]) -> list[Entry | None]:
        """Return what memory holds for each key, at less than a microsecond each.

        Args:
            keys: Keys, also more than once.

        Returns:
            An entry for each key, None for a miss. Entries are shared: do not change them.
        """
        return self._memory.find_many(list(keys))

    def count_coalesced(self) -> None:
        """Count a request that waits for another's, outside of this cache."""
        with self._lock:
            self._counts.coalesced += 1

    def _missing(self, keys: list[Any], found: list[Entry | None], ttl: float | None) -> list[Any]:
        """Return the keys that were not found, each once; the others of each count as coalesced."""
        missing = list({key: None for key, entry in zip(keys, found, strict=True) if entry is None})
        for key in missing:
            self._checked(key, ttl)
        with self._lock:
            self._counts.coalesced += found.count(None) - len(missing)
        return missing

    def _given(
        self,
        keys: list[Any],
        found: list[Entry | None],
        late: dict[Any, Outcome],
        *,
        return_exceptions: bool,
    ) -> list[Any]:
        """Return the values of `keys`, those that were found and those that came late."""
        outcomes = [
            late[key] if entry is None else (entry.failed, entry.value)
            for key, entry in zip(keys, found, strict=True)
        ]
        if not return_exceptions:
            return [self._give(*outcome) for outcome in outcomes]
        return [value if failed else self._give(failed, value) for failed, value in outcomes]

    def _is_due(self, entry: Entry) -> bool:
        if not self._policy.early:
            return False
        with self._lock:
            return self._policy.is_due(entry)

    def _new_entry(self, key: Hashable, value: Any, ttl: float | None) -> Entry:
        """Put a value in memory and return its entry; what is computed for the key is void."""
        self._checked(key, ttl)
        value = value if self._copy is None else self._copy(value)
        weight = self._policy.weight(value)
        with self._lock:
            self._forget(key)
            entry = self._policy.entry(value, weight, ttl=ttl)
            self._memory.put(key, entry)
            return entry

    def _begin_read(self, key: Hashable) -> object:
        """Note that `get` asks the store, whose answer is void once the key is set or dropped."""
        mark = object()
        with self._lock:
            self._reads[key] = mark
        return mark

    def _end_read(self, key: Hashable, mark: object) -> bool:
        """Return whether the store's answer may be kept."""
        with self._lock:
            current = self._reads.get(key) is mark
            if current:
                del self._reads[key]
            return current

    def _take(self, key: Hashable, entry: Entry | None, *, current: bool) -> None:
        """Count what the store answered, and keep it in memory if it may be."""
        if entry is not None:
            entry.weight = self._policy.weight(entry.value)
        with self._lock:
            self._counts.misses += entry is None
            self._counts.store_hits += entry is not None
            if entry is not None and current:
                self._memory.put(key, entry)

    def _miss(self, failure: Entry | None) -> None:
        """Count a miss; an error that was found in the place of a value is one."""
        with self._lock:
            self._counts.misses += 1
            self._memory.hits -= failure is not None

    def _drop(self, key: Hashable) -> bool:
        """Forget a key in memory; return whether there was something to be used."""
        with self._lock:
            held = self._memory.has(key)
            self._forget(key)
            return held

    def _drop_all(self) -> None:
        with self._lock:
            self._memory.clear()
            self._flight.flights.clear()
            self._threads.flights.clear()
            self._reads.clear()

    def _forget(self, key: Hashable) -> None:
        self._memory.drop(key)
        self._flight.flights.disown([key])
        self._threads.disown(key)
        self._reads.pop(key, None)

    def _give(self, failed: bool, value: Any) -> Any:  # noqa: FBT001 - an outcome
        if failed:
            raise value.with_traceback(None)  # or it would grow with each time it is raised
        return value if self._copy is None else self._copy(value)

    def _checked(self, key: Hashable, ttl: float | None) -> float | None:
        if ttl is not None:
            checked_ttl(ttl)
        if self._tier is not None:
            self._checked_key(key)
        return ttl

    def _checked_key(self, key: Hashable) -> str:
        if not isinstance(key, str):
            raise TypeError(
                f"key={key!r:.80}: with a store keys are str; make one with `stable_key(...)`"
            )
        return key


def _check_sizes(
    maxsize: int | None,
    max_bytes: float | None,
    weigh: Callable[[Any], float] | None,
    store_timeout: float,
) -> None:
    if maxsize is not None and maxsize < 1:
        raise ValueError(f"maxsize={maxsize!r} keeps nothing: at least 1, or None for any number")
    if max_bytes is not None and not max_bytes > 0:
        raise ValueError(f"max_bytes={max_bytes!r} keeps nothing: give bytes above 0, or None")
    if (max_bytes is None) != (weigh is None):
        raise ValueError("max_bytes= and weigh= go together: give both, or neither")
    if not store_timeout > 0:
        raise ValueError(f"store_timeout={store_timeout!r}: give seconds above 0")
