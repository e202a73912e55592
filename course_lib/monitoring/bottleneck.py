"""Which step a pipeline waits for.

It is not the step with the largest average: that one may work on any number of items at once, so
that only its own time passes there, and a second one would change nothing. What limits a pipeline is
the largest *demand*, the time by which each item keeps a step from the next ones: throughput cannot
exceed 1 / demand, and items pile up before that step (utilisation law and asymptotic bounds:
Denning and Buzen, "The operational analysis of queueing network models", 1978; Lazowska et al.,
"Quantitative System Performance", 1984, chapters 3 and 5). As B. Gregg's USE method has it, look at
utilisation, saturation and errors before latency ("Systems Performance", 2nd edition, 2020, 2.5.9).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from course_lib.monitoring.station import Station, chosen_steps, station_of, visits_of
from course_lib.table import duration, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from course_lib.monitoring.report import Report, Span

__all__ = ["Bottleneck", "Kind", "bottleneck", "held_by"]

BUSY = 0.88  # utilisation from which a step counts as saturated: tried on loads of 60 % to 120 %
FEW = 50  # calls below which the answer is called unsure
INFLATED = 3.0  # median over minimum, from which on a step is suspected of queueing
MOSTLY = 0.9  # share of a step's time for which it has to hold the loop
EXPECTED = 10  # events that would have fallen into its calls; by chance none does once in 22,000
Kind = Literal["saturated", "loop", "none"]


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What a pipeline waits for, and how that shows.

    Attributes:
        kind: "saturated": a step does not keep up with what arrives. "loop": a step holds the
            event loop, so that all others wait. "none": nothing is saturated; then only shorter
            times make answers faster, and `largest` is the place to begin.
        step: The step to mend: more places, or less time for each; None if there is none.
        largest: The step in which items spend most of their time. Often the wrong one to mend.
        evidence: Why, in a few sentences with figures.
        shares: Share of an item's time that it spends in each step, waiting and worked on.
        utilisations: Share of its capacity that each step used; 0.0 where no limit showed.
        stations: What each step's calls tell of it; empty if the report has no spans.
        sure: Whether there were calls enough, of which the spans were kept.
    """

    kind: Kind
    step: str | None
    largest: str
    evidence: str
    shares: Mapping[str, float]
    utilisations: Mapping[str, float]
    stations: Mapping[str, Station]
    sure: bool

    @property
    def times(self) -> Mapping[str, tuple[float, float]]:
        """Mean seconds that an item waits for each step, and that each works on it, by name.

        Waits that callers cannot see, such as those inside a provider, are told from the work as
        far as the calls show it. `lab.plots.stages` draws this.
        """
        return {
            name: (max(0.0, station.residence - station.own), station.own)
            for name, station in self.stations.items()
        }

    def __str__(self) -> str:
        verdict = f"bottleneck: {self.step}" if self.step else "no bottleneck"
        return f"{verdict}. {self.evidence}" + ("" if self.sure else " (Unsure: too few calls.)")


def bottleneck(report: Report, *, parent: str | None = None) -> Bottleneck:
    """Name the step that the pipeline waits for, with the evidence.

    For each step, the calls tell how many it works on at once and how long each keeps a place (see
    `station`), also where callers see nothing of its queue. The one with the largest demand is the
    bottleneck if it was busy as long as it had work, and if it needs longer for all items than any
    other step needs for one; otherwise the run was too short, or the load too low, for it to
    matter. A step that blocks the loop makes others look saturated, so that is looked for first.

    Limits. Two steps that share one gate look saturated both. A step that became slow for a reason
    of its own, while it had more to do, cannot be told from a saturated one. Without spans there
    are only distributions to go by: then the answer is a guess, and says so.

    Args:
        report: Of a monitor that saw the load in question and, if possible, little else.
        parent: Compare the steps that ran in this one; by default those without children.

    Raises:
        ValueError: Nothing was recorded, or nothing ran in `parent`.
    """
    steps = chosen_steps(report, parent)
    shares = _shares(report, steps)
    visits = {name: each for name, each in visits_of(report, steps).items() if each}
    stations = {name: station_of(name, each) for name, each in visits.items()}
    if len(stations) < len(steps):
        kind, step, evidence = _guess(report, steps, shares)
    else:
        kind, step, evidence = _judge(report, stations, shares, parent)
    counts = [report[name].count for name in steps]
    return Bottleneck(
        kind=kind,
        step=step,
        largest=_largest(shares),
        evidence=evidence,
        shares=MappingProxyType(shares),
        utilisations=MappingProxyType({n: s.utilisation for n, s in stations.items()}),
        stations=MappingProxyType(stations),
        sure=len(stations) == len(steps) and min(counts) >= FEW,
    )


Verdict = tuple[Kind, str | None, str]


def _judge(
    report: Report, stations: Mapping[str, Station], shares: Mapping[str, float], parent: str | None
) -> Verdict:
    own = _own_times(report, stations)
    held = _held(report, stations)
    if held is not None:
        step, seconds, share = held
        others = [time for name, time in own.items() if name != step]
        if seconds >= max(others, default=0.0):
            return "loop", step, _loop_evidence(step, seconds, share)
        return "none", None, _none_evidence(stations, shares)
    candidates = [*stations.values(), *(_admission(report, stations) if parent is None else [])]
    for station in sorted(candidates, key=lambda station: -station.drain)[:1]:
        others = [time for name, time in own.items() if name != station.step]
        if station.utilisation >= BUSY and station.drain >= max(others, default=0.0):
            return "saturated", station.step, _saturated_evidence(station)
    return "none", None, _none_evidence(stations, shares)


def _own_times(report: Report, stations: Mapping[str, Station]) -> dict[str, float]:
    """Return the seconds for which each step works on one item, in all of its calls."""
    roots = sum(span.parent is None and span.name not in stations for span in report.spans)
    items = roots or max(station.count for station in stations.values())
    return {name: each.own * each.count / items for name, each in stations.items()}


def _held(report: Report, stations: Mapping[str, Station]) -> tuple[str, float, float] | None:
    """Return who holds the loop most, the seconds it is held, and their share of that time."""
    held = held_by(report.spans, list(stations))
    if not held:
        return None
    calls = [span for span in report.spans if span.name in held]
    lasted = max(span.end for span in calls) - min(span.start for span in calls)
    seconds = sum(held.values())
    if seconds < BUSY * lasted:
        return None
    return max(held, key=lambda name: held[name]), seconds, seconds / lasted


def held_by(spans: Sequence[Span], steps: Sequence[str]) -> Mapping[str, float]:
    """Return the seconds for which each step held the loop, for those that do.

    While a call blocks the loop, nothing else can begin or end, although others are under way. A
    step does so if this holds for nearly all of its time, if so much else happened otherwise that
    it is no coincidence, and if none of its calls overlap. (In virtual time nothing blocks.)

    Args:
        spans: All calls.
        steps: Names of the steps in question; calls within their calls count as events.
    """
    starts = sorted(span.start for span in spans)
    ends = sorted(span.end for span in spans)
    depth = _depths(spans)
    held: dict[str, float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for span in spans:
        if span.name not in steps:
            continue
        calls[span.name] += 1
        total[span.name] += span.seconds
        events = _within(starts, span) + _within(ends, span) - 2  # its own two
        under_way = bisect_right(starts, span.start) - bisect_left(ends, span.start)
        if events == 0 and under_way > depth[span.id]:
            held[span.name] += span.seconds
    observed = max(ends) - min(starts) if spans else 0.0
    return {
        name: seconds
        for name, seconds in held.items()
        if seconds >= MOSTLY * total[name]
        and 2 * (len(spans) - calls[name]) * seconds >= EXPECTED * observed
    }


def _within(times: list[float], span: Span) -> int:
    return bisect_right(times, span.end) - bisect_left(times, span.start)


def _depths(spans: Sequence[Span]) -> Mapping[int, int]:
    """Return for each call how many it stands for: itself, and those that it runs in."""
    depths: dict[int, int] = {}
    for span in sorted(spans, key=lambda span: span.id):  # what it runs in has a lower number
        depths[span.id] = 1 + (0 if span.parent is None else depths.get(span.parent, 0))
    return depths


def _admission(report: Report, stations: Mapping[str, Station]) -> list[Station]:
    """Return as stations what items wait for before the first step: a limit round the whole."""
    outer = [
        name for name, step in report.steps.items() if name not in stations and step.wait.total > 0
    ]
    found = visits_of(report, outer)
    # Those within are preferred: where one of them is full, so is what stands before it.
    full = any(station.utilisation >= BUSY for station in stations.values())
    return [] if full else [station_of(name, each) for name, each in found.items() if each]


def _guess(report: Report, steps: list[str], shares: Mapping[str, float]) -> Verdict:
    """Judge by the distributions alone: explicit waits, then medians far above the minimum."""
    waits = {name: report[name].wait.mean for name in steps}
    step = max(steps, key=lambda name: waits[name])
    if waits[step] > report[step].mean:
        text = f"Items wait {duration(waits[step])} for {step}, which takes {duration(report[step].mean)}."
        return "saturated", step, f"{text} There are no spans to tell more: see `keep_spans=`."
    inflated = {name: _inflation(report, name) for name in steps}
    step = max(steps, key=lambda name: inflated[name])
    text = f"The median of {step} is {number(inflated[step])} times its minimum"
    if inflated[step] >= INFLATED:
        return "saturated", step, f"{text}: it seems to queue. There are no spans to tell for sure."
    largest = _largest(shares)
    return "none", None, f"No step seems to queue; {shares[largest]:.0%} of the time is {largest}."


def _inflation(report: Report, name: str) -> float:
    step = report[name]
    return step.p50 / step.minimum if step.minimum > 0 else 1.0


def _shares(report: Report, steps: list[str]) -> dict[str, float]:
    totals = {name: report[name].response.total for name in steps}
    whole = math.fsum(totals.values())
    return {name: total / whole if whole else 1 / len(steps) for name, total in totals.items()}


def _largest(shares: Mapping[str, float]) -> str:
    return max(shares, key=lambda name: shares[name])


def _saturated_evidence(station: Station) -> str:
    waits = max(0.0, station.residence - station.own)
    return (
        f"{station.step} lets {number(station.capacity)}/s pass, whatever arrives ("
        f"{station.slots} at once), and was busy {station.utilisation:.0%} of the time that it had "
        f"work. Up to {station.peak} items were there at once, for {duration(station.residence)} "
        f"on average; {duration(waits)} of that they waited."
    )


def _loop_evidence(step: str, seconds: float, share: float) -> str:
    return (
        f"{step} holds the event loop: nothing else began or ended during its calls, which fill "
        f"{share:.0%} of the time from the first to the last of them ({duration(seconds)}). Make it "
        "await, or move it to a thread."
    )


def _none_evidence(stations: Mapping[str, Station], shares: Mapping[str, float]) -> str:
    busiest = max(stations.values(), key=lambda station: station.utilisation)
    largest = _largest(shares)
    return (
        f"{_nearest(busiest)} {shares[largest]:.0%} of an item's time passes in {largest}, which "
        f"takes {duration(stations[largest].residence)} for each."
    )


def _nearest(busiest: Station) -> str:
    if busiest.utilisation >= BUSY:
        return (
            f"Nothing is saturated for long: {busiest.step} was full while it had work, but is done "
            f"with all of it in {duration(busiest.drain)}."
        )
    if busiest.utilisation:
        return (
            f"Nothing is saturated: {busiest.step} comes nearest, at {busiest.utilisation:.0%} of "
            f"its {number(busiest.capacity)}/s."
        )
    return "Nothing is saturated, and no limit showed."
