"""The thread that a store's calls run in, and its connection."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from course_lib.caching.sqlite_file import inode_of, is_damage, open_file, set_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Transaction", "Worker"]

T = TypeVar("T")
_TRIES: Final = 3  # of a call, each with a new file in the place of a damaged one


class Worker:
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
        weakref.finalize(self, _close, self._held)

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
            executor.submit(_close, self._held)
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
        for _ in range(_TRIES - 1):
            try:
                return function(self._connection(), argument)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                _close(self._held)
                set_aside(self._path, error, seen=self._inode)
        return function(self._connection(), argument)

    def _connection(self) -> sqlite3.Connection:
        inode = inode_of(self._path)
        if not self._held or inode != self._inode:
            _close(self._held)
            self._inode = inode
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._held.append(open_file(self._path, self._busy_timeout))
            self._inode = inode_of(self._path)
        return self._held[0]


class Transaction:
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


def _close(held: list[sqlite3.Connection]) -> None:
    while held:
        held.pop().close()
