"""What may be left alive at a notebook's end: tasks, sessions, providers, threads, processes.

Each finder yields `Leftover`s; `hygiene` decides which of them were there before, or are expected.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from course_lib.lab.whereabouts import describe_task

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Leftover", "find_leftovers"]

_KERNEL = {"ipykernel", "IPython", "jupyter_client", "tornado", "zmq", "comm", "debugpy"}
_PYTHONS_OWN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_GRACE = 0.2  # seconds for a thread that is about to end


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a notebook left behind.

    Attributes:
        kind: One of the kinds that `hygiene` knows.
        text: What it is, in one line.
        key: Tells it from others, without keeping it alive.
    """

    kind: str
    text: str
    key: Hashable = None


def find_leftovers() -> list[Leftover]:
    """Collect garbage, then list all that is still alive and might be a leftover."""
    gc.collect()
    finders = (_tasks, _objects, _providers, _threads, _processes)
    return [leftover for find in finders for leftover in find()]


def _tasks() -> Iterator[Leftover]:
    """Yield the running loop's other tasks, those of the kernel's own code left out."""
    try:
        current = asyncio.current_task()
    except RuntimeError:  # no loop runs, so none of its tasks does
        return
    for task in sorted(asyncio.all_tasks() - {current}, key=asyncio.Task.get_name):
        if not _is_kernels(task):
            yield Leftover("lost task", describe_task(task), weakref.ref(task))


def _is_kernels(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and not _KERNEL.isdisjoint(Path(code.co_filename).parts)


def _objects() -> Iterator[Leftover]:
    """Yield failed tasks that nobody asked, and HTTP sessions that nobody closed."""
    aiohttp = sys.modules.get("aiohttp")
    session_class = () if aiohttp is None else aiohttp.ClientSession
    for thing in gc.get_objects():
        kind = type(thing)  # not isinstance: that may run code of a proxy's
        if issubclass(kind, asyncio.Task):
            if thing.done() and getattr(thing, "_log_traceback", False) and not _is_kernels(thing):
                text = f"{thing.get_name()} still holds its error"
                yield Leftover("task exception never retrieved", text, weakref.ref(thing))
        elif issubclass(kind, session_class) and not thing.closed:
            yield Leftover("open session", f"an {kind.__name__} of aiohttp", weakref.ref(thing))


def _providers() -> Iterator[Leftover]:
    for provider in _active_providers():
        yield Leftover("running provider", f"the provider at {provider.url}", provider.pid)


def _active_providers() -> list[Any]:
    process = sys.modules.get("course_lib.service.process")
    active = getattr(process, "active", None)
    return [] if active is None else list(active())


def _threads() -> Iterator[Leftover]:
    pool = _default_pool()
    for thread in threading.enumerate():
        if thread.daemon or thread is threading.main_thread() or thread in pool:
            continue
        if thread is not threading.current_thread():
            thread.join(_GRACE)
        if thread.is_alive():
            yield Leftover("running thread", f"thread {thread.name}", weakref.ref(thread))


def _default_pool() -> set[threading.Thread]:
    """Return the threads of the running loop's default executor, which live as long as it does."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return set()
    return set(getattr(getattr(loop, "_default_executor", None), "_threads", ()))


def _processes() -> Iterator[Leftover]:
    providers = {provider.pid for provider in _active_providers()}
    for child in psutil.Process(os.getpid()).children():
        try:
            command, status = " ".join(child.cmdline()), child.status()
        except psutil.NoSuchProcess:
            continue
        if status == psutil.STATUS_ZOMBIE or child.pid in providers:
            continue
        if not any(own in command for own in _PYTHONS_OWN):
            yield Leftover("running process", f"process {child.pid}: {command[:60]}", child)
