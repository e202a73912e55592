"""What the room keeps, in one SQLite file: it outlives a kill and a restart.

Rows are JSON by table and key. Every change is on disk before its sender is answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Store", "forget"]


class Store:
    """Keeps values by kind and key.

    Args:
        path: The file, made where it is missing, readable by its owner alone; None keeps all in
            memory.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        # One thread has the connection: writes stand in line, and the loop goes on.
        self._thread = ThreadPoolExecutor(1, "room-store")
        self._database = self._thread.submit(_open, path).result()

    def read(self, kind: str) -> dict[str, Any]:
        """Return all values of a kind, by key."""
        return self._thread.submit(_read, self._database, kind).result()

    async def write(self, kind: str, key: str, value: Any) -> None:
        """Keep a value; when this returns, it is in the file."""
        loop = asyncio.get_running_loop()
        row = (kind, key, json.dumps(value))
        await loop.run_in_executor(self._thread, _write, self._database, row)

    def close(self) -> None:
        """Close the file, after the writes that wait."""
        self._thread.submit(self._database.close).result()
        self._thread.shutdown()


def forget(path: Path) -> bool:
    """Delete a room's file, with what SQLite keeps beside it.

    Returns:
        Whether there was one.
    """
    found = path.exists()
    for file in (
        path,
        *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm", "journal")),
    ):
        file.unlink(missing_ok=True)
    return found


def _open(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))"
    )
    return database


def _read(database: sqlite3.Connection, kind: str) -> dict[str, Any]:
    rows = database.execute("SELECT key, value FROM kept WHERE kind = ?", (kind,))
    return {key: json.loads(value) for key, value in rows}


def _write(database: sqlite3.Connection, row: tuple[str, str, str]) -> None:
    database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", row)
