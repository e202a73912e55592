"""Exercise 5.1: a clock that loses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_observed"]

Call = Callable[[], Awaitable[str]]
Record = Callable[[str, float, float], None]
Observed = Callable[[Call, Record, Callable[[], float], float], Awaitable[Any]]

SECONDS, LEAD, LEAVES_AT = 0.25, 0.5, 0.125
OFFSET = 4096.0
"""What the clock shows at the start: no other clock does, and sums with it stay exact."""
TOLERANCE = 1e-6


class _Failure(Exception):  # noqa: N818 - no mistake of the learner's
    """What a call raises on purpose."""


@dataclass(slots=True)
class _Scene:
    """One observed call.

    Attributes:
        fails: Whether the call fails, at the end of its time.
        records: What was recorded.
        asked: How often the clock was asked.
        runs: How often the call was made.
        began: Seconds after which it was made.
        ended: What the caller got.
    """

    fails: bool = False
    records: list[tuple[Any, Any, Any]] = field(default_factory=list)
    asked: int = 0
    runs: int = 0
    began: float = 0.0
    ended: str = ""

    def clock(self) -> float:
        self.asked += 1
        return OFFSET + asyncio.get_running_loop().time()

    def record(self, outcome: str, wait: float, service: float) -> None:
        self.records.append((outcome, wait, service))

    async def call(self) -> str:
        self.runs += 1
        self.began = asyncio.get_running_loop().time()
        await asyncio.sleep(SECONDS)
        if self.fails:
            raise _Failure
        return "the result"

    async def play(self, observed: Observed, planned: float) -> None:
        try:
            value = await observed(self.call, self.record, self.clock, OFFSET + planned)
        except _Failure:
            self.ended = "the error"
        else:
            self.ended = value if isinstance(value, str) else repr(value)


async def grade_observed(observed: Observed) -> Grading:
    """A call in time, one that waited, one ahead of its plan, one that fails, two that are left."""
    grading = Grading()
    scene = _played(observed, 0.0)
    _grade_caller(grading, "a good call", scene, "the result")
    _grade_record(grading, "a good call", scene, ("ok", 0.0, SECONDS))
    scene = _played(observed, -LEAD)
    _grade_record(grading, f"{LEAD:g} s behind its plan", scene, ("ok", LEAD, SECONDS))
    scene = _played(observed, LEAD)
    _grade_record(grading, f"{LEAD:g} s ahead of its plan", scene, ("ok", 0.0, SECONDS))
    grading.observe(
        "ahead of its plan, it begins after", f"{scene.began:g} s", "0 s", scene.began == 0,
        "it waits for the planned time: it is to look on only, and change nothing",
    )  # fmt: skip
    scene = _played(observed, 0.0, fails=True)
    _grade_record(grading, "a call that fails", scene, ("error", 0.0, SECONDS))
    _grade_caller(grading, "a call that fails", scene, "the error")
    _grade_leaving(grading, observed)
    return grading


def _grade_leaving(grading: Grading, observed: Observed) -> None:
    for name, leave in (("a cancelled call", _cancelled), ("a timeout", _timed_out)):
        run = run_virtually(partial(leave, observed))
        scene, ends = run.value, run.left_running == 0
        _grade_record(grading, name, scene, ("cancelled", 0.0, LEAVES_AT))
        _grade_caller(grading, name, scene, name.removeprefix("a ").removesuffix(" call"))
        grading.observe(
            f"{name}: the call", "ends" if ends else "goes on", "ends", ends,
            "the call goes on for nobody: `await call()` itself, and a cancellation reaches it",
        )  # fmt: skip


def _played(observed: Observed, planned: float, *, fails: bool = False) -> _Scene:
    scene = _Scene(fails)
    run_virtually(lambda: scene.play(observed, planned))
    return scene


async def _cancelled(observed: Observed) -> _Scene:
    scene = _Scene()
    task = asyncio.ensure_future(scene.play(observed, 0.0))
    await asyncio.sleep(LEAVES_AT)
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        scene.ended = "cancelled"
    else:
        task.result()  # a mistake, if it raised: the card names the line
    return scene


async def _timed_out(observed: Observed) -> _Scene:
    scene = _Scene()
    try:
        async with asyncio.timeout(LEAVES_AT):
            await scene.play(observed, 0.0)
    except TimeoutError:
        scene.ended = "timeout"
    return scene


def _grade_caller(grading: Grading, name: str, scene: _Scene, wanted: str) -> None:
    grading.observe(
        f"{name}: the caller gets", scene.ended, wanted, scene.ended == wanted,
        _wrong_end(scene, wanted),
    )  # fmt: skip


def _wrong_end(scene: _Scene, wanted: str) -> str:
    if not scene.runs:
        return "the call is never made: `await call()`"
    if wanted == "the result":
        return "the caller waits for the result: return what `await call()` returned"
    if wanted == "the error":
        return "the error is swallowed, and the caller takes it for a success: `raise` it again"
    return (
        "the cancellation is swallowed, and the caller cannot stop it: `raise` it again, whatever "
        "you do with it"
    )


def _grade_record(
    grading: Grading, name: str, scene: _Scene, wanted: tuple[str, float, float]
) -> None:
    got = "; ".join(_text(*each) for each in scene.records) or "nothing"
    right = len(scene.records) == 1 and _same(scene.records[0], wanted)
    grading.observe(f"{name}: recorded", got, _text(*wanted), right, _wrong_record(scene, wanted))


def _text(outcome: Any, wait: Any, service: Any) -> str:
    return f"{outcome}, wait {_seconds(wait)}, service {_seconds(service)}"


def _seconds(value: Any) -> str:
    return f"{value:g} s" if isinstance(value, int | float) else repr(value)


def _same(got: tuple[Any, Any, Any], wanted: tuple[str, float, float]) -> bool:
    return got[0] == wanted[0] and all(map(_close, got[1:], wanted[1:]))


def _close(got: Any, wanted: float) -> bool:
    return isinstance(got, int | float) and abs(got - wanted) <= TOLERANCE


def _wrong_record(scene: _Scene, wanted: tuple[str, float, float]) -> str:
    if not scene.records:
        return LOST[wanted[0]]
    if len(scene.records) > 1:
        return "it is recorded more than once, and counts as that many calls: once, in `finally`"
    outcome = scene.records[0][0]
    if outcome != wanted[0]:
        return f'it is recorded as "{outcome}", and was "{wanted[0]}": {HOW[wanted[0]]}'
    return _wrong_times(scene, wanted)


def _wrong_times(scene: _Scene, wanted: tuple[str, float, float]) -> str:
    _, wait, service = scene.records[0]
    if not all(isinstance(each, int | float) for each in (wait, service)):
        return "wait and service are numbers: seconds, as `clock()` returns them"
    if scene.asked < 2:  # noqa: PLR2004 - the start and the end
        return "another clock is looked at: start and end are both read from `clock()`"
    if _close(service, wanted[2]):
        return _wrong_wait(wait)
    if wanted[1] and _close(service, wanted[1] + wanted[2]):
        return "the wait is in the service as well: that is from the start, not from `planned`"
    return (
        "the service is the time that the call took: `clock()` at its end, less that at its start"
    )


def _wrong_wait(wait: float) -> str:
    if wait < 0:
        return "a call ahead of its plan has waited 0 s, not less: `max(0.0, start - planned)`"
    return "the wait is what passed before the call: `start - planned`"


LOST = {
    "ok": "nothing is recorded: call `record(outcome, wait, service)` when the call has ended",
    "error": "a call that fails is not recorded: what stands after `await call()` is not reached "
    "then, what stands in `finally` is",
    "cancelled": "a cancelled call is not recorded: `CancelledError` is no `Exception`. Record in "
    "`finally`",
}
HOW = {
    "ok": 'set it to "ok" when `await call()` has returned',
    "error": 'only what came back from `await call()` is "ok"',
    "cancelled": "`except asyncio.CancelledError` tells it from the others",
}
