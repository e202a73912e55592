"""Rate limiters with 400 callers waiting, and `limited` against the real provider.

Slope: calls a second once saturated (least squares over the calls' times). Window: the most calls
in any one second, beside the most that rate and burst allow. CPU: of the whole loop, for each call
let through. Free: an acquire that need not wait. Overtaken: calls that later ones have passed.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from aiolimiter import AsyncLimiter
from langchain_core.rate_limiters import InMemoryRateLimiter
from pyrate_limiter import Duration, Limiter, Rate

from course_lib import service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.errors import RateLimited
from course_lib.rate_limiting import Gate, TokenBucket, limited
from course_lib.table import Table

WAITERS = 400
RATES = (10, 200, 5000)
SECONDS = 5.0
"""Of each run; the first one, in which the burst is spent, counts for window and CPU only."""

FREE_ACQUIRES = 20_000
LATENESS = 0.05
"""Seconds by which timers may be late: the burst that all are given is `1 + rate * LATENESS`."""

MOST_MICROSECONDS = 3.0
"""What an acquire of `TokenBucket` may take that need not wait."""

SAME = 0.001
"""A difference in accuracy that is the machine's, not the limiter's."""

HEAD = (
    "limiter",
    "rate/s",
    "slope/s",
    "error",
    "window",
    "bound",
    "CPU µs",
    "free µs",
    "overtaken",
)

Acquire = Callable[[], Awaitable[object]]


def token_bucket(rate: float, burst: float) -> Acquire:
    return TokenBucket(rate, burst).aacquire


def in_memory(rate: float, burst: float) -> Acquire:
    return InMemoryRateLimiter(requests_per_second=rate, max_bucket_size=burst).aacquire


def in_memory_quick(rate: float, burst: float) -> Acquire:
    return InMemoryRateLimiter(
        requests_per_second=rate, max_bucket_size=burst, check_every_n_seconds=0.01
    ).aacquire


def aiolimiter_usual(rate: float, _burst: float) -> Acquire:
    return AsyncLimiter(rate, 1).acquire


def aiolimiter_same_burst(rate: float, burst: float) -> Acquire:
    return AsyncLimiter(burst, burst / rate).acquire


def pyrate(rate: float, _burst: float) -> Acquire:
    return Limiter(Rate(int(rate), Duration.SECOND)).try_acquire_async


LIMITERS: dict[str, tuple[Callable[[float, float], Acquire], bool]] = {
    # name: (how it is made, whether its burst is a second's worth)
    "TokenBucket": (token_bucket, False),
    "InMemoryRateLimiter": (in_memory, False),
    "- polling every 10 ms": (in_memory_quick, False),
    "aiolimiter(rate, 1)": (aiolimiter_usual, True),
    "- with the same burst": (aiolimiter_same_burst, False),
    "pyrate-limiter": (pyrate, True),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One limiter, saturated for some seconds.

    Attributes:
        times: When calls were let through, in seconds from the start.
        arrivals: Which arrival each of them was.
        cpu: Seconds of CPU that it took.
    """

    times: list[float]
    arrivals: list[int]
    cpu: float

    @property
    def slope(self) -> float:
        """Calls a second, without the first second."""
        settled = [moment for moment in self.times if moment > 1]
        if len(settled) < 3:
            return 0.0
        return float(np.polyfit(settled, np.arange(len(settled)), 1)[0])

    @property
    def window(self) -> int:
        """The most calls in any second."""
        ends = (bisect_left(self.times, moment + 1) for moment in self.times)
        return max(end - start for start, end in enumerate(ends))

    @property
    def overtaken(self) -> float:
        """Share of the calls let through after one that had come later, without the first second.

        (While there are tokens at once, who needs not wait may run before one who was woken in the
        same turn of the loop.)
        """
        settled = self.arrivals[bisect_left(self.times, 1) :]
        latest, count = -1, 0
        for arrival in settled:
            count += arrival < latest
            latest = max(latest, arrival)
        return count / max(1, len(settled))


async def saturate(acquire: Acquire) -> Run:
    """Have 400 callers come again and again, for some seconds."""
    times: list[float] = []
    arrivals: list[int] = []
    arrived = 0
    start, cpu = time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal arrived
        while True:
            arrived += 1
            mine = arrived
            await acquire()
            times.append(time.perf_counter() - start)
            arrivals.append(mine)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(caller()) for _ in range(WAITERS)]
    await asyncio.sleep(SECONDS)
    run = Run(list(times), list(arrivals), time.process_time() - cpu)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return run


async def free(acquire: Acquire) -> float:
    """Return the microseconds of CPU of an acquire that need not wait, the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(FREE_ACQUIRES):
            await acquire()
        best = min(best, time.process_time() - start)
    return best / FREE_ACQUIRES * 1e6


def limiters() -> None:
    """Print the table, and whether the two promises were kept."""
    frees = {name: asyncio.run(free(make(1e9, 1e9))) for name, (make, _) in LIMITERS.items()}
    rows, verdicts = [], []
    for rate in RATES:
        errors = {}
        for name, (make, second) in LIMITERS.items():
            burst = 1 + rate * LATENESS
            run = asyncio.run(saturate(make(rate, burst)))
            errors[name] = abs(run.slope / rate - 1)
            rows.append(row(name, rate, run, rate + (rate if second else burst), frees[name]))
        ours, best = errors.pop("TokenBucket"), min(errors.values())
        verdict = "not behind" if ours <= best + SAME else "BEHIND"
        verdicts.append(f"{rate}/s: {ours:.3%} off, {verdict} the best peer ({best:.3%})")
    print(Table(HEAD, rows), *verdicts, sep="\n")
    ours = frees["TokenBucket"]
    verdict = "within" if ours <= MOST_MICROSECONDS else "NOT within"
    print(f"An uncontended acquire takes {ours:.2f} µs: {verdict} {MOST_MICROSECONDS:g} µs\n")


def row(name: str, rate: int, run: Run, bound: float, free_us: float) -> list[str]:
    """Return one line of the table."""
    return [
        name,
        f"{rate}",
        f"{run.slope:.1f}",
        f"{run.slope / rate - 1:+.2%}",
        f"{run.window}",
        f"{bound:.0f}",
        f"{run.cpu / len(run.times) * 1e6:.1f}",
        f"{free_us:.2f}",
        f"{run.overtaken:.1%}",
    ]


async def calls(provider: service.Provider, count: int, gate: Gate | None) -> str:
    """Make many calls at once; return what came of them."""
    provider.reset()
    async with ServiceClient(provider.url, max_connections=count) as client:
        runnable = as_runnable(client.search)
        if gate is not None:
            runnable = limited(runnable, gate, attempts=1000)
        start = time.perf_counter()
        questions = [f"question {n}" for n in range(count)]
        answers = await runnable.abatch(questions, return_exceptions=True)
        seconds = time.perf_counter() - start
    failed = sum(isinstance(answer, RateLimited) for answer in answers)
    rejected = provider.ledger().rejected
    return f"{seconds:6.2f} s, {rejected:3} answered 429, {failed:3} calls failed"


async def against_the_provider(rate: int = 50, burst: int = 10, count: int = 500) -> None:
    """Print what the provider counts without a limit, with a cool-down only, and with both.

    Two of its burst are left to the network, which delays some calls more than others.
    """
    latency = service.Latency.constant(0.05)
    with service.running(latency=latency, rate_limit=service.RateLimit(rate, burst)) as provider:
        print(f"{count} calls at {rate}/s, burst {burst}: bound {(count - burst) / rate:.2f} s")
        bucket = TokenBucket(rate, burst - 2)
        gates = {
            "no limit": None,
            "cool-down only": Gate(concurrency=20),
            "limited": Gate(concurrency=20, bucket=bucket),
        }
        for name, gate in gates.items():
            print(f"{name:15} {await calls(provider, count, gate)}")


def main() -> None:
    limiters()
    asyncio.run(against_the_provider())
