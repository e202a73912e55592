"""A cache for asynchronous code: bounded, with a time to live, and one computation a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.caching.sync_methods import SyncMethods

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

    from course_lib.caching.memory import Entry
    from course_lib.caching.single_flight import Outcome

__all__ = ["AsyncCache"]

T = TypeVar("T")


class AsyncCache(SyncMethods):
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
            str. Where it fails, or `codec` cannot write a value, the cache goes on without it: that
            is counted, and the first time is logged as a warning.
        store_timeout: Seconds that the store may take for a call.
        codec: Writes values for the store; by default a `JsonCodec()`.
        timer: Returns seconds that never go back; by default the running event loop's time where
            it has one of its own (virtual time), and `time.monotonic` otherwise.
        seed: What the draws for `jitter` and `early` start from.

    Raises:
        ValueError: An argument is out of range.
        TypeError: `store` is no langchain BaseStore.
    """

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
        if self._is_due(entry):
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
        late: dict[Any, Outcome] = {}
        if None in found:
            missing = self._missing(keys, found, ttl)
            outcomes = await self._flight.join(missing, _many(compute), ttl)
            late = dict(zip(missing, outcomes, strict=True))
        elif self._plain:
            return [entry.value for entry in found if entry is not None]
        if self._policy.early:
            self._refresh_due(keys, found, compute, ttl)
        return self._given(keys, found, late, return_exceptions=return_exceptions)

    async def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key if it is there, and otherwise `default`.

        Pass an object of your own as `default` to tell a miss from a value that is `None`. An error
        that is kept counts as nothing.
        """
        entry = self._find(key)
        if entry is None and self._tier is not None:
            mark = self._begin_read(self._checked_key(key))
            try:
                entry = (await self._tier.read([str(key)])).get(str(key))
            finally:
                current = self._end_read(key, mark)
            self._take(key, entry, current=current)
        elif entry is None or entry.failed:
            self._miss(entry)
        return default if entry is None or entry.failed else self._give(False, entry.value)

    async def set(self, key: Hashable, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value. What is being computed for the key is not kept any more.

        Raises:
            TypeError: The key is not hashable or, where there is a store, no str.
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
            await self._tier.delete([self._checked_key(key)])
        return held

    async def clear(self) -> None:
        """Forget everything, in every tier: also what others keep in the same store."""
        self._drop_all()
        if self._tier is not None:
            await self._tier.clear()

    def _refresh_due(
        self,
        keys: list[Any],
        found: list[Entry | None],
        compute: Callable[[list[Any]], Awaitable[Sequence[Any]]],
        ttl: float | None,
    ) -> None:
        for key, entry in zip(keys, found, strict=True):
            if entry is not None and self._is_due(entry):
                self._flight.refresh(key, _many(compute), self._checked(key, ttl))


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
