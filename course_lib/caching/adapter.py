"""The cache as LangChain's chat models take it: `ChatOpenAI(cache=CacheAdapter(cache))`."""

from __future__ import annotations

import asyncio
import sys
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.language_models import BaseLanguageModel

from course_lib.caching.keys import stable_key
from course_lib.caching.memory import Entry
from course_lib.caching.single_flight import Flights, TaskFlight, Work, is_no_value
from course_lib.clock import running_loop

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import FrameType

    from langchain_core.outputs import Generation

    from course_lib.caching.cache import AsyncCache

__all__ = ["CacheAdapter"]

_ABSENT: Final = object()
_CANCELLED: Final = object()  # who waits takes over, one after another
_NOTHING: Final = object()  # who waits makes a call of their own


class CacheAdapter(BaseCache):
    """Offers an `AsyncCache` to chat models, with one call a question at a time.

        model = ChatOpenAI(cache=CacheAdapter(AsyncCache(ttl=3600, maxsize=1_000)))

    A model asks for an answer (`alookup`), and if there is none calls the provider and hands the
    answer in (`aupdate`). Between the two, others who ask the same wait, in the same event loop,
    for that answer or that error. If the first is cancelled, the next one calls. Models that are no
    chat models call in the task of their caller, so that their error is not known here: when such a
    call has failed, each who waited calls. From synchronous code (`lookup`) nobody waits.

    Answers are handed out as copies: chat models write to what they find.

    Args:
        cache: Where answers are kept; it may serve others, too.
        patience: Seconds that one waits for another's call before making their own.

    Raises:
        ValueError: `patience` is out of range.
    """

    def __init__(self, cache: AsyncCache, *, patience: float = 60.0) -> None:
        if not patience > 0:
            raise ValueError(f"patience={patience!r}: give seconds above 0")
        self.cache = cache
        self._patience = patience
        self._flights: Flights[TaskFlight] = Flights()
        self._leading: weakref.WeakSet[asyncio.Task[Any]] = (
            weakref.WeakSet()
        )  # who may be waited for

    def __repr__(self) -> str:
        return f"CacheAdapter({self.cache!r})"

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answer, or None."""
        value = self.cache.get_sync(_key(prompt, llm_string), _ABSENT)
        return None if value is _ABSENT else _copies(value)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer."""
        self.cache.set_sync(_key(prompt, llm_string), _copies(return_val))

    def clear(self, **_: Any) -> None:
        """Forget everything that the cache holds."""
        self.cache.clear_sync()

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answer; None means that the caller is to find it out, and `aupdate`.

        Raises:
            Exception: The call that this one has waited for raised it.
        """
        task, caller = asyncio.current_task(), sys._getframe(1)  # noqa: SLF001 - documented
        key = _key(prompt, llm_string)
        while True:  # each round, one who was waited for was cancelled
            flight = self._here().get(key)
            if flight is None:
                value = await self.cache.get(key, _ABSENT)
                if value is not _ABSENT:
                    return _copies(value)
                flight = self._here().get(key)  # begun while the store was asked
            if task is None or task in self._leading:
                return None  # who is waited for must not wait
            if flight is None:
                await self._lead(key, task, caller)
                return None
            value = await self._answer(flight)
            if value is not _CANCELLED:
                return None if value is _NOTHING else _copies(value)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer, and give it to those who wait for it."""
        key = _key(prompt, llm_string)
        value = _copies(return_val)
        flight = self._here().get(key)
        try:
            await self.cache.set(key, value)
        finally:
            if flight is not None:
                self._land(flight, value)

    async def aclear(self, **_: Any) -> None:
        """Forget everything that the cache holds."""
        await self.cache.clear()

    async def _answer(self, flight: TaskFlight) -> Any:
        """Wait for what another call hands in."""
        self.cache.count_coalesced()
        try:
            async with asyncio.timeout(self._patience):
                entry = await flight.wait()
        except TimeoutError:
            return _NOTHING
        if entry.failed:
            raise entry.value.with_traceback(None)  # or it would grow with each who waits
        return entry.value

    def _here(self) -> dict[Hashable, TaskFlight]:
        return self._flights.of(asyncio.get_running_loop())

    async def _lead(self, key: str, task: asyncio.Task[Any], caller: FrameType) -> None:
        flight = self._here()[key] = TaskFlight(key, Work())
        self._leading.add(task)
        own = _frame_of(task.get_coro()) is caller
        task.add_done_callback(partial(self._task_is_over, flight, own))
        if not own:
            flight.loop.call_soon(self._watch, flight, task, _call_of(caller))
            await asyncio.sleep(
                0
            )  # the chain of who awaits whom is seen where the task stands still

    def _watch(self, flight: TaskFlight, task: asyncio.Task[Any], call: FrameType) -> None:
        """Have it known when a call ends that is not all that its task does."""
        coroutine: Any = task.get_coro()
        while coroutine is not None and _frame_of(coroutine) is not call:
            coroutine = getattr(coroutine, "cr_await", None)
        if coroutine is not None:
            weakref.finalize(coroutine, self._call_is_over, flight, task).atexit = False

    def _call_is_over(self, flight: TaskFlight, task: asyncio.Task[Any]) -> None:
        end = partial(self._end, flight, task, _CANCELLED if task.cancelling() else _NOTHING)
        if running_loop() is flight.loop:
            end()
        else:  # the collector found it, in another thread or after the loop
            with suppress(RuntimeError):
                flight.loop.call_soon_threadsafe(end)

    def _task_is_over(self, flight: TaskFlight, own: bool, task: asyncio.Task[Any]) -> None:  # noqa: FBT001
        error = task.exception() if own and not task.cancelled() else None
        if task.cancelled() or is_no_value(error):
            self._end(flight, task, _CANCELLED)
        elif error is not None:
            self._end(flight, task, error, failed=True)
        else:
            self._end(flight, task, _NOTHING)

    def _end(
        self, flight: TaskFlight, task: asyncio.Task[Any], value: Any, *, failed: bool = False
    ) -> None:
        """Let nobody wait for a call that has ended without an answer."""
        self._leading.discard(task)
        if not flight.landed:
            self._land(flight, value, failed=failed)

    def _land(self, flight: TaskFlight, value: Any, *, failed: bool = False) -> None:
        self._flights.remove(flight)
        flight.land(Entry(value, failed=failed))


def _frame_of(coroutine: Any) -> FrameType | None:
    return getattr(coroutine, "cr_frame", None)


def _call_of(caller: FrameType) -> FrameType:
    """Return the frame of the model's call among those that led here; by default the last of them."""
    frame: FrameType | None = caller
    while frame is not None and not isinstance(frame.f_locals.get("self"), BaseLanguageModel):
        frame = frame.f_back
    return frame or caller


def _key(prompt: str, llm_string: str) -> str:
    return stable_key(prompt, llm_string, namespace="llm")


def _copies(generations: RETURN_VAL_TYPE) -> list[Generation]:
    return [generation.model_copy(deep=True) for generation in generations]
