"""Exercise 4.3: one computation, whoever leaves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_single_flight"]

CALLERS, SECONDS, PATIENCE = 50, 0.1, 10.0
LEAVES_AT = 0.05
EMPTY: tuple[Any, ...] = (None, "", 0, [], False)


class _Failure(Exception):  # noqa: N818 - no mistake of the learner's
    """What a computation raises on purpose."""


class _Work:
    """A computation that takes its time, and is counted."""

    def __init__(self, value: Any = "value", *, fails: bool = False) -> None:
        self.started = 0
        self._value = value
        self._fails = fails

    async def __call__(self) -> Any:
        self.started += 1
        await asyncio.sleep(SECONDS)
        if self._fails:
            raise _Failure
        return self._value

    def ask(self, flight: Any, key: str = "key", *, shared: bool = False) -> asyncio.Task[Any]:
        """One caller, with a function of its own unless it is `shared`."""

        async def own() -> Any:
            return await self()

        compute: Callable[[], Awaitable[Any]] = self if shared else own
        return asyncio.ensure_future(flight.run(key, compute))


async def grade_single_flight(make: Callable[[], Any]) -> Grading:
    """Fifty callers; some leave, and others come; empty values; errors; keys; what comes after."""
    grading = Grading()
    work, outcomes, seconds = run_virtually(lambda: _together(make)).value
    grading.observe(
        f"computations, {CALLERS} callers at once", work.started, 1, work.started == 1,
        _not_shared(make, seconds),
    )  # fmt: skip
    grading.observe(
        "values", _count(outcomes, "value"), CALLERS, _count(outcomes, "value") == CALLERS,
        "every caller gets the value: return what the computation returned",
    )  # fmt: skip
    for name, who in (("first", 0), ("second", 1), ("last", -1)):
        _grade_leaving(grading, name, run_virtually(partial(_one_leaves, make, who)).value)
    empties, computed = run_virtually(lambda: _empties(make)).value
    grading.observe(
        "computations of 5 empty values, 3 callers each", computed, len(EMPTY),
        computed == len(EMPTY),
        "an empty value is a value: ask whether there is one, not whether it is true",
    )  # fmt: skip
    grading.observe(
        "empty values that reach all callers", empties, len(EMPTY), empties == len(EMPTY),
        "every caller gets the value as it is, also when it is empty",
    )  # fmt: skip
    work, outcomes, _ = run_virtually(lambda: _together(make, fails=True)).value
    failed = _count(outcomes, "the error")
    grading.observe(
        "callers told of an error", failed, CALLERS, failed == CALLERS,
        "an error belongs to everybody who waits: each of them gets it raised",
    )  # fmt: skip
    grading.observe(
        "computations that fail", work.started, 1, work.started == 1,
        "the one error reaches everybody who waits: nobody of them computes again",
    )  # fmt: skip
    _grade_beside(grading, *run_virtually(lambda: _beside(make)).value)
    _grade_afterwards(grading, *run_virtually(lambda: _afterwards(make)).value)
    return grading


def _not_shared(make: Callable[[], Any], seconds: float) -> str:
    if seconds > 2 * SECONDS:
        return "a lock makes them wait for one another, and compute all the same: share the result"
    if run_virtually(lambda: _together(make, shared=True)).value[0].started == 1:
        return (
            "each caller brings a `compute` of its own, and all mean the same by one key: share "
            "by `key` alone"
        )
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
        return "value" if caller.result() == "value" else "another value"
    if not isinstance(error, _Failure):
        raise error  # a stub, or a mistake: the card names the line
    return "the error"


def _count(outcomes: Sequence[str], wanted: str) -> int:
    return sum(outcome == wanted for outcome in outcomes)


async def _together(
    make: Callable[[], Any], *, fails: bool = False, shared: bool = False
) -> tuple[_Work, list[str], float]:
    flight, work = make(), _Work(fails=fails)
    outcomes = await _outcomes([work.ask(flight, shared=shared) for _ in range(CALLERS)])
    return work, outcomes, asyncio.get_running_loop().time()


async def _one_leaves(
    make: Callable[[], Any], who: int
) -> tuple[str, list[str], list[str], list[int]]:
    """What became of the leaver, of the others, and of two who came then; computations of each."""
    flight, work = make(), _Work()
    callers = [work.ask(flight) for _ in range(CALLERS)]
    await asyncio.sleep(LEAVES_AT)
    leaver = callers.pop(who)
    leaver.cancel()
    await asyncio.sleep(0.01)
    left, before = _outcome(leaver), work.started
    new = [work.ask(flight) for _ in range(2)]
    outcomes = await _outcomes([*callers, *new])
    if not leaver.done():
        await _outcomes([leaver])
    return left, outcomes[:-2], outcomes[-2:], [before, work.started]


def _grade_leaving(
    grading: Grading, name: str, seen: tuple[str, list[str], list[str], list[int]]
) -> None:
    left, others, new, started = seen
    grading.observe(
        f"the {name} caller, when it is cancelled", left, "cancelled", left == "cancelled",
        "who is cancelled must end at once: let CancelledError pass",
    )  # fmt: skip
    served, most = _count(others, "value"), len(others)
    grading.observe(
        "others who still get the value", served, most, served == most, _why_lost(others),
    )  # fmt: skip
    grading.observe(
        "computations meanwhile", started[0], 1, started[0] == 1,
        f"when the {name} caller leaves, the others begin again: the computation is to go on",
    )  # fmt: skip
    grading.observe(
        "computations when two come after it has left", started[1], 1, started[1] == 1,
        "who leaves takes the key away, and the next one computes again beside what is under way: "
        "the computation takes it away when it has ended (`add_done_callback`), not a caller",
    )  # fmt: skip
    grading.observe(
        "of these two, with the value", _count(new, "value"), 2, _count(new, "value") == 2,  # noqa: PLR2004
        "who comes after somebody has left waits for what is under way, like the others",
    )  # fmt: skip


def _why_lost(others: list[str]) -> str:
    if _count(others, "waits for ever"):
        return "the others wait for ever for a leader who has gone: nobody tells them the end"
    return (
        "one caller was cancelled, and the others with it: the computation needs a task of its own, "
        "and each caller waits for it behind `asyncio.shield`"
    )


async def _empties(make: Callable[[], Any]) -> tuple[int, int]:
    """How many of the empty values reach all three callers, and computations."""
    flight, right, computed = make(), 0, 0
    for number, value in enumerate(EMPTY):
        work = _Work(value)
        callers = [work.ask(flight, f"key {number}") for _ in range(3)]
        await _outcomes(callers)
        done = [caller for caller in callers if not caller.cancelled() and not caller.exception()]
        got = [caller.result() for caller in done]
        right += len(got) == len(callers) and all(
            each == value and type(each) is type(value) for each in got
        )
        computed += work.started
    return right, computed


async def _beside(make: Callable[[], Any]) -> tuple[int, int]:
    """Computations of two keys at once; of one key in two instances at once."""
    flight, both = make(), _Work()
    await _outcomes([both.ask(flight, key) for key in ("one", "two")])
    own = _Work()
    await _outcomes([own.ask(each) for each in (make(), make())])
    return both.started, own.started


def _grade_beside(grading: Grading, keys: int, instances: int) -> None:
    grading.observe(
        "computations of two keys", keys, 2, keys == 2,  # noqa: PLR2004
        "two keys share one computation: keep what is under way by key",
    )  # fmt: skip
    grading.observe(
        "computations of one key in two instances", instances, 2, instances == 2,  # noqa: PLR2004
        "two instances share what is under way, and the second gets the first one's values: make "
        "the dict in `__init__`, not in the class",
    )  # fmt: skip


async def _afterwards(make: Callable[[], Any]) -> tuple[int, str, int]:
    """Computations of three calls in a row; what follows a failure; computations of a crowd twice."""
    flight, work = make(), _Work()
    for _ in range(3):
        await _outcomes([work.ask(flight)])
    await _outcomes([_Work(fails=True).ask(flight, "bad")])
    [after] = await _outcomes([_Work().ask(flight, "bad")])
    twice = _Work()

    async def caller() -> Any:
        await flight.run("twice", twice)
        return await flight.run("twice", twice)

    await _outcomes([asyncio.create_task(caller()) for _ in range(CALLERS)])
    return work.started, after, twice.started


def _grade_afterwards(grading: Grading, alone: int, after: str, twice: int) -> None:
    grading.observe(
        "after an error", after, "value", after == "value",
        "an error is kept: take what has ended away, however it ended",
    )  # fmt: skip
    grading.observe(
        "computations of 3 calls, one after another", alone, 3, alone == 3,  # noqa: PLR2004
        "what has ended is still handed out: that is a cache without an end. Take it away when it "
        "is done",
    )  # fmt: skip
    grading.observe(
        f"computations, {CALLERS} callers who ask twice", twice, "at most 2", twice <= 2,  # noqa: PLR2004
        "callers who get their value late take away the computation that has begun since: each "
        "takes away its own only",
    )  # fmt: skip
