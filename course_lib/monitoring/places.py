"""How many calls a step works on at once, told from outside by when its calls begin and end.

A caller sees one time for each call, in which waiting for a place and being worked on are one. They
can be told apart, since a wait depends on those who are ahead, and work does not.

By order: if a step has so many places and takes its calls as they come, each is begun when fewer than
that many of the earlier ones are left. That splits every call into wait and work. The number is
the one under which the times of work are most likely (as lognormal ones, by maximum likelihood); under
too small a number, calls would have to end before they were begun.

By load: where calls are not taken in order, the mean time of those that find `ahead` others is

    own * max(1, (ahead + 1) / slots)

(the arrival theorem for a load-dependent station; Lazowska, Zahorjan, Graham and Sevcik, "Quantitative
System Performance", 1984, chapters 6 and 8), which is fitted by least squares of the logarithms.

A step that is merely slow is explained best by no limit at all, and so has none.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from course_lib.monitoring.visits import Visit

__all__ = ["Places", "places_of"]

FEWEST = 8  # calls from which anything can be told
MOST = 2000  # calls looked at, the latest: more would tell no more, only later
FINENESS = 8  # numbers of places tried for each doubling
OUT_OF_ORDER = 0.02  # share of calls that may have been overtaken
CONVINCING, PER_CALL = 10.0, 0.03  # log-likelihood that a limit must add: in all, and for each call
SIGNIFICANT = 30.0  # of Fisher's F: by chance it exceeds 20 less than once in a thousand fits
VARIES = 1e-3  # relative spread of times that is worth explaining
SHORTEST = 1e-9  # seconds; what is shorter has no logarithm that means anything


@dataclass(frozen=True, slots=True)
class Places:
    """The limit of a step.

    Attributes:
        slots: Calls worked on at once.
        own: Mean seconds of work on one.
        demand: Seconds by which each call keeps the step from the next ones: its work, divided by
            the number of places.
    """

    slots: int
    own: float
    demand: float


def places_of(visits: Sequence[Visit], ahead: Sequence[int]) -> Places | None:
    """Return the limit that shows in the calls of a step, if one does clearly.

    Args:
        visits: In the order in which they became ready.
        ahead: How many others each found at the step.
    """
    if sum(visit.ok and visit.whole for visit in visits) < FEWEST:
        return None
    return _by_order(visits[-MOST:], max(ahead)) or _by_load(visits[-MOST:], ahead[-MOST:])


def _by_order(visits: Sequence[Visit], most_ahead: int) -> Places | None:
    answered = [visit for visit in visits if visit.ok]
    times = [visit.residence for visit in answered]
    if max(times) <= (1 + VARIES) * min(times):
        return None  # nobody waited longer than others
    unlimited = _likelihood(_work(answered, most_ahead + 1))
    likelihood, slots = max(
        (_likelihood(_work(answered, slots)), slots) for slots in _candidates(most_ahead)
    )
    if likelihood - unlimited < CONVINCING + PER_CALL * len(answered):
        return None
    own = fmean(_work(answered, slots))
    return Places(slots, own, own / slots)


def _work(visits: Sequence[Visit], slots: int) -> list[float]:
    """Return the seconds of work on each call, if so many places were filled in order.

    Empty if that cannot have been. A call that was overtaken is left out.
    """
    latest: list[float] = []  # ends of earlier calls, the `slots` latest
    work = []
    allowed = int(OUT_OF_ORDER * len(visits))
    for visit in visits:
        if len(latest) < slots:
            begun = visit.ready
            heapq.heappush(latest, visit.end)
        else:
            begun = max(visit.ready, latest[0])
            heapq.heappushpop(latest, visit.end)
        if visit.end - begun > SHORTEST / 2:
            if visit.whole:
                work.append(visit.end - begun)
        elif visit.end > visit.ready:  # one of no length at all says nothing
            allowed -= 1
            if allowed < 0:
                return []
    return work


def _likelihood(times: Sequence[float]) -> float:
    """Return the logarithm of how likely these times are as lognormal ones, but for a constant."""
    if len(times) < FEWEST:
        return -math.inf
    logarithms = [math.log(time) for time in times]
    mean = fmean(logarithms)
    spread = math.sqrt(fmean((value - mean) ** 2 for value in logarithms))
    return -len(times) * (mean + math.log(max(spread, VARIES)))


def _by_load(visits: Sequence[Visit], ahead: Sequence[int]) -> Places | None:
    pairs = [
        (found, max(visit.residence, SHORTEST))
        for found, visit in zip(ahead, visits, strict=True)
        if visit.ok and visit.whole
    ]
    if len(pairs) < FEWEST:
        return None
    groups = _grouped(pairs)
    error, slots = min((_error(groups, slots), slots) for slots in _candidates(max(groups)))
    gain = _error(groups, max(groups) + 1) - error
    if gain <= SIGNIFICANT * max(error / (len(pairs) - 2), VARIES**2):
        return None
    # Of those that queued, each tells the time between two ends.
    queued = [(found + 1, seconds) for found, seconds in pairs if found >= slots]
    demand = sum(seconds for _, seconds in queued) / sum(found for found, _ in queued)
    alone = [seconds for found, seconds in pairs if found < slots]
    return Places(slots, fmean(alone) if alone else slots * demand, demand)


def _grouped(pairs: Sequence[tuple[int, float]]) -> Mapping[int, list[float]]:
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
    """Yield numbers of places: each one while they are few, then ever fewer, then no limit."""
    slots = 1
    while slots <= most_ahead:
        yield slots
        slots = max(slots + 1, round(slots * 2 ** (1 / FINENESS)))
    yield most_ahead + 1
