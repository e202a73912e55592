"""Exercise 6.2: a gate in front of a stage."""

import asyncio
from collections.abc import Callable
from typing import Any

from course_lib.errors import BadRequest, Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.rag.stand_in import Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_guarded"]

Guarded = Callable[[Step, int, int], Step]

CALLERS, SLOTS, ATTEMPTS = 40, 4, 5
CLOSED = (0.25, 1.25)
LATEST = 3.0
"""Seconds: a second of work, one that the step was closed, and some patience."""


async def grade_guarded(guarded: Guarded) -> Grading:
    """Forty callers, of whom the step sends everybody away for a second; then errors of two kinds."""
    grading = Grading()
    step, results, seconds = run_virtually(lambda: _crowd(guarded)).value
    grading.observe(
        "peak in flight", step.peak, SLOTS, step.peak == SLOTS, _wrong_peak(step.peak)
    )  # fmt: skip
    served = sum(isinstance(each, str) for each in results)
    grading.observe(
        "callers served", served, CALLERS, served == CALLERS,
        "a call that is refused (RateLimited) is to be made again, up to `attempts` times in all",
    )  # fmt: skip
    grading.observe(
        "rejections", step.rejected, f"at most {SLOTS}", step.rejected <= SLOTS,
        "after a refusal the others go on knocking: one `retry_after` holds back *everybody* who "
        "passes this gate, those who are in line for a slot, too",
    )  # fmt: skip
    grading.observe(
        "last one served", f"{seconds:.1f} s", f"at most {LATEST:g} s", seconds <= LATEST,
        "it takes too long: hold back for `retry_after`, no longer, and use all slots afterwards",
    )  # fmt: skip
    _grade_errors(grading, guarded)
    return grading


async def _crowd(guarded: Guarded) -> tuple[StepCalls, list[Any], float]:
    step = StepCalls(closed=CLOSED)
    call = guarded(step.__call__, SLOTS, ATTEMPTS)
    calls = (call(f"item {number}") for number in range(CALLERS))
    results = await asyncio.gather(*calls, return_exceptions=True)
    _raise_unknown(results)
    return step, results, asyncio.get_running_loop().time()


def _raise_unknown(results: list[Any]) -> None:
    for each in results:
        if isinstance(each, NotImplementedError):
            raise each


def _wrong_peak(peak: int) -> str:
    if peak > SLOTS:
        return "more than `slots` calls at once: make the semaphore (or gate) once, in `guarded`"
    return "slots stand empty while callers wait: let `slots` of them in at once"


async def _errors(guarded: Guarded) -> tuple[StepCalls, list[Any], float]:
    step = StepCalls(failing={"late": 2, "dead": 99}, senseless=["bad"])
    call = guarded(step.__call__, 1, ATTEMPTS)
    late = asyncio.ensure_future(call("late"))
    await asyncio.sleep(0)
    start = asyncio.get_running_loop().time()
    await asyncio.gather(call("other"), return_exceptions=True)
    other = asyncio.get_running_loop().time() - start
    rest = [late, *map(asyncio.ensure_future, (call("dead"), call("bad")))]
    results = await asyncio.gather(*rest, return_exceptions=True)
    _raise_unknown(results)
    return step, results, other


def _grade_errors(grading: Grading, guarded: Guarded) -> None:
    step, (late, dead, bad), other = run_virtually(lambda: _errors(guarded)).value
    grading.observe(
        "an item that fails twice", late if isinstance(late, str) else type(late).__name__,
        "answered", late == step.answer("late"),
        "a failure of the provider (Unavailable) passes: make the call again, after a short pause",
    )  # fmt: skip
    grading.observe(
        f"calls of one that always fails, {ATTEMPTS} attempts", step.made["dead"], ATTEMPTS,
        step.made["dead"] == ATTEMPTS and isinstance(dead, Unavailable),
        "`attempts` counts all calls, the first included; after the last one its error is raised",
    )  # fmt: skip
    grading.observe(
        "calls of a senseless request", step.made["bad"], 1,
        step.made["bad"] == 1 and isinstance(bad, BadRequest),
        "a BadRequest is as bad the second time: raise it at once",
    )  # fmt: skip
    grading.observe(
        "one slot: wait of the next, while a failed call pauses", f"{other:.1f} s", "0.2 s",
        other < 0.25,  # noqa: PLR2004 - two calls, and no pause
        "a call keeps its slot while it pauses: leave the slot first, then sleep",
    )  # fmt: skip
