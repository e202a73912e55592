"""Exercise 3.3: a bad item fails alone."""

import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from course_lib.errors import RateLimited
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_isolate"]

Isolate = Callable[[Callable[[list[int]], Awaitable[list[int]]], list[int]], Awaitable[Any]]

ITEMS = 16
MOST = 2 * int(math.log2(ITEMS)) + 1
"""Calls that one bad item among sixteen may cost: the first, and two for each halving."""


class _Service:
    """Squares numbers in batches.

    Args:
        bad: Items that make a batch fail.
        busy: Whether every call is refused.

    Attributes:
        calls: Calls made.
    """

    def __init__(self, bad: Collection[int] = (), *, busy: bool = False) -> None:
        self.bad, self.busy, self.calls = bad, busy, 0

    async def process(self, items: list[int]) -> list[int]:
        self.calls += 1
        if self.calls > 10 * ITEMS:
            raise RuntimeError("it calls again and again: a batch of one that fails has failed")
        if self.busy:
            raise RateLimited("too many requests", retry_after=1.0)
        if any(item in self.bad for item in items):
            raise ValueError("a bad item in the batch")
        return [item * item for item in items]

    async def outcome(self, isolate: Isolate) -> Any:
        try:
            return await isolate(self.process, list(range(ITEMS)))
        except (ValueError, RateLimited) as error:
            return error


@dataclass(slots=True)
class _Odd:
    """Answers with what each item carries; a list of items of any number and kind.

    Attributes:
        items: Pairs of a name and what is answered: an error makes its batch fail.
        busy_after: Calls after which every further one is refused.
        calls: Calls made.
    """

    items: list[Any]
    busy_after: int = 10**6
    calls: int = 0

    async def process(self, items: list[Any]) -> list[Any]:
        self.calls += 1
        if self.calls > max(self.busy_after, 0):
            raise RateLimited("too many requests", retry_after=1.0)
        for item in items:
            if isinstance(item["gives"], Exception):
                raise item["gives"]
        return [item["gives"] for item in items]

    async def outcome(self, isolate: Isolate) -> Any:
        try:
            return await isolate(self.process, self.items)
        except ValueError as error:
            return error


async def grade_isolate(isolate: Isolate) -> Grading:
    """Sixteen items: all good; one bad; two bad, far apart; and a service that refuses all."""
    grading = Grading()
    _grade_good(grading, isolate)
    _grade_bad(grading, isolate, bad={11}, most=MOST)
    _grade_bad(grading, isolate, bad={2, 13}, most=2 * MOST - 3)  # the first halving is shared
    _grade_busy(grading, isolate)
    _grade_odd(grading, isolate)
    return grading


def _grade_odd(grading: Grading, isolate: Isolate) -> None:
    """Odd sizes, items that are dictionaries, results that are false; then other errors."""
    for gives in (
        [1, None, 0, "", ValueError("the last")],
        [ValueError("the first"), 0, None],
        [None, 1, 2, ValueError("in the middle"), 4, 4, 6],
        [ValueError("the only one")],
        [0],
    ):
        service = _Odd([{"gives": each} for each in gives])
        value = run_virtually(lambda: service.outcome(isolate)).value  # noqa: B023
        good = isinstance(value, list) and value == gives  # an error equals itself only
        grading.observe(
            f"of {len(gives)}, odd and false results", "all, in order" if good else _sketch(value),
            "all, in order", good,
            "results are lost or out of their places: there is one for each item, also when the "
            "number of items is odd, and whatever the result is: `None` and `0` as well",
        )  # fmt: skip
    _grade_other(grading, isolate, "refused in a half", RateLimited, busy_after=1)
    _grade_other(grading, isolate, "refused later", RateLimited, busy_after=3)
    _grade_other(grading, isolate, "a TypeError", TypeError, bad=TypeError("of nobody"))


def _grade_other(
    grading: Grading,
    isolate: Isolate,
    what: str,
    kind: type[Exception],
    *,
    bad: Exception | None = None,
    busy_after: int = 10**6,
) -> None:
    gives = [0, 1, 2, bad or ValueError("bad"), 4, 5]
    service = _Odd([{"gives": each} for each in gives], busy_after)

    async def program() -> Any:
        try:
            return await isolate(service.process, service.items)
        except (RateLimited, TypeError, ValueError, BaseExceptionGroup) as error:
            if service.calls == 0:
                raise
            return cause_of(error)

    value = run_virtually(program).value
    told = isinstance(value, kind)
    grading.observe(
        what, f"{kind.__name__} raised" if told else _sketch(value), f"{kind.__name__} raised", told,
        "only a `ValueError` has a place in the list: let every other error through, `RateLimited` "
        "as well, also when a half meets it",
    )  # fmt: skip


def _sketch(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__


def _grade_good(grading: Grading, isolate: Isolate) -> None:
    service = _Service()
    value = run_virtually(lambda: service.outcome(isolate)).value
    right = value == [item * item for item in range(ITEMS)]
    grading.observe(
        "all good: results", "all, in order" if right else "not those", "all, in order", right,
        "it returns None: is a `return` missing?" if value is None
        else "return what `process_batch` returns, in the order of the items",
    )  # fmt: skip
    grading.observe(
        "all good: calls", service.calls, 1, service.calls == 1,
        "a batch without a bad item takes one call: call it whole first",
    )  # fmt: skip


def _grade_bad(grading: Grading, isolate: Isolate, bad: set[int], most: int) -> None:
    service, name = _Service(bad), f"{len(bad)} bad"
    value = run_virtually(lambda: service.outcome(isolate)).value
    found = value if isinstance(value, list) else [value]
    good = sum(each == at * at for at, each in enumerate(found) if at not in bad)
    failed = {at for at, each in enumerate(found) if isinstance(each, ValueError)}
    grading.observe(
        f"{name}: good results", good, ITEMS - len(bad), good == ITEMS - len(bad),
        _wrong_results(value, good),
    )  # fmt: skip
    grading.observe(
        f"{name}: errors", len(failed), len(bad), failed == bad,
        "the error stands in the list in the place of the bad item's result: `return [error]`",
    )  # fmt: skip
    grading.observe(
        f"{name}: calls", service.calls, f"at most {most}", service.calls <= most,
        "one by one it takes a call for each item: halve the batch, and go on with the half that "
        "fails",
    )  # fmt: skip


def _wrong_results(value: Any, good: int) -> str:
    if isinstance(value, ValueError):
        return "one bad item fails all: catch the error, and call the two halves"
    if isinstance(value, list) and (good or any(isinstance(each, int) for each in value)):
        return "results are lost or out of their places: the halves' lists, one after the other"
    return "the good items of a batch with a bad one have results as well"


def _grade_busy(grading: Grading, isolate: Isolate) -> None:
    service = _Service(busy=True)
    value = run_virtually(lambda: service.outcome(isolate)).value
    told = isinstance(value, RateLimited)
    grading.observe(
        "refused: what the caller learns", type(value).__name__, "RateLimited", told,
        "a refusal is no bad item: let `RateLimited` through",
    )  # fmt: skip
    grading.observe(
        "refused: calls", service.calls, 1, service.calls == 1,
        "a service that refuses is asked again, twice as often: halve only after `ValueError`",
    )  # fmt: skip
