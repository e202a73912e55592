"""How many at once? Found out by trying: additive increase, multiplicative decrease."""

from __future__ import annotations

from typing import Protocol

from course_lib.checks import require_positive

__all__ = ["Aimd", "Policy"]


class Policy(Protocol):
    """Says after each call how many may be inside at once; a gate asks it with its lock held."""

    def succeeded(self, concurrency: int, *, number: int, in_use: bool) -> int:
        """Return the concurrency after a call came back.

        Args:
            concurrency: The one in force.
            number: Which of the gate's admissions the call was, from 1.
            in_use: Whether all slots were taken as it came back.
        """

    def rejected(self, concurrency: int, *, number: int, admitted: int) -> int:
        """Return the concurrency after a call was answered 429.

        Args:
            concurrency: The one in force.
            number: Which of the gate's admissions the call was, from 1.
            admitted: How many admissions there have been by now.
        """


class Aimd:
    """Additive increase, multiplicative decrease, as TCP does it.

        gate = Gate(concurrency=4, policy=Aimd(maximum=64))

    While calls come back, the concurrency grows by `increase` for each round of calls (as many
    calls as there are slots). When one is rejected it is multiplied by `decrease`. Among the
    linear rules this one leads several clients that share a provider to equal shares (Chiu and
    Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in computer
    networks", 1989); the increments are those of TCP's congestion avoidance (RFC 5681, 3.1).

    - One cut for each congestion event: of the calls that were under way at the cut, no other
      rejection cuts again, and no success counts (the recovery point of RFC 6582).
    - Growth only while the limit is in use: a limit that nobody reaches has not been tested
      (RFC 7661).

    It remembers where it is: each gate needs one of its own.

    Args:
        minimum: Never fewer slots, at least 1.
        maximum: Never more.
        increase: Slots a round.
        decrease: Factor at a rejection, between 0 and 1.

    Attributes:
        cuts: How many congestion events there have been.

    Raises:
        ValueError: An argument is out of range.
    """

    __slots__ = ("_decrease", "_exact", "_increase", "_maximum", "_minimum", "_recovery", "cuts")

    def __init__(
        self,
        *,
        minimum: int = 1,
        maximum: int = 100,
        increase: float = 1.0,
        decrease: float = 0.5,
    ) -> None:
        require_positive(increase=increase, minimum=minimum, maximum=maximum)
        if not 1 <= minimum <= maximum:
            raise ValueError(f"minimum={minimum!r}: give 1 or more, up to maximum={maximum!r}")
        if not 0 < decrease < 1:
            raise ValueError(f"decrease={decrease!r}: give a factor between 0 and 1, such as 0.5")
        self._minimum = minimum
        self._maximum = maximum
        self._increase = increase
        self._decrease = decrease
        self._exact = 0.0
        self._recovery = 0
        self.cuts = 0

    def __repr__(self) -> str:
        return (
            f"<Aimd at {self._exact:.3g} of {self._minimum} to {self._maximum}, {self.cuts} cuts>"
        )

    def succeeded(self, concurrency: int, *, number: int, in_use: bool) -> int:
        """Grow by `increase / concurrency`, if that was in use; see `Policy`."""
        if number <= self._recovery or not in_use:
            return concurrency
        exact = self._at(concurrency) + self._increase / concurrency
        return self._move(min(exact, self._maximum))

    def rejected(self, concurrency: int, *, number: int, admitted: int) -> int:
        """Cut, unless the last cut was for the same event; see `Policy`."""
        if number <= self._recovery:
            return concurrency
        self._recovery = admitted
        self.cuts += 1
        return self._move(self._at(concurrency) * self._decrease)

    def _at(self, concurrency: int) -> float:
        """Return where we are, between two whole numbers; anew if somebody else has moved it."""
        return self._exact if _whole(self._exact) == concurrency else float(concurrency)

    def _move(self, exact: float) -> int:
        self._exact = max(exact, float(self._minimum))
        return _whole(self._exact)


def _whole(exact: float) -> int:
    return int(exact + 1e-9)  # three times a third is one
