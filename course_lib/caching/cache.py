"""A cache for asynchronous code: bounded, with a time to live, and one computation a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.caching.clock import Clock
from course_lib.caching.codec import JsonCodec
from course_lib.caching.memory import Memory
from course_lib.caching.policy import Policy, checked_ttl
from course_lib.caching.single_flight import SingleFlight
from course_lib.caching.statistics import CacheStatistics, Counts
from course_lib.caching.threads import ThreadFlight
from course_lib.caching.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

    from langchain_core.stores import BaseStore

    from course_lib.caching.memory import Entry
    from course_lib.caching.single_flight import Outcome

__all__ = ["AsyncCache"]

T = TypeVar("T")


class AsyncCache:
    """Keeps values by key: the most recently used ones, each for a limited time.

        cache = AsyncCache(ttl=60, maxsize=1_000)
        answer = await cache.get_or_compute(question, lambda: ask(question))

    Any value is one like any other: `None`, `0`, `""` and `[]` are kept, too. Of many who ask for a
    key that is not there, one leads to a computation and the others wait for it. The computation
    belongs to nobody: it goes on when the first caller is cancelled, and is cancelled when nobody
    waits any more. Its error is raised in everybody who waits, and is not kept.

    May be used by several threads and event loops, also one after another. Each event loop
    computes for itself, and threads do among themselves; what one has found, all find.

    Values are handed out as they are: who changes one changes it for all. Cache what cannot be
    changed (a tuple for a list), or give `copy=`.

    Args:
        ttl: Seconds that a value is kept; None for ever. It is an upper bound in every tier.
        maxsize: Most values in memory; None for any number. The least recently used goes first.
        jitter: Share of the ttl, from 0 to below 1. Each value's time is shortened by a share of
            its own, drawn between 0 and this, so that what came together does not go together.
        negative_ttl: Seconds that an error is kept and raised again; 0 for not at all.
        early: How eagerly values are computed anew, in the background, before their time is over
            (XFetch's beta; see `Policy.is_due`): 0 for never, 1 for the usual eagerness.
        max_bytes: Most bytes in memory, as `weigh` says; None for any number.
        weigh: Returns the bytes of a value. What alone is heavier than `max_bytes` is not kept.
        copy: Makes the copy of a value that each caller gets, such as `copy.deepcopy`.
        store: A second tier, asked on a miss in memory, that others may share and that may outlive
            the process: `SqliteStore(path)` or another `BaseStore[str, bytes]`. With it, keys are
            str, and values are what `codec` can write. Where it fails, the cache goes on without.
        store_timeout: Seconds that the store may take for a call.
        codec: Writes values for the store; by default a `JsonCodec()`.
        timer: Returns seconds that never go back; by default the running event loop's time where
            it has one of its own (virtual time), and `time.monotonic` otherwise.
        seed: What the draws for `jitter` and `early` start from.

    Raises:
        ValueError: An argument is out of range.
        TypeError: `store` is no langchain BaseStore.
    """

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
        clock = Clock(timer)
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
        self._plain = copy is None and not policy.early

    def __repr__(self) -> str:
        ttl, size = self._policy.ttl, self._memory.maxsize
        return (
            f"<AsyncCache {len(self._memory.entries)} of {size:g} values, ttl={ttl:g} s, "
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

    async def get_or_compute(
        self, key: Hashable, compute: Callable[[], Awaitable[T]], *, ttl: float | None = None
    ) -> T:
        """Return the value of a key, and have it computed if it is not there.

        Args:
            key: What the value is kept under: hashable, and a str where there is a store.
            compute: Coroutine function without arguments that returns the value. It is called in a
                task of its own, in a copy of the context of the caller who came first.
            ttl: Seconds that the value is kept, if not as given for all.

        Raises:
            TypeError: The key is not hashable, or not a str where there is a store.
            ValueError: `ttl` is out of range.
            RuntimeError: The computation asks the cache for its own result.
            asyncio.CancelledError: The caller was cancelled, or the computation itself was.
            Exception: Whatever the computation raised.
        """
        entry = self._find(key)
        if entry is None:
            [outcome] = await self._flight.join([key], _one(compute), self._checked(key, ttl))
            return self._give(*outcome)  # type: ignore[no-any-return]
        if self._plain and not entry.failed:
            return entry.value  # type: ignore[no-any-return]
        if self._policy.is_due(entry):
            self._flight.refresh(key, _one(compute), self._checked(key, ttl))
        return self._give(entry.failed, entry.value)  # type: ignore[no-any-return]

    async def get_or_compute_many(
        self,
        keys: Iterable[Hashable],
        compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
        *,
        ttl: float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the values of many keys, and have those computed that are not there, in one call.

        A hit costs no task. A key that is given twice is computed once, and a key that is being
        computed already is waited for. When one computation fails, the others are still kept.

        Args:
            keys: What the values are kept under; see `get_or_compute`.
            compute: Coroutine function that is given the keys to compute and returns their values
                in the same order; an exception among them is the error of that key.
            ttl: Seconds that the values are kept, if not as given for all.
            return_exceptions: Whether to return errors in the place of values.

        Returns:
            The values, in the order of `keys`.

        Raises:
            Exception: Without `return_exceptions`, when all is done, the first error in the order
                of `keys`. Otherwise as `get_or_compute`.
        """
        keys = list(keys)
        found = self.find_many(keys)
        missing = list({key: None for key, entry in zip(keys, found, strict=True) if entry is None})
        late: dict[Hashable, Outcome] = {}
        if missing:
            self._counts.coalesced += found.count(None) - len(missing)
            for key in missing:
                self._checked(key, ttl)
            late = dict(
                zip(missing, await self._flight.join(missing, _many(compute), ttl), strict=True)
            )
        outcomes = [
            late[key] if entry is None else (entry.failed, entry.value)
            for key, entry in zip(keys, found, strict=True)
        ]
        if not return_exceptions:
            return [self._give(*outcome) for outcome in outcomes]
        return [value if failed else self._give(failed, value) for failed, value in outcomes]

    def find_many(self, keys: Iterable[Hashable]) -> list[Entry | None]:
        """Return what memory holds for each key, at less than a microsecond each.

        Args:
            keys: Keys, also more than once.

        Returns:
            An entry for each key, None for a miss. Entries are shared: do not change them.
        """
        return list(map(self._find, keys))

    def get_or_compute_sync(
        self, key: Hashable, compute: Callable[[], T], *, ttl: float | None = None
    ) -> T:
        """Do as `get_or_compute`, from synchronous code; the first thread computes.

        Values are not refreshed early from here.
        """
        entry = self._find(key)
        if entry is None:
            value = self._threads.join(key, compute, self._checked(key, ttl))
            return self._give(failed=False, value=value)  # type: ignore[no-any-return]
        return self._give(entry.failed, entry.value)  # type: ignore[no-any-return]

    async def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key if it is there, and otherwise `default`.

        Pass an object of your own as `default` to tell a miss from a value that is `None`. An error
        that is kept counts as nothing.
        """
        entry = self._find(key)
        if entry is None and self._tier is not None:
            entry = await self._read(self._checked_key(key))
        elif entry is None or entry.failed:
            self._counts.misses += 1
            self._memory.hits -= entry is not None
        if entry is None or entry.failed:
            return default
        return self._give(failed=False, value=entry.value)

    async def set(self, key: Hashable, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value. What is being computed for the key is not kept any more.

        Raises:
            TypeError: The key is not hashable or, where there is a store, no str, or the value
                cannot be written as JSON.
            ValueError: `ttl` is out of range, or a number in the value is not finite.
        """
        self._checked(key, ttl)
        if self._tier is not None:
            self._tier.check(value)
        value = value if self._copy is None else self._copy(value)
        weight = self._policy.weight(value)
        with self._lock:
            self._forget(key)
            entry = self._policy.entry(value, weight, ttl=ttl)
            self._memory.put(key, entry)
        if self._tier is not None:
            await self._tier.write({str(key): entry})

    async def invalidate(self, key: Hashable) -> bool:
        """Forget a key in every tier, and what is being computed for it.

        Who waits for that computation still gets its result; who asks from now on does not.

        Returns:
            Whether memory held a value or an error that could still be used.
        """
        with self._lock:
            held = self._memory.has(key)
            self._forget(key)
        if self._tier is not None:
            await self._tier.delete([self._checked_key(key)])
        return held

    async def clear(self) -> None:
        """Forget everything, in every tier: also what others keep in the same store."""
        with self._lock:
            self._memory.clear()
            self._flight.flights.clear()
            self._threads.flights.clear()
            self._reads.clear()
        if self._tier is not None:
            await self._tier.clear()

    async def _read(self, key: str) -> Entry | None:
        """Return what the store holds, and take it to memory unless it changed meanwhile."""
        assert self._tier is not None  # noqa: S101 - for the type checker
        self._reads[key] = mark = object()
        try:
            entry = (await self._tier.read([key])).get(key)
        finally:
            current = self._reads.get(key) is mark
            if current:
                del self._reads[key]
        if entry is None:
            self._counts.misses += 1
            return None
        self._counts.store_hits += 1
        entry.weight = self._policy.weight(entry.value)
        with self._lock:
            if current:
                self._memory.put(key, entry)
        return entry

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


def _one(compute: Callable[[], Awaitable[Any]]) -> Callable[[list[Any]], Awaitable[list[Outcome]]]:
    async def outcomes(_: list[Any]) -> list[Outcome]:
        return [(False, await compute())]

    return outcomes


def _many(
    compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
) -> Callable[[list[Any]], Awaitable[list[Outcome]]]:
    async def outcomes(keys: list[Any]) -> list[Outcome]:
        return [(isinstance(value, Exception), value) for value in await compute(keys)]

    return outcomes


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
