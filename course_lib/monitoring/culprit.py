"""What an event loop is running, as seen from another thread."""

from __future__ import annotations

import asyncio
import gc
import sysconfig
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from course_lib.monitoring.monitor import PerformanceMonitor

__all__ = ["place_of", "step_of"]

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def step_of(monitor: PerformanceMonitor, loop: asyncio.AbstractEventLoop) -> str | None:
    """Return the name of the step that the loop's current task is in; asked from another thread."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    # A copy, since the task's own context is in use. Python 3.11 has no `get_context`.
    get = getattr(task, "get_context", None)
    own = [each for each in gc.get_referents(task) if isinstance(each, Context)]
    context = get() if get is not None else own[0]
    call = context.copy().run(monitor._runs.innermost)  # noqa: SLF001 - of one package
    return None if call is None else str(call.name)


def place_of(frame: FrameType) -> str:
    """Return the innermost place outside of libraries, as `file:line function`."""
    own = next((each for each in _stack(frame) if not _is_library(each)), frame)
    file = Path(own.f_code.co_filename)
    name = "cell" if "ipykernel" in file.parent.name else file.name
    return f"{name}:{own.f_lineno} {own.f_code.co_qualname.replace('<locals>.', '')}"


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of what the loop runs now, innermost first; not those that run the loop."""
    while frame is not None and frame.f_code.co_name != "_run_once":
        yield frame
        frame = frame.f_back


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith((*_LIBRARIES, "<"))
