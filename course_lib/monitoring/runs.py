"""The runs that LangChain's events tell of, from their start to their end."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING

from langchain_core.runnables.config import var_child_runnable_config

from course_lib.clock import NANO
from course_lib.monitoring.call import Call, Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from course_lib.monitoring.records import Ledger
    from course_lib.monitoring.report import Outcome

__all__ = ["Runs", "innermost", "outcome_of"]

innermost: ContextVar[Call | None] = ContextVar("innermost measured call", default=None)
"""The `with monitor.measure(...)` that the running code is in."""


class Runs:
    """A bounded map from LangChain's run ids to calls in flight.

    Args:
        ledger: Where the calls are counted.
        room: How many runs are kept; beyond that the oldest is given up.
    """

    def __init__(self, ledger: Ledger, room: int) -> None:
        self._ledger = ledger
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
        with self._ledger.lock:
            if key in self._runs:
                return
            above = None if parent is None else self._runs.get(parent)
            run = self._ledger.begin(Run, name, above or self._measured())
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
        with self._ledger.lock:
            run.streams = True
            tally = self._ledger.tallies.get(run.name)
            if tally is not None:
                tally.add_token((self._ledger.clock.nanoseconds() - run.start) / NANO)

    def end(self, key: UUID, outcome: Outcome) -> None:
        """End a run, unless it is not known (any more)."""
        with self._ledger.lock:
            run = self._runs.get(key)
            if run is not None:
                self._end(run, outcome)

    def innermost(self) -> Call | None:
        """Return the call that the running code is in: a measured block or a run."""
        measured = self._measured()
        config = var_child_runnable_config.get()
        callbacks = config and config.get("callbacks")
        run = self._runs.get(getattr(callbacks, "parent_run_id", None))  # type: ignore[arg-type]
        if run is None or measured is None:
            return run or measured
        return max(run, measured, key=lambda call: call.id)  # the one that began later

    def _measured(self) -> Call | None:
        call = innermost.get()
        return call if call is not None and call.ledger is self._ledger else None

    def _end(self, run: Run, outcome: Outcome) -> None:
        self._remove(run)
        for child in list(run.children.values()):
            # Nobody waits for it any more, and no event tells how it ended.
            if not child.tells_end and child.key in self._runs:
                self._end(child, "cancelled")
        now = self._ledger.clock.nanoseconds()
        start, end = run.start, now
        if run.first is not None and _was_apart(run):
            start, end = run.first, run.last
            self._ledger.end(run, outcome, start, end)
        else:
            self._ledger.end(run, outcome)
        above = run.parent
        if isinstance(above, Run):
            above.first = start if above.first is None else min(above.first, start)
            above.last = max(above.last, end)
        run.task = None  # the call may be referred to for long

    def _evict(self) -> None:
        oldest = next(iter(self._runs.values()))
        self._remove(oldest)
        self._ledger.give_up(oldest)
        oldest.task = None

    def _remove(self, run: Run) -> None:
        del self._runs[run.key]
        if isinstance(run.parent, Run):
            run.parent.children.pop(run.key, None)


def outcome_of(error: BaseException) -> Outcome:
    """Return "error" for what failed, "cancelled" for what was broken off from outside.

    The latter are the errors that are no `Exception`: `CancelledError`, the `GeneratorExit` of a
    stream that is closed early, the `KeyboardInterrupt` of an impatient user.
    """
    return "error" if isinstance(error, Exception) else "cancelled"


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
