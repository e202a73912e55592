"""Where the items come from: an iterable, or an asynchronous one, read no faster than needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from course_lib.tasks import error_of, report

if TYPE_CHECKING:
    from contextvars import Context

__all__ = ["InputSource", "Sink", "source_of"]

Input = TypeVar("Input")
_END: Any = object()


class Sink(Protocol):
    """Who takes the items."""

    context: Context
    began: float
    stopped: bool

    def room(self) -> bool:
        """Return whether it takes another item now."""

    def start(self, item: Any, since: float) -> None:
        """Take an item that has been there since a time."""

    def exhausted(self, error: BaseException | None = None) -> None:
        """Learn that nothing more comes: because of an error perhaps, of any kind."""


class InputSource(Protocol):
    """A source of items."""

    def fill(self, sink: Sink) -> None:
        """Hand over as many items as there is room for. Called whenever there may be more."""

    def stop(self) -> None:
        """Hand over nothing more."""

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what runs."""

    async def close(self) -> None:
        """Close the source, when nothing runs any more."""


def source_of(inputs: Iterable[Input] | AsyncIterable[Input]) -> InputSource:
    """Return the source for some inputs.

    Raises:
        TypeError: They cannot be iterated over, or are a single one: a text or a mapping.
    """
    if isinstance(inputs, str | bytes | Mapping):
        raise TypeError(f"inputs={inputs!r} is one input, not several: put it into a list")
    if isinstance(inputs, AsyncIterable):
        return _AsyncIterableSource(aiter(inputs))
    if not isinstance(inputs, Iterable):
        raise TypeError(f"inputs={inputs!r}: give an iterable, or an asynchronous one")
    return _IterableSource(iter(inputs))


class _IterableSource:
    """Reads an ordinary iterator, as soon as there is room and not before."""

    __slots__ = ("_busy", "_iterator")

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self._busy = False

    def fill(self, sink: Sink) -> None:
        if self._busy:  # the source itself, or a task that starts at once, has made room
            return
        self._busy = True
        try:
            while self._iterator is not None and sink.room():
                item = sink.context.run(next, self._iterator, _END)
                if item is _END:
                    self._iterator = None
                    sink.exhausted()
                else:
                    sink.start(item, sink.began)
        except BaseException as error:
            self._iterator = None
            sink.exhausted(error)  # it is raised where the outcomes are awaited,
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise  # and what stops the program also at once, wherever the source was read
        finally:
            self._busy = False

    def stop(self) -> None:
        """Do nothing: who takes no more leaves no room."""

    def tasks(self) -> list[asyncio.Task[None]]:
        return []

    async def close(self) -> None:
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, Generator):  # a file or a queue is its owner's to close
            iterator.close()


class _AsyncIterableSource:
    """Reads an asynchronous iterator, in one task of its own."""

    __slots__ = ("_begun", "_iterator", "_room", "_task")

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        self._iterator: AsyncIterator[Any] | None = iterator  # until the task has begun to read it
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def fill(self, sink: Sink) -> None:
        if not self._begun:
            self._begun = True  # before the task, which may start at once
            self._task = asyncio.get_running_loop().create_task(
                self._pump(sink), context=sink.context.copy()
            )
            self._task.add_done_callback(lambda task: _pumped(task, sink))
        elif self._room is not None and not self._room.done() and sink.room():
            self._room.set_result(None)

    async def _pump(self, sink: Sink) -> None:
        """Read and close in one task, as time limits and cancel scopes within the source need."""
        loop = asyncio.get_running_loop()
        iterator, self._iterator = self._iterator, None
        try:
            async for item in iterator:  # type: ignore[union-attr] # this is the first to take it
                sink.start(item, loop.time())
                while not sink.room():
                    self._room = loop.create_future()
                    await self._room
        finally:
            await _close(iterator)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        return [] if self._task is None else [self._task]

    async def close(self) -> None:
        iterator, self._iterator = self._iterator, None
        await _close(iterator)


async def _close(iterator: AsyncIterator[Any] | None) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def _pumped(task: asyncio.Task[None], sink: Sink) -> None:
    if sink.stopped:
        report(task)
    else:
        sink.exhausted(error_of(task))
