"""Exercise 2.3: a limit that finds its level."""

from collections.abc import Callable
from typing import Any

from course_lib.lab.exercises.card import Grading

__all__ = ["grade_next_limit"]

NextLimit = Callable[[int, int, int], Any]

QUIET, ROUNDS = 10, 40
LIMITS = (*range(1, 70), 99, 100, 101, 1_000, 4_097, 10**6)
"""The limits of the rounds that are looked at one by one: small, odd and large."""


class _NotWholeError(Exception):
    """A limit that is no whole number."""


async def grade_next_limit(next_limit: NextLimit) -> Grading:
    """Ninety rounds against a capacity that changes; then each kind of round by itself."""
    grading = Grading()
    try:
        _grade_rounds(grading, *_rounds(next_limit))
        _grade_each(grading, next_limit)
    except _NotWholeError as error:
        grading.observe(
            "a limit", error, "a whole number", False,
            f"a limit is a whole number of slots, not {error}: halve with `//`",
        )  # fmt: skip
    return grading


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _NotWholeError(repr(value))
    return value


def _rounds(next_limit: NextLimit) -> tuple[list[int], int]:
    """Forty rounds against a capacity of 8, forty against 24, then ten quiet ones."""
    limits, rejected = [4], 0
    for number in range(2 * ROUNDS + QUIET):
        capacity = 8 if number < ROUNDS else 24
        offered = 1 if number >= 2 * ROUNDS else limits[-1]
        refused = max(0, offered - capacity)
        limit = _whole(next_limit(limits[-1], refused, offered))
        rejected += refused
        limits.append(max(-(10**6), min(limit, 10**6)))
    return limits, rejected


def _grade_rounds(grading: Grading, limits: list[int], rejected: int) -> None:
    least = min(limits)
    grading.observe(
        "smallest limit", least, "at least 1", least >= 1,
        "a limit below 1 lets nobody in: stop at 1",
    )  # fmt: skip
    settled, late = limits[10:ROUNDS], limits[ROUNDS + 25 : 2 * ROUNDS]
    grading.observe(
        "429s", rejected, "at most 20", rejected <= 20,  # noqa: PLR2004
        "too many are refused: add one slot a round, and halve the limit when anything was refused",
    )  # fmt: skip
    mean = sum(settled) / len(settled)
    grading.observe(
        "mean limit, capacity 8", f"{mean:.4g}", "6 to 8", 6 <= mean <= 8,  # noqa: PLR2004
        "the limit falls too far: halve it, do not begin again at 1" if rejected else
        "the limit never finds the capacity: grow by one slot in every round without a refusal",
    )  # fmt: skip
    mean = sum(late) / len(late)
    grading.observe(
        "mean limit, capacity 24", f"{mean:.4g}", "14 to 24", 14 <= mean <= 24,  # noqa: PLR2004
        "the new capacity is not found in time: grow by one slot in every round without a refusal",
    )  # fmt: skip


def _grade_each(grading: Grading, next_limit: NextLimit) -> None:
    """Every kind of round, for each of the limits."""

    def faults(rejected: Callable[[int], set[int]], used: Callable[[int], set[int]],
               wanted: Callable[[int], int]) -> str:  # fmt: skip
        for limit in LIMITS:
            for refused in sorted(rejected(limit)):
                for slots in sorted(used(limit)):
                    got = _whole(next_limit(limit, refused, slots))
                    if got != wanted(limit):
                        return f"({limit}, {refused}, {slots}) gives {got}, not {wanted(limit)}"
        return ""

    def some(limit: int) -> set[int]:
        return {1, 2, limit // 2 + 1, limit} & set(range(1, limit + 1))

    def unused(limit: int) -> set[int]:
        return {0, 1, limit // 2, limit - 1} & set(range(limit))

    def full(limit: int) -> set[int]:
        return {limit}

    def none(_: int) -> set[int]:
        return {0}

    _observe(
        grading, "refused, all in use", "half", faults(some, full, _half),
        "halve the limit when anything was refused, however many that were: `limit // 2`, and "
        "stop at 1",
    )  # fmt: skip
    _observe(
        grading, "refused, some not in use", "half", faults(some, unused, _half),
        "a refusal counts, whether or not all slots were in use: halve the limit",
    )  # fmt: skip
    _observe(
        grading, "none refused, all in use", "one more", faults(none, full, lambda limit: limit + 1),
        "grow by one slot in every round without a refusal, whatever the limit is: it has no cap, "
        "and no steps but one",
    )  # fmt: skip
    _observe(
        grading, "none refused, some not in use", "stays", faults(none, unused, lambda limit: limit),
        "a limit that nobody reaches has not been tested: grow only if `used` equals the limit, "
        "else let it stay as it is",
    )  # fmt: skip


def _half(limit: int) -> int:
    return max(1, limit // 2)


def _observe(grading: Grading, what: str, wanted: str, fault: str, mistake: str) -> None:
    told = f"{mistake}. `next_limit{fault.replace(' gives', '` gives', 1)}" if fault else ""
    grading.observe(what, fault or wanted, wanted, not fault, told)
