"""A caller's place inside a gate, as a context manager."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Self, TypeVar

from course_lib.rate_limiting.turn import LoopTurn, ThreadTurn, Turn

if TYPE_CHECKING:
    from types import TracebackType

    from course_lib.rate_limiting.admission import Admission
    from course_lib.rate_limiting.pool import Pool

__all__ = ["Slot"]

T = TypeVar("T", LoopTurn, ThreadTurn)

_innermost: ContextVar[Slot | None] = ContextVar("course_lib.rate_limiting.slot", default=None)


class Slot:
    """One visit to a gate: `async with gate.slot():`, or `with gate.slot():` in a thread.

    Made by `Gate.slot`, and entered once.

    Attributes:
        number: Which of the gate's admissions this was, from 1; 0 before.
        inside: Whether the slot is held.
    """

    __slots__ = (
        "_admission",
        "_outer",
        "inside",
        "lent",
        "number",
        "place",
        "pool",
        "priority",
        "senior",
        "step",
        "turn",
        "weight",
    )

    turn: Turn
    place: tuple[float, int]
    pool: Pool

    def __init__(self, admission: Admission, weight: float, priority: float, step: str) -> None:
        self._admission = admission
        self._outer: Slot | None = None
        self.weight = weight
        self.priority = priority
        self.step = step
        self.inside = False
        self.number = 0
        self.lent: Pool | None = None
        self.senior: tuple[float, int] | None = None

    @property
    def waited(self) -> float:
        """Seconds from asking for the slot to getting it."""
        if not self.number or self.turn.granted_at is None:
            raise RuntimeError("this slot has not been entered yet")
        return self.turn.granted_at - self.turn.arrived

    def again(self) -> Slot:
        """Return a slot for another attempt: whoever was rejected keeps their place in line."""
        slot = Slot(self._admission, self.weight, self.priority, self.step)
        slot.senior = getattr(self, "place", None)
        return slot

    async def __aenter__(self) -> Self:
        turn = self._arrive(LoopTurn)
        try:
            await turn.wait()
        except BaseException:
            self._admission.abandon(self)
            raise
        _innermost.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def __enter__(self) -> Self:
        turn = self._arrive(ThreadTurn)
        try:
            turn.wait()
        except BaseException:
            self._admission.abandon(self)
            raise
        _innermost.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _arrive(self, kind: type[T]) -> T:
        if hasattr(self, "turn"):
            raise RuntimeError("a slot is entered once: ask for another with `gate.slot()`")
        self._outer = _held(_innermost.get())
        return self._admission.arrive(self, kind, self._lender())

    def _lender(self) -> Slot | None:
        """Return the slot of the same gate that this caller is inside of, if there is one."""
        slot = self._outer
        while slot is not None and slot._admission is not self._admission:  # noqa: SLF001 - its own kind
            slot = _held(slot._outer)  # noqa: SLF001 - its own kind
        return slot

    def _leave(self, error: BaseException | None) -> None:
        # A stream may be closed in another context than the one it was opened in.
        if _innermost.get() is self:
            _innermost.set(_held(self._outer))
        self._admission.leave(self, error)


def _held(slot: Slot | None) -> Slot | None:
    """Return this slot, or the nearest outer one that is still held."""
    while slot is not None and not slot.inside:
        slot = slot._outer  # noqa: SLF001 - its own kind
    return slot
