"""Slots, and who waits for one; what a gate holds its callers back with."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from course_lib.rate_limiting.turn import Turn

__all__ = ["CoolDown", "Pool", "Unmetered", "Visit"]

_PLACE = attrgetter("place")


class Visit(Protocol):
    """One caller of a gate, from arrival to departure.

    Attributes:
        turn: How it is woken.
        place: Sorts those who wait: the lowest goes first, and no two are equal.
        pool: Where it waits for a slot, or holds one.
        lent: The pool of its own slot, from which nested calls take it; None if there are none.
        inside: Whether it holds its slot.
        number: Which of the gate's admissions it was, from 1.
    """

    turn: Turn
    place: tuple[float, int]
    pool: Pool
    lent: Pool | None
    inside: bool
    number: int


class Pool:
    """Some slots, and the visits that wait for one, in the order of their places.

    Args:
        limit: How many slots there are; may change while they are in use.

    Attributes:
        inside: How many are taken.
        candidate: The visit that a free slot is kept for, until the rate lets it in.
        heir: Where the slot goes when the last has left; set for a pool whose owner has left before
            the nested call that it lent its slot to.
    """

    __slots__ = ("_waiting", "candidate", "heir", "inside", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self.candidate: Visit | None = None
        self.heir: Pool | None = None
        self._waiting: list[Visit] = []  # a list that stays sorted: a few µs at 10,000 in line

    def add(self, visit: Visit) -> None:
        """Have a visit wait here."""
        visit.pool = self
        insort(self._waiting, visit, key=_PLACE)

    def remove(self, visit: Visit) -> bool:
        """Have it wait no more, or say False if it does not."""
        index = bisect_left(self._waiting, visit.place, key=_PLACE)
        found = index < len(self._waiting) and self._waiting[index] is visit
        if found:
            del self._waiting[index]
        return found

    def clear(self) -> list[Visit]:
        """Have nobody wait here any more, and return who did."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def next(self) -> Visit | None:
        """Return who comes next, if there is a slot."""
        return self._waiting[0] if self._waiting and self.inside < self.limit else None

    def living(self) -> Pool:
        """Return this pool, or the nearest outer one whose owner is there."""
        pool = self
        while pool.heir is not None:
            pool = pool.heir
        return pool


class CoolDown:
    """The meter of a line in which nobody passes for a while, and then everybody.

    Attributes:
        until: Seconds on the line's clock from which on they pass.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = -math.inf

    def due(self, weight: float) -> float:  # noqa: ARG002 - a meter's interface
        """Return when it is over."""
        return self.until

    def spend(self, weight: float, now: float) -> None:
        """Nothing is used up."""

    def give_back(self, weight: float, spent_at: float, now: float) -> None:
        """Nothing was."""


class Unmetered(CoolDown):
    """The meter of a line that holds nobody up: a gate without a bucket."""

    __slots__ = ()
