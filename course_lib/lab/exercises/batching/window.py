"""Exercise 3.1: a window that slides."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import VirtualService, run_virtually

__all__ = ["grade_window"]

Search = Callable[[str], Awaitable[str]]
Window = Callable[[Search, Iterable[str], int], Awaitable[Any]]

LIMIT = 4
LATENCIES = [0.1, 0.9, 0.1, 0.1, 0.2, 0.1, 0.6, 0.1, 0.1, 0.2, 0.1, 0.1]
FAILING = 5
TOLERANCE = 1e-6


async def grade_window(window: Window) -> Grading:
    """Twelve calls, two of them slow; then a source that has no end; then a call that fails."""
    grading = Grading()
    _grade_makespan(grading, window)
    _grade_reading(grading, window)
    _grade_failure(grading, window)
    return grading


def list_schedule(seconds: Iterable[float], limit: int) -> float:
    """Return the makespan when each next item takes the place that is free first, in seconds."""
    places = [0.0] * limit
    for each in seconds:
        heapq.heapreplace(places, places[0] + each)
    return max(places)


def _grade_makespan(grading: Grading, window: Window) -> None:
    provider, starts = VirtualService(LATENCIES), list[str]()

    async def search(query: str) -> str:
        starts.append(query)
        return await provider.search(query)  # type: ignore[no-any-return]

    run = run_virtually(lambda: window(search, iter(provider.queries), LIMIT))
    right, bound = run.value == provider.answers, list_schedule(LATENCIES, LIMIT)
    grading.observe(
        "answers", "all, in order" if right else "not those", "all, in order", right,
        _wrong_answers(run.value, provider.answers),
    )  # fmt: skip
    peak = provider.peak_in_flight
    grading.observe(
        "peak in flight", peak, LIMIT, peak == LIMIT,
        f"more than {LIMIT} at once: `limit` is how many may be in flight" if peak > LIMIT
        else f"only {peak} at once: there are {LIMIT} places to be filled",
    )  # fmt: skip
    grading.observe(
        "order of starts", "as given" if starts == provider.queries else "another", "as given",
        starts == provider.queries, "start the queries in the order in which they come",
    )  # fmt: skip
    late = run.seconds > bound + TOLERANCE
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"{bound:g} s", not late,
        "places stand empty while a slow call runs: let the next one start as soon as *any* ends, "
        "not when all of a chunk have ended",
    )  # fmt: skip


def _grade_reading(grading: Grading, window: Window) -> None:
    """How much of an endless source is read while nothing is answered."""
    provider, read = VirtualService([1.0] * LIMIT, hanging=range(LIMIT)), 0
    most = LIMIT + 1  # one may be at hand

    def endless() -> Iterator[str]:
        nonlocal read
        for read in range(1, 50 * LIMIT):
            yield provider.queries[min(read, LIMIT) - 1]

    async def program() -> None:
        task = asyncio.ensure_future(window(provider.search, endless(), LIMIT))
        await asyncio.wait([task], timeout=1)
        task.cancel()
        await asyncio.wait([task])

    run_virtually(program)
    grading.observe(
        "read ahead of the answers", read if read < 10 * LIMIT else "all of them", f"at most {most}",
        read <= most, "it reads the whole source first, which may have no end, and makes a task for "
        "each: take the next query only when there is a place for it",
    )  # fmt: skip


def _grade_failure(grading: Grading, window: Window) -> None:
    provider = VirtualService([0.1] * 20, failing={FAILING})

    async def program() -> Any:
        try:
            return await window(provider.search, iter(provider.queries), LIMIT)
        except (Unavailable, BaseExceptionGroup) as error:
            return error

    run = run_virtually(program)
    told = isinstance(run.value, Unavailable | BaseExceptionGroup)
    grading.observe(
        "a call fails", "raised" if told else "not told", "raised", told,
        "the caller never learns that a call has failed: let the error through",
    )  # fmt: skip
    grading.observe(
        "left running after it", run.left_running, 0, run.left_running == 0,
        "others go on for nobody after an error: `async with asyncio.TaskGroup()` cancels them",
    )  # fmt: skip


def _wrong_answers(value: Any, answers: list[str]) -> str:
    if value is None:
        return "it returns None: is a `return` missing?"
    if isinstance(value, list) and sorted(map(str, value)) == sorted(answers):
        return "the answers are in the order in which they came: keep the number of each query"
    return "return a list with the answer of `search` to each query, in their order"
