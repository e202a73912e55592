"""`amap` with the course's own gate in place of a number."""

import asyncio
from collections import defaultdict
from itertools import pairwise

from batching_support import Step, now, others
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching import Backoff, amap
from course_lib.errors import RateLimited
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Gate, TokenBucket

TENTHS = st.integers(0, 30).map(lambda n: n / 10)


@given(
    latencies=st.lists(TENTHS, max_size=30),
    sizes=st.lists(st.tuples(TENTHS, st.integers(1, 6)), max_size=5),
    concurrency=st.integers(1, 6),
)
def test_its_limit_holds_also_while_it_changes(*, latencies, sizes, concurrency):
    """Whatever it becomes and when: nobody is let in beyond it, and everybody is in the end."""
    log, allowed = [], defaultdict(int)

    async def main():
        gate, step = Gate(concurrency=concurrency), Step(latencies.__getitem__)

        async def noting(item):
            log.append((gate.statistics().inside, max(allowed[now()], gate.concurrency)))
            return await step(item)

        def resize(size):
            # Whoever was let in a moment before it shrinks is there, and stays.
            allowed[now()] = max(allowed[now()], gate.concurrency, size)
            gate.concurrency = size

        for moment, size in sizes:
            asyncio.get_running_loop().call_later(moment, resize, size)
        found = [o.index async for o in amap(noting, range(len(latencies)), limit=gate)]
        assert (others(), gate.statistics().inside) == (set(), 0)
        return found

    assert sorted(simulate(main).value) == list(range(len(latencies)))
    assert all(inside <= most for inside, most in log)


def test_a_gate_that_grows_is_filled_at_once():
    """Nobody needs to leave first: one stands in front of it."""
    step = Step(lambda _: 10.0)

    async def main():
        gate = Gate(concurrency=1)
        asyncio.get_running_loop().call_later(1, setattr, gate, "concurrency", 4)
        async with amap(step, range(8), limit=gate) as outcomes:
            first = await anext(outcomes)
        return first.index, step.peak, now()

    assert simulate(main).value == (0, 4, 10.0)


def test_the_rate_of_its_bucket_holds_for_every_attempt():
    """Rate first, slot last: at five a second ten items take the time of nine intervals."""

    async def main():
        gate = Gate(concurrency=3, bucket=TokenBucket(5, 1))
        return [o async for o in amap(Step(lambda _: 0.05), range(10), limit=gate)]

    result = simulate(main)
    assert result.seconds == 1.85
    assert [outcome.wait for outcome in result.value] == [n / 5 for n in range(10)]


def test_a_rate_limit_cools_down_all_who_share_the_gate():
    """One is told to come back in five seconds: nobody calls in the meantime."""
    refused, times = {3}, []

    async def call(item):
        times.append(now())
        if item in refused:
            refused.discard(item)
            raise RateLimited("too many", retry_after=5.0)
        return item

    async def main():
        gate = Gate(concurrency=2, bucket=TokenBucket(10, 1))
        window = amap(call, range(8), limit=gate, attempts=2, backoff=Backoff(0.1, 0.1))
        return sorted([o.value async for o in window]), gate.statistics().rejected

    assert simulate(main).value == (list(range(8)), 1)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert max(pauses) == 5.0
