"""What the tests of limits share: the window bound, a bucket to compare with, a steered loop."""

import asyncio
from itertools import accumulate

from course_lib.lab.virtual_loop import VirtualLoop
from course_lib.rate_limiting.level import EARLY

ROUNDING = EARLY + 2e-9  # seconds: virtual time is kept in nanoseconds
ROUNDS = 6  # of the loop, for everything that is due at one moment


def excess(log, rate, capacity):
    """Return by how many tokens the worst window of a log of (time, weight) is above the bound.

    A window from t_i to t_j holds `S_j - S_(i-1)` tokens (S: sums so far), so that the largest
    `S_j - rate * t_j - (S_(i-1) - rate * t_i)` says it in one pass.
    """
    worst = lowest = float("-inf")
    sums = [0.0, *accumulate(weight for _, weight in log)]
    for (time, _), before, after in zip(log, sums, sums[1:], strict=False):
        lowest = max(lowest, rate * time - before)
        worst = max(worst, after - rate * time + lowest)
    return worst - capacity - rate * ROUNDING


def tokens_left(log, rate, capacity, initial, now):
    """Return what a bucket holds that gave out this log of (time, weight) and nothing else."""
    tokens, last = initial, 0.0
    for time, weight in log:
        tokens, last = min(capacity, tokens + rate * (time - last)) - weight, time
    return min(capacity, tokens + rate * (now - last))


class Steered:
    """A loop in virtual time that runs only as far as it is told."""

    def __init__(self):
        self.loop = VirtualLoop()

    def run(self, coroutine):
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(coroutine)

    def start(self, coroutine):
        """Make a task of a coroutine, which runs with the next step."""
        return self.loop.create_task(coroutine)

    def do(self, function):
        """Call a function in the loop, so that it goes by the loop's time."""

        async def call():
            return function()

        return self.run(call())

    def settle(self):
        """Let everything happen that is due now."""

        async def rounds():
            for _ in range(ROUNDS):
                await asyncio.sleep(0)

        self.run(rounds())

    def wait(self, seconds):
        """Let time pass, and everything happen that is due by then."""
        self.run(asyncio.sleep(seconds))
        self.settle()

    def close(self):
        """Cancel what still waits, and close the loop."""
        for task in self.loop.waiting():
            task.cancel()
        self.settle()
        self.loop.close()
