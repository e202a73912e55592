"""Exercise 1.3: one bad call among many."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import (
    Run,
    VirtualService,
    left_running,
    run_virtually,
    virtually,
)

__all__ = ["grade_outcomes"]

Search = Callable[[str], Awaitable[str]]

LIMIT, TIMEOUT = 4, 0.5
MIXED = [0.1, 0.3, 0.1, 0.2, 0.4, 0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.2, 0.1, 0.4, 0.1]
FAILING, HANGING = 5, 9


Outcomes = Callable[[Search, Sequence[str], int, float], Awaitable[Any]]


async def grade_outcomes(outcomes: Outcomes) -> Grading:
    """Sixteen calls, one fails, one hangs: every other answer stands, the limit holds."""
    provider, run = _run_outcomes(outcomes, LIMIT, TIMEOUT)
    grading = Grading()
    _grade_items(grading, run.value, provider)
    grading.observe(
        "peak in flight", provider.peak_in_flight, LIMIT, provider.peak_in_flight == LIMIT,
        f"at most `limit` calls at once, and as many as that: a semaphore of {LIMIT}",
    )  # fmt: skip
    hung = _longest(provider)
    grading.observe(
        "longest call", f"{hung:g} s", f"{TIMEOUT:g} s, the timeout", round(hung, 9) == TIMEOUT,
        "each call has `timeout` seconds from the moment it starts",
    )  # fmt: skip
    times = [TIMEOUT if number == HANGING else seconds for number, seconds in enumerate(MIXED)]
    bound = round(sum(times) / LIMIT + max(times), 9)
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"at most {bound:g} s (total / limit + longest)",
        run.seconds <= bound,
        "slots stand empty: a chunk waits for its slowest call. Give a slot to the next call as "
        "soon as one is free",
    )  # fmt: skip
    grading.observe(
        "tasks left running", run.left_running, 0, run.left_running == 0,
        "tasks go on after the function has returned: wait for every one, or cancel it",
    )  # fmt: skip
    _grade_arguments(grading, outcomes)
    return grading


def _run_outcomes(outcomes: Outcomes, limit: int, timeout: float) -> tuple[VirtualService, Run]:
    provider = VirtualService(MIXED, failing={FAILING}, hanging={HANGING})
    return provider, run_virtually(
        lambda: outcomes(provider.search, provider.queries, limit, timeout)
    )


def _grade_arguments(grading: Grading, outcomes: Outcomes) -> None:
    """Other arguments count, and so does a cancellation."""
    provider, _ = _run_outcomes(outcomes, 2, 0.25)
    longest = round(_longest(provider), 9)
    grading.observe(
        "with limit 2, timeout 0.25 s", f"{provider.peak_in_flight} at once, {longest:g} s",
        "2 at once, 0.25 s", (provider.peak_in_flight, longest) == (2, 0.25),
        "the arguments `limit` and `timeout` are to be used, whatever their values",
    )  # fmt: skip
    for limit in (1, 40):
        small = VirtualService([0.1, 0.2, 0.0], failing={2}, answers={0: None, 1: 0})
        value = run_virtually(lambda: outcomes(small.search, small.queries, limit, 1.0)).value  # noqa: B023
        items = value if isinstance(value, list) else []
        good = items[:2] == [None, 0] and [type(item) for item in items[2:]] == [Unavailable]
        grading.observe(
            f"answers None and 0, limit {limit}", "kept" if good else repr(value)[:60], "kept", good,
            "an answer is an answer, whatever it is: `None` and `0` as well, and a call that fails "
            "at once fails like any other",
        )  # fmt: skip
    _grade_cancelled(grading, outcomes)


def _longest(provider: VirtualService) -> float:
    return max((call.end - call.start for call in provider.calls), default=0.0)


def _grade_cancelled(grading: Grading, outcomes: Outcomes) -> None:
    provider, cancelled_at = VirtualService(MIXED), 0.05

    async def cancel() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(outcomes(provider.search, provider.queries, 2, 10.0))
        await asyncio.sleep(cancelled_at)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # that of a gather, which is not to be reported as never seen
        return loop.time(), await left_running()

    ended, left = virtually(cancel)
    grading.observe(
        "when cancelled it ends after", f"{ended - cancelled_at:.3g} s", "0 s",
        ended == cancelled_at,
        "a cancellation is taken for a failure and the work goes on: catch `Exception`, not "
        "`BaseException` or everything",
    )  # fmt: skip
    grading.observe(
        "when cancelled it leaves running", left, 0, left == 0,
        "when it is cancelled, the tasks that it has made go on for nobody: cancel them in a "
        "`finally:`, or make them in an `asyncio.TaskGroup`, which does so",
    )  # fmt: skip


def _grade_items(grading: Grading, value: Any, provider: VirtualService) -> None:
    items = value if isinstance(value, list) else []
    good = [number for number in range(len(MIXED)) if number not in {FAILING, HANGING}]
    kept = [n for n in good if len(items) > n and items[n] == provider.answers[n]]
    grading.observe(
        "answers in their place", len(kept), len(good), kept == good, _misplaced(items, provider)
    )  # fmt: skip
    placed = len(items) == len(MIXED)
    failed = items[FAILING] if placed else None
    hung = items[HANGING] if placed else None
    grading.observe(
        "the failed call", type(failed).__name__, "its error, in its place",
        isinstance(failed, Unavailable), "put the exception of a failed call in its place",
    )  # fmt: skip
    grading.observe(
        "the call that hangs", type(hung).__name__, "TimeoutError, in its place",
        isinstance(hung, TimeoutError), "end a call after `timeout` with `asyncio.timeout`",
    )  # fmt: skip


def _misplaced(items: list[Any], provider: VirtualService) -> str:
    good = [a for n, a in enumerate(provider.answers) if n not in {FAILING, HANGING}]
    if not items:
        return "it returns no answers: return a list, with an answer or an exception for each query"
    if len(items) == len(MIXED) and all(answer in items for answer in good):
        return "the answers are in the order in which they came: keep the order of the questions"
    if sum(isinstance(item, TimeoutError) for item in items) > 1:
        return (
            "calls timed out that were only waiting for their slot: start the timeout after the "
            "slot is taken"
        )
    return "return a list with an answer for each question, in the order of the questions"
