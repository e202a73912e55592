"""A step as a service station: how many it works on at once, and how busy that keeps it.

From outside, calls to a step show one time each, in which waiting for a place and being worked on are
one. They differ in what they depend on: work takes its time however many others are there, a wait
grows with those who are ahead. A station with `slots` places, each of which takes `own` seconds for
a call, holds one that finds `ahead` others for

    own * max(1, (ahead + 1) / slots)

seconds on average (the arrival theorem for a load-dependent station; Lazowska, Zahorjan, Graham and
Sevcik, "Quantitative System Performance", 1984, chapters 6 and 8). Fitted to the calls, this tells
the places, also those inside a provider. A step that is merely slow fits best with no limit at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from course_lib.monitoring.visits import ahead_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from course_lib.monitoring.visits import Visit

__all__ = ["Station", "station_of"]

FEWEST = 8  # visits from which anything can be told
SIGNIFICANT = 30.0  # of Fisher's F: by chance it exceeds 20 less than once in a thousand fits
VARIES = 1e-3  # relative spread of times that is worth explaining
SHORTEST = 1e-9  # seconds; times have a logarithm
FINENESS = 8  # numbers of slots tried for each doubling
MOST = 0.95  # share of the calls over which it is busy or not: a few stragglers end alone


@dataclass(frozen=True, slots=True)
class Station:
    """What a step's calls tell of it.

    Attributes:
        step: Its name.
        count: Calls looked at.
        own: Seconds that a call takes when nobody is ahead of it.
        residence: Mean seconds from when an item could have begun to its end.
        slots: How many it works on at once, about; None if no limit showed. Rough where times vary
            much or few calls found a place free; what follows does not depend on it.
        peak: Items at the step at once, at most, waiting ones included.
        utilisation: Share of its capacity that was used while it had work, until 95 % of the calls
            had ended (utilisation law: throughput * demand); 0.0 if no limit showed.
        demand: Seconds by which each item keeps it from the next ones: `own / slots`, measured on
            those that queued; 0.0 if no limit showed.
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
    pairs = [
        (found, max(visit.residence, SHORTEST))
        for found, visit in zip(ahead, visits, strict=True)
        if visit.ok and visit.whole
    ]
    slots = _slots(pairs)
    alone = [seconds for found, seconds in pairs if slots is None or found < slots]
    queued = [(found, seconds) for found, seconds in pairs if slots is not None and found >= slots]
    demand = sum(s for _, s in queued) / sum(n + 1 for n, _ in queued) if queued else 0.0
    return Station(
        step=step,
        count=len(visits),
        own=fmean(alone) if alone else demand * (slots or 1),
        residence=fmean(visit.residence for visit in visits),
        slots=slots if queued else None,
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


def _slots(pairs: list[tuple[int, float]]) -> int | None:
    """Return the number of places that explains the times best, if any does clearly.

    Least squares of the logarithms: a time that is twice the usual counts as much as one half.
    """
    if len(pairs) < FEWEST:
        return None
    groups = _grouped(pairs)
    unexplained, slots = min((_error(groups, slots), slots) for slots in _candidates(max(groups)))
    total = _error(groups, max(groups) + 1)
    if total <= len(pairs) * VARIES**2:
        return None
    explained = total - unexplained
    noise = max(unexplained / (len(pairs) - 2), VARIES**2)
    return slots if explained / noise > SIGNIFICANT else None


def _grouped(pairs: list[tuple[int, float]]) -> Mapping[int, list[float]]:
    """Return number, sum and sum of squares of the times' logarithms, by how many were ahead."""
    groups: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for ahead, seconds in pairs:
        value = math.log(seconds)
        group = groups[ahead]
        group[0] += 1
        group[1] += value
        group[2] += value * value
    return groups


def _error(groups: Mapping[int, list[float]], slots: int) -> float:
    """Return the sum of squares that is left when each time is divided by what the slots explain."""
    count = mean = square = 0.0
    for ahead, (number, total, squares) in groups.items():
        factor = math.log(max(1.0, (ahead + 1) / slots))
        count += number
        mean += total - number * factor
        square += squares - 2 * factor * total + number * factor * factor
    return max(0.0, square - mean * mean / count)


def _candidates(most_ahead: int) -> Iterator[int]:
    """Yield numbers of slots, each one when few, then ever fewer; the last limits nothing."""
    slots = 1
    while slots <= most_ahead:
        yield slots
        slots = max(slots + 1, round(slots * 2 ** (1 / FINENESS)))
    yield most_ahead + 1
