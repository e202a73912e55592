"""Exercise 2.1: a bucket that keeps its rate, also when timers are late and callers give up."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import virtually
from course_lib.lab.simulation import SimulationError

__all__ = ["grade_bucket", "largest_excess"]

Make = Callable[[float, float], Any]

RATE, CAPACITY, CALLERS, IDLE = 10.0, 5, 65, 2.0
TOLERANCE = 1e-6
"""Tokens, or seconds; what rounding may cost."""
LATE = 0.13
"""Seconds by which timers are late: more than a token takes."""
GIVE_UP = 600
"""Seconds after which a caller is never served."""
TIMERS = 4
"""Timers that a caller may need; who looks again and again needs more."""
SEEDS = {1: (10.0, 5), 2: (3.0, 2), 3: (200.0, 1), 4: (0.5, 7)}
"""Arrivals at random, by their seed: rate and capacity."""


async def grade_bucket(make: Make) -> Grading:
    """A crowd after a pause, arrivals at random, late timers, and callers who give up."""
    grading = Grading()
    _grade_crowd(grading, make)
    _grade_leavers(grading, make)
    _grade_arrivals(grading, make)
    _grade_late(grading, make)
    return grading


# a crowd ---------------------------------------------------------------------------------------


def _grade_crowd(grading: Grading, make: Make) -> None:
    granted, timers = virtually(lambda: _crowd(make))
    times = [time for _, time in granted]
    burst = sum(time - times[0] < TOLERANCE for time in times)
    grading.observe(
        "burst after a pause", burst, CAPACITY, burst == CAPACITY, _wrong_burst(burst)
    )  # fmt: skip
    rate = _rate(times)
    grading.observe(
        "rate when saturated", f"{rate:.4g}/s", f"{RATE:g}/s", abs(rate - RATE) < RATE / 1000,
        _wrong_rate(rate),
    )  # fmt: skip
    excess = largest_excess(times, RATE, CAPACITY)
    grading.observe(
        "most beyond capacity + rate * t, any t", f"{max(excess, 0):.3g} tokens", "0 tokens",
        excess < TOLERANCE, "more than the bucket could hold went through in some window",
    )  # fmt: skip
    _grade_order(grading, "order", [caller for caller, _ in granted])
    grading.observe(
        "timers set for 65 callers", timers, f"at most {TIMERS * CALLERS}",
        timers <= TIMERS * CALLERS,
        "it polls: it looks again and again whether a token is there. Work out how long the token "
        "takes that is missing, and sleep once, for so long",
    )  # fmt: skip


def _grade_order(grading: Grading, what: str, order: list[int]) -> None:
    grading.observe(
        what, "as they came" if order == sorted(order) else "mixed", "as they came",
        order == sorted(order), "callers overtake one another: an `asyncio.Lock` is first come, "
        "first served",
    )  # fmt: skip


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


def _rate(times: list[float]) -> float:
    """Tokens a second after the burst."""
    length = times[-1] - times[CAPACITY]
    return (CALLERS - 1 - CAPACITY) / length if length else float("inf")


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


async def _crowd(make: Make) -> tuple[list[tuple[int, float]], int]:
    """When each of the callers went in, and how many timers were set for it."""
    bucket = make(RATE, CAPACITY)
    await asyncio.sleep(IDLE)
    timers = _count_timers()
    granted = await _callers(bucket, [0.0] * CALLERS)
    return granted, len(timers) - 1


def _count_timers() -> list[None]:
    """Return a list that grows by one with each timer of the running loop."""
    loop, timers = asyncio.get_running_loop(), list[None]()

    def counted(setter: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            timers.append(None)
            return setter(*args, **options)

        return call

    loop.call_later = counted(loop.call_later)  # type: ignore[method-assign,assignment]
    loop.call_at = counted(loop.call_at)  # type: ignore[method-assign,assignment]
    return timers


async def _callers(bucket: Any, arrivals: Sequence[float]) -> list[tuple[int, float]]:
    """Number and time of each who went in, in that order; all come at the times given."""
    loop, granted = asyncio.get_running_loop(), list[tuple[int, float]]()

    async def caller(number: int) -> None:
        await bucket.acquire()
        granted.append((number, loop.time()))

    async def everybody() -> None:
        async with asyncio.TaskGroup() as group:
            for number, arrival in enumerate(arrivals):
                if arrival > loop.time():
                    await asyncio.sleep(arrival - loop.time())
                group.create_task(caller(number))

    await _in_time(everybody(), f"of {len(arrivals)} callers some")
    return granted


async def _in_time(work: Coroutine[Any, Any, None], who: str) -> None:
    """Await it; whoever waits for longer than a while is told as that."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=GIVE_UP)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        raise SimulationError(f"{who} still wait after {GIVE_UP} s, and nobody will let them in")
    task.result()


# callers who give up ---------------------------------------------------------------------------


def _grade_leavers(grading: Grading, make: Make) -> None:
    step = 1 / RATE
    for what, when, behind in (
        ("wait behind 30 who gave up", 0.1 * step, False),
        ("wait of the one who stood behind them", 0.1 * step, True),
        ("wait behind one who gave up when it was its turn", step, True),
    ):
        leavers = 30 if when < step else 1
        wait, left = virtually(lambda: _deserted(make, leavers, when, behind=behind))  # noqa: B023
        wanted = step if left else 2 * step
        good = wanted - TOLERANCE <= wait <= wanted + TOLERANCE
        grading.observe(what, f"{wait:.4g} s", f"{wanted:g} s", good, _wrong_wait(wait, wanted))
    wait, _ = virtually(lambda: _deserted(make, 1, step / 2, behind=True))
    grading.observe(
        "wait behind the first, who gave up half-way", f"{wait:.4g} s", f"{step:g} s",
        abs(wait - step) <= TOLERANCE, _wrong_wait(wait, step),
    )  # fmt: skip


def _wrong_wait(wait: float, wanted: float) -> str:
    if wait < wanted:
        return (
            "too early: whoever is cancelled gives back no more than it took, and a place in the "
            "queue is no token"
        )
    return (
        "the others wait for those who gave up: whoever is cancelled must give back the place in the queue, "
        "also to those who wait already"
    )


async def _deserted(
    make: Make, leavers: int, when: float, *, behind: bool
) -> tuple[float, bool]:  # fmt: skip
    """How long one waits while those before it give up.

    Args:
        make: Makes the bucket, which is emptied first.
        leavers: How many stand before it.
        when: Seconds after which they give up.
        behind: Whether it stands behind them while they do, or comes after that.

    Returns:
        Seconds from the moment at which the bucket was empty, and whether all of them left.
    """
    loop, bucket = asyncio.get_running_loop(), make(RATE, CAPACITY)
    for _ in range(CAPACITY):
        await bucket.acquire()
    start = loop.time()
    deserters = [asyncio.ensure_future(bucket.acquire()) for _ in range(leavers)]
    last = [asyncio.ensure_future(bucket.acquire())] if behind else []
    await asyncio.sleep(0)  # their timers are set first
    await asyncio.sleep(0)
    await asyncio.sleep(when)
    for task in deserters:
        task.cancel()
    await asyncio.wait(deserters)
    last = last or [asyncio.ensure_future(bucket.acquire())]

    async def one() -> None:
        await last[0]

    await _in_time(one(), "callers behind those who gave up")
    return loop.time() - start, all(task.cancelled() for task in deserters)


# arrivals at random ----------------------------------------------------------------------------


def _grade_arrivals(grading: Grading, make: Make) -> None:
    worst, order = 0.0, list[int]()
    for seed, (rate, capacity) in SEEDS.items():
        arrivals = _arrivals(seed, rate)
        granted = virtually(lambda: _callers(make(rate, capacity), arrivals))  # noqa: B023
        order = order if order != sorted(order) else [caller for caller, _ in granted]
        wanted = schedule(arrivals, rate, capacity)
        times = sorted(time for _, time in granted)
        late = [(time - due) * rate for time, due in zip(times, wanted, strict=True)]
        worst = max([worst, *late, *(-each for each in late)], key=abs)
    _grade_order(grading, "order of 160 who come at random", order)
    grading.observe(
        "off the schedule of a full bucket, at most", f"{worst:.3g} tokens", "0 tokens",
        worst <= 100 * TOLERANCE,
        "with callers who come at random it lets some in too early or too late: it starts full, "
        "fills at `rate` whatever rate and capacity are, and nobody waits for longer than the "
        "token takes that is missing",
    )  # fmt: skip


def _arrivals(seed: int, rate: float) -> list[float]:
    """Forty, at the rate on average, in crowds and with pauses."""
    chance, now, arrivals = random.Random(seed), 0.0, list[float]()  # noqa: S311 - no secret
    for _ in range(40):
        now += chance.choice((0, 0, chance.expovariate(rate) * 3))
        arrivals.append(round(now, 6))
    return arrivals


def schedule(arrivals: Sequence[float], rate: float, capacity: float) -> list[float]:
    """Return when each goes in, in seconds: at once, or when its token is there."""
    tokens, filled, times = capacity, 0.0, list[float]()
    for arrival in arrivals:
        now = max(arrival, filled)
        tokens = min(capacity, tokens + (now - filled) * rate)
        filled = now + max(0.0, 1 - tokens) / rate
        tokens = max(tokens, 1) - 1
        times.append(filled)
    return times


# late timers -----------------------------------------------------------------------------------


def _grade_late(grading: Grading, make: Make) -> None:
    granted, _ = virtually(lambda: _crowd(make), lateness=LATE)
    times = [time for _, time in granted]
    rate = _rate(times)
    grading.observe(
        f"rate when each timer is {LATE:g} s late", f"{rate:.4g}/s", f"{RATE:g}/s",
        abs(rate - RATE) < RATE / 20,
        "each late wake-up is lost, and timers are always a little late: after the sleep refill by "
        "the clock, and keep what is above one token",
    )  # fmt: skip
    excess = largest_excess(times, RATE, CAPACITY)
    grading.observe(
        "beyond capacity + rate * t, timers late", f"{max(excess, 0):.3g} tokens", "0 tokens",
        excess < TOLERANCE, "when timers are late, more than the bucket could hold goes through",
    )  # fmt: skip
    arrivals = [0.0] * (CAPACITY + 1) + [1 / RATE - LATE / 4] * 2  # at a quarter of the lateness
    granted = virtually(lambda: _callers(make(RATE, CAPACITY), arrivals), lateness=LATE)
    _grade_order(grading, "order when timers are late", [caller for caller, _ in granted])
