"""Exercise 5.3: the step to mend, out of a report, graded by what more slots for it change."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually
from course_lib.lab.simulation import simulate

if TYPE_CHECKING:
    from course_lib.monitoring import Report

__all__ = ["grade_to_mend"]

Steps = Mapping[str, tuple[float, int | None]]
ToMend = Callable[["Report"], Any]
Watch = Callable[[str], AbstractContextManager[Any]]

ITEMS = 100
WHOLE = "chain"
"""What the report calls all steps of an item together."""
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Steps that every item goes through, in their order.

    Attributes:
        name: What is special about it.
        steps: Seconds that an item takes, and how many are worked on at once, by step.
        rate: Items a second that arrive.
    """

    name: str
    steps: Steps
    rate: float


NETWORKS = (
    Network(
        "a long step with many slots",
        {"embed": (0.05, 1), "cache": (0.01, 4), "search": (0.5, 100), "generate": (1.0, 32)},
        rate=25,
    ),
    Network(
        "a single slot, and it is fast",
        {"parse": (0.01, 1), "cache": (0.01, 4), "rerank": (0.25, 4), "generate": (0.5, 16)},
        rate=25,
    ),
    Network(
        "three that do not keep up",
        {"fetch": (0.1, 2), "embed": (0.1, 1), "store": (0.125, 2), "generate": (0.5, 32)},
        rate=30,
    ),
    Network(
        "a step without a limit",
        {"fetch": (2.0, None), "rank": (0.125, 4), "answer": (0.25, 16)},
        rate=40,
    ),
    Network("the longer queue at another step", {"think": (1.0, 16), "write": (0.1, 1)}, rate=20),
    Network("the longer wait at another step", {"think": (1.0, 10), "write": (0.11, 1)}, rate=12),
    Network(
        "capacities that are not whole",
        {"find": (0.7, 2), "rank": (0.48, 1), "write": (0.9, 8)},
        rate=4,
    ),
    Network("all keep up", {"embed": (0.125, 2), "generate": (0.5, 16)}, rate=10),
    Network("one keeps up just so", {"embed": (0.25, 2), "generate": (0.5, 16)}, rate=8),
    Network("no limits at all", {"fetch": (1.0, None), "answer": (0.5, None)}, rate=10),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a network does, and what it would do with more slots.

    Attributes:
        seconds: When the last item is done.
        queues: Whether the last item spends more time in the network than the first.
        doubled: When the last item is done if a step has twice the slots, by step.
    """

    seconds: float
    queues: bool
    doubled: Mapping[str, float]

    @property
    def limiting(self) -> str | None:
        """The step for which more slots help most; None if items do not queue."""
        return min(self.doubled, key=self.doubled.__getitem__) if self.queues else None


@cache  # nothing in it depends on the learner's function
def effect_of(network: Network) -> Effect:
    """Return what more slots change, measured in virtual time."""
    seconds, first, last = _run(network.steps, network.rate)
    doubled = {
        name: _run({**network.steps, name: (each, slots and 2 * slots)}, network.rate)[0]
        for name, (each, slots) in network.steps.items()
    }
    return Effect(seconds, last > first + TOLERANCE, doubled)


def _run(steps: Steps, rate: float) -> tuple[float, float, float]:
    """Return the makespan, and the time in the network of the first item and of the last one."""

    async def main() -> tuple[float, float, float]:
        times = await _flow(steps, rate, lambda _: nullcontext())
        return asyncio.get_running_loop().time(), times[0], times[-1]

    return simulate(main).value


@cache
def report_of(network: Network) -> "Report":
    """Return what a monitor sees of a network: of its queues no more than a caller does."""
    # With LangChain, which takes longer to import than all of `lab`.
    from course_lib.monitoring import PerformanceMonitor  # noqa: PLC0415

    async def main() -> "Report":
        monitor = PerformanceMonitor()
        await _flow(network.steps, network.rate, monitor.measure)
        return monitor.report()

    return simulate(main).value


async def _flow(steps: Steps, rate: float, watch: Watch) -> list[float]:
    """Send all items through the steps; return the time of each in the network."""
    now = asyncio.get_running_loop().time
    places = {
        name: (seconds, nullcontext() if slots is None else asyncio.Semaphore(slots))
        for name, (seconds, slots) in steps.items()
    }

    async def item() -> float:
        arrived = now()
        with watch(WHOLE):
            for name, (seconds, place) in places.items():
                with watch(name):
                    async with place:
                        await asyncio.sleep(seconds)
        return now() - arrived

    tasks = []
    for _ in range(ITEMS):
        tasks.append(asyncio.create_task(item()))
        await asyncio.sleep(1 / rate)
    return await asyncio.gather(*tasks)


async def grade_to_mend(to_mend: ToMend) -> Grading:
    """Ten networks, each run as it is, and with twice the slots for each of its steps."""
    grading = Grading()
    for network in NETWORKS:
        got, effect = _named(to_mend, network), effect_of(network)
        grading.observe(
            network.name, _text(got), effect.limiting, got == effect.limiting,
            _mistake(network, effect, got),
        )  # fmt: skip
        if isinstance(got, str) and got in network.steps:
            _grade_effect(grading, effect, got)
    return grading


def _grade_effect(grading: Grading, effect: Effect, step: str) -> None:
    own = effect.doubled[step]
    others = min(seconds for name, seconds in effect.doubled.items() if name != step)
    grading.observe(
        f"{ITEMS} items: as it is, its slots doubled, another's",
        f"{effect.seconds:.2f} s, {own:.2f} s, {others:.2f} s", "the second the least",
        own < min(others, effect.seconds) - TOLERANCE, "its slots are not what items wait for",
    )  # fmt: skip


def _named(to_mend: ToMend, network: Network) -> Any:
    """Return the answer; out of a coroutine, the coroutine, closed."""
    report = report_of(network)

    async def main() -> Any:  # in virtual time, where a function without an end is stopped
        return (to_mend(report),)

    (value,) = run_virtually(main).value
    if inspect.iscoroutine(value):
        value.close()
    return value


def _text(got: Any) -> str:
    return str(got) if got is None or isinstance(got, str | int | float) else type(got).__name__


def _mistake(network: Network, effect: Effect, got: Any) -> str:
    steps, wanted = network.steps, effect.limiting
    if inspect.iscoroutine(got):
        return "it is called without `await`: write `def`, not `async def`"
    if got is None and wanted is not None:
        seconds, slots = steps[wanted]
        return f"{wanted!r} lets {(slots or 0) / seconds:g} a second pass, and more arrive"
    if got == WHOLE:
        return f"{WHOLE!r} is all steps together: name the step within it"
    if not isinstance(got, str) or got not in steps:
        return "return the name of the step, not its figures"
    return _wrong_name(network, wanted, got)


def _wrong_name(network: Network, wanted: str | None, got: str) -> str:
    report = report_of(network)
    if wanted is None:
        return (
            "no step lets fewer pass than arrive here: the last item takes as long as the first, "
            "and more slots change nothing. Return None then"
        )
    said = f"twice the slots of {got!r} help less, or nothing: "
    if network.steps[got][1] is None:
        return f"{said}it works on any number at once, so a long time there keeps nobody else back"
    means = {name: report[name].mean for name in network.steps}
    if got == max(means, key=means.__getitem__):
        return f"{said}calls are there longest on average, but those are waits and work in one"
    if got == min(means, key=means.__getitem__):
        return f"{said}calls are there for the shortest time"
    return f"{said}of several steps that do not keep up, the one with the smallest capacity limits"
