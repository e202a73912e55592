"""The second tier: any langchain `BaseStore[str, bytes]`, made harmless.

A store that fails, is slow or holds nonsense is a miss that is counted, never a failed call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from langchain_core.stores import BaseStore

from course_lib.caching.memory import EARLY, Entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from course_lib.caching.codec import JsonCodec
    from course_lib.caching.memory import Memory

__all__ = ["Breaker", "KeepsExpiry", "Tier"]

_log = logging.getLogger("course_lib.caching")
_EVER: Final = None  # JSON for "does not expire"
_FAILURES: Final = 3  # slow ones in a row, after which a store is left alone
_SLOW: Final = 0.1  # seconds; what fails sooner costs nobody anything
_PAUSE: Final = 10.0  # seconds for which it is left alone
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


class Breaker:
    """Leaves alone for a while what has kept its callers waiting in vain several times in a row.

    After the pause one of them tries, and the others go on without until it is known how that went.

    Args:
        memory: Whose time it goes by.
    """

    __slots__ = ("_failures", "_memory", "_until")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._failures = 0
        self._until = 0.0

    def refuses(self) -> bool:
        """Return whether to go on without."""
        if self._failures < _FAILURES:
            return False
        now = self._memory.now()
        refused = now < self._until
        if not refused:
            self._until = now + _PAUSE
        return refused

    def failed(self, start: float) -> None:
        """Note that a call that began then has failed."""
        now = self._memory.now()
        self._failures = self._failures + 1 if now - start >= _SLOW else 0
        self._until = now + _PAUSE

    def worked(self) -> None:
        """Note that a call has not failed."""
        self._failures = 0


class Tier:
    """Reads and writes entries in a store, within bounds.

    An entry is one JSON object: the value, the date it expires (seconds since 1970, which other
    processes share, unlike a monotonic clock) and what its computation cost.

    A store that is slow to fail is left alone for a while, for reading and for writing each by
    itself: what is set meanwhile is not in it. To delete is tried all the same, lest what is known
    to be wrong come back.

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
        self._reading, self._writing = Breaker(memory), Breaker(memory)
        self.errors = 0

    async def read(self, keys: Sequence[str]) -> Found:
        """Return the entries that are there and may be used."""
        keys = [key for key in keys if _can_be_encoded(key)]
        return self._found(keys, await self._bounded(self._store.amget, keys, self._reading))

    def read_sync(self, keys: Sequence[str]) -> Found:
        """Do the same from synchronous code."""
        keys = [key for key in keys if _can_be_encoded(key)]
        return self._found(keys, self._guarded(self._store.mget, keys, self._reading))

    async def write(self, entries: Found) -> None:
        """Keep what can be written."""
        if isinstance(self._store, KeepsExpiry):
            rows = self._expiring(entries)
            await self._bounded(self._store.amset_expiring, rows, self._writing)
        else:
            await self._bounded(self._store.amset, self._pairs(entries), self._writing)

    def write_sync(self, entries: Found) -> None:
        """Do the same from synchronous code."""
        if isinstance(self._store, KeepsExpiry):
            self._guarded(self._store.mset_expiring, self._expiring(entries), self._writing)
        else:
            self._guarded(self._store.mset, self._pairs(entries), self._writing)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete entries."""
        await self._bounded(self._store.amdelete, [key for key in keys if _can_be_encoded(key)])

    async def clear(self) -> None:
        """Delete all that the store holds."""

        async def everything(_: Sequence[str]) -> None:
            await self._store.amdelete([key async for key in self._store.ayield_keys()])

        await self._bounded(everything, [""])

    def delete_sync(self, keys: Sequence[str]) -> None:
        """Do the same as `delete` from synchronous code."""
        self._guarded(self._store.mdelete, [key for key in keys if _can_be_encoded(key)])

    def clear_sync(self) -> None:
        """Do the same as `clear` from synchronous code."""

        def everything(_: Sequence[str]) -> None:
            self._store.mdelete(list(self._store.yield_keys()))

        self._guarded(everything, [""])

    async def _bounded(
        self,
        call: Callable[[Any], Awaitable[Any]],
        what: Sequence[Any],
        breaker: Breaker | None = None,
    ) -> Any:
        if what and not (breaker and breaker.refuses()):
            with self._watched(call, breaker):
                async with asyncio.timeout(self._timeout):
                    return await call(what)
        return None

    def _guarded(
        self, call: Callable[[Any], Any], what: Sequence[Any], breaker: Breaker | None = None
    ) -> Any:
        if what and not (breaker and breaker.refuses()):
            with self._watched(call, breaker):
                return call(what)
        return None

    @contextmanager
    def _watched(self, call: Callable[[Any], Any], breaker: Breaker | None) -> Iterator[None]:
        """Count an error, whatever it is, and go on without the store."""
        start = self._memory.now()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self._failed(f"{type(self._store).__name__}.{call.__name__}", error)
            if breaker:
                breaker.failed(start)
        else:
            if breaker:
                breaker.worked()

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        level = logging.WARNING if self.errors == 1 else logging.DEBUG  # once is news enough
        reason = f"no answer within {self._timeout:g} s" if _is_timeout(error) else repr(error)
        _log.log(level, "the cache goes on without its store: %s: %s", what, reason)

    def _found(self, keys: Sequence[str], raw: Sequence[bytes | None] | None) -> Found:
        if raw is None:
            return {}
        try:
            answers = list(zip(keys, raw, strict=True))
        except (TypeError, ValueError) as error:
            self._failed("its answer is no list of as many values as were asked for", error)
            return {}
        decoded = {key: self._decode(key, data) for key, data in answers if data is not None}
        return {key: entry for key, entry in decoded.items() if entry is not None}

    def _decode(self, key: str, data: bytes) -> Entry | None:
        """Return an entry for the cache's clock; None if it has expired or cannot be read."""
        try:
            stored = self._codec.loads(data)
            value, cost, expires = stored["value"], _seconds(stored["cost"]), stored["expires"]
            date = math.inf if expires is _EVER else _seconds(expires)
        except Exception as error:  # noqa: BLE001 - whatever is written there
            self._failed(f"what it holds for {key!r:.80} cannot be read", error)
            return None
        now, today = self._times()
        left = min(date - today, self._ttl)
        return Entry(value, now + left - EARLY, min(cost, self._ttl)) if left > EARLY else None

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
            key.encode()
            return self._codec.dumps(stored, sort=False).encode(), None if ever else left
        except Exception as error:  # noqa: BLE001 - whatever the value, or a model's own code, does
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


def _can_be_encoded(key: str) -> bool:
    """Return whether a store can be asked for a key: half a character would fail its whole batch."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seconds(number: object) -> float:
    """Return what a number of JSON says.

    Raises:
        ValueError: It is none, or not finite, or below 0.
        OverflowError: It is too large.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{number!r:.80} is no number of seconds")  # noqa: TRY004 - is data
    seconds = float(number)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds!r} is no number of seconds")
    return seconds
