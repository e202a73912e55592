"""The exercises of notebook 2, graded by behaviour in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.virtual import PATIENCE, VirtualService, run_virtually
from course_lib.lab.simulation import simulate

__all__ = ["EXERCISES", "largest_excess"]

# 2.1 -------------------------------------------------------------------------------------------

RATE, CAPACITY, CALLERS, IDLE = 10.0, 5, 65, 2.0
TOLERANCE = 1e-6
"""Tokens; what rounding may cost."""


async def grade_bucket(make: Callable[[float, float], Any]) -> Grading:
    """Sixty-five callers at once after a pause, then thirty who give up before one who does not."""
    granted = simulate(lambda: _crowd(make), patience=PATIENCE).value
    times = [time for _, time in granted]
    grading = Grading()
    burst = sum(time == times[0] for time in times)
    grading.observe(
        "burst after a pause", burst, CAPACITY, burst == CAPACITY, _wrong_burst(burst)
    )  # fmt: skip
    length = times[-1] - times[CAPACITY]
    rate = (CALLERS - 1 - CAPACITY) / length if length else float("inf")
    grading.observe(
        "rate when saturated", f"{rate:.1f}/s", f"{RATE:.1f}/s", abs(rate - RATE) < RATE / 100,
        _wrong_rate(rate),
    )  # fmt: skip
    excess = largest_excess(times, RATE, CAPACITY)
    grading.observe(
        "most beyond capacity + rate * t, any t", f"{max(excess, 0):.2f} tokens", "0.00 tokens",
        excess < TOLERANCE, "more than the bucket could hold went through in some window",
    )  # fmt: skip
    order = [caller for caller, _ in granted]
    grading.observe(
        "order", "as they came" if order == sorted(order) else "mixed", "as they came",
        order == sorted(order), "callers overtake one another: an `asyncio.Lock` is first come, "
        "first served",
    )  # fmt: skip
    wait = simulate(lambda: _deserted(make), patience=PATIENCE).value
    grading.observe(
        "wait behind 30 who gave up", f"{wait:g} s", f"{1 / RATE:g} s", wait <= 1 / RATE + TOLERANCE,
        "the living wait for the dead: whoever is cancelled must give back the place in the queue",
    )  # fmt: skip
    return grading


def largest_excess(times: list[float], rate: float, capacity: float) -> float:
    """Return by how many tokens the worst window exceeds `capacity + rate * t`.

    Args:
        times: When single tokens were given out, in seconds, in order.
        rate: Tokens a second.
        capacity: Tokens.
    """
    worst, lowest = float("-inf"), float("inf")
    for count, time in enumerate(times):
        lowest = min(lowest, count - rate * time)
        worst = max(worst, count + 1 - rate * time - lowest - capacity)
    return worst


def _wrong_burst(burst: int) -> str:
    if burst == CALLERS:
        return "it lets everybody through at once: wait for the token that is missing"
    if burst > CAPACITY:
        return "a burst larger than the bucket: never fill it above its capacity"
    return "a full bucket lets `capacity` callers through at once"


def _wrong_rate(rate: float) -> str:
    if rate > RATE:
        return (
            "too fast: the seconds slept are counted twice, once by the sleep and once more by the "
            "next refill. Refill again after the sleep, then take the token"
        )
    return "too slow: time that passes during a sleep must fill the bucket as well"


async def _crowd(make: Callable[[float, float], Any]) -> list[tuple[int, float]]:
    loop, granted = asyncio.get_running_loop(), list[tuple[int, float]]()
    bucket = make(RATE, CAPACITY)
    await asyncio.sleep(IDLE)

    async def caller(number: int) -> None:
        await bucket.acquire()
        granted.append((number, loop.time()))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(caller(number))
    return granted


async def _deserted(make: Callable[[float, float], Any]) -> float:
    """Seconds that the next caller waits after thirty of those before it have given up."""
    loop, bucket = asyncio.get_running_loop(), make(RATE, CAPACITY)
    for _ in range(CAPACITY):
        await bucket.acquire()
    deserters = [asyncio.create_task(bucket.acquire()) for _ in range(30)]
    await asyncio.sleep(0.01 / RATE)
    for task in deserters:
        task.cancel()
    await asyncio.wait(deserters)
    start = loop.time()
    async with asyncio.timeout(60):
        await bucket.acquire()
    return loop.time() - start


# 2.2 -------------------------------------------------------------------------------------------

Search = Callable[[str], Awaitable[str]]
SLOTS, ATTEMPTS = 2, 3


async def grade_patient(
    patient: Callable[[Search, str, asyncio.Semaphore, int], Awaitable[Any]],
) -> Grading:
    """Eight calls through two slots; two are refused at first, one always, one fails."""
    provider = VirtualService([0.1] * 8, refusing={0: 1, 1: 2, 2: 99}, failing={3})

    async def program() -> list[Any]:
        slots = asyncio.Semaphore(SLOTS)
        calls = (patient(provider.search, query, slots, ATTEMPTS) for query in provider.queries)
        return await asyncio.gather(*calls, return_exceptions=True)

    run = run_virtually(program)
    for outcome in run.value:
        if isinstance(outcome, NotImplementedError):
            raise outcome
    grading = Grading()
    _grade_answers(grading, run.value, provider)
    made = [sum(call.query == query for call in provider.calls) for query in provider.queries]
    _grade_attempts(grading, made)
    others = max(call.end for call in provider.calls if call.query in provider.queries[4:])
    grading.observe(
        "the others are done after", f"{others:g} s", "0.3 s", others <= 0.3 + TOLERANCE,
        "a slot is held while its caller waits to try again: leave `async with slots:` first",
    )  # fmt: skip
    grading.observe(
        "peak in flight", provider.peak_in_flight, SLOTS, provider.peak_in_flight == SLOTS,
        "each attempt takes a slot: `async with slots:` round the call",
    )  # fmt: skip
    grading.observe(
        "the last attempt ends after", f"{run.seconds:g} s", "2.1 s", run.seconds <= 2.1 + TOLERANCE,
        "it waits longer than it was told to, or once more after the last attempt: sleep for "
        "`error.retry_after` seconds, between attempts only",
    )  # fmt: skip
    return grading


def _grade_answers(grading: Grading, value: list[Any], provider: VirtualService) -> None:
    good = [number for number in range(8) if number not in {2, 3}]
    kept = sum(value[number] == provider.answers[number] for number in good)
    grading.observe(
        "answers", kept, len(good), kept == len(good),
        "a refused call is to be tried again, and its answer returned",
    )  # fmt: skip
    given_up, failed = type(value[2]).__name__, type(value[3]).__name__
    grading.observe(
        "refused every time", given_up, "RateLimited", isinstance(value[2], RateLimited),
        "after the last attempt the caller must learn that it was refused: raise the error",
    )  # fmt: skip
    grading.observe(
        "failed", failed, "Unavailable", isinstance(value[3], Unavailable),
        "errors other than `RateLimited` go to the caller",
    )  # fmt: skip


def _grade_attempts(grading: Grading, made: list[int]) -> None:
    grading.observe(
        "attempts, refused every time", made[2], ATTEMPTS, made[2] == ATTEMPTS,
        f"at most `attempts` calls in all: {ATTEMPTS}",
    )  # fmt: skip
    grading.observe(
        "attempts, failed", made[3], 1, made[3] == 1,
        "only `RateLimited` is worth another attempt here: catch nothing else",
    )  # fmt: skip


# 2.3 -------------------------------------------------------------------------------------------

QUIET, ROUNDS = 10, 40


async def grade_next_limit(next_limit: Callable[[int, int, int], Any]) -> Grading:
    """Forty rounds against a capacity of 8, forty against 24, then ten quiet ones."""
    limits, rejected = [4], 0
    for number in range(2 * ROUNDS + QUIET):
        capacity = 8 if number < ROUNDS else 24
        offered = 1 if number >= 2 * ROUNDS else limits[-1]
        refused = max(0, offered - capacity)
        limit = next_limit(limits[-1], refused, offered)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"a limit is a whole number of slots, not {limit!r}")
        rejected += refused
        limits.append(max(-(10**6), min(limit, 10**6)))
    return _grade_limits(limits, rejected)


def _grade_limits(limits: list[int], rejected: int) -> Grading:
    grading = Grading()
    least = min(limits)
    grading.observe(
        "smallest limit",
        least,
        "at least 1",
        least >= 1,
        "a limit below 1 lets nobody in: stop at 1",
    )
    settled, late = limits[10:ROUNDS], limits[ROUNDS + 25 : 2 * ROUNDS]
    grading.observe(
        "429s", rejected, "at most 20", rejected <= 20,  # noqa: PLR2004
        "too many are refused: add one slot a round, and halve the limit when anything was refused",
    )  # fmt: skip
    mean = sum(settled) / len(settled)
    grading.observe(
        "mean limit, capacity 8", f"{mean:.1f}", "6 to 8", 6 <= mean <= 8,  # noqa: PLR2004
        "the limit falls too far: halve it, do not begin again at 1" if rejected else
        "the limit never finds the capacity: grow by one slot in every round without a refusal",
    )  # fmt: skip
    mean = sum(late) / len(late)
    grading.observe(
        "mean limit, capacity 24", f"{mean:.1f}", "14 to 24", 14 <= mean <= 24,  # noqa: PLR2004
        "the new capacity is not found in time: grow by one slot in every round without a refusal",
    )  # fmt: skip
    quiet = limits[-QUIET:]
    grew = any(after > before for before, after in pairwise(quiet))
    grading.observe(
        "limit while hardly used", "grows" if grew else "stays", "stays", not grew,
        "a limit that nobody reaches has not been tested: grow only if `used` equals the limit",
    )  # fmt: skip
    return grading


EXERCISES = (
    Exercise(
        "2.1",
        "a bucket that keeps its rate",
        ("rate", "capacity"),
        grade_bucket,
        (
            "Follow one second through your code: who adds its tokens, the sleep or the refill?",
            "After the sleep, refill by the clock once more, then subtract one token.",
            "Hold an `asyncio.Lock` during the sleep: first come, first served, safe to cancel.",
        ),
    ),
    Exercise(
        "2.2",
        "patience that holds no slot",
        ("search", "query", "slots", "attempts"),
        grade_patient,
        (
            "A loop over attempts; `async with slots:` round the call, and nothing else in it.",
            "`except RateLimited as error:` stands outside the `async with`.",
            "In the last attempt `raise`; otherwise `await asyncio.sleep(error.retry_after)`.",
        ),
    ),
    Exercise(
        "2.3",
        "a limit that finds its level",
        ("limit", "rejected", "used"),
        grade_next_limit,
        (
            "Three cases: something was refused; the limit was fully used; neither.",
            "Additive increase, multiplicative decrease: one more, or half.",
            "`max(1, limit // 2)`, `limit + 1` if `used == limit`, else `limit`.",
        ),
    ),
)
