"""Exercise 6.3: what is wrong here? A stage that remembers by how a question is spelt."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.rag.stand_in import EMPTY, Returning, Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_remembered", "remembered_by_spelling"]

Remembered = Callable[[Step, float], Step]

CALLERS, TTL = 50, 60.0
OTHERS = 5
DIFFERENT: tuple[Any, ...] = (
    *("a b", "ab", "A b", " a b", "缓存", "時鐘", "é", "e", "", "1", "[]", "{}", "null"),
    *("long " * 300 + end for end in "ab"),
    *([], [1], ["1"], [[1]], ["a", "b"], ["b", "a"], ["a", "a"]),
    *({"question": 1}, {"question": "1"}, {"question": None}, {"question": []}),
    *({"question": 1, "lang": None}, {"question": 1, "lang": 1}),
)
LISTED = {"question": "two clocks", "ids": ["b", "a"]}


class _Searches(StepCalls):
    """A search that finds nothing, or a list of its own each time."""

    def answer(self, item: str) -> Any:
        return [] if item == "xyzzy" else [f"{self.name}({item})"]


def remembered_by_spelling(call: Step, ttl: float) -> Step:
    """Return what the notebook's faulty program returns."""
    del ttl
    kept: dict[str, asyncio.Future[Any]] = {}

    async def ask(item: Any) -> Any:
        key = " ".join(str(item).lower().split())
        if key not in kept:
            kept[key] = asyncio.ensure_future(call(item))
        return await kept[key]

    return ask


async def grade_remembered(remembered: Remembered, breaks: Any = ...) -> Grading:
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
    _grade_different(grading, remembered)
    _grade_time(grading, *run_virtually(lambda: _time(remembered)).value)
    _grade_empties(grading, remembered)
    after = run_virtually(lambda: _after_an_error(remembered)).value
    grading.observe(
        "after an error", after, "called again", after == "called again",
        "an error is kept like an answer: it belongs to those who waited, and to nobody after them",
    )  # fmt: skip
    _grade_leaving(grading, *run_virtually(lambda: _leaving(remembered)).value)
    _grade_input(grading, breaks)
    return grading


def _grade_input(grading: Grading, breaks: Any) -> None:
    from course_lib.caching import stable_key  # noqa: PLC0415 - with LangChain, a second of import

    pair = list(breaks) if isinstance(breaks, list | tuple) else []
    different = len(pair) == 2 and stable_key(pair[0]) != stable_key(pair[1])  # noqa: PLR2004
    mixed = different and run_virtually(partial(_mixed_up, pair)).value
    grading.observe(
        "your questions, by spelling: the second gets", "the first's answer" if mixed else
        "its own answer" if different else "not two different questions", "the first's answer", mixed,
        _harmless(breaks, different=different),
    )  # fmt: skip


async def _mixed_up(pair: Sequence[Any]) -> bool:
    from course_lib.caching import stable_key  # noqa: PLC0415 - as above

    async def echo(item: Any) -> Any:
        return stable_key(item)

    ask = remembered_by_spelling(echo, TTL)
    first, second = [await ask(item) for item in pair]
    return bool(first == second)


def _harmless(breaks: Any, *, different: bool) -> str:
    if breaks is ...:
        return "hand over the questions, too: `breaks`, a list of two"
    if not different:
        return "`breaks` is a list of two inputs that differ: texts, dicts or lists"
    return (
        "these two have keys of their own. What does the program make of capital letters, and of "
        "spaces?"
    )


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


def _grade_different(grading: Grading, remembered: Remembered) -> None:
    async def ask() -> int:
        step = _Searches("search", 0.0)
        call = remembered(step.__call__, TTL)
        for item in DIFFERENT:
            await call(item)
        return step.made.total()

    made = run_virtually(ask).value
    grading.observe(
        f"calls, {len(DIFFERENT)} different inputs", made, len(DIFFERENT), made == len(DIFFERENT),
        "two different inputs share a key (they differ in whitespace, alphabet, type, or far "
        "behind): the key holds all of the input, as it is",
    )  # fmt: skip


def _grade_empties(grading: Grading, remembered: Remembered) -> None:
    once = same = 0
    for value in EMPTY:
        step = Returning(value)
        got = run_virtually(partial(_three, remembered, step)).value
        once += step.made.total() == 1
        same += all(each == value and type(each) is type(value) for each in got)
    grading.observe(
        "empty results, kept after one call", once, len(EMPTY), once == len(EMPTY),
        'an empty result is a result (`""`, `[]`, `0`, `None`): ask whether it is there, not whether '
        "it is true",
    )  # fmt: skip
    grading.observe(
        "of these, returned as they are", same, len(EMPTY), same == len(EMPTY),
        "every caller gets what the call returned, as it is, also when it is empty",
    )  # fmt: skip


async def _three(remembered: Remembered, step: StepCalls) -> list[Any]:
    call = remembered(step.__call__, TTL)
    return [await call("item") for _ in range(3)]


async def _time(remembered: Remembered) -> tuple[int, int, int, int]:
    """Calls of ten empty searches; ten in steady use within a lifetime; after it; once more."""
    step = _Searches("search", 0.0)
    call = remembered(step.__call__, TTL)
    for _ in range(10):
        await call("xyzzy")
        await call("steady")
        await asyncio.sleep(TTL / 12)
    empty, steady = step.made["xyzzy"], step.made["steady"]
    await asyncio.sleep(TTL / 2)
    await call("steady")
    after = step.made["steady"]
    await asyncio.sleep(TTL / 2)
    await call("steady")
    return empty, steady, after, step.made["steady"] - after


def _grade_time(grading: Grading, empty: int, steady: int, after: int, again: int) -> None:
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
    grading.observe(
        "calls for what was just renewed", again, 0, again == 0,
        "what was renewed is kept for `ttl` seconds, too",
    )  # fmt: skip


async def _after_an_error(remembered: Remembered) -> str:
    step = _Searches("search", failing={"bad": 1})
    call = remembered(step.__call__, TTL)
    with suppress(Unavailable):
        await call("bad")
    try:
        await call("bad")
    except Unavailable:
        return "the error again"
    return "called again"


async def _leaving(remembered: Remembered) -> tuple[int, int]:
    """Of six callers, the first of whom leaves: how many others are answered, and the calls."""
    step = _Searches("search")
    call = remembered(step.__call__, TTL)
    callers = [asyncio.ensure_future(call("shared")) for _ in range(4)]
    await asyncio.sleep(0.05)
    callers[0].cancel()
    await asyncio.sleep(0.01)
    others = [*callers[1:], *(asyncio.ensure_future(call("shared")) for _ in range(OTHERS - 3))]
    await asyncio.wait(others, timeout=TTL)
    good = [
        each for each in others if each.done() and not each.cancelled() and not each.exception()
    ]
    for each in others:
        each.cancel()
    return len(good), step.made.total()


def _grade_leaving(grading: Grading, answered: int, calls: int) -> None:
    grading.observe(
        "others answered, when the first caller leaves", answered, OTHERS, answered == OTHERS,
        "the first caller was cancelled, and took the others' answer along: run the call in a task "
        "of its own",
    )  # fmt: skip
    grading.observe(
        "calls for all of them", calls, 1, calls == 1,
        "when the first caller leaves, the others (or those who come then) call again, each by "
        "himself: the one call goes on, in a task of its own, and is still the one to wait for",
    )  # fmt: skip
