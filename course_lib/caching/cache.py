"""A cache for asynchronous code: bounded, with a time to live, and one computation a key."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.caching.memory import Entry, Expiry, Memory
from course_lib.caching.single_flight import TaskSingleFlight, ThreadSingleFlight, is_no_value
from course_lib.checks import require_positive
from course_lib.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

    from langchain_core.stores import BaseStore

    from course_lib.caching.codec import JsonCodec
    from course_lib.caching.store_tier import Tier

__all__ = ["AsyncCache", "CacheStatistics"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache has done since it was made. Each request is one of the first four.

    Attributes:
        hits: Requests answered from memory, with a value or an error that was kept.
        store_hits: Requests answered from the second tier.
        misses: Requests that led to a computation, or to the default of `get`.
        coalesced: Requests that waited for a computation that another one had begun.
        refreshes: Early refreshes begun; they are no requests.
        evictions: Entries dropped for want of room.
        expired: Entries dropped from memory because their time was over.
        errors: Computations that raised; cancelled ones do not count.
        store_errors: Calls of the second tier that failed or took too long, and what it held that
            could not be read, or was given and could not be written.
        size: Entries in memory now, those included that have expired and were not asked for since.
        in_flight: Keys being computed now.
    """

    hits: int
    store_hits: int
    misses: int
    coalesced: int
    refreshes: int
    evictions: int
    expired: int
    errors: int
    store_errors: int
    size: int
    in_flight: int

    @property
    def requests(self) -> int:
        """All requests."""
        return self.hits + self.store_hits + self.misses + self.coalesced

    @property
    def hit_ratio(self) -> float:
        """Share of requests that led to no computation of their own; 0.0 if there were none."""
        return 1 - self.misses / self.requests if self.requests else 0.0


class AsyncCache:
    """Keeps values by key: the most recently used ones, each for a limited time.

        cache = AsyncCache(ttl=60, maxsize=1_000)
        answer = await cache.get_or_compute(question, lambda: ask(question))

    Any value is one like any other: `None`, `0`, `""` and `[]` are kept, too. Of many who ask for a
    key that is not there, one leads to a computation and the others wait for it. The computation
    belongs to nobody: it goes on when the first caller is cancelled, and is cancelled when nobody
    waits any more. Its error is raised in everybody who waits, and is not kept. What is no
    `Exception` (a cancellation, an interruption) is never taken for a value, wherever it stands.

    May be used by several threads and event loops, also one after another. Each event loop
    computes for itself, and threads do among themselves; what one has found, all find.

    The methods whose names end in `_sync` are for synchronous code, in as many threads as you like.
    They share all values with the others. Nothing is refreshed early from there, and a call of the
    store takes what it takes.

    Values are handed out as they are: who changes one changes it for all. Cache what cannot be
    changed (a tuple for a list), or give `copy=`.

    Args:
        ttl: Seconds that a value is kept; None for ever. It is an upper bound in every tier.
        maxsize: Most values in memory; None for any number. The least recently used goes first.
        jitter: Share of the ttl, from 0 to below 1. Each value's time is shortened by a share of
            its own, drawn between 0 and this, so that what came together does not go together.
        negative_ttl: Seconds that an error is kept and raised again; 0 for not at all.
        early: How eagerly values are computed anew, in the background, before their time is over
            (XFetch's beta; see `Expiry.is_due`): 0 for never, 1 for the usual eagerness.
        copy: Makes the copy of a value that each caller gets, such as `copy.deepcopy`.
        store: A second tier, asked on a miss in memory, that others may share and that may outlive
            the process: `SqliteStore(path)` or another `BaseStore[str, bytes]`. With it, keys are
            str. Where it fails, or `codec` cannot write a value, the cache goes on without it: that
            is counted, and the first time is logged as a warning. One that has let its callers wait
            in vain three times in a row is left alone for ten seconds.
        store_timeout: Seconds that the store may take for a call.
        codec: Writes values for the store; by default a `JsonCodec()`.
        timer: Returns seconds that never go back; by default the running event loop's time where
            it has one of its own (virtual time), and `time.monotonic` otherwise.

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
        copy: Callable[[Any], Any] | None = None,
        store: BaseStore[str, bytes] | None = None,
        store_timeout: float = 1.0,
        codec: JsonCodec | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        require_positive(store_timeout=store_timeout)
        clock = Clock(timer, ageing=True)
        self._expiry = expiry = Expiry(
            clock, ttl=ttl, jitter=jitter, negative_ttl=negative_ttl, early=early
        )
        self._memory = memory = Memory(maxsize, expiry)
        self._lock, self._find = memory.lock, memory.find  # looked up once
        self._tier = None if store is None else _tier(store, codec, memory, store_timeout)
        self._tasks = TaskSingleFlight(memory, self._tier)
        self._threads = ThreadSingleFlight(memory, self._tier)
        self._reads: dict[Hashable, object] = {}  # the last `get` that asked the store for a key
        self._copy = copy
        # Whether a value that is found is handed out as it is, with nothing else to think of.
        self._plain = copy is None and not early and not negative_ttl

    def __repr__(self) -> str:
        memory = self._memory
        return (
            f"<{type(self).__name__} {len(memory.entries)} of {memory.maxsize:g} values, "
            f"ttl={self._expiry.ttl:g} s, {self.statistics().hit_ratio:.0%} hits>"
        )

    @property
    def has_store(self) -> bool:
        """Whether there is a second tier."""
        return self._tier is not None

    def statistics(self) -> CacheStatistics:
        """Return what it has done, as a frozen value."""
        with self._lock:
            return CacheStatistics(
                **asdict(self._memory.counts),
                store_errors=self._tier.errors if self._tier else 0,
                size=len(self._memory.entries),
                in_flight=len(self._tasks.flights) + len(self._threads.flights),
            )

    def count_coalesced(self) -> None:
        """Count a request that waits for another's, outside of this cache."""
        with self._lock:
            self._memory.counts.coalesced += 1

    async def get_or_compute(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the value of a key, and have it computed if it is not there.

        Args:
            key: What the value is kept under: hashable, and a str where there is a store.
            compute: Coroutine function without arguments that returns the value. It is called in a
                task of its own, in a copy of the context of the caller who came first.

        Raises:
            TypeError: The key is not hashable, or not a str where there is a store.
            RuntimeError: The computation asks the cache for its own result.
            asyncio.CancelledError: The caller was cancelled, or the computation itself was.
            Exception: Whatever the computation raised.
        """
        entry = self._find(key)
        if entry is None:
            [entry] = await self._tasks.join([self._checked(key)], _one(compute))
        elif self._plain:
            return entry.value  # type: ignore[no-any-return]
        elif self._is_due(entry):
            self._tasks.refresh(key, _one(compute))
        return self._give(entry)  # type: ignore[no-any-return]

    async def get_or_compute_many(
        self,
        keys: Iterable[Hashable],
        compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
        *,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the values of many keys, and have those computed that are not there, in one call.

        A hit costs no task. A key that is given twice is computed once, and a key that is being
        computed already is waited for. When one computation fails, the others are still kept.

        Args:
            keys: What the values are kept under; see `get_or_compute`.
            compute: Coroutine function that is given the keys to compute and returns their values
                in the same order; an `Exception` among them is the error of that key.
            return_exceptions: Whether to return errors in the place of values.

        Returns:
            The values, in the order of `keys`.

        Raises:
            Exception: Without `return_exceptions`, when all is done, the first error in the order
                of `keys`. Otherwise as `get_or_compute`.
            BaseException: It stood among the values, and is no `Exception`; the others are kept.
        """
        keys = list(keys)
        found = self._memory.find_many(keys)
        late: dict[Any, Entry] = {}
        if not all(found):
            missing = self._missing(keys, found)
            entries = await self._tasks.join(missing, _many(compute))
            late = dict(zip(missing, entries, strict=True))
        elif self._plain:
            return [entry.value for entry in found if entry is not None]
        if self._expiry.early:
            self._refresh_due(keys, found, compute)
        return self._given(keys, found, late, return_exceptions=return_exceptions)

    async def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key if it is there, and otherwise `default`.

        Pass an object of your own as `default` to tell a miss from a value that is `None`. An error
        that is kept counts as nothing.
        """
        entry = self._find(key)
        if entry is None and self._tier is not None:
            mark = self._begin_read(self._checked(key))
            try:
                entry = (await self._tier.read([str(key)])).get(str(key))
            finally:
                current = self._end_read(key, mark)
            self._take(key, entry, current=current)
        elif entry is None or entry.failed:
            self._miss(entry)
        return default if entry is None or entry.failed else self._give(entry)

    async def set(self, key: Hashable, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value. What is being computed for the key is not kept any more.

        Raises:
            TypeError: The key is not hashable or, where there is a store, no str; the value is a
                cancellation or an interruption.
            ValueError: `ttl` is out of range.
        """
        entry = self._new_entry(key, value, ttl)
        if self._tier is not None:
            await self._tier.write({str(key): entry})

    async def invalidate(self, key: Hashable) -> bool:
        """Forget a key in every tier, and what is being computed for it.

        Who waits for that computation still gets its result; who asks from now on does not.

        Returns:
            Whether memory held a value or an error that could still be used.
        """
        held = self._drop(key)
        if self._tier is not None:
            await self._tier.delete([str(self._checked(key))])
        return held

    async def clear(self) -> None:
        """Forget everything, in every tier: also what others keep in the same store."""
        self._drop_all()
        if self._tier is not None:
            await self._tier.clear()

    def get_or_compute_sync(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key; if it is not there, the first thread computes it."""
        entry = self._find(key)
        if entry is None:
            [entry] = self._threads.join([self._checked(key)], lambda _: [Entry(compute())])
        return self._give(entry)  # type: ignore[no-any-return]

    def get_or_compute_many_sync(
        self,
        keys: Iterable[Hashable],
        compute: Callable[[list[Any]], Sequence[Any]],
        *,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the values of many keys; see `get_or_compute_many`."""
        keys = list(keys)
        found = self._memory.find_many(keys)
        late: dict[Any, Entry] = {}
        if not all(found):
            missing = self._missing(keys, found)
            entries = self._threads.join(missing, lambda some: _entries(compute(some)))
            late = dict(zip(missing, entries, strict=True))
        return self._given(keys, found, late, return_exceptions=return_exceptions)

    def get_sync(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key if it is there, and otherwise `default`."""
        entry = self._find(key)
        if entry is None and self._tier is not None:
            mark = self._begin_read(self._checked(key))
            try:
                entry = self._tier.read_sync([str(key)]).get(str(key))
            finally:
                current = self._end_read(key, mark)
            self._take(key, entry, current=current)
        elif entry is None or entry.failed:
            self._miss(entry)
        return default if entry is None or entry.failed else self._give(entry)

    def set_sync(self, key: Hashable, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value; see `set`."""
        entry = self._new_entry(key, value, ttl)
        if self._tier is not None:
            self._tier.write_sync({str(key): entry})

    def invalidate_sync(self, key: Hashable) -> bool:
        """Forget a key; see `invalidate`."""
        held = self._drop(key)
        if self._tier is not None:
            self._tier.delete_sync([str(self._checked(key))])
        return held

    def clear_sync(self) -> None:
        """Forget everything; see `clear`."""
        self._drop_all()
        if self._tier is not None:
            self._tier.clear_sync()

    def _missing(self, keys: list[Any], found: list[Entry | None]) -> list[Any]:
        """Return the keys that were not found, each once; the others of each count as coalesced."""
        missing = list({key: None for key, entry in zip(keys, found, strict=True) if entry is None})
        for key in missing:
            self._checked(key)
        with self._lock:
            self._memory.counts.coalesced += found.count(None) - len(missing)
        return missing

    def _given(
        self,
        keys: list[Any],
        found: list[Entry | None],
        late: dict[Any, Entry],
        *,
        return_exceptions: bool,
    ) -> list[Any]:
        """Return the values of `keys`, those that were found and those that came late."""
        entries = [entry or late[key] for key, entry in zip(keys, found, strict=True)]
        if not return_exceptions:
            return [self._give(entry) for entry in entries]
        return [
            entry.value if isinstance(entry.value, Exception) else self._give(entry)
            for entry in entries
        ]

    def _refresh_due(
        self,
        keys: list[Any],
        found: list[Entry | None],
        compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
    ) -> None:
        for key, entry in zip(keys, found, strict=True):
            if entry is not None and self._is_due(entry):
                self._tasks.refresh(key, _many(compute))

    def _is_due(self, entry: Entry) -> bool:
        if not self._expiry.early:
            return False
        with self._lock:
            return self._expiry.is_due(entry)

    def _new_entry(self, key: Hashable, value: Any, ttl: float | None) -> Entry:
        """Put a value in memory and return its entry; what is computed for the key is void."""
        if ttl is not None:
            require_positive(ttl=ttl)
        self._checked(key)
        if is_no_value(value):
            raise TypeError(f"value={value!r} is no value: raise it, do not keep it")
        entry = Entry(value if self._copy is None else self._copy(value))
        with self._lock:
            self._forget(key)
            self._memory.keep(key, entry, ttl)
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
        with self._lock:
            self._memory.counts.misses += entry is None
            self._memory.counts.store_hits += entry is not None
            if entry is not None and current:
                self._memory.put(key, entry)

    def _miss(self, failure: Entry | None) -> None:
        """Count a miss; an error that was found in the place of a value is one."""
        with self._lock:
            self._memory.counts.misses += 1
            self._memory.counts.hits -= failure is not None

    def _drop(self, key: Hashable) -> bool:
        """Forget a key in memory; return whether there was something to be used."""
        with self._lock:
            held = self._memory.has(key)
            self._forget(key)
            return held

    def _drop_all(self) -> None:
        with self._lock:
            self._memory.entries.clear()
            self._tasks.flights.clear()
            self._threads.flights.clear()
            self._reads.clear()

    def _forget(self, key: Hashable) -> None:
        self._memory.drop(key)
        self._tasks.flights.disown(key)
        self._threads.flights.disown(key)
        self._reads.pop(key, None)

    def _give(self, entry: Entry) -> Any:
        if entry.failed:
            raise entry.value.with_traceback(None)  # or it would grow with each time it is raised
        return entry.value if self._copy is None else self._copy(entry.value)

    def _checked(self, key: Hashable) -> Hashable:
        if self._tier is not None and not isinstance(key, str):
            raise TypeError(
                f"key={key!r:.80}: with a store keys are str; make one with `stable_key(...)`"
            )
        return key


def _tier(
    store: BaseStore[str, bytes], codec: JsonCodec | None, memory: Memory, timeout: float
) -> Tier:
    # What knows LangChain is imported here: a cache without a store needs none of it.
    from course_lib.caching.codec import JsonCodec  # noqa: PLC0415 - see above
    from course_lib.caching.store_tier import Tier  # noqa: PLC0415 - see above

    return Tier(store, codec or JsonCodec(), memory, timeout)


def _one(compute: Callable[[], Awaitable[Any]]) -> Callable[[list[Any]], Awaitable[list[Entry]]]:
    async def entries(_: list[Any]) -> list[Entry]:
        return [Entry(await compute())]

    return entries


def _many(
    compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
) -> Callable[[list[Any]], Awaitable[list[Entry]]]:
    async def entries(keys: list[Any]) -> list[Entry]:
        return _entries(await compute(keys))

    return entries


def _entries(values: Sequence[Any]) -> list[Entry]:
    return [Entry(value, failed=isinstance(value, Exception)) for value in values]
