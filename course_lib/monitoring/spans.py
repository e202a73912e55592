"""One call, as a line on a timeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OUTCOMES", "Outcome", "Span"]

Outcome = Literal["ok", "error", "cancelled"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class Span:
    """One call of a step that has ended.

    Attributes:
        name: Name of the step.
        start: When the work on it began, in seconds on the monitor's clock.
        end: When it ended, in the same seconds.
        wait: Seconds from the planned start to `start`.
        outcome: "ok", "error" or "cancelled".
        id: Number of the call, from 1; no other in the report has it.
        parent: Number of the call that this one ran in, or None. That one may have been evicted.
        thread: Name of the thread that it ended in.
        process: Number of the process that it ran in.
    """

    name: str
    start: float
    end: float
    wait: float = 0.0
    outcome: Outcome = "ok"
    id: int = 0
    parent: int | None = None
    thread: str = ""
    process: int = 0

    @property
    def seconds(self) -> float:
        """Service time: from start to end."""
        return self.end - self.start

    @property
    def planned(self) -> float:
        """When it should have started."""
        return self.start - self.wait

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Span:
        """Return what `to_dict` was called on.

        Raises:
            ValueError: The values are none that `to_dict` returns.
        """
        try:
            span = cls(**state)
            times = all(isinstance(each, int | float) for each in (span.start, span.end, span.wait))
            sound = times and span.start <= span.end and span.wait >= 0 <= span.id
            sound = sound and span.outcome in OUTCOMES
        except TypeError:
            sound = False
        if not sound:
            raise ValueError(f"{state!r:.200} is no span: pass what `to_dict` returned")
        return span
