"""Exercise 2.2: patience that holds no slot."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.virtual import virtually

__all__ = ["grade_patient"]

Patient = Callable[[Callable[[str], Awaitable[Any]], str, asyncio.Semaphore, int], Awaitable[Any]]

SECONDS = 0.1
"""What a call takes, also one that is refused."""
TOLERANCE, LONGER = 1e-6, 1.1
"""Seconds that rounding may cost; how much longer than asked a wait may be, against a herd."""
ANSWERS: tuple[Any, ...] = ("answer", None, 0, "")
"""What may be answered: what is false is an answer as well."""


@dataclass(slots=True)
class _Provider:
    """Plays a script: for each question the outcomes of its calls, the last one again and again.

    Attributes:
        script: Outcomes by question: an answer, an error, or the seconds of a refusal.
        calls: Questions and the times at which their calls began and ended, in seconds.
        peak: Calls in flight at once, at most.
    """

    script: Mapping[str, Sequence[Any]]
    calls: list[tuple[str, float, float]] = field(default_factory=list)
    peak: int = 0
    _running: int = 0

    async def search(self, query: str) -> Any:
        loop, made = asyncio.get_running_loop(), len(self.of(query))
        start = loop.time()
        self._running += 1
        self.peak = max(self.peak, self._running)
        try:
            await asyncio.sleep(SECONDS)
        finally:
            self._running -= 1
            self.calls.append((query, start, loop.time()))
        outcomes = self.script[query]
        outcome = outcomes[min(made, len(outcomes) - 1)]
        if isinstance(outcome, _Refusal):
            raise RateLimited("too many requests", retry_after=outcome.seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def of(self, query: str) -> list[tuple[float, float]]:
        """When the calls with this question began and ended."""
        return [(start, end) for asked, start, end in self.calls if asked == query]


@dataclass(frozen=True, slots=True)
class _Refusal:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a caller got: a value, or an error that was raised; and what it left."""

    value: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    free: int = 0

    def __str__(self) -> str:
        return repr(self.value) if self.error is None else type(self.error).__name__


async def grade_patient(patient: Patient) -> Grading:
    """One caller alone, with each outcome; then many, through few slots."""
    grading = Grading()
    _grade_answers(grading, patient)
    _grade_errors(grading, patient)
    _grade_crowd(grading, patient)
    _grade_waits(grading, patient)
    return grading


def _alone(
    patient: Patient, script: Sequence[Any], *, attempts: int, slots: int = 2
) -> tuple[_Outcome, list[tuple[float, float]]]:
    """One caller, and nobody else: what it got, and when its calls began and ended."""
    provider = _Provider({"q": script})

    async def program() -> _Outcome:
        places, loop = asyncio.Semaphore(slots), asyncio.get_running_loop()
        value: Any = None
        error: BaseException | None = None
        try:
            value = await patient(provider.search, "q", places, attempts)
        except Exception as raised:
            error = cause_of(raised)
            if not isinstance(error, RateLimited | Unavailable | KeyError):
                raise
        return _Outcome(value, error, loop.time(), await _free(places, slots))

    return virtually(program), provider.of("q")


async def _free(places: asyncio.Semaphore, slots: int) -> int:
    """How many slots can be had at once, counted up to twice as many as there should be."""
    free = 0
    while not places.locked() and free < 2 * slots:
        await places.acquire()
        free += 1
    return free


def _grade_answers(grading: Grading, patient: Patient) -> None:
    got = [
        _alone(patient, [_Refusal(0.5)] * refused + [answer], attempts=3)
        for answer in ANSWERS
        for refused in (0, 1, 2)
    ]
    wanted = [answer for answer in ANSWERS for _ in "123"]
    kept = sum(
        outcome.error is None and outcome.value == answer and type(outcome.value) is type(answer)
        for (outcome, _), answer in zip(got, wanted, strict=True)
    )
    grading.observe(
        "answers, with 0, 1 and 2 refusals before", kept, len(wanted), kept == len(wanted),
        "a refused call is to be tried again, and its answer returned, whatever it is: `None`, `0` "
        "and an empty text are answers, too",
    )  # fmt: skip
    _grade_slots(grading, "slots free after an answer", [outcome for outcome, _ in got])


def _grade_slots(grading: Grading, what: str, outcomes: list[_Outcome]) -> None:
    free = next((each.free for each in outcomes if each.free != 2), 2)  # noqa: PLR2004 - slots
    grading.observe(
        what, free, 2, free == 2,  # noqa: PLR2004
        "a slot is not given back: `async with slots:` does so, also after an error" if free < 2  # noqa: PLR2004
        else "a slot is given back that is not taken again: each attempt takes one, and gives it "
        "back once: `async with slots:` round the call, inside the loop",
    )  # fmt: skip


def _grade_errors(grading: Grading, patient: Patient) -> None:
    for attempts in (3, 1, 5):
        outcome, calls = _alone(patient, [_Refusal(1.0)], attempts=attempts)
        what = f"refused every time, {attempts} attempts"
        grading.observe(
            what, f"{outcome} {_way(outcome)}", "RateLimited raised",
            isinstance(outcome.error, RateLimited), _wrong_end(outcome),
        )  # fmt: skip
        grading.observe(
            f"calls then, {attempts} attempts", len(calls), attempts, len(calls) == attempts,
            f"at most `attempts` calls in all, and as many as that: {attempts}",
        )  # fmt: skip
        _grade_slots(grading, f"slots free then, {attempts} attempts", [outcome])
        idle = outcome.seconds - calls[-1][1] if calls else 0.0
        grading.observe(
            f"waits after the last of {attempts}", f"{idle:.3g} s", "0 s", idle < TOLERANCE,
            "it waits longer than it was told to: once more after the last attempt, for nothing",
        )  # fmt: skip
    for error in (Unavailable("no answer"), KeyError("answers")):
        name = type(error).__name__
        outcome, calls = _alone(patient, [error], attempts=3)
        grading.observe(
            f"{name}", f"{outcome} {_way(outcome)}", f"{name} raised",
            isinstance(outcome.error, type(error)),
            "errors other than `RateLimited` go to the caller: raised, not returned",
        )  # fmt: skip
        grading.observe(
            f"calls then, {name}", len(calls), 1, len(calls) == 1,
            "only `RateLimited` is worth another attempt here: catch nothing else",
        )  # fmt: skip
        idle = outcome.seconds - calls[-1][1] if calls else 0.0
        grading.observe(
            f"told after, {name}", f"{idle:.3g} s", "0 s", idle < TOLERANCE,
            "an error that is no refusal goes to the caller at once, without a wait",
        )  # fmt: skip
        _grade_slots(grading, f"slots free then, {name}", [outcome])


def _way(outcome: _Outcome) -> str:
    return "returned" if outcome.error is None else "raised"


def _wrong_end(outcome: _Outcome) -> str:
    if isinstance(outcome.value, RateLimited):
        return "the error is returned as if it were an answer: raise the error"
    return "after the last attempt the caller must learn that it was refused: raise the error"


def _grade_waits(grading: Grading, patient: Patient) -> None:
    """Each wait is as long as that refusal asked for, or up to a tenth longer."""
    asked = (1.0, 0.2, 3.0, 0.05)
    _, calls = _alone(patient, [*map(_Refusal, asked), "answer"], attempts=5)
    gaps = [later[0] - before[1] for before, later in pairwise(calls)]
    pairs = list(zip(gaps, asked, strict=False))
    early = any(gap < seconds - TOLERANCE for gap, seconds in pairs)
    late = any(gap > seconds * LONGER + TOLERANCE for gap, seconds in pairs)
    grading.observe(
        "waits between attempts", " ".join(f"{gap:.3g}" for gap in gaps) + " s",
        " ".join(f"{seconds:g}" for seconds in asked) + " s, or up to a tenth longer",
        not early and not late and len(gaps) == len(asked),
        "it comes back before it was told to: sleep for `error.retry_after` seconds, as each "
        "refusal says" if early else
        "it waits longer than it was told to: sleep for `error.retry_after` seconds, as each "
        "refusal says, between attempts only",
    )  # fmt: skip


def _grade_crowd(grading: Grading, patient: Patient) -> None:
    """Some are refused at first and some are not: while those wait, their slots are free."""
    for slots in (2, 1, 3):
        patients = [f"refused {number}" for number in range(4 * slots)]
        others = [f"other {number}" for number in range(4 * slots)]
        provider = _Provider(
            {query: [_Refusal(9.0), "answer"] for query in patients}
            | {query: ["answer"] for query in others}
        )

        async def program() -> None:
            places = asyncio.Semaphore(slots)  # noqa: B023
            calls = (patient(provider.search, query, places, 3) for query in patients + others)  # noqa: B023
            await asyncio.gather(*calls, return_exceptions=True)

        virtually(program)
        done = max((end for query, _, end in provider.calls if query in others), default=math.inf)
        bound = 8 * SECONDS
        grading.observe(
            f"the others are done after, {slots} slots", f"{done:.4g} s", f"{bound:g} s",
            done <= bound + TOLERANCE,
            "a slot is held while its caller waits to try again: leave `async with slots:` first",
        )  # fmt: skip
        grading.observe(
            f"peak in flight, {slots} slots", provider.peak, slots, provider.peak == slots,
            "each attempt takes a slot: `async with slots:` round the call",
        )  # fmt: skip
