"""The first tier: entries in memory, least recently used first, with a time to live."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from course_lib.clock import running_loop

if TYPE_CHECKING:
    from collections.abc import Hashable

    from course_lib.clock import Clock

__all__ = ["EARLY", "Entry", "Memory"]

EARLY: Final = 1e-9  # seconds: what is due by rounding only is due
_SWEPT = 2  # expired entries dropped with each new one, so that they go faster than they come


@dataclass(slots=True, eq=False)  # compared by identity, at once
class Entry:
    """A value, and how long it may be used.

    Attributes:
        value: What is kept; an exception if `failed`.
        expires: Seconds on the cache's clock from which on it is not to be used.
        cost: Seconds that its computation took; 0.0 if it was not computed.
        weight: Bytes, as `weigh` says; 0 without it.
        failed: Whether the computation raised `value`.
    """

    value: Any
    expires: float = math.inf
    cost: float = 0.0
    weight: float = 0
    failed: bool = False


class Memory:
    """A bounded map from keys to entries; all operations take constant time.

    Its methods are called with `lock` held, but for `now`, `find` and `find_many`.

    Args:
        maxsize: Most entries; None for any number.
        max_bytes: Most bytes, in the sum of the entries' weights; None for any number.
        clock: Its time.

    Attributes:
        lock: Guards everything here: a cache may be used by several threads.
        entries: The entries, least recently used first.
        weight: Bytes of all entries.
        hits: Times that an entry was found.
        evictions: Entries dropped for want of room.
        expired: Entries dropped because their time was over.
    """

    __slots__ = (
        "clock",
        "entries",
        "evictions",
        "expired",
        "hits",
        "lock",
        "max_bytes",
        "maxsize",
        "weight",
    )

    def __init__(self, maxsize: int | None, max_bytes: float | None, clock: Clock) -> None:
        self.lock = Lock()
        self.clock = clock
        self.maxsize = math.inf if maxsize is None else maxsize
        self.max_bytes = math.inf if max_bytes is None else max_bytes
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self.weight = 0.0
        self.hits = self.evictions = self.expired = 0

    def now(self) -> float:
        """Return the seconds on the clock."""
        with self.lock:
            return self.clock.now()

    def find(self, key: Hashable) -> Entry | None:
        """Return the entry if it may be used, count a hit, and make it the most recently used.

        A hit takes no lock, which would cost as much as all the rest: each of its steps is atomic,
        and an entry that another thread drops meanwhile was there when it was asked for.

        Raises:
            TypeError: The key is not hashable.
        """
        try:
            entry = self.entries.get(key)
        except TypeError:
            raise TypeError(
                f"key={key!r:.80} is not hashable: use a str, or a tuple of what is hashable"
            ) from None
        if entry is None:
            return None
        clock = self.clock
        if clock.loop is not running_loop():
            with self.lock:
                clock.follow()
        if entry.expires <= clock.timer() + clock.offset:  # `now`, without the cost of a call
            self._expire(key, entry)
            return None
        try:  # noqa: SIM105 - `suppress` would cost more than the step itself
            self.entries.move_to_end(key)
        except KeyError:
            pass  # dropped by another thread, after it was found
        self.hits += 1
        return entry

    def find_many(self, keys: list[Any]) -> list[Entry | None]:
        """Return what `find` does for each key, at half the cost: the clock is read once."""
        get, touch = self.entries.get, self.entries.move_to_end
        now = self.now()
        found: list[Entry | None] = []
        for key in keys:
            try:
                entry = get(key)
                if entry is not None and entry.expires > now:
                    touch(key)
                    self.hits += 1
                else:
                    entry = entry and self.find(key)
            except (KeyError, TypeError):  # dropped by another thread just now; not hashable
                entry = self.find(key)
            found.append(entry)
        return found

    def _expire(self, key: Hashable, entry: Entry) -> None:
        with self.lock:
            if self.entries.get(key) is entry:
                self.drop(key)
                self.expired += 1

    def has(self, key: Hashable) -> bool:
        """Return whether there is an entry that may be used; nothing changes by that."""
        entry = self.entries.get(key)
        return entry is not None and entry.expires > self.clock.now()

    def put(self, key: Hashable, entry: Entry) -> None:
        """Keep an entry as the most recently used; drop what there is no room for, itself too."""
        self.drop(key)
        self._sweep()
        self.entries[key] = entry
        self.weight += entry.weight
        if entry.weight > self.max_bytes:
            self.drop(key)
            self.evictions += 1
        while len(self.entries) > self.maxsize or self.weight > self.max_bytes:
            _, last = self.entries.popitem(last=False)
            self._lighten(last)
            self.evictions += 1

    def drop(self, key: Hashable) -> bool:
        """Forget an entry; return whether there was one."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self._lighten(entry)
        return True

    def clear(self) -> None:
        """Forget all entries."""
        self.entries.clear()
        self.weight = 0.0

    def _lighten(self, gone: Entry) -> None:
        self.weight = self.weight - gone.weight if self.entries else 0.0  # rounding does not add up

    def _sweep(self) -> None:
        """Drop expired entries from the end where they gather: nobody uses them any more."""
        now = self.clock.now()
        for _ in range(_SWEPT):
            try:
                key, entry = next(iter(self.entries.items()), (None, None))
            except RuntimeError:
                return  # another thread has just used an entry: there will be a next time
            if entry is None or entry.expires > now:
                return
            self.drop(key)
            self.expired += 1
