"""Made-up learners, so that an instructor can practise with the board the evening before."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final

from course_lib.lab.exercises import EXERCISES
from course_lib.room.sentences import sentences

if TYPE_CHECKING:
    from course_lib.room.register import Register

__all__ = ["Earlier", "rehearse"]

NAMES: Final = [
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "John",
    "Katherine",
    "Leslie",
    "Margaret",
    "Niklaus",
    "Ole",
    "Peter",
    "Radia",
    "Shafi",
    "Tony",
]
STEP: Final = 0.5
"""Seconds between two things that happen in the room, in the mean."""

EARLY_STEPS: Final = 5
"""What each learner has done on average when the board is opened."""

EARLY_SECONDS: Final = 1_800
"""How long ago that began."""


class Earlier:
    """A time of day that is some way behind, and catches up with the real one.

    Attributes:
        behind: Seconds.
    """

    def __init__(self) -> None:
        self.behind = float(EARLY_SECONDS)

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return time.time() - self.behind


async def rehearse(register: Register, learners: int, clock: Earlier) -> None:
    """Take seats, work, fail, pass and raise hands, until all have done everything."""
    draw = random.Random(1)  # noqa: S311 - no cryptography
    seats = [
        (await register.take(f"{NAMES[k % len(NAMES)]} {chr(65 + k // len(NAMES) % 26)}."))[0]
        for k in range(learners)
    ]
    work = {seat: list(EXERCISES) for seat in seats}
    tries: dict[tuple[int, str], int] = {}
    for done in range(1, EARLY_STEPS * learners + 1):
        clock.behind = EARLY_SECONDS * (1 - done / (EARLY_STEPS * learners))
        await _step(register, draw, work, tries)
    while any(work.values()):
        await asyncio.sleep(draw.uniform(0, 2 * STEP))
        await _step(register, draw, work, tries)


async def _step(
    register: Register,
    draw: random.Random,
    work: dict[int, list[str]],
    tries: dict[tuple[int, str], int],
) -> None:
    """One learner checks what they have, or moves a hand."""
    busy = [seat for seat, left in work.items() if left]
    if not busy:
        return
    # Seats in front get their turn more often: some in a room are always faster.
    seat = busy[min(int(draw.expovariate(2.5 / len(busy))), len(busy) - 1)]
    if draw.random() < 0.04:  # noqa: PLR2004 - one in twenty-five asks
        await register.set_hand(seat, up=draw.random() < 0.6)  # noqa: PLR2004
        return
    exercise = work[seat][0]
    tried = tries[seat, exercise] = tries.get((seat, exercise), 0) + 1
    passed = draw.random() < 0.35  # noqa: PLR2004
    await register.note(seat, _result(draw, exercise, tried, passed=passed))
    if passed:
        del work[seat][0]


def _result(draw: random.Random, exercise: str, tried: int, *, passed: bool) -> dict[str, Any]:
    known = list(sentences()[exercise])
    place = min(int(draw.expovariate(1)), len(known) - 1)
    return {
        "exercise": exercise,
        "passed": passed,
        "diagnosis": "" if passed else known[place],
        "attempts": tried,
        "hints": min(tried // 2, 3),
        "minutes": 3 * tried,
    }
