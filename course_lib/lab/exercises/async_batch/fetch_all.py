"""Exercise 1.1: all at once, in order."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import VirtualService, run_virtually

__all__ = ["grade_fetch_all"]

Search = Callable[[str], Awaitable[str]]

LATENCIES = [0.1, 0.4, 0.2, 0.1, 0.3, 0.1, 0.2, 0.1] * 150
"""More calls than anybody's guess at a limit lets through at once."""
FALSE = {3: None, 4: 0, 5: ""}
"""Answers by their position: what is false is an answer as well."""


async def grade_fetch_all(fetch_all: Callable[[Search, Sequence[str]], Awaitable[Any]]) -> Grading:
    """1,200 calls of different length: all at once, answers in the order of the questions."""
    provider = VirtualService(LATENCIES, answers=FALSE)
    run = run_virtually(lambda: fetch_all(provider.search, provider.queries))
    grading, count, longest = Grading(), len(LATENCIES), max(LATENCIES)
    right = run.value == provider.answers
    grading.observe(
        "answers", _kind(run.value, provider), "all, in the order of the questions",
        right, _wrong_answers(run.value, provider),
    )  # fmt: skip
    grading.observe(
        "calls made", len(provider.calls), count, len(provider.calls) == count,
        "ask each question exactly once",
    )  # fmt: skip
    grading.observe(
        "peak in flight", provider.peak_in_flight, count, provider.peak_in_flight == count,
        _too_few(provider.peak_in_flight),
    )  # fmt: skip
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"{longest:g} s, the longest call",
        run.seconds == longest, "the batch should take as long as its longest call, no longer",
    )  # fmt: skip
    value = run_virtually(lambda: fetch_all(provider.search, [])).value
    grading.observe(
        "no queries", repr(value)[:40], "[]", value == [], "without a query there are no answers: `[]`"
    )  # fmt: skip
    return grading


def _too_few(peak: int) -> str:
    if peak > 1:
        return f"only {peak:,} calls run at once, of {len(LATENCIES):,}: start all of them before you wait for the first"
    return (
        "the calls wait for one another: `await` in a loop starts a call only when the one before "
        "has ended. Start them all, then wait for them together"
    )


def _kind(value: Any, provider: VirtualService) -> str:
    if value == provider.answers:
        return "all, in the order of the questions"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong_answers(value: Any, provider: VirtualService) -> str:
    if value is None:
        return "it returns None: is a `return` missing?"
    if not isinstance(value, list):
        return f"it returns a {type(value).__name__}: return a list of the answers"
    if any(inspect.isawaitable(item) for item in value):
        _close(value)
        return "it returns coroutines or tasks, not their answers: something is not awaited"
    if sorted(map(str, value)) == sorted(map(str, provider.answers)):
        return "the answers are in the order in which they came: keep the order of the questions"
    return "these are not the answers of `search`: return what it returns, one for each question"


def _close(items: list[Any]) -> None:
    for item in items:
        if inspect.iscoroutine(item):
            item.close()
