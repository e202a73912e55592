"""How often a reader who follows a call changes file: calls from one file of the package to another."""

import asyncio
import inspect
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = str(Path(__file__).resolve().parents[1] / "course_lib")


@dataclass
class FileChanges:
    """What was counted.

    Attributes:
        count: Calls whose caller stands in another file of the package. To go on with a coroutine
            is a call, too: whoever follows it turns to that file again.
    """

    count: int = 0

    def note(self, frame, event, _):
        """Count one event of `sys.setprofile`."""
        if event != "call" or frame.f_back is None:
            return
        here, there = frame.f_code.co_filename, frame.f_back.f_code.co_filename
        self.count += here != there and here.startswith(PACKAGE) and there.startswith(PACKAGE)


@contextmanager
def counted_file_changes():
    """Count in this thread, all tasks of its event loop included, until the end of the block."""
    changes = FileChanges()
    before = sys.getprofile()
    sys.setprofile(changes.note)
    try:
        yield changes
    finally:
        sys.setprofile(before)


def count_file_changes(function):
    """Call a function without arguments, a coroutine function in an event loop, and count."""
    with counted_file_changes() as changes:
        if inspect.iscoroutinefunction(function):
            asyncio.run(function())
        else:
            function()
    return changes.count
