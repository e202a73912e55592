"""Call async code from sync code, also where an event loop is running (a notebook, a server)."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["run_sync"]

T = TypeVar("T")

_GLANCE = 0.5  # seconds: where a wait cannot be interrupted (Windows), it is looked at this often
_PATIENCE_AT_EXIT = 5.0  # seconds for what is cancelled when the process ends


def run_sync(awaitable: Awaitable[T], *, timeout: float | None = None) -> T:
    """Run a coroutine to its end and return its result, from sync code.

    The coroutine runs on an event loop in a private thread, which the first call starts and all
    share. So this works where `asyncio.run` refuses: in a thread whose own event loop is running.
    That loop stands still meanwhile, as with any blocking call; where you can, `await` instead.

    The coroutine sees the caller's context variables. What belongs to another event loop (an open
    HTTP session, a lock that somebody waits for) cannot be used in it: open it in the coroutine.

    Args:
        awaitable: A coroutine, or another awaitable that is not bound to an event loop.
        timeout: Seconds after which it is cancelled; by default it may take for ever.

    Returns:
        What the coroutine returned.

    Raises:
        TimeoutError: It was not done in time; it has been cancelled and has cleaned up.
        KeyboardInterrupt: Interrupted; it has been cancelled and has cleaned up.
        RuntimeError: Called from a coroutine that `run_sync` runs: it would wait for itself.
        TypeError: Not an awaitable, or a task or future of another loop.
        Exception: Whatever the coroutine raised.
    """
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            f"`run_sync` needs a coroutine, not {type(awaitable).__name__}: call the async "
            "function, as in `run_sync(fetch(url))`."
        )
    try:
        loop = _loop_for(awaitable)
    except BaseException:
        _discard(awaitable)
        raise
    return cast("T", _Call(awaitable, timeout).result(loop))


class _Call:
    """One awaitable on its way through the private loop."""

    def __init__(self, awaitable: Awaitable[Any], timeout: float | None) -> None:
        self._awaitable = awaitable
        self._timeout = timeout
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def result(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Wait in the caller's thread; the methods below run in the loop's."""
        try:
            loop.call_soon_threadsafe(self._start)  # in a copy of the caller's context
            self._wait()
        except BaseException:
            loop.call_soon_threadsafe(self._cancel)
            self._wait()
            raise
        try:
            if self._error is not None:
                raise self._error
            return self._value
        finally:
            self._error = None  # an error that refers to its own frame is not freed at once

    def _wait(self) -> None:
        while not self._done.wait(_GLANCE):
            pass

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="run_sync")
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._timeout) as bound:
                self._value = await self._awaitable
        except TimeoutError as error:
            self._error = error
            if bound.expired():
                self._error = TimeoutError(f"not done within {self._timeout:g} s: cancelled")
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._error = error

    def _finish(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step
            self._error = asyncio.CancelledError()
            _discard(self._awaitable)
        self._done.set()


class _LoopThread:
    """An event loop in a daemon thread, ended in order when the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._work, name="run_sync", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:  # the interpreter is shutting down
            self.loop.close()
            raise
        atexit.register(self.close)

    def close(self) -> None:
        """Cancel what runs, let it clean up, and end; nothing happens in a forked child."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(_PATIENCE_AT_EXIT)

    def _work(self) -> None:
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(_cancel_others())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


_lock = threading.Lock()
_threads: list[_LoopThread] = []  # the last is in use; before it, what belongs to parents of a fork


def _loop_for(awaitable: Awaitable[Any]) -> asyncio.AbstractEventLoop:
    """Return the private loop, if it can run this awaitable."""
    with _lock:
        if not _threads or not _threads[-1].thread.is_alive():
            _threads.append(_LoopThread())
        private = _threads[-1]
    if threading.current_thread() is private.thread:
        raise RuntimeError("`run_sync` was called by a coroutine that it runs itself: use `await`.")
    if asyncio.isfuture(awaitable) and awaitable.get_loop() is not private.loop:
        raise TypeError(
            f"`run_sync` cannot wait for a {type(awaitable).__name__} of another event loop: that "
            "loop may be waiting for this very call. Pass the coroutine, or `await` it there."
        )
    return private.loop


def _discard(awaitable: Awaitable[Any]) -> None:
    """Close a coroutine that will not run, so that nobody is told to await it."""
    if inspect.iscoroutine(awaitable):
        cast("Any", awaitable).close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _after_fork() -> None:
    """Give a forked child a lock that nobody holds; the parent's thread is not alive in it.

    The parent's loop stays referred to: to close it here would make the parent's deaf.
    """
    global _lock  # noqa: PLW0603 - a lock copied in a fork may be held for ever
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
