"""Exercise 3.3: a bad item fails alone."""

import math
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from course_lib.errors import RateLimited
from course_lib.lab.exercises.card import Grading
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


async def grade_isolate(isolate: Isolate) -> Grading:
    """Sixteen items: all good; one bad; two bad, far apart; and a service that refuses all."""
    grading = Grading()
    _grade_good(grading, isolate)
    _grade_bad(grading, isolate, bad={11}, most=MOST)
    _grade_bad(grading, isolate, bad={2, 13}, most=2 * MOST - 3)  # the first halving is shared
    _grade_busy(grading, isolate)
    return grading


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
