"""What a desk deals in: callers, what they are granted, and the question to the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from course_lib.rate_limiting.waiters import Waiter

__all__ = ["NOTHING", "Answer", "Ask", "Caller", "Counts", "Stake"]


class Stake(NamedTuple):
    """A weight that the server has put down for this process.

    Attributes:
        weight: Tokens; 0 for none.
        at: Microseconds on the server's clock: from when on they may be taken, or when they were.
        run: The run of the server that knows of it; any other has forgotten.
    """

    weight: float
    at: float
    run: bytes


NOTHING: Final = Stake(0, 0.0, b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server decided.

    Attributes:
        decided: A letter for each weight: g (granted), r (refused), or w (waits) for the last one.
        place: From when on (microseconds on the server's clock) the one that waits may come again.
        run: The run of the server.
        now: Microseconds on the server's clock.
    """

    decided: str
    place: float
    run: bytes
    now: float


class Ask(Protocol):
    """The question to the server, put by one thread at a time."""

    def __call__(self, weights: Sequence[float], *, place: Stake, back: Stake) -> Answer:
        """Return what becomes of `weights`, in order; below 0 for one who does not wait.

        Args:
            weights: Tokens wanted. None at all give up the `place`.
            place: Held for the first of them.
            back: Taken before, and not used.

        Raises:
            Unavailable: The server did not answer.
        """


class Caller:
    """Somebody who wants tokens.

    Args:
        turn: How they are woken.
        waits: Whether they wait, or want to know at once.

    Attributes:
        outcome: Granted or not, or the error; None until it is decided.
        stake: What was granted.
    """

    __slots__ = ("outcome", "stake", "turn", "waits")

    def __init__(self, turn: Waiter, *, waits: bool) -> None:
        self.turn = turn
        self.waits = waits
        self.outcome: bool | Exception | None = None
        self.stake = NOTHING

    @property
    def wanted(self) -> float:
        """Tokens, below 0 if they do not wait."""
        return self.turn.weight if self.waits else -self.turn.weight

    def result(self) -> bool:
        """Return whether it was granted, or raise the error."""
        if isinstance(self.outcome, Exception):
            raise self.outcome.with_traceback(None)
        return bool(self.outcome)


@dataclass(slots=True)
class Counts:
    """What a desk has done; see `RedisBucketStatistics`."""

    admitted: int = 0
    refused: int = 0
    cancelled: int = 0
    unlimited: int = 0
    failed: int = 0
    outages: int = 0
    waits: float = 0.0
    longest_wait: float = 0.0
