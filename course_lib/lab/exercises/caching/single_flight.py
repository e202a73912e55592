"""Exercise 4.3: one computation, whoever leaves."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_single_flight"]

CALLERS, SECONDS, PATIENCE = 50, 0.1, 10.0
LEAVES_AT = 0.05


class _Failure(Exception):  # noqa: N818 - no mistake of the learner's
    """What a computation raises on purpose."""


class _Work:
    """A computation that takes its time, and is counted."""

    def __init__(self, *, fails: bool = False) -> None:
        self.started = 0
        self._fails = fails

    async def __call__(self) -> str:
        self.started += 1
        await asyncio.sleep(SECONDS)
        if self._fails:
            raise _Failure
        return "value"


async def grade_single_flight(make: Callable[[], Any]) -> Grading:
    """Fifty callers; then the first leaves; then the work fails; then others come."""
    grading = Grading()
    work, outcomes, seconds = run_virtually(lambda: _together(make)).value
    grading.observe(
        f"computations, {CALLERS} callers at once", work.started, 1, work.started == 1,
        _not_shared(seconds),
    )  # fmt: skip
    grading.observe(
        "values", _count(outcomes, "value"), CALLERS, _count(outcomes, "value") == CALLERS,
        "every caller gets the value: return what the computation returned",
    )  # fmt: skip
    _grade_leaving(grading, *run_virtually(lambda: _one_leaves(make)).value)
    work, outcomes, _ = run_virtually(lambda: _together(make, fails=True)).value
    failed = _count(outcomes, "the error")
    grading.observe(
        "callers told of an error", failed, CALLERS, failed == CALLERS,
        "an error belongs to everybody who waits: each of them gets it raised",
    )  # fmt: skip
    _grade_afterwards(grading, *run_virtually(lambda: _afterwards(make)).value)
    return grading


def _not_shared(seconds: float) -> str:
    if seconds > 2 * SECONDS:
        return "a lock makes them wait for one another, and compute all the same: share the result"
    return "each caller computes for itself: keep what is under way by key, and wait for it"


async def _outcomes(callers: Sequence[asyncio.Task[Any]]) -> list[str]:
    """What became of each caller: the value, the name of an error, or that it waits for ever."""
    await asyncio.wait(callers, timeout=PATIENCE)
    for caller in callers:
        if caller.done() and not caller.cancelled():
            caller.exception()  # seen, also where another's is raised first
    found = [_outcome(caller) for caller in callers]
    waiting = [caller for caller in callers if not caller.done()]
    for caller in waiting:
        caller.cancel()
    if waiting:
        await asyncio.wait(waiting)
    return found


def _outcome(caller: asyncio.Task[Any]) -> str:
    if not caller.done():
        return "waits for ever"
    if caller.cancelled():
        return "cancelled"
    error = caller.exception()
    if error is None:
        return str(caller.result())
    if not isinstance(error, _Failure):
        raise error  # a stub, or a mistake: the card names the line
    return "the error"


def _count(outcomes: Sequence[str], wanted: str) -> int:
    return sum(outcome == wanted for outcome in outcomes)


async def _together(
    make: Callable[[], Any], *, fails: bool = False
) -> tuple[_Work, list[str], float]:
    flight, work = make(), _Work(fails=fails)
    callers = [asyncio.create_task(flight.run("key", work)) for _ in range(CALLERS)]
    outcomes = await _outcomes(callers)
    return work, outcomes, asyncio.get_running_loop().time()


async def _one_leaves(make: Callable[[], Any]) -> tuple[str, list[str], int]:
    flight, work = make(), _Work()
    callers = [asyncio.create_task(flight.run("key", work)) for _ in range(CALLERS)]
    await asyncio.sleep(LEAVES_AT)
    callers[0].cancel()
    await asyncio.sleep(0.01)
    left = _outcome(callers[0])
    return left, (await _outcomes(callers))[1:], work.started


def _grade_leaving(grading: Grading, left: str, others: list[str], started: int) -> None:
    grading.observe(
        "the first caller, when it is cancelled", left, "cancelled", left == "cancelled",
        "who is cancelled must end at once: let CancelledError pass",
    )  # fmt: skip
    served, most = _count(others, "value"), len(others)
    grading.observe(
        "others who still get the value", served, most, served == most, _why_lost(others),
    )  # fmt: skip
    grading.observe(
        "computations meanwhile", started, 1, started == 1,
        "when the first caller leaves, the others begin again: the computation is to go on",
    )  # fmt: skip


def _why_lost(others: list[str]) -> str:
    if _count(others, "waits for ever"):
        return "the others wait for ever for a leader who has gone: nobody tells them the end"
    return (
        "one caller was cancelled, and the others with it: the computation needs a task of its own, "
        "and each caller waits for it behind `asyncio.shield`"
    )


async def _afterwards(make: Callable[[], Any]) -> tuple[int, str, int]:
    """Computations of three calls in a row; what follows a failure; computations of two keys."""
    flight, work = make(), _Work()
    for _ in range(3):
        await _outcomes([asyncio.create_task(flight.run("key", work))])
    await _outcomes([asyncio.create_task(flight.run("bad", _Work(fails=True)))])
    [after] = await _outcomes([asyncio.create_task(flight.run("bad", _Work()))])
    both = _Work()
    await _outcomes([asyncio.create_task(flight.run(key, both)) for key in ("one", "two")])
    return work.started, after, both.started


def _grade_afterwards(grading: Grading, alone: int, after: str, both: int) -> None:
    grading.observe(
        "computations of two keys", both, 2, both == 2,  # noqa: PLR2004
        "two keys share one computation: keep what is under way by key",
    )  # fmt: skip
    grading.observe(
        "after an error", after, "value", after == "value",
        "an error is kept: take what has ended away, however it ended",
    )  # fmt: skip
    grading.observe(
        "computations of 3 calls, one after another", alone, 3, alone == 3,  # noqa: PLR2004
        "what has ended is still handed out: that is a cache without an end. Take it away when it "
        "is done",
    )  # fmt: skip
