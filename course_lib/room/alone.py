"""A room on this machine with made-up learners in it, for trying alone what a room does together."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

from course_lib.room.client import RoomError, Seat

__all__ = ["Alone"]


class Alone:
    """A room with so many seats taken; it ends with this process, or by `close`.

    Args:
        seats: How many.

    Attributes:
        providers: Each seat's address of the provider that they share.
        url: The room's address.
        code: The join code.
        board: The board's address, with the instructor's key.

    Raises:
        RoomError: It did not start.
    """

    def __init__(self, seats: int) -> None:
        folder = tempfile.TemporaryDirectory(prefix="room-")
        file = Path(folder.name) / "room.sqlite"
        # -P: a file in the working directory must not stand in for a module of the same name.
        command = [sys.executable, "-P", "-m", "course_lib", "room", "--port=0", f"--file={file}"]
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*command, "--watch-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.close = weakref.finalize(self, _end, process, folder)
        assert process.stdout is not None  # noqa: S101 - for the type checker: we asked for a pipe
        said = process.stdout.readline() + process.stdout.readline()
        found = re.search(r'((http://\S+)/board#\S+)\n.*", "(\S+)", name', said)
        if found is None:
            self.close()
            raise RoomError(f"the room did not start: {said}")
        self.board, self.url, self.code = found.groups()
        taken = (Seat.take(self.url, self.code, f"Seat {k}") for k in range(1, seats + 1))
        self.providers = [seat.provider for seat in taken]


def _end(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.terminate()
    process.communicate()
    folder.cleanup()
