"""A second tier on disk: one SQLite file, which several processes may share."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from langchain_core.stores import BaseStore

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SqliteStore"]

T = TypeVar("T")
Row = tuple[str, bytes, float | None]
_log = logging.getLogger("course_lib.caching")
_CHUNK: Final = 500  # keys in one statement; SQLite takes 999 or more
_TIDY_EVERY: Final = 200  # values set between two looks at what has expired
_ATTEMPTS: Final = 3  # of a call, each with a new file in the place of a damaged one
_APPLICATION: Final = 0x41435354  # "ACST": marks a file as this store's
_VERSION: Final = 1
_COMPANIONS: Final = ("-wal", "-shm", "-journal", "")
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ)
_TRIES: Final = 100  # to switch a new file to WAL, while another process is doing the same
_PAUSE: Final = 0.02  # seconds between them
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires REAL);
CREATE INDEX IF NOT EXISTS entries_expire ON entries (expires) WHERE expires IS NOT NULL;
"""


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
        self._worker = _Worker(self.path, busy_timeout)
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
        with _Transaction(connection):
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
        with _Transaction(connection):
            connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def _keys(self, connection: sqlite3.Connection, prefix: str) -> list[str]:
        rows = connection.execute(
            "SELECT key FROM entries WHERE substr(key, 1, ?) = ? "
            "AND (expires IS NULL OR expires > ?) ORDER BY rowid",
            (len(prefix), prefix, self._wall_clock()),
        )
        return [key for (key,) in rows]


class _Worker:
    """Runs functions of a connection, one after another, in one thread.

    The file is opened when it is first needed, and again when another one has taken its place:
    another process may have set it aside, or somebody deleted it.

    Args:
        path: The file.
        busy_timeout: Seconds to wait for another process that writes.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._held: list[sqlite3.Connection] = []  # the connection, if it is open
        self._inherited: list[object] = []  # from before a fork: to close it would break its locks
        self._inode: int | None = None
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._held)

    def run(self, function: Callable[[sqlite3.Connection, Any], T], argument: object) -> T:
        """Return `function(connection, argument)`; the calling thread waits."""
        return self._thread().submit(self._call, function, argument).result()

    async def arun(self, function: Callable[[sqlite3.Connection, Any], T], argument: object) -> T:
        """Do the same; the event loop goes on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread(), self._call, function, argument)

    def close(self) -> None:
        """Let what has been asked for be done, and close the file."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.submit(_close_all, self._held)
            executor.shutdown()

    def _thread(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pid != os.getpid():  # a forked child: the thread is its parent's
                self._inherited += [self._executor, *self._held]
                self._held.clear()
                self._executor, self._pid = None, os.getpid()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="SqliteStore")
            return self._executor

    def _call(self, function: Callable[[sqlite3.Connection, Any], T], argument: object) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return function(self._connection(), argument)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                _close_all(self._held)
                _set_aside(self._path, error, seen=self._inode)
        return function(self._connection(), argument)

    def _connection(self) -> sqlite3.Connection:
        inode = _inode_of(self._path)
        if not self._held or inode != self._inode:
            _close_all(self._held)
            self._inode = inode
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._held.append(_open_file(self._path, self._busy_timeout))
            self._inode = _inode_of(self._path)
        return self._held[0]


class _Transaction:
    """All or nothing, as a context manager: begun as a writer, since a reader cannot wait to be one.

    Args:
        connection: In autocommit mode.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _close_all(held: list[sqlite3.Connection]) -> None:
    while held:
        held.pop().close()


class _NotOursError(sqlite3.DatabaseError):
    """The file is a SQLite database, but not one of this store."""


def _open_file(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, and make it if it is not there.

    Write-ahead logging lets others read while one writes, and what was committed survives the
    death of the process at any moment.

    Args:
        path: The file; its folder exists.
        busy_timeout: Seconds to wait for another process that writes.

    Raises:
        _NotOursError: It is the database of another program.
        sqlite3.DatabaseError: It is damaged, no database (see `_is_damage`), or cannot be opened.
    """
    with _alone(path.parent):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # answers may be private
        connection = sqlite3.connect(
            path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            _recognise(connection, path)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            _create(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is of no use, not merely busy or full."""
    if isinstance(error, _NotOursError):
        return True
    return getattr(error, "sqlite_errorcode", None) in _DAMAGE


def _set_aside(path: Path, reason: object, *, seen: int | None) -> Path | None:
    """Rename the file and what belongs to it, so that a new one can take its place.

    Args:
        path: The file.
        reason: What is wrong with it, for the message.
        seen: Number (inode) of the file that is wrong; None if there was none.

    Returns:
        Where it is now; None if another process has put a new one in its place meanwhile.
    """
    with _alone(path.parent):
        if seen is None or _inode_of(path) != seen:
            return None
        aside = _free_name(path)
        for suffix in _COMPANIONS:  # of one file, all or none: its log must not meet another's
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    _log.warning("%s cannot be used as a cache (%s): it is now %s", path, reason, aside)
    return aside


def _inode_of(path: Path) -> int | None:
    """Return the number of the file that has this name now, None if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Open and rename while no other process does, and with no file left over for it.

    Where folders cannot be locked, go on. (Windows does not rename open files anyway.)
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (_APPLICATION, _VERSION):
        return
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as tables:
        if application or version or tables.fetchone()[0]:
            raise _NotOursError(f"{path} is the database of another program or version")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite does not wait for others by itself here."""
    for attempt in range(_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if attempt == _TRIES - 1 or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")


def _free_name(path: Path) -> Path:
    """Return a name beside the file that nobody has: with the date, and a number if need be."""
    date = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.aside-{date}-{os.getpid()}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.aside-{date}-{os.getpid()}-{number}")
    return aside
