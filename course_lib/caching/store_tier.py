"""The second tier: any langchain `BaseStore[str, bytes]`, made harmless.

A store that fails, is slow or holds nonsense is a miss that is counted, never a failed call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from langchain_core.stores import BaseStore

from course_lib.caching.memory import EARLY, Entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from course_lib.caching.codec import JsonCodec
    from course_lib.caching.memory import Memory

__all__ = ["KeepsExpiry", "Tier"]

_log = logging.getLogger("course_lib.caching")
_EVER: Final = None  # JSON for "does not expire"
Found = dict[str, Entry]


@runtime_checkable
class KeepsExpiry(Protocol):
    """A store that can drop by itself what has expired.

    Other stores work as well; what they hold is dropped when it is asked for.
    """

    async def amset_expiring(self, entries: Sequence[tuple[str, bytes, float | None]]) -> None:
        """Set values; the third part is seconds from now until it may be dropped, or None."""

    def mset_expiring(self, entries: Sequence[tuple[str, bytes, float | None]]) -> None:
        """Do the same from synchronous code."""


class Tier:
    """Reads and writes entries in a store, within bounds.

    An entry is one JSON object: the value, the date it expires (seconds since 1970, which other
    processes share, unlike a monotonic clock) and what its computation cost.

    Args:
        store: Where they are.
        codec: Writes and reads values.
        memory: The first tier, for its time and its lock; nothing that is read lives longer from
            then on than its ttl says, whatever clocks have been set.
        timeout: Seconds for one call, beyond which it counts as failed. From synchronous code a
            call cannot be given up, and takes what it takes.

    Attributes:
        errors: Calls that failed or took too long, and values that could not be read or written.
    """

    def __init__(
        self,
        store: BaseStore[str, bytes],
        codec: JsonCodec,
        memory: Memory,
        timeout: float,
    ) -> None:
        if not isinstance(store, BaseStore):
            raise TypeError(
                f"store={store!r:.80} is no langchain BaseStore: pass `SqliteStore(path)`, or "
                "another BaseStore[str, bytes]"
            )
        self._store = store
        self._codec = codec
        self._memory = memory
        self._ttl = memory.expiry.ttl
        self._timeout = timeout
        self.errors = 0

    async def read(self, keys: Sequence[str]) -> Found:
        """Return the entries that are there and may be used."""
        raw = await self._bounded(self._store.amget, keys)
        return self._found(keys, raw)

    def read_sync(self, keys: Sequence[str]) -> Found:
        """Do the same from synchronous code."""
        return self._found(keys, self._guarded(self._store.mget, keys))

    async def write(self, entries: Found) -> None:
        """Keep what can be written."""
        if isinstance(self._store, KeepsExpiry):
            await self._bounded(self._store.amset_expiring, self._expiring(entries))
        else:
            await self._bounded(self._store.amset, self._pairs(entries))

    def write_sync(self, entries: Found) -> None:
        """Do the same from synchronous code."""
        if isinstance(self._store, KeepsExpiry):
            self._guarded(self._store.mset_expiring, self._expiring(entries))
        else:
            self._guarded(self._store.mset, self._pairs(entries))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete entries."""
        await self._bounded(self._store.amdelete, keys)

    async def clear(self) -> None:
        """Delete all that the store holds."""

        async def everything(_: Sequence[str]) -> None:
            await self._store.amdelete([key async for key in self._store.ayield_keys()])

        await self._bounded(everything, [""])

    def delete_sync(self, keys: Sequence[str]) -> None:
        """Do the same as `delete` from synchronous code."""
        self._guarded(self._store.mdelete, keys)

    def clear_sync(self) -> None:
        """Do the same as `clear` from synchronous code."""

        def everything(_: Sequence[str]) -> None:
            self._store.mdelete(list(self._store.yield_keys()))

        self._guarded(everything, [""])

    async def _bounded(self, call: Callable[[Any], Awaitable[Any]], what: Sequence[Any]) -> Any:
        if not what:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await call(what)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on without
            self._failed(f"{type(self._store).__name__}.{call.__name__}", error)
            return None

    def _guarded(self, call: Callable[[Any], Any], what: Sequence[Any]) -> Any:
        if not what:
            return None
        try:
            return call(what)
        except Exception as error:  # noqa: BLE001 - see above
            self._failed(f"{type(self._store).__name__}.{call.__name__}", error)
            return None

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        level = logging.WARNING if self.errors == 1 else logging.DEBUG  # once is news enough
        reason = f"no answer within {self._timeout:g} s" if _is_timeout(error) else repr(error)
        _log.log(level, "the cache goes on without its store: %s: %s", what, reason)

    def _found(self, keys: Sequence[str], raw: Sequence[bytes | None] | None) -> Found:
        entries = {}
        for key, data in zip(keys, raw or (), strict=False):
            entry = None if data is None else self._decode(key, data)
            if entry is not None:
                entries[key] = entry
        return entries

    def _decode(self, key: str, data: bytes) -> Entry | None:
        """Return an entry for the cache's clock; None if it has expired or cannot be read."""
        try:
            stored = self._codec.loads(data)
            value, cost = stored["value"], min(float(stored["cost"]), self._ttl)
            date = math.inf if stored["expires"] is _EVER else float(stored["expires"])
        except (ValueError, TypeError, KeyError) as error:
            self._failed(f"what it holds for {key!r:.80} cannot be read", error)
            return None
        now, today = self._times()
        left = min(date - today, self._ttl)
        return Entry(value, now + left - EARLY, cost) if left > EARLY else None

    def _encode(self, key: str, entry: Entry) -> tuple[bytes, float | None] | None:
        now, today = self._times()
        left = entry.expires - now
        ever = left == math.inf
        stored = {
            "value": entry.value,
            "cost": entry.cost,
            "expires": _EVER if ever else today + left,
        }
        try:
            return self._codec.dumps(stored, sort=False).encode(), None if ever else left
        except (TypeError, ValueError) as error:
            self._failed(f"the value of {key!r:.80} stays in memory only", error)
            return None

    def _times(self) -> tuple[float, float]:
        """Return the seconds on the cache's clock, and the date."""
        with self._memory.lock:
            return self._memory.clock.now(), self._memory.clock.date()

    def _expiring(self, entries: Found) -> list[tuple[str, bytes, float | None]]:
        encoded = ((key, self._encode(key, entry)) for key, entry in entries.items())
        return [(key, *written) for key, written in encoded if written is not None]

    def _pairs(self, entries: Found) -> list[tuple[str, bytes]]:
        return [(key, data) for key, data, _ in self._expiring(entries)]


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError) and not error.args
