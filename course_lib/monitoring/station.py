"""A step as a service station: what it can do, and how busy that keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from course_lib.monitoring.places import places_of
from course_lib.monitoring.visits import ahead_of

if TYPE_CHECKING:
    from course_lib.monitoring.visits import Visit

__all__ = ["Station", "station_of"]

MOST = 0.95  # share of the calls over which it is busy or not: a few stragglers end alone


@dataclass(frozen=True, slots=True)
class Station:
    """What a step's calls tell of it.

    Attributes:
        step: Its name.
        count: Calls looked at.
        own: Mean seconds of work on one, waits left out as far as they can be told.
        residence: Mean seconds from when an item could have begun to its end.
        slots: How many it works on at once; None if no limit showed. Exact where calls are taken in
            order, rough otherwise.
        peak: Items at the step at once, at most, waiting ones included.
        utilisation: Share of its capacity that was used while it had work, until 95 % of the calls
            had ended (utilisation law: throughput * demand); 0.0 if no limit showed.
        demand: Seconds by which each item keeps it from the next ones; 0.0 if no limit showed.
    """

    step: str
    count: int
    own: float
    residence: float
    slots: int | None
    peak: int
    utilisation: float
    demand: float

    @property
    def capacity(self) -> float:
        """Calls a second that it can do, as far as it shows; infinite if no limit showed."""
        return 1 / self.demand if self.demand else math.inf

    @property
    def drain(self) -> float:
        """Seconds that it needs for all of these calls, however many come at once."""
        return self.count * self.demand


def station_of(step: str, visits: list[Visit]) -> Station:
    """Return what the visits to a step, in the order they became ready, tell of it.

    Raises:
        ValueError: There are none.
    """
    if not visits:
        raise ValueError(f"step {step!r} has no spans: keep more of them with `keep_spans=`")
    ahead = ahead_of(visits)
    places = places_of(visits, ahead)
    residence = fmean(visit.residence for visit in visits)
    demand = places.demand if places else 0.0
    return Station(
        step=step,
        count=len(visits),
        own=places.own if places else residence,
        residence=residence,
        slots=places.slots if places else None,
        peak=max(ahead) + 1,
        utilisation=min(1.0, demand * _throughput(visits)),
        demand=demand,
    )


def _throughput(visits: list[Visit]) -> float:
    """Return the calls that ended a second, from the first on, until most had ended."""
    most = math.ceil(MOST * len(visits))
    ends = sorted(visit.end for visit in visits)
    # Of those that became ready before the spans were kept, only the ends lie in the time known.
    first = visits[0].ready if visits[0].whole else ends[0]
    return most / (ends[most - 1] - first) if ends[most - 1] > first else 0.0
