"""What the tests of batchers share: a service that takes lists."""

import asyncio

from batching_support import now

from course_lib.batching import PriorityBatchProcessor
from course_lib.lab.simulation import simulate


class Service:
    """Doubles numbers, list by list; what is bad or slow about some can be said."""

    def __init__(self, seconds=1.0, bad=(), error=ValueError):
        self.seconds, self.bad, self.error = seconds, set(bad), error
        self.batches, self.times = [], []
        self.cancelled = self.inside = self.peak = 0

    async def __call__(self, items):
        """Process one batch."""
        self.batches.append(list(items))
        self.times.append(now())
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1
        if found := self.bad.intersection(items):
            raise self.error(f"bad: {sorted(found)}")
        return [2 * item for item in items]


async def outcomes(awaitables):
    """Results and errors of all of them."""
    return await asyncio.gather(*awaitables, return_exceptions=True)


def kinds(results):
    """Results as they are, errors as their class's name."""
    return [type(r).__name__ if isinstance(r, BaseException) else r for r in results]


def submit_all(service, submissions, *, batch_size, **options):
    """Submit (item, priority) pairs all at once; return what came of them, and the seconds."""

    async def main():
        async with PriorityBatchProcessor(service, batch_size=batch_size, **options) as processor:
            return await outcomes(processor.submit(*each) for each in submissions)

    result = simulate(main)
    return kinds(result.value), result.seconds
