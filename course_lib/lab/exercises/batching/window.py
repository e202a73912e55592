"""Exercise 3.1: a window that slides."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.virtual import VirtualService, left_running, run_virtually

__all__ = ["grade_window"]

Search = Callable[[str], Awaitable[str]]
Window = Callable[[Search, Iterable[str], int], Awaitable[Any]]

LIMIT = 4
LATENCIES = [0.1, 0.9, 0.1, 0.1, 0.2, 0.1, 0.6, 0.1, 0.1, 0.2, 0.1, 0.1]
FAILING = 5
TOLERANCE = 1e-6


async def grade_window(window: Window) -> Grading:
    """Twelve calls, two of them slow; an endless source; a call that fails; inputs of all kinds."""
    grading = Grading()
    _grade_makespan(grading, window)
    _grade_reading(grading, window)
    _grade_failure(grading, window)
    _grade_inputs(grading, window)
    return grading


def list_schedule(seconds: Iterable[float], limit: int) -> float:
    """Return the makespan when each next item takes the place that is free first, in seconds."""
    places = [0.0] * limit
    for each in seconds:
        heapq.heapreplace(places, places[0] + each)
    return max(places)


def _grade_makespan(grading: Grading, window: Window) -> None:
    provider, starts = VirtualService(LATENCIES), list[str]()

    async def search(query: str) -> Any:
        starts.append(query)
        return await provider.search(query)

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
        "makespan", f"{run.seconds:.4g} s", f"{bound:.4g} s", not late,
        "places stand empty while a slow call runs: let the next one start as soon as *any* ends, "
        "not when all of a chunk have ended",
    )  # fmt: skip


def _grade_inputs(grading: Grading, window: Window) -> None:
    """A query twice, an empty one, answers that are false, other limits, nothing at all."""
    answers: dict[str, Any] = {"": "empty", "a": None, "b": 0, "c": "", "d": [], "e": "answer"}
    queries = ["a", "b", "", "a", "c", "d", "e", "", "e"]
    for limit in (1, 3, 50):
        running = peak = 0

        async def search(query: str) -> Any:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.1)
            running -= 1
            return answers[query]

        value = run_virtually(lambda: window(search, tuple(queries), limit)).value  # noqa: B023
        right = value == [answers[query] for query in queries]
        grading.observe(
            f"nine, some equal or empty, limit {limit}", "all" if right else "not those", "all",
            right, "there is an answer to *each* query, also if a query is empty or comes twice, "
            "and whatever the answer is: `None` and `0` are answers, too",
        )  # fmt: skip
        most = min(limit, len(queries))
        grading.observe(
            f"peak in flight, limit {limit}", peak, most, peak == most,
            "the argument `limit` is to be used, whatever its value",
        )  # fmt: skip
    value = run_virtually(lambda: window(search, [], LIMIT)).value
    grading.observe(
        "no queries", repr(value)[:40], "[]", value == [], "without a query there are no answers: `[]`"
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
        "each: take the next query only when there is a place for it" if read >= 10 * LIMIT else
        f"it takes {read} queries while there are {LIMIT} places, all of them taken: some wait, in a "
        "queue or in a variable. Take the next query only when there is a place for it",
    )  # fmt: skip


def _grade_failure(grading: Grading, window: Window) -> None:
    for what, seconds in (("a call fails", 0.1), ("a call fails at once", 0.0)):
        latencies = [0.1] * FAILING + [seconds] + [100.0] * 30
        provider = VirtualService(latencies, failing={FAILING})
        due = 0.1 + seconds

        async def program() -> tuple[Any, float, int]:
            error = None
            try:
                await window(provider.search, iter(provider.queries), LIMIT)  # noqa: B023
            except (Unavailable, BaseExceptionGroup) as raised:
                error = cause_of(raised)
            return error, asyncio.get_running_loop().time(), await left_running()

        error, told_at, left = run_virtually(program).value
        told = isinstance(error, Unavailable)
        grading.observe(
            what, "raised" if told else "not told", "raised", told,
            "the caller never learns that a call has failed: let the error through",
        )  # fmt: skip
        grading.observe(
            f"left running after it, {seconds:g} s", left, 0, left == 0,
            "others go on for nobody after an error: `async with asyncio.TaskGroup()` cancels them",
        )  # fmt: skip
        grading.observe(
            f"told when, {seconds:g} s", f"at {told_at:.4g} s", f"at {due:g} s",
            told_at <= due + TOLERANCE,
            "the error is held back until others have ended: cancel them, and let it through at "
            "once",
        )  # fmt: skip


def _wrong_answers(value: Any, answers: list[str]) -> str:
    if value is None:
        return "it returns None: is a `return` missing?"
    if isinstance(value, list) and sorted(map(str, value)) == sorted(answers):
        return "the answers are in the order in which they came: keep the number of each query"
    return "return a list with the answer of `search` to each query, in their order"
