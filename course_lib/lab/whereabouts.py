"""Where a task stands, in one line: for errors that must say who waits, and for what."""

from __future__ import annotations

import linecache
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["describe_call", "describe_frame", "describe_task"]

_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_DEEPEST = 1000  # a chain of awaits longer than Python's recursion limit cannot be


def describe_task(task: asyncio.Task[Any]) -> str:
    """Say which task this is, where it waits, and on which source line.

    The innermost frame outside the standard library is shown: `await queue.get()`, not the inside of `get`.

    Returns:
        One line, such as `Task-3 worker(), in shop.py:12: await queue.get()`.
    """
    coroutine = task.get_coro()
    frames = list(_frames(coroutine))
    if not frames:
        return f"{task.get_name()} {getattr(coroutine, '__qualname__', type(coroutine).__name__)}()"
    frame = _innermost(frames)
    what = frame.f_code.co_qualname.replace("<locals>.", "")
    return f"{task.get_name()} {what}(), in {describe_frame(frame)}"


def describe_call(frame: FrameType) -> str:
    """Say where a running thread stands, given its innermost frame."""
    frames = [frame]
    while frames[0].f_back is not None:
        frames.insert(0, frames[0].f_back)
    return describe_frame(_innermost(frames))


def describe_frame(frame: FrameType) -> str:
    """Say where a frame stands: `file:line: source`, with `cell` for a notebook's cells."""
    file, line = frame.f_code.co_filename, frame.f_lineno
    place = "cell" if "ipykernel" in Path(file).parent.name else Path(file).name
    source = linecache.getline(file, line, frame.f_globals).strip()
    return f"{place}:{line}: {source}" if source else f"{place}:{line}"


def _innermost(frames: list[FrameType]) -> FrameType:
    return ([frame for frame in frames if not _is_standard(frame)] or frames)[-1]


def _is_standard(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_STANDARD_LIBRARY) and "site-packages" not in file


def _frames(awaitable: object) -> Iterator[FrameType]:
    """Yield the frames of a chain of awaits, outermost first."""
    for _ in range(_DEEPEST):
        frame = _first(awaitable, "cr_frame", "gi_frame", "ag_frame")
        if frame is None:
            return
        yield frame
        awaitable = _first(awaitable, "cr_await", "gi_yieldfrom", "ag_await")


def _first(thing: object, *names: str) -> Any:
    return next((getattr(thing, name) for name in names if hasattr(thing, name)), None)
