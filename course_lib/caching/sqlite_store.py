"""A second tier on disk: one SQLite file, which several processes may share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from langchain_core.stores import BaseStore

from course_lib.caching.sqlite_worker import Transaction, Worker

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SqliteStore"]

Row = tuple[str, bytes, float | None]
_CHUNK: Final = 500  # keys in one statement; SQLite takes 999 or more
_TIDY_EVERY: Final = 200  # values set between two looks at what has expired


class SqliteStore(BaseStore[str, bytes]):
    """Keeps values in a SQLite file.

        cache = AsyncCache(ttl=3600, maxsize=1_000, store=SqliteStore("answers.sqlite3"))

    Several processes may use one file at once; what was set is there for all of them, also after
    one was killed. All calls run in one thread of the store's own, never on the event loop.

    A file that is damaged, or that is the database of another program, is renamed to
    `<name>.aside-<date>`, a warning is logged, and a new file takes its place.

    Expiry is kept as a date of the wall clock: a monotonic clock starts anew with each boot.

    Args:
        path: The file; it is made, and its folder, when they are first needed.
        maxsize: Values kept: of more, those set last. It is looked after now and then, so there
            may be 200 more for a while. None for any number.
        busy_timeout: Seconds to wait for another process that writes.
        wall_clock: Returns seconds since 1970.

    Raises:
        ValueError: An argument is out of range, or the path is a folder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        maxsize: int | None = 100_000,
        busy_timeout: float = 5.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if maxsize is not None and maxsize < 1:
            raise ValueError(f"maxsize={maxsize!r} keeps nothing: at least 1, or None")
        if not busy_timeout > 0:
            raise ValueError(f"busy_timeout={busy_timeout!r}: give seconds above 0")
        self.path = Path(path).absolute()
        if self.path.is_dir():
            raise ValueError(f"path={str(path)!r} is a folder: name a file in it")
        self.maxsize = maxsize
        self._wall_clock = wall_clock
        self._worker = Worker(self.path, busy_timeout)
        self._unchecked = _TIDY_EVERY  # values set since the last look; the first write looks

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The next call opens it again."""
        self._worker.close()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys; None for what is not there or has expired.

        Raises:
            sqlite3.OperationalError: The file is locked by others for too long, or out of reach.
        """
        return self._worker.run(self._get, keys)

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Do as `mget`, without holding up the event loop."""
        return await self._worker.arun(self._get, keys)

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values that do not expire, all or none.

        Raises:
            sqlite3.OperationalError: The file is locked by others for too long, or out of reach.
        """
        self.mset_expiring([(key, value, None) for key, value in key_value_pairs])

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Do as `mset`, without holding up the event loop."""
        await self.amset_expiring([(key, value, None) for key, value in key_value_pairs])

    def mset_expiring(self, entries: Sequence[Row]) -> None:
        """Set values, all or none; the third part is seconds until one expires, or None."""
        self._worker.run(self._set, self._dated(entries))

    async def amset_expiring(self, entries: Sequence[Row]) -> None:
        """Do as `mset_expiring`, without holding up the event loop."""
        await self._worker.arun(self._set, self._dated(entries))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete keys; those that are not there do not matter."""
        self._worker.run(self._delete, keys)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Do as `mdelete`, without holding up the event loop."""
        await self._worker.arun(self._delete, keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys that have not expired, with this prefix if one is given."""
        yield from self._worker.run(self._keys, prefix or "")

    def _dated(self, entries: Sequence[Row]) -> list[Row]:
        now = self._wall_clock()
        return [
            (key, value, None if seconds is None else now + seconds)
            for key, value, seconds in entries
        ]

    def _get(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            found.update(
                connection.execute(
                    f"SELECT key, value FROM entries WHERE key IN ({marks}) "  # noqa: S608 - marks
                    "AND (expires IS NULL OR expires > ?)",
                    (*chunk, self._wall_clock()),
                )
            )
        return [found.get(key) for key in keys]

    def _set(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        with Transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO entries (key, value, expires) VALUES (?, ?, ?)", rows
            )
            self._unchecked += len(rows)
            if self._unchecked >= _TIDY_EVERY:
                self._tidy(connection)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        self._unchecked = 0
        connection.execute("DELETE FROM entries WHERE expires <= ?", (self._wall_clock(),))
        if self.maxsize is not None:  # rows are numbered as they are set, with gaps
            connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY rowid "
                "LIMIT max(0, (SELECT count(*) FROM entries) - ?))",
                (self.maxsize,),
            )

    def _delete(self, connection: sqlite3.Connection, keys: Sequence[str]) -> None:
        with Transaction(connection):
            connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def _keys(self, connection: sqlite3.Connection, prefix: str) -> list[str]:
        rows = connection.execute(
            "SELECT key FROM entries WHERE substr(key, 1, ?) = ? "
            "AND (expires IS NULL OR expires > ?) ORDER BY rowid",
            (len(prefix), prefix, self._wall_clock()),
        )
        return [key for (key,) in rows]
