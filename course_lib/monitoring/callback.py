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

__all__ = ["MonitorCallback", "ending_of", "innermost", "is_rejection"]

TOO_MANY_REQUESTS = 429

innermost: ContextVar[OpenCall | None] = ContextVar("innermost measured call", default=None)
"""The `with monitor.measure(...)` that the running code is in."""


@dataclass(eq=False)  # without slots, so that defaults stay in the class and cost nothing
class Run(OpenCall):
    """A call that LangChain's events tell of.

    Attributes:
        key: LangChain's id of it, as a number: a `UUID` takes five times as long to look up.
        task: The task that its start was told in, if any.
        thread: Number of the thread that its start was told in.
        silent: Runs in it, by key, that have not ended and may do so without a word; None if there
            never was one.
        first: When the first of the runs in it that have ended began; None if none has.
        last: When the last of them ended.
        apart: Whether it is known not to have run where its start was told.
        streams: Whether its first token has come.
    """

    key: int = field(init=False, default=0)
    task: asyncio.Task[object] | None = field(init=False, default=None)
    thread: int = field(init=False, default=0)
    silent: dict[int, Run] | None = field(init=False, default=None)
    first: int | None = field(init=False, default=None)
    last: int = field(init=False, default=0)
    apart: bool = field(init=False, default=False)
    streams: bool = field(init=False, default=False)


def _start(kind: str, *, silent: bool = True) -> Callable[..., None]:
    """Return the method for the start of a kind of run.

    Args:
        kind: What it is called where it has no name.
        silent: Whether it may end without a word. Models, retrievers and tools do when they are
            cancelled (langchain-core 1.7).
    """

    def begin(
        self: MonitorCallback,
        serialized: Mapping[str, Any] | None,
        _given: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        name: str | None = None,
        **_others: Any,
    ) -> None:
        records, runs, key = self._records, self._runs, run_id.int
        with records.lock:
            if key in runs:  # the handler was passed twice
                return
            above = None if parent_run_id is None else runs.get(parent_run_id.int)
            name = name or _name(serialized) or kind
            run = runs[key] = records.begin(Run, name, above or self._measured())
            run.key, run.thread = key, get_ident()
            if records.clock.loop is not None:  # the one that runs here: it was asked for the time
                run.task = asyncio.current_task(records.clock.loop)
            if above is not None:
                if silent:
                    above.silent = above.silent or {}
                    above.silent[key] = run
                if run.thread != above.thread and _is_step_of_sequence(tags):
                    above.apart = True
            if len(runs) > self._room:
                self._give_up(runs.pop(next(iter(runs))))

    return begin


# LangChain's signatures differ from event to event; what these leave out is not used.
def _ended(self: MonitorCallback, _result: Any, *, run_id: UUID, **_others: Any) -> None:
    with self._records.lock:
        run = self._runs.pop(run_id.int, None)
        if run is not None:
            self._end(run, "ok")


def _failed(self: MonitorCallback, error: BaseException, *, run_id: UUID, **_others: Any) -> None:
    ending, rejected = ending_of(error), is_rejection(error)
    with self._records.lock:
        run = self._runs.pop(run_id.int, None)
        if run is not None:
            self._end(run, ending, rejected=rejected)


class MonitorCallback(BaseCallbackHandler):
    """Counts every run of chains, models, retrievers and tools; see `PerformanceMonitor.callback`.

    It runs inline: in the thread that works, not in a pool's, where it would wait for a place and
    make the step wait, too. What goes wrong in it is logged by LangChain and changes no result.

    Args:
        records: Where the runs are counted.
        room: How many runs are known at once; beyond that the oldest is given up.
    """

    run_inline = True
    raise_error = False
    # Properties in the base class, which are asked at each event.
    ignore_chain = ignore_chat_model = ignore_llm = ignore_retriever = ignore_agent = False

    def __init__(self, records: Records, room: int) -> None:
        self._records = records
        self._room = room
        self._runs: dict[int, Run] = {}

    on_chain_start = _start("chain", silent=False)
    on_chat_model_start = _start("chat model")
    on_llm_start = _start("LLM")
    on_retriever_start = _start("retriever")
    on_tool_start = _start("tool")

    on_chain_end: Callable[..., None] = _ended
    on_llm_end: Callable[..., None] = _ended
    on_retriever_end: Callable[..., None] = _ended
    on_tool_end: Callable[..., None] = _ended

    on_chain_error: Callable[..., None] = _failed
    on_llm_error: Callable[..., None] = _failed
    on_retriever_error: Callable[..., None] = _failed
    on_tool_error: Callable[..., None] = _failed

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the time to the first token; the empty text that opens many streams is none."""
        message = getattr(kwargs.get("chunk"), "message", None)
        if not (token or getattr(message, "tool_call_chunks", None)):
            return
        run = self._runs.get(run_id.int)
        if run is None or run.streams:
            return
        with self._records.lock:
            run.streams = True
            run.tally.add_token((self._records.clock.nanoseconds() - run.start) / NANO)

    def innermost(self) -> OpenCall | None:
        """Return the call that the running code is in: a measured block or a run."""
        measured = self._measured()
        config = var_child_runnable_config.get()
        key = getattr(config and config.get("callbacks"), "parent_run_id", None)
        run = None if key is None else self._runs.get(key.int)
        if run is None or measured is None:
            return run or measured
        return max(run, measured, key=lambda call: call.id)  # the one that began later

    def _measured(self) -> OpenCall | None:
        call = innermost.get()
        return call if call is not None and call.records is self._records else None

    def _end(self, run: Run, ending: Ending, *, rejected: bool = False) -> None:
        """Count a run that is no longer known."""
        above = run.parent
        if isinstance(above, Run) and above.silent:
            above.silent.pop(run.key, None)
        if run.silent:
            silent, run.silent = run.silent, None
            for key, child in silent.items():
                # Nobody waits for it any more, and no event tells how it ended.
                if self._runs.pop(key, None) is not None:
                    self._end(child, "cancelled")
        if run.first is not None and _was_apart(run):
            start, end = run.first, run.last
            self._records.end(run, ending, start, end, rejected=rejected)
        else:
            start, end = run.start, self._records.end(run, ending, rejected=rejected)
        if isinstance(above, Run):
            if above.first is None or start < above.first:
                above.first = start
            above.last = max(above.last, end)
        run.task = None  # the call may be referred to for long

    def _give_up(self, run: Run) -> None:
        if isinstance(run.parent, Run) and run.parent.silent:
            run.parent.silent.pop(run.key, None)
        self._records.give_up(run)
        run.task = None


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


def _name(serialized: Mapping[str, Any] | None) -> str:
    """Return the name that a component was given, or that of its class, or nothing."""
    if not serialized:
        return ""
    return str(serialized.get("name") or (serialized.get("id") or [""])[-1])
