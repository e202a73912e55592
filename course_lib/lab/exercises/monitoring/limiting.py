"""Exercise 5.3: the step that cannot keep up, graded by what more slots for it change."""

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually
from course_lib.lab.simulation import simulate

__all__ = ["grade_limiting"]

Steps = Mapping[str, tuple[float, int | None]]
Limiting = Callable[[dict[str, tuple[float, int | None]], float], Any]

ITEMS = 200
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
        now = asyncio.get_running_loop().time
        places = [
            (seconds, nullcontext() if slots is None else asyncio.Semaphore(slots))
            for seconds, slots in steps.values()
        ]

        async def item() -> float:
            arrived = now()
            for seconds, place in places:
                async with place:
                    await asyncio.sleep(seconds)
            return now() - arrived

        tasks = []
        for _ in range(ITEMS):
            tasks.append(asyncio.create_task(item()))
            await asyncio.sleep(1 / rate)
        times = await asyncio.gather(*tasks)
        return now(), times[0], times[-1]

    return simulate(main).value


async def grade_limiting(limiting: Limiting) -> Grading:
    """Nine networks, each run as it is, and with twice the slots for each of its steps."""
    grading = Grading()
    for network in NETWORKS:
        got, effect = _named(limiting, network), effect_of(network)
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


def _named(limiting: Limiting, network: Network) -> Any:
    """Return the answer, or the error it raised where a step has no limit, to say so on the card."""

    async def main() -> Any:  # in virtual time, where a function without an end is stopped
        return limiting(dict(network.steps), network.rate)

    try:
        value = run_virtually(main).value
    except (TypeError, ValueError) as error:
        if any(slots is None for _, slots in network.steps.values()):
            return error
        raise
    if inspect.iscoroutine(value):
        value.close()
    return value


def _text(got: Any) -> str:
    return str(got) if got is None or isinstance(got, str | int | float) else type(got).__name__


def _mistake(network: Network, effect: Effect, got: Any) -> str:
    steps, wanted = network.steps, effect.limiting
    if inspect.iscoroutine(got):
        return "it is called without `await`: write `def`, not `async def`"
    if isinstance(got, TypeError | ValueError):
        return f"{got!r}: a step whose slots are None works on any number at once, and never limits"
    if got is None and wanted is not None:
        return f"{wanted!r} does {_capacity(*steps[wanted]):g} a second, and more arrive"
    if not isinstance(got, str) or got not in steps:
        return "return the name of the step, not its figures"
    return _wrong_name(network, wanted, got)


def _wrong_name(network: Network, wanted: str | None, got: str) -> str:
    seconds, slots = network.steps[got]
    if slots is None:
        return f"{got!r} works on any number at once: however long one takes, it never limits"
    if wanted is None:
        return (
            f"{_capacity(seconds, slots):g} a second are enough for {network.rate:g}: return None "
            "unless the smallest capacity is below `rate`"
        )
    return _wrong_step(network.steps, got, slots)


def _wrong_step(steps: Steps, got: str, slots: int) -> str:
    limits = {name: (each, places) for name, (each, places) in steps.items() if places is not None}
    said = f"twice the slots of {got!r} help less, or nothing: "
    if got == max(steps, key=lambda name: steps[name][0]):
        return f"{said}one takes long there, but {slots} are worked on at once"
    if got == max(limits, key=lambda name: limits[name][0] * limits[name][1]):
        return f"{said}more slots make a step faster, so divide by the seconds: `slots / seconds`"
    if got == max(limits, key=lambda name: _capacity(*limits[name])):
        return f"{said}it has the *largest* capacity (`slots / seconds`), and the smallest limits"
    if got == min(limits, key=lambda name: limits[name][1]):
        return f"{said}it has the fewest slots, but an item needs one only for a short time"
    return f"{said}of several steps that do not keep up, the one with the smallest capacity limits"


def _capacity(seconds: float, slots: int | None) -> float:
    """Items a second that a step can do."""
    return math.inf if slots is None else slots / seconds
