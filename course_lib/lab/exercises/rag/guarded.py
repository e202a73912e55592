"""Exercise 6.2: a gate in front of a stage."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.rag.stand_in import EMPTY, Returning, Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_guarded"]

Guarded = Callable[[Step, int, int], Step]

CALLERS, SLOTS, ATTEMPTS = 40, 4, 5
CLOSED = (0.25, 1.25)
LONG = 60.0
LATEST = 3.0
"""Seconds: a second of work, one that the step was closed, and some patience."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a caller got.

    Attributes:
        value: What was returned, or raised.
        raised: Whether it was raised.
    """

    value: Any
    raised: bool

    def __str__(self) -> str:
        if self.raised:
            return f"{type(self.value).__name__} raised"
        if isinstance(self.value, BaseException):
            return f"{type(self.value).__name__} returned"
        return "None returned" if self.value is None else "answered"


async def _outcome(call: Awaitable[Any]) -> _Outcome:
    try:
        return _Outcome(await asyncio.wait_for(call, LONG), raised=False)
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - said on the card
        return _Outcome(error, raised=True)


class _Refusing(StepCalls):
    """Refuses time and again for a tenth of a second, or fails, by turns if it is `mixed`."""

    def __init__(self, *, mixed: bool) -> None:
        super().__init__()
        self._mixed = mixed

    async def __call__(self, item: Any) -> Any:
        self.made[item] += 1
        number = self.made[item]
        if number > 4 * ATTEMPTS:
            return self.answer(item)
        if self._mixed and number % 2:
            raise Unavailable("no answer")
        raise RateLimited("too many requests", retry_after=0.1)


async def grade_guarded(guarded: Guarded) -> Grading:
    """Forty callers, of whom the step sends everybody away for a second; then errors of two kinds."""
    grading = Grading()
    step, results, seconds = run_virtually(lambda: _crowd(guarded)).value
    grading.observe(
        "peak in flight", step.peak, SLOTS, step.peak == SLOTS, _wrong_peak(step.peak)
    )  # fmt: skip
    served = sum(
        each == _Outcome(step.answer(f"item {number}"), raised=False)
        for number, each in enumerate(results)
    )
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
    _grade_attempts(grading, guarded)
    _grade_results(grading, guarded)
    _grade_slots(grading, guarded)
    return grading


async def _crowd(guarded: Guarded) -> tuple[StepCalls, list[Any], float]:
    step = StepCalls(closed=CLOSED)
    call = guarded(step.__call__, SLOTS, ATTEMPTS)
    calls = (_outcome(call(f"item {number}")) for number in range(CALLERS))
    results = await asyncio.gather(*calls)
    return step, results, asyncio.get_running_loop().time()


def _wrong_peak(peak: int) -> str:
    if peak > SLOTS:
        return "more than `slots` calls at once: make the semaphore (or gate) once, in `guarded`"
    return "slots stand empty while callers wait: let `slots` of them in at once"


async def _errors(guarded: Guarded) -> tuple[StepCalls, list[_Outcome]]:
    step = StepCalls(failing={"late": 2, "dead": 99}, senseless=["bad"])
    call = guarded(step.__call__, 1, ATTEMPTS)
    return step, await asyncio.gather(*(_outcome(call(item)) for item in ("late", "dead", "bad")))


def _grade_errors(grading: Grading, guarded: Guarded) -> None:
    step, (late, dead, bad) = run_virtually(lambda: _errors(guarded)).value
    grading.observe(
        "an item that fails twice", late, "answered", late.value == step.answer("late"),
        "a failure of the provider (Unavailable) passes: make the call again, after a short pause",
    )  # fmt: skip
    grading.observe(
        f"calls of one that always fails, {ATTEMPTS} attempts", step.made["dead"], ATTEMPTS,
        step.made["dead"] == ATTEMPTS,
        "`attempts` counts all calls, the first included; after the last one its error is raised",
    )  # fmt: skip
    good = dead.raised and isinstance(dead.value, Unavailable)
    grading.observe(
        "then its caller gets", dead, "Unavailable raised", good,
        "after the last attempt its error is *raised*: what is returned is taken for an answer",
    )  # fmt: skip
    grading.observe(
        "calls of a senseless request", step.made["bad"], 1, step.made["bad"] == 1,
        "a BadRequest is as bad the second time: raise it at once",
    )  # fmt: skip
    good = bad.raised and isinstance(bad.value, BadRequest)
    grading.observe(
        "its caller gets", bad, "BadRequest raised", good,
        "any other error is *raised*, as it is: what is returned is taken for an answer",
    )  # fmt: skip
    other, two = (run_virtually(partial(_next, guarded, slots)).value for slots in (1, 2))
    grading.observe(
        "one slot: wait of the next, while a failed call pauses", f"{other:.2g} s", "0.2 s",
        other < 0.25,  # noqa: PLR2004 - two calls, and no pause
        HOLDS_ALL if two > 0.15 else  # noqa: PLR2004
        "a call keeps its slot while it pauses: leave the slot first, then sleep",
    )  # fmt: skip


HOLDS_ALL = (
    "what is unavailable for one holds everybody back: only a refusal (RateLimited) closes the gate "
    "for all, after another failure one caller waits by himself"
)


async def _next(guarded: Guarded, slots: int) -> float:
    """Seconds of a call that begins just after one that is about to fail."""
    step = StepCalls(failing={"late": 2})
    call = guarded(step.__call__, slots, ATTEMPTS)
    late = asyncio.ensure_future(_outcome(call("late")))
    await asyncio.sleep(0.11 * (slots - 1))  # with a second slot, while it pauses
    start = asyncio.get_running_loop().time()
    await _outcome(call("other"))
    seconds = asyncio.get_running_loop().time() - start
    await late
    return seconds


def _grade_attempts(grading: Grading, guarded: Guarded) -> None:
    """Refusals are attempts, alone and together with failures."""
    for what, mixed in (("refused", False), ("refused, and failing by turns", True)):
        step = _Refusing(mixed=mixed)
        call = guarded(step.__call__, 1, ATTEMPTS)
        outcome = run_virtually(partial(_outcome_of, call)).value
        made = step.made["item"]
        grading.observe(
            f"calls of one that is always {what}", made, ATTEMPTS, made == ATTEMPTS,
            "refusals and failures are attempts alike: `attempts` calls in all, then the last error "
            "is raised",
        )  # fmt: skip
        good = outcome.raised and isinstance(outcome.value, RateLimited | Unavailable)
        grading.observe(
            "its caller then gets", outcome, "its error raised", good,
            "after the last attempt its error is *raised*: what is returned is taken for an answer",
        )  # fmt: skip


async def _outcome_of(call: Step) -> _Outcome:
    return await _outcome(call("item"))


def _grade_results(grading: Grading, guarded: Guarded) -> None:
    once = 0
    for value in EMPTY:
        step = Returning(value)
        got = run_virtually(partial(_outcome_of, guarded(step.__call__, 1, ATTEMPTS))).value
        same = got == _Outcome(value, raised=False) and type(got.value) is type(value)
        once += same and step.made.total() == 1
    grading.observe(
        "empty results, each after one call", once, len(EMPTY), once == len(EMPTY),
        "an empty result is a result: do not ask whether it is true, and do not call again",
    )  # fmt: skip


async def _slots(guarded: Guarded) -> tuple[_Outcome, float]:
    """What a caller gets after one who left, with one slot; when two gates have served one each."""
    step = StepCalls()
    call = guarded(step.__call__, 1, ATTEMPTS)
    leaver = asyncio.ensure_future(_outcome(call("left")))
    await asyncio.sleep(0.05)
    leaver.cancel()
    after = await _outcome(call("after"))
    calls = [guarded(StepCalls().__call__, 1, ATTEMPTS) for _ in range(2)]
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*(_outcome(call("item")) for call in calls))
    return after, asyncio.get_running_loop().time() - start


def _grade_slots(grading: Grading, guarded: Guarded) -> None:
    after, both = run_virtually(lambda: _slots(guarded)).value
    grading.observe(
        "one slot, after a caller who left", after, "answered", str(after) == "answered",
        "who leaves keeps his slot for ever: give it back in a `finally`, or with `async with`",
    )  # fmt: skip
    grading.observe(
        "two guarded steps, a slot each", f"{both:.2g} s", "0.1 s", both < 0.15,  # noqa: PLR2004
        "two steps share one gate: make it in `guarded`, one for each",
    )  # fmt: skip
