"""One SQLite file with the store's table: opened, recognised, and set aside if it is not ours."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NotOursError", "inode_of", "is_damage", "open_file", "set_aside"]

_log = logging.getLogger("course_lib.caching")
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


class NotOursError(sqlite3.DatabaseError):
    """The file is a SQLite database, but not one of this store."""


def open_file(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, and make it if it is not there.

    Write-ahead logging lets others read while one writes, and what was committed survives the
    death of the process at any moment.

    Args:
        path: The file; its folder exists.
        busy_timeout: Seconds to wait for another process that writes.

    Raises:
        NotOursError: It is the database of another program.
        sqlite3.DatabaseError: It is damaged, no database (see `is_damage`), or cannot be opened.
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


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is of no use, not merely busy or full."""
    if isinstance(error, NotOursError):
        return True
    return getattr(error, "sqlite_errorcode", None) in _DAMAGE


def set_aside(path: Path, reason: object, *, seen: int | None) -> Path | None:
    """Rename the file and what belongs to it, so that a new one can take its place.

    Args:
        path: The file.
        reason: What is wrong with it, for the message.
        seen: Number (inode) of the file that is wrong; None if there was none.

    Returns:
        Where it is now; None if another process has put a new one in its place meanwhile.
    """
    with _alone(path.parent):
        if seen is None or inode_of(path) != seen:
            return None
        aside = _free_name(path)
        for suffix in _COMPANIONS:  # of one file, all or none: its log must not meet another's
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    _log.warning("%s cannot be used as a cache (%s): it is now %s", path, reason, aside)
    return aside


def inode_of(path: Path) -> int | None:
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
            raise NotOursError(f"{path} is the database of another program or version")


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
