"""LangChain's events, as calls of a monitor: runs from their start to their end."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config

from course_lib.clock import NANO
from course_lib.monitoring.records import OpenCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from course_lib.monitoring.records import Records
    from course_lib.monitoring.report import Ending

__all__ = ["MonitorCallback", "Runs", "ending_of", "innermost", "is_rejection"]

TOO_MANY_REQUESTS = 429

innermost: ContextVar[OpenCall | None] = ContextVar("innermost measured call", default=None)
"""The `with monitor.measure(...)` that the running code is in."""


@dataclass(slots=True, eq=False)
class Run(OpenCall):
    """A call that LangChain's events tell of.

    Attributes:
        key: LangChain's id of it.
        tells_end: Whether an end event comes in any case, also when it is cancelled.
        task: The task that its start was told in, if any.
        thread: Number of the thread that its start was told in.
        children: Runs in it that have not ended, by key.
        first: When the first of its children that have ended began; None if none has.
        last: When the last of them ended.
        apart: Whether it is known not to have run where its start was told.
        streams: Whether its first token has come.
    """

    key: UUID = field(init=False)
    tells_end: bool = field(init=False)
    task: asyncio.Task[object] | None = field(init=False)
    thread: int = field(init=False)
    children: dict[UUID, Run] = field(init=False, default_factory=dict)
    first: int | None = field(init=False, default=None)
    last: int = field(init=False, default=0)
    apart: bool = field(init=False, default=False)
    streams: bool = field(init=False, default=False)


class Runs:
    """A bounded map from LangChain's run ids to calls in flight.

    Args:
        records: Where the calls are counted.
        room: How many runs are kept; beyond that the oldest is given up.
    """

    def __init__(self, records: Records, room: int) -> None:
        self._records = records
        self._room = room
        self._runs: dict[UUID, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def start(
        self,
        key: UUID,
        parent: UUID | None,
        name: str,
        tags: Sequence[str] | None,
        *,
        tells_end: bool,
    ) -> None:
        """Begin a run; nothing happens if it is known (the handler was passed twice)."""
        with self._records.lock:
            if key in self._runs:
                return
            above = None if parent is None else self._runs.get(parent)
            run = self._records.begin(Run, name, above or self._measured())
            run.key, run.tells_end = key, tells_end
            run.task, run.thread = _current_task(), get_ident()
            if above is not None:
                above.children[key] = run
                above.apart = above.apart or (
                    run.thread != above.thread and _is_step_of_sequence(tags)
                )
            self._runs[key] = run
            if len(self._runs) > self._room:
                self._evict()

    def token(self, key: UUID) -> None:
        """Count the time to the first token of a run, if this is it."""
        run = self._runs.get(key)
        if run is None or run.streams:
            return
        with self._records.lock:
            run.streams = True
            run.tally.add_token((self._records.clock.nanoseconds() - run.start) / NANO)

    def end(self, key: UUID, outcome: Ending, *, rejected: bool = False) -> None:
        """End a run, unless it is not known (any more)."""
        with self._records.lock:
            run = self._runs.get(key)
            if run is not None:
                self._end(run, outcome, rejected=rejected)

    def innermost(self) -> OpenCall | None:
        """Return the call that the running code is in: a measured block or a run."""
        measured = self._measured()
        config = var_child_runnable_config.get()
        callbacks = config and config.get("callbacks")
        run = self._runs.get(getattr(callbacks, "parent_run_id", None))  # type: ignore[arg-type]
        if run is None or measured is None:
            return run or measured
        return max(run, measured, key=lambda call: call.id)  # the one that began later

    def _measured(self) -> OpenCall | None:
        call = innermost.get()
        return call if call is not None and call.records is self._records else None

    def _end(self, run: Run, outcome: Ending, *, rejected: bool = False) -> None:
        self._remove(run)
        for child in list(run.children.values()):
            # Nobody waits for it any more, and no event tells how it ended.
            if not child.tells_end and child.key in self._runs:
                self._end(child, "cancelled")
        now = self._records.clock.nanoseconds()
        start, end = run.start, now
        if run.first is not None and _was_apart(run):
            start, end = run.first, run.last
            self._records.end(run, outcome, start, end, rejected=rejected)
        else:
            self._records.end(run, outcome, rejected=rejected)
        above = run.parent
        if isinstance(above, Run):
            above.first = start if above.first is None else min(above.first, start)
            above.last = max(above.last, end)
        run.task = None  # the call may be referred to for long

    def _evict(self) -> None:
        oldest = next(iter(self._runs.values()))
        self._remove(oldest)
        self._records.give_up(oldest)
        oldest.task = None

    def _remove(self, run: Run) -> None:
        del self._runs[run.key]
        if isinstance(run.parent, Run):
            run.parent.children.pop(run.key, None)


def _start(kind: str, *, tells_end: bool = False) -> Callable[..., None]:
    """Return the method for the start of a kind of run.

    Args:
        kind: What it is called where it has no name.
        tells_end: Whether LangChain tells its end in any case. Models, retrievers and tools that
            are cancelled end without a word (langchain-core 1.7).
    """

    def begin(
        self: MonitorCallback,
        serialized: Mapping[str, Any] | None,
        _given: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        name = kwargs.get("name") or _name(serialized) or kind
        self._runs.start(run_id, parent_run_id, name, tags, tells_end=tells_end)

    return begin


def _ended(self: MonitorCallback, _result: Any, *, run_id: UUID, **_others: Any) -> None:
    self._runs.end(run_id, "ok")


def _failed(self: MonitorCallback, error: BaseException, *, run_id: UUID, **_others: Any) -> None:
    self._runs.end(run_id, ending_of(error), rejected=is_rejection(error))


# LangChain's signatures differ from event to event; what these leave out is not used.
_end: Callable[..., None] = _ended
_fail: Callable[..., None] = _failed


class MonitorCallback(BaseCallbackHandler):
    """Counts every run of chains, models, retrievers and tools; see `PerformanceMonitor.callback`.

    It runs inline: in the thread that works, not in a pool's, where it would wait for a place and
    make the step wait, too. What goes wrong in it is logged by LangChain and changes no result.
    """

    run_inline = True
    raise_error = False

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    on_chain_start = _start("chain", tells_end=True)
    on_chat_model_start = _start("chat model")
    on_llm_start = _start("LLM")
    on_retriever_start = _start("retriever")
    on_tool_start = _start("tool")

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the time to the first token; the empty text that opens many streams is none."""
        message = getattr(kwargs.get("chunk"), "message", None)
        if token or getattr(message, "tool_call_chunks", None):
            self._runs.token(run_id)

    on_chain_end = on_llm_end = on_retriever_end = on_tool_end = _end
    on_chain_error = on_llm_error = on_retriever_error = on_tool_error = _fail


def ending_of(error: BaseException) -> Ending:
    """Return "error" for what failed, "cancelled" for what was broken off from outside.

    The latter are the errors that are no `Exception`: `CancelledError`, the `GeneratorExit` of a
    stream that is closed early, the `KeyboardInterrupt` of an impatient user.
    """
    return "error" if isinstance(error, Exception) else "cancelled"


def is_rejection(error: BaseException) -> bool:
    """Return whether a provider answered 429, told by what the error carries, whoever raised it.

    That is the status, in itself (`openai`, `anthropic`, `aiohttp`) or in the response (`httpx`,
    `requests`).
    """
    try:
        return any(
            getattr(carrier, name, None) == TOO_MANY_REQUESTS
            for carrier in (error, getattr(error, "response", None))
            for name in ("status_code", "status")
        )
    except Exception:  # noqa: BLE001 - anybody's error, whose attributes may fail, too
        return False


def _was_apart(run: Run) -> bool:
    """Whether a run was told to start before, and to end after, it really did.

    In a batch over a sequence (or over retries, fallbacks, branches) LangChain tells of all starts
    at once, in tasks made for nothing else, and so of the ends. A task that has ended did not do
    the work. In synchronous batches, the steps run in other threads.
    """
    return run.apart or (run.task is not None and run.task.done())


def _is_step_of_sequence(tags: Sequence[str] | None) -> bool:
    return any(tag.startswith("seq:step:") for tag in tags or ())


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None


def _name(serialized: Mapping[str, Any] | None) -> str:
    """Return the name that a component was given, or that of its class, or nothing."""
    if not serialized:
        return ""
    return str(serialized.get("name") or (serialized.get("id") or [""])[-1])
