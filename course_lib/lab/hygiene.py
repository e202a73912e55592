"""The last cell of each notebook: nothing was lost, nothing is left open.

`hygiene` is both this module's name and its one function; what belongs to it hangs on it:
`hygiene.expected("lost task")`, `hygiene.note_gap(seconds, name)`, `hygiene.watch()`.
"""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from course_lib.lab.checklist import Checklist
from course_lib.lab.leftovers import Leftover, find_leftovers

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["KINDS", "HygieneError", "expected", "hygiene", "note_gap", "watch"]

KINDS = {
    "lost task": ("no task was lost", "await it, or cancel it and await it"),
    "task exception never retrieved": (
        "no task failed unseen",
        "await the task, or run it in a TaskGroup",
    ),
    "coroutine never awaited": ("every coroutine was awaited", "write `await` before the call"),
    "unraisable exception": (
        "no error went unseen",
        "mend the callback, `__del__` or generator that raised it",
    ),
    "open session": ("every HTTP session is closed", "open it with `async with`, or close it"),
    "running provider": (
        "every provider has stopped",
        "start it with `service.running`, or call `provider.stop()`",
    ),
    "running thread": ("no thread is left", "join it, or shut its executor down"),
    "running process": ("no child process is left", "end it, and wait for it"),
    "blocked loop": (
        "the event loop was never blocked beyond its budget",
        "await in place of the blocking call, or move it to a thread",
    ),
}
"""For each kind of leftover: what holds without it, and what to do about it."""

NEVER_AWAITED = "was never awaited"


class HygieneError(AssertionError):
    """Something was left behind; the message has a line for each thing, and what to do."""


class _Hygiene:
    """What was noticed since the last report, and what is not to be reported.

    Args:
        budget: Seconds for which the event loop may be blocked before it counts. Generous: on a
            loaded machine every process stands still at times.
    """

    def __init__(self, *, budget: float = 1.0) -> None:
        self.budget = budget
        self._events: list[Leftover] = []  # what cannot be seen later; appended by any thread
        self._known: set[tuple[str, Hashable]] = set()
        self._hooks: tuple[Any, Any] | None = None
        self._watching = False

    def __call__(self) -> Checklist:
        """Collect garbage, and check that nothing was lost and nothing is left.

        What happened (an error that nobody saw, a coroutine never awaited) is reported once; what
        is still alive is reported until it ends.

        Returns:
            A checklist, all ticked, with no number of this machine in it.

        Raises:
            HygieneError: Something was left behind.
        """
        left = self._unknown(find_leftovers())
        left += self._events
        self._events = []
        if left:
            lines = dict.fromkeys(f"✘ {it.kind}: {it.text}: {KINDS[it.kind][1]}" for it in left)
            raise HygieneError("Left behind:\n" + "\n".join(lines))
        return Checklist({statement: True for statement, _ in KINDS.values()})

    def watch(self) -> None:
        """Begin: what is alive now is not counted, what goes wrong from now on is noticed.

        May be called again; only the first call takes stock.
        """
        logger = logging.getLogger("asyncio")  # where every loop reports what nobody caught
        if self._on_log not in logger.filters:
            logger.addFilter(self._on_log)
        if self._hooks != (sys.unraisablehook, warnings.showwarning):
            self._hooks = (self._chain_unraisable(), self._chain_warnings())
        if not self._watching:
            self._watching = True
            self._forgive(find_leftovers())

    @contextmanager
    def expected(self, *kinds: str) -> Iterator[None]:
        """Let a cell leak on purpose: what it leaves of these kinds is not reported.

        Args:
            kinds: What the block shows, such as `"coroutine never awaited"`; see `KINDS`.

        Raises:
            ValueError: There is no such kind.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"No leftover is called {kind!r}: choose from {', '.join(KINDS)}.")
        gc.collect()
        before = len(self._events)
        try:
            yield
        finally:
            self._forgive(it for it in find_leftovers() if it.kind in kinds)
            noticed = self._events[before:]
            self._events[before:] = [it for it in noticed if it.kind not in kinds]

    def note_gap(self, seconds: float, name: str) -> None:
        """Note for how long the event loop was blocked at most, unless that was the lesson.

        Args:
            seconds: The longest time in which the loop ran nothing else.
            name: What was being measured.
        """
        if seconds > self.budget:
            self._note("blocked loop", f"{seconds:.1f} s in {name}")

    def _note(self, kind: str, text: str) -> None:
        self._events.append(Leftover(kind, " ".join(text.split())))

    def _forgive(self, leftovers: Iterator[Leftover] | list[Leftover]) -> None:
        self._known.update((it.kind, it.key) for it in leftovers)

    def _unknown(self, leftovers: list[Leftover]) -> list[Leftover]:
        return [it for it in leftovers if (it.kind, it.key) not in self._known]

    def _on_log(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            first, *rest = record.getMessage().splitlines() or [""]
            error = record.exc_info[1] if record.exc_info else None
            detail = "" if error is None else f" ({type(error).__name__}: {error})"
            if "destroyed but it is pending" in first:
                self._note("lost task", f"{first} {' '.join(rest)}")
            elif "exception was never retrieved" in first:
                self._note("task exception never retrieved", f"{first}{detail}")
            elif first.startswith("Unclosed"):
                self._note("open session", first)
            else:
                self._note("unraisable exception", f"{first}{detail}")
        return True

    def _chain_unraisable(self) -> Any:
        previous = sys.unraisablehook

        def hook(unraisable: sys.UnraisableHookArgs) -> None:
            text = f"{unraisable.exc_type.__name__}: {unraisable.exc_value}"
            awaited = NEVER_AWAITED not in text
            self._note("unraisable exception" if awaited else "coroutine never awaited", text)
            previous(unraisable)

        sys.unraisablehook = hook
        return hook

    def _chain_warnings(self) -> Any:
        previous = warnings.showwarning

        def show(message: Warning | str, *details: Any, **more: Any) -> None:
            if NEVER_AWAITED in str(message):
                self._note("coroutine never awaited", str(message))
            previous(message, *details, **more)

        warnings.showwarning = show
        warnings.filterwarnings("always", f".*{NEVER_AWAITED}", RuntimeWarning)
        return show


hygiene: _Hygiene = globals().get("hygiene") or _Hygiene()  # a reload keeps what was noticed
watch, expected, note_gap = hygiene.watch, hygiene.expected, hygiene.note_gap
