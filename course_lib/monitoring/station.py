"""A step as a service station, told from outside: what it can do, and how busy that keeps it.

A call is a visit to its step, from the moment the item could have been worked on to its end. A caller
sees one time for each, in which waiting for a place and being worked on are one. They can be told
apart, since a wait depends on those who are ahead, and work does not. So it shows, too, how many
places there are, that is how many calls the step works on at once:

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
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from course_lib.monitoring.report import Report, Span

__all__ = ["Station", "Visit", "chosen_steps", "station_of", "visits_of"]

NANOSECONDS = 9  # decimals of a second
MOST = 0.95  # share of the calls over which it is busy or not: a few stragglers end alone
FEWEST = 8  # calls from which anything can be told
LATEST = 2000  # calls looked at, the latest: more would tell no more, only later
FINENESS = 8  # numbers of places tried for each doubling
OUT_OF_ORDER = 0.02  # share of calls that may have been overtaken
CONVINCING, PER_CALL = 10.0, 0.03  # log-likelihood that a limit must add: in all, and for each call
SIGNIFICANT = 30.0  # of Fisher's F: by chance it exceeds 20 less than once in a thousand fits
VARIES = 1e-3  # relative spread of times that is worth explaining
SHORTEST = 1e-9  # seconds; what is shorter has no logarithm that means anything


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


@dataclass(frozen=True, slots=True)
class Visit:
    """One item at one step.

    Attributes:
        ready: When the step could have begun: the planned start or, if that is earlier, the end of
            what came before it in the same parent. From then on the item waits for the step, for a
            gate that stands before it, say.
        start: When it began.
        end: When it ended.
        ok: Whether it succeeded.
        whole: Whether all that was there when it became ready is known.
    """

    ready: float
    start: float
    end: float
    ok: bool
    whole: bool

    @property
    def residence(self) -> float:
        """Seconds from ready to end."""
        return self.end - self.ready


def chosen_steps(report: Report, parent: str | None = None) -> list[str]:
    """Return the steps to be compared: those that ran in `parent`, or those without children.

    Raises:
        ValueError: Nothing ran in `parent`, or nothing was recorded.
    """
    if not report.steps:
        raise ValueError("nothing was recorded: run the pipeline with the monitor first")
    steps = report.steps.values()
    if parent is not None:
        chosen = [step.name for step in steps if parent in step.parents]
        if not chosen:
            parents = sorted({name for step in steps for name in step.parents})
            raise ValueError(f"parent={parent!r}: no step ran in it; choose from {parents}")
        return chosen
    outer = {name for step in steps for name in step.parents}
    return [name for name in report.steps if name not in outer] or list(report.steps)


def visits_of(report: Report, steps: list[str]) -> Mapping[str, list[Visit]]:
    """Return the visits to each step among the report's spans, in the order they became ready."""
    family = _Family(report.spans)
    # Of what ended before the oldest span that was kept, nothing is known.
    known = min((span.end for span in report.spans), default=0.0) if report.dropped_spans else None
    found: dict[str, list[tuple[float, float, int, Visit]]] = {name: [] for name in steps}
    for span in report.spans:
        if span.name in found:
            ready = round(family.ready(span), NANOSECONDS)  # a difference of floats is a hair off
            whole = known is None or ready >= known
            visit = Visit(ready, span.start, span.end, span.outcome == "ok", whole)
            found[span.name].append((ready, span.start, span.id, visit))
    return {name: [entry[-1] for entry in sorted(each)] for name, each in found.items()}


def ahead_of(visits: list[Visit]) -> list[int]:
    """Return for each visit how many others were at the step when it became ready.

    Those that became ready at the same moment count if they come before it in the list.
    """
    ends = sorted(visit.end for visit in visits)
    return [index - bisect_right(ends, visit.ready, 0, index) for index, visit in enumerate(visits)]


class _Family:
    """Who ran in whom."""

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self._spans = {span.id: span for span in spans}
        self._ends: dict[int | None, list[float]] = defaultdict(list)  # of a parent's children
        for span in sorted(spans, key=lambda span: span.end):
            self._ends[span.parent].append(span.end)

    def ready(self, span: Span) -> float:
        """Return when a call could have begun."""
        parent = self._parent(span)
        if parent is None:
            return span.planned
        ends = self._ends[span.parent]
        before = bisect_right(ends, span.start)
        if before:
            return min(span.planned, ends[before - 1])
        # The first in its parent was ready when that was. How long the outermost one waited is not
        # held against a step in it.
        begun = parent.start if self._parent(parent) is None else self.ready(parent)
        return min(span.planned, begun)

    def _parent(self, span: Span) -> Span | None:
        if span.parent is None or span.parent >= span.id:  # numbers are given when calls begin
            return None
        return self._spans.get(span.parent)


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
    return _by_order(visits[-LATEST:], max(ahead)) or _by_load(visits[-LATEST:], ahead[-LATEST:])


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
