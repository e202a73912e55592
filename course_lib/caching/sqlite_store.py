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
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from zlib import crc32

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
_VERSION: Final = 2
_COMPANIONS: Final = ("-wal", "-shm", "-journal", "")
_DAMAGE: Final = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # the statements are in order: it is the tables that are not
)
_PAUSE: Final = 0.02  # seconds between two tries, where SQLite does not wait for others by itself
# An entry is found by a number made of its key, in the table itself: what is damaged in an index can
# lose entries, and never make an old value come back. `turn` counts what has been set.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB NOT NULL,
expires REAL, checksum INTEGER NOT NULL, turn INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS entries_turn ON entries (turn);
CREATE INDEX IF NOT EXISTS entries_expire ON entries (expires) WHERE expires IS NOT NULL;
"""


class SqliteStore(BaseStore[str, bytes]):
    """Keeps values in a SQLite file.

        cache = AsyncCache(ttl=3600, maxsize=1_000, store=SqliteStore("answers.sqlite3"))

    Several processes may use one file at once; what was set is there for all of them, also after
    one was killed. All calls run in one thread of the store's own, never on the event loop.

    A file that is damaged, or that is the database of another program, is renamed to
    `<name>.aside-<date>`, a warning is logged, and a new file takes its place. A value of which a
    byte was changed is not there any more.

    Expiry is kept as a date of the wall clock: a monotonic clock starts anew with each boot.

    Args:
        path: The file; it is made, and its folder, when they are first needed.
        maxsize: Values kept: of more, those set last. It is looked after now and then, so there
            may be 200 more for a while. None for any number.
        busy_timeout: Seconds to wait for another process that writes, or opens the file.
        wall_clock: Returns seconds since 1970.

    Raises:
        ValueError: An argument is out of range, or the path is a folder, or SQLite's word for
            memory.
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
        if str(path).startswith((":memory:", "file:")):
            raise ValueError(
                f"path={str(path)!r} would be a file of that name: an AsyncCache without a store "
                "keeps values in memory; for a store name a file"
            )
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
            (key, value, None if seconds is None else float(now + seconds))
            for key, value, seconds in entries
        ]

    def _get(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = connection.execute(
                f"SELECT key, value, expires, checksum FROM entries WHERE id IN ({marks}) "  # noqa: S608 - marks
                "AND (expires IS NULL OR expires > ?)",
                (*map(_id, chunk), self._wall_clock()),
            )
            found.update((row[0], row[1]) for row in rows if _is_whole(*row))
        return [found.get(key) for key in keys]

    def _set(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        new = {_id(row[0]): (*row, _checksum(*row)) for row in rows}
        with _Transaction(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO entries VALUES "
                "(?, ?, ?, ?, ?, (SELECT ifnull(max(turn), 0) + 1 FROM entries))",
                [(number, *row) for number, row in new.items()],
            )
            _check_there(connection, [(number, row[-1]) for number, row in new.items()])
            self._unchecked += len(rows)
            if self._unchecked >= _TIDY_EVERY:
                self._tidy(connection)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        self._unchecked = 0
        # The index says which may have expired, the entry itself whether it has.
        connection.execute(
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= :now) "
            "AND +expires <= :now",
            {"now": self._wall_clock()},
        )
        if self.maxsize is not None:
            connection.execute(
                "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY turn "
                "LIMIT max(0, (SELECT count(*) FROM entries) - ?))",
                (self.maxsize,),
            )

    def _delete(self, connection: sqlite3.Connection, keys: Sequence[str]) -> None:
        with _Transaction(connection):
            connection.executemany(
                "DELETE FROM entries WHERE id = ?", [(_id(key),) for key in keys]
            )

    def _keys(self, connection: sqlite3.Connection, prefix: str) -> list[str]:
        rows = connection.execute(
            "SELECT key FROM entries WHERE substr(key, 1, ?) = ? "
            "AND (expires IS NULL OR expires > ?) ORDER BY turn",
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
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _is_damage(error, self._path):
                    raise
                _close_all(self._held)
                _set_aside(self._path, error, seen=self._inode, patience=self._busy_timeout)
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
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:  # also where the disk is full
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _close_all(held: list[sqlite3.Connection]) -> None:
    while held:
        held.pop().close()


class _UselessError(sqlite3.DatabaseError):
    """The file is a SQLite database, but not one that this store has written and can use."""


def _open_file(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, and make it if it is not there.

    Write-ahead logging lets others read while one writes, and what was committed survives the
    death of the process at any moment.

    Args:
        path: The file; its folder exists.
        busy_timeout: Seconds to wait for another process that writes.

    Raises:
        _UselessError: It is the database of another program.
        sqlite3.DatabaseError: It is damaged, no database (see `_is_damage`), or cannot be opened.
    """
    deadline = time.monotonic() + busy_timeout
    with _alone(path.parent, deadline):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # answers may be private
        connection = sqlite3.connect(
            path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = _text
        try:
            is_new = _is_empty(connection, path)
            _use_wal(connection, deadline)
            connection.execute("PRAGMA synchronous = NORMAL")
            if is_new:
                _create(connection)
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _text(raw: bytes) -> str:
    """Return the text of a column; of one that is damaged, some other text."""
    return raw.decode(errors="replace")


def _id(key: str) -> int:
    """Return the number of a key; no two that anybody has will share one."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def _checksum(key: str, value: bytes, expires: float | None) -> int:
    """Return what tells whether a byte was changed; SQLite does not look after that."""
    return crc32(value, crc32(f"{key}|{expires}".encode()))


def _is_whole(key: str, value: bytes, expires: float | None, checksum: int) -> bool:
    """Return whether a row is as it was written."""
    return isinstance(value, bytes) and checksum == _checksum(key, value, expires)


def _check_there(connection: sqlite3.Connection, new: list[tuple[int, int]]) -> None:
    """Refuse a table that does not find what it was just given: its rows are out of order."""
    look = "SELECT 1 FROM entries WHERE id = ? AND checksum = ?"
    if not all(connection.execute(look, each).fetchone() for each in new):
        raise _UselessError("it loses what is set")


def _is_damage(error: Exception, path: Path) -> bool:
    """Return whether an error says that the file is of no use, not merely busy or full."""
    if isinstance(error, _UselessError | UnicodeDecodeError):  # of the message: it names the damage
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY:  # so says a damaged header, too
        return os.access(path, os.W_OK)
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _set_aside(path: Path, reason: object, *, seen: int | None, patience: float) -> Path | None:
    """Rename the file and what belongs to it, so that a new one can take its place.

    Args:
        path: The file.
        reason: What is wrong with it, for the message.
        seen: Number (inode) of the file that is wrong; None if there was none.
        patience: Seconds to wait for another process that does the same.

    Returns:
        Where it is now; None if another process has put a new one in its place meanwhile.
    """
    with _alone(path.parent, time.monotonic() + patience):
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
def _alone(folder: Path, deadline: float) -> Iterator[None]:
    """Open and rename while no other process does, and with no file left over for it.

    Where folders cannot be locked, go on. (Windows does not rename open files anyway.)

    Raises:
        sqlite3.OperationalError: Another process has held the lock until the deadline.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems
            while not _try_to_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise sqlite3.OperationalError(f"{folder} is locked by another process")
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file is still to be made this store's."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (_APPLICATION, _VERSION):
        return False
    if application or version or _schema(connection):
        raise _UselessError(f"{path} is the database of another program or version")
    return True


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to write-ahead logging, also while another process is doing the same."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _create(connection: sqlite3.Connection) -> None:
    with _Transaction(connection):
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse tables that are other than they were made, such as by a byte that was changed."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as intact:
        _create(intact)
        if not _schema(intact) <= _schema(connection):
            raise _UselessError(f"{path} has other tables than it was made with")


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))


def _free_name(path: Path) -> Path:
    """Return a name beside the file that nobody has: with the date, and a number if need be."""
    date = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.aside-{date}-{os.getpid()}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.aside-{date}-{os.getpid()}-{number}")
    return aside
