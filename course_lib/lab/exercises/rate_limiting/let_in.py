"""Exercise 2.4: what is wrong here? A limit that holds in each second by the clock, and no other."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from course_lib.lab.exercises.card import Grading

__all__ = ["grade_let_in", "let_in"]

LetIn = Callable[[Sequence[float], int], Any]

LIMIT = 5
"""The limit that the learner's times are tried with."""
LATEST = 1e9
"""Seconds; what is later is no time."""
CROWDS = ((1, 5), (2, 3), (3, 1), (4, 12))
"""Seeds of crowds, and the limit of each."""


def let_in(times: Sequence[float], limit: int) -> list[float]:
    """Return what the notebook's faulty program returns."""
    counts, inside = Counter[int](), list[float]()
    for time in times:
        second = int(time)
        if counts[second] < limit:
            counts[second] += 1
            inside.append(time)
    return inside


async def grade_let_in(mended: LetIn, breaks: Any) -> Grading:
    """The learner's times through the faulty program; then crowds through the mended one."""
    grading, crowds = Grading(), [(_crowd(seed), limit) for seed, limit in CROWDS]
    results = [(crowd, limit, _listed(mended(list(crowd), limit))) for crowd, limit in crowds]
    empty = mended([], LIMIT)
    _grade_times(grading, breaks)
    worst = max((most_within_a_second(got) - limit for _, limit, got in results), default=0)
    grading.observe(
        "beyond the limit in the worst second", max(worst, 0), 0, worst <= 0,
        "in some second more than `limit` are let in: count the last second before each request, "
        "not the second on the clock. A request from exactly one second ago counts no more",
    )  # fmt: skip
    wrong = [case for case in results if case[2] != wanted(*case[:2])]
    grading.observe(
        "crowds of requests", f"{len(results) - len(wrong)} of {len(results)} right", "all",
        not wrong, _wrong(*wrong[0]) if wrong else "",
    )  # fmt: skip
    grading.observe(
        "no requests", repr(empty)[:40], "[]", _listed(empty) == [] and empty is not None,
        "without requests nobody is let in: `[]`",
    )  # fmt: skip
    return grading


def _grade_times(grading: Grading, breaks: Any) -> None:
    numbers = isinstance(breaks, list) and all(map(_is_time, breaks))
    rising = numbers and all(before <= after for before, after in pairwise(breaks))
    most = most_within_a_second(let_in(breaks, LIMIT)) if rising else 0
    grading.observe(
        "your times, in the program above", f"{most} within a second", f"more than {LIMIT}",
        most > LIMIT, _harmless(rising=rising),
    )  # fmt: skip


def _harmless(*, rising: bool) -> str:
    if not rising:
        return "hand over a list of times, in seconds and rising, that shows the fault"
    return (
        f"with these times the program above lets in no more than {LIMIT} within any second: where "
        "does its count begin anew?"
    )


def most_within_a_second(times: Sequence[float]) -> int:
    """Return how many of the times lie within the fullest second, its end left out."""
    return max((sum(start <= time < start + 1 for time in times) for start in times), default=0)


def wanted(times: Sequence[float], limit: int) -> list[float]:
    """Return the times that are let in: fewer than `limit` were in the second before."""
    inside = list[float]()
    for time in times:
        if sum(each > time - 1 for each in inside) < limit:
            inside.append(time)
    return inside


def _crowd(seed: int) -> list[float]:
    """Two hundred times in eighths of a second: crowds, pauses, and some at one instant."""
    chance, now, times = random.Random(seed), 0.0, list[float]()  # noqa: S311 - no secret
    for _ in range(200):
        now += chance.choice((0, 0, 0, 1, 1, 2, 8, 12)) / 8
        times.append(now)
    return times


def _listed(value: Any) -> list[Any]:
    """Return what was given back if it is a list of times, else none."""
    return value if isinstance(value, list) and all(map(_is_time, value)) else []


def _is_time(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) < LATEST


def _wrong(times: Sequence[float], limit: int, got: list[Any]) -> str:
    if not got:
        return "return a list of the times that are let in: is a `return` missing?"
    if not set(got) <= set(times) or got != sorted(got):
        return "the times that are let in are some of those given, in their order"
    if len(got) < len(wanted(times, limit)):
        return (
            "some are refused for no reason: only requests that were let in count, and only those "
            "of the last second; the next is let in as soon as there are fewer than `limit`"
        )
    return "others are let in than those who came first"
