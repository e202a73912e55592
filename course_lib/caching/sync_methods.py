"""The cache from synchronous code, in as many threads as you like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from course_lib.caching.base import CacheBase

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from course_lib.caching.single_flight import Outcome

__all__ = ["SyncMethods"]

T = TypeVar("T")


class SyncMethods(CacheBase):
    """The methods whose names end in `_sync`.

    They share all values with the others. Threads wait for each other's computations, but neither
    for those of an event loop nor the other way round. Nothing is refreshed early from here, and a
    call of the store takes what it takes.
    """

    def get_or_compute_sync(
        self, key: Hashable, compute: Callable[[], T], *, ttl: float | None = None
    ) -> T:
        """Return the value of a key; if it is not there, the first thread computes it."""
        entry = self._find(key)
        if entry is not None:
            return self._give(entry.failed, entry.value)  # type: ignore[no-any-return]
        [outcome] = self._threads.join(
            [key], lambda _: [(False, compute())], self._checked(key, ttl)
        )
        return self._give(*outcome)  # type: ignore[no-any-return]

    def get_or_compute_many_sync(
        self,
        keys: Iterable[Hashable],
        compute: Callable[[list[Any]], Sequence[Any]],
        *,
        ttl: float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the values of many keys; see `get_or_compute_many`."""
        keys = list(keys)
        found = self.find_many(keys)
        late: dict[Any, Outcome] = {}
        if None in found:
            missing = self._missing(keys, found, ttl)
            late = dict(zip(missing, self._threads.join(missing, _many(compute), ttl), strict=True))
        return self._given(keys, found, late, return_exceptions=return_exceptions)

    def get_sync(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of a key if it is there, and otherwise `default`."""
        entry = self._find(key)
        if entry is None and self._tier is not None:
            mark = self._begin_read(self._checked_key(key))
            try:
                entry = self._tier.read_sync([str(key)]).get(str(key))
            finally:
                current = self._end_read(key, mark)
            self._take(key, entry, current=current)
        elif entry is None or entry.failed:
            self._miss(entry)
        return default if entry is None or entry.failed else self._give(False, entry.value)

    def set_sync(self, key: Hashable, value: Any, *, ttl: float | None = None) -> None:
        """Keep a value; see `set`."""
        entry = self._new_entry(key, value, ttl)
        if self._tier is not None:
            self._tier.write_sync({str(key): entry})

    def invalidate_sync(self, key: Hashable) -> bool:
        """Forget a key; see `invalidate`."""
        held = self._drop(key)
        if self._tier is not None:
            self._tier.delete_sync([self._checked_key(key)])
        return held

    def clear_sync(self) -> None:
        """Forget everything; see `clear`."""
        self._drop_all()
        if self._tier is not None:
            self._tier.clear_sync()


def _many(compute: Callable[[list[Any]], Sequence[Any]]) -> Callable[[list[Any]], list[Outcome]]:
    def outcomes(keys: list[Any]) -> list[Outcome]:
        values = compute(keys)
        if len(values) != len(keys):
            raise ValueError(
                f"{len(keys)} values were to be computed, and {len(values)} came back: return one "
                "for each key, in the order of the keys"
            )
        return [(isinstance(value, Exception), value) for value in values]

    return outcomes
