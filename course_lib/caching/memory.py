"""The first tier: entries in memory, least recently used first, each for its time."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from course_lib.checks import require_positive, require_seconds, require_whole
from course_lib.clock import running_loop

if TYPE_CHECKING:
    from collections.abc import Hashable

    from course_lib.clock import Clock

__all__ = ["EARLY", "Counts", "Entry", "Expiry", "Memory"]

EARLY: Final = 1e-9  # seconds: what is due by rounding only is due
_SWEPT: Final = (
    2  # expired entries dropped with each new one, so that they go faster than they come
)


@dataclass(slots=True, eq=False)  # compared by identity, at once
class Entry:
    """A value, and how long it may be used.

    Attributes:
        value: What is kept; an exception if `failed`.
        expires: Seconds on the cache's clock from which on it is not to be used.
        cost: Seconds that its computation took; 0.0 if it was not computed.
        failed: Whether the computation raised `value`.
    """

    value: Any
    expires: float = math.inf
    cost: float = 0.0
    failed: bool = False


@dataclass(slots=True)
class Counts:
    """What is counted while it happens; see `CacheStatistics`."""

    hits: int = 0
    store_hits: int = 0
    misses: int = 0
    coalesced: int = 0
    refreshes: int = 0
    evictions: int = 0
    expired: int = 0
    errors: int = 0


class Expiry:
    """How long entries live, and when a value is computed anew before its time.

    Its methods are called with the cache's lock held: they read the clock, or draw. The draws are
    the same in every run, so that an experiment can be repeated.

    Args:
        clock: The cache's time.
        ttl: Seconds that a value is kept; None for ever.
        jitter: Share of them, from 0 to below 1, by which each value's time is shortened at most.
        negative_ttl: Seconds that an error is kept; 0 for not at all.
        early: How eagerly a value is refreshed before its time: XFetch's beta; 0 for never.

    Raises:
        ValueError: An argument is out of range.
    """

    __slots__ = ("_draw", "_jitter", "clock", "early", "negative_ttl", "ttl")

    def __init__(
        self,
        clock: Clock,
        *,
        ttl: float | None,
        jitter: float = 0.0,
        negative_ttl: float = 0.0,
        early: float = 0.0,
    ) -> None:
        if ttl is not None:
            require_positive(ttl=ttl)
        require_seconds(negative_ttl=negative_ttl)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter={jitter!r}: give a share of the ttl, from 0 to below 1")
        if not 0 <= early < math.inf:
            raise ValueError(f"early={early!r}: give 0 for never, 1 for the usual eagerness")
        self.clock = clock
        self.ttl = math.inf if ttl is None else ttl
        self.negative_ttl = negative_ttl
        self.early = early
        self._jitter = jitter
        self._draw = random.Random(0).random  # noqa: S311 - spreads load, keeps no secret

    def end(self, entry: Entry, now: float, ttl: float | None) -> float:
        """Return when an entry that is kept from now on expires.

        Args:
            entry: What is kept.
            now: Seconds on the clock.
            ttl: Seconds that a value is kept, if not as given for all.
        """
        if entry.failed:
            return now + self.negative_ttl - EARLY
        seconds = self.ttl if ttl is None else ttl
        if self._jitter:
            seconds *= 1 - self._jitter * self._draw()
        return now + seconds - EARLY

    def is_due(self, entry: Entry) -> bool:
        """Draw whether whoever uses this entry now is to have it computed anew.

        The closer the end and the longer the computation, the likelier: with the time left `r` and
        the cost `c` it is `exp(-r / (beta * c))`, so that among many users one of them starts in
        time. With `n` uses a second the first is drawn when about `beta * c * ln(n * beta * c)` is
        left: values that are slow to compute and much asked for are refreshed long before the end.

        Source: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede
        Prevention", PVLDB 8(8), 2015, Algorithm XFetch: refresh if
        `now - cost * beta * ln(rand()) >= expiry`.
        """
        if not self.early or not entry.cost:
            return False
        head_start = -entry.cost * self.early * math.log(1 - self._draw())  # of (0, 1]
        return self.clock.now() + head_start >= entry.expires


class Memory:
    """A bounded map from keys to entries; all operations take constant time.

    Its methods are called with `lock` held, but for `now`, `find` and `find_many`.

    Args:
        maxsize: Most entries; None for any number.
        expiry: How long they live, and by which clock.

    Attributes:
        lock: Guards everything here: a cache may be used by several threads.
        clock: The cache's time.
        expiry: As given.
        entries: The entries, least recently used first.
        counts: What has been counted, here and by who computes.

    Raises:
        ValueError: `maxsize` is out of range.
    """

    __slots__ = ("clock", "counts", "entries", "expiry", "lock", "maxsize")

    def __init__(self, maxsize: int | None, expiry: Expiry) -> None:
        if maxsize is not None:
            require_whole(maxsize=maxsize)
        self.lock = Lock()
        self.expiry = expiry
        self.clock = expiry.clock
        self.maxsize = math.inf if maxsize is None else maxsize
        self.entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self.counts = Counts()

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
        self.counts.hits += 1
        return entry

    def find_many(self, keys: list[Any]) -> list[Entry | None]:
        """Return what `find` does for each key, at half the cost: the clock is read once."""
        get, touch, hits = self.entries.get, self.entries.move_to_end, 0
        now = self.now()
        found: list[Entry | None] = []
        for key in keys:
            try:
                entry = get(key)
                if entry is not None and entry.expires > now:
                    touch(key)
                    hits += 1
                else:
                    entry = entry and self.find(key)
            except (KeyError, TypeError):  # dropped by another thread just now; not hashable
                entry = self.find(key)
            found.append(entry)
        self.counts.hits += hits
        return found

    def has(self, key: Hashable) -> bool:
        """Return whether there is an entry that may be used; nothing changes by that."""
        entry = self.entries.get(key)
        return entry is not None and entry.expires > self.clock.now()

    def keep(self, key: Hashable, entry: Entry, ttl: float | None = None) -> None:
        """Keep an entry from now on, for as long as `Expiry` says; see `put`."""
        now = self.clock.now()
        entry.expires = self.expiry.end(entry, now, ttl)
        self._put(key, entry, now)

    def put(self, key: Hashable, entry: Entry) -> None:
        """Keep an entry as the most recently used, and drop what there is no room for."""
        self._put(key, entry, self.clock.now())

    def _put(self, key: Hashable, entry: Entry, now: float) -> None:
        self.drop(key)
        self._sweep(now)
        self.entries[key] = entry
        while len(self.entries) > self.maxsize:
            self.entries.popitem(last=False)
            self.counts.evictions += 1

    def drop(self, key: Hashable) -> None:
        """Forget an entry, if there is one."""
        self.entries.pop(key, None)

    def _expire(self, key: Hashable, entry: Entry) -> None:
        with self.lock:
            if self.entries.get(key) is entry:
                self.drop(key)
                self.counts.expired += 1

    def _sweep(self, now: float) -> None:
        """Drop expired entries from the end where they gather: nobody uses them any more."""
        for _ in range(_SWEPT):
            try:
                key, entry = next(iter(self.entries.items()), (None, None))
            except RuntimeError:
                return  # another thread has just used an entry: there will be a next time
            if entry is None or entry.expires > now:
                return
            self.drop(key)
            self.counts.expired += 1
