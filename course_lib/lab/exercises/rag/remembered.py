"""Exercise 6.3: a stage that remembers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.rag.stand_in import Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_remembered"]

Remembered = Callable[[Step, float], Step]

CALLERS, TTL = 50, 60.0
LISTED = {"question": "two clocks", "ids": ["b", "a"]}


class _Searches(StepCalls):
    """A search that finds nothing, or a list of its own each time."""

    def answer(self, item: str) -> Any:
        return [] if item == "xyzzy" else [f"{self.name}({item})"]


async def grade_remembered(remembered: Remembered) -> Grading:
    """Equal questions at once and one after another; none found; errors; who leaves; time passes."""
    grading = Grading()
    made, right = run_virtually(lambda: _at_once(remembered)).value
    grading.observe(
        f"calls, {CALLERS} equal questions at once", made, 1, made == 1,
        "each caller calls: share what is under way, by key (`AsyncCache` does)",
    )  # fmt: skip
    grading.observe(
        "callers with the answer", right, CALLERS, right == CALLERS,
        "every caller gets what the call returned",
    )  # fmt: skip
    _grade_keys(grading, *run_virtually(lambda: _keys(remembered)).value)
    _grade_time(grading, *run_virtually(lambda: _time(remembered)).value)
    after, left = run_virtually(lambda: _trouble(remembered)).value
    grading.observe(
        "after an error", after, "called again", after == "called again",
        "an error is kept like an answer: it belongs to those who waited, and to nobody after them",
    )  # fmt: skip
    grading.observe(
        "another caller, when the first one leaves", left, "answered", left == "answered",
        "the first caller was cancelled, and took the others' answer along: run the call in a task "
        "of its own",
    )  # fmt: skip
    return grading


async def _at_once(remembered: Remembered) -> tuple[int, int]:
    step = _Searches("search")
    call = remembered(step.__call__, TTL)
    answers = await asyncio.gather(*(call("two clocks") for _ in range(CALLERS)))
    return step.made.total(), sum(each == step.answer("two clocks") for each in answers)


async def _keys(remembered: Remembered) -> tuple[int, int, int]:
    """Calls for one dict written in two ways; for two lists; of a second step, same questions."""
    one, other = _Searches("search"), _Searches("rerank")
    first, second = remembered(one.__call__, TTL), remembered(other.__call__, TTL)
    await first(LISTED)
    await first(dict(reversed(LISTED.items())))
    same = one.made.total()
    await first({**LISTED, "ids": ["a", "b"]})
    await second(LISTED)
    return same, one.made.total() - same, other.made.total()


def _grade_keys(grading: Grading, same: int, another: int, second: int) -> None:
    grading.observe(
        "calls, a dict in two orders", same, 1, same == 1,
        "equal inputs got two keys: write the input down as text, sorted (`stable_key` does)",
    )  # fmt: skip
    grading.observe(
        "calls, its list in another order", another, 1, another == 1,
        "two different inputs share a key, and so an answer: the key holds all of the input",
    )  # fmt: skip
    grading.observe(
        "calls of another step, same input", second, 1, second == 1,
        "two steps share a cache, and the second gets the first one's answers: a cache for each",
    )  # fmt: skip


async def _time(remembered: Remembered) -> tuple[int, int, int]:
    """Calls of ten empty searches; of ten in steady use within a lifetime; after another one."""
    step = _Searches("search", 0.0)
    call = remembered(step.__call__, TTL)
    for _ in range(10):
        await call("xyzzy")
        await call("steady")
        await asyncio.sleep(TTL / 12)
    empty, steady = step.made["xyzzy"], step.made["steady"]
    await asyncio.sleep(TTL / 2)
    await call("steady")
    return empty, steady, step.made["steady"]


def _grade_time(grading: Grading, empty: int, steady: int, after: int) -> None:
    grading.observe(
        f"calls of 10 within {TTL:g} s", steady, 1, steady == 1,
        "what was fetched is fetched again: keep it for `ttl` seconds",
    )  # fmt: skip
    grading.observe(
        "calls, a question without passages, 10 times", empty, 1, empty == 1,
        "an empty result is a result: ask whether it is there, not whether it is true",
    )  # fmt: skip
    grading.observe(
        "calls when its time has passed", after, 2, after == 2,  # noqa: PLR2004 - the first, and one more
        "an answer is kept for ever, or a hit prolongs its life: `ttl` seconds from when it was made",
    )  # fmt: skip


async def _trouble(remembered: Remembered) -> tuple[str, str]:
    step = _Searches("search", failing={"bad": 1})
    call = remembered(step.__call__, TTL)
    with suppress(Unavailable):
        await call("bad")
    try:
        await call("bad")
        after = "called again"
    except Unavailable:
        after = "the error again"
    callers = [asyncio.ensure_future(call("shared")) for _ in range(2)]
    await asyncio.sleep(0.05)
    callers[0].cancel()
    await asyncio.wait(callers, timeout=TTL)
    good = callers[1].done() and not callers[1].cancelled() and not callers[1].exception()
    callers[1].cancel()
    return after, "answered" if good else "not answered"
