"""`limited` against the real provider, in real time: by the provider's own count."""

import asyncio

import pytest

from course_lib import service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.errors import RateLimited
from course_lib.rate_limiting import Gate, TokenBucket, limited
from course_lib.service import Latency, RateLimit

RATE, BURST, CALLS = 100, 20, 120


@pytest.fixture
def provider():
    """Takes 100 calls a second, 20 at once."""
    with service.running(latency=Latency.constant(0.01), rate_limit=RateLimit(RATE, BURST)) as one:
        yield one


async def search(provider, gate=None):
    """Make all calls at once, behind a gate if one is given; return what came of them."""
    async with ServiceClient(provider.url) as client:
        runnable = as_runnable(client.search)
        if gate is not None:
            runnable = limited(runnable, gate, name="search", attempts=1000)
        questions = [f"question {n}" for n in range(CALLS)]
        return await runnable.abatch(questions, return_exceptions=True)


def test_without_a_limit_most_calls_are_rejected(provider):
    """Only the burst gets through, and what the bucket earns meanwhile."""
    provider.configure(rate_limit=RateLimit(1, BURST))
    answers = asyncio.run(search(provider))
    rejected = sum(isinstance(answer, RateLimited) for answer in answers)
    assert rejected == provider.ledger().rejected > 0


def test_behind_a_gate_every_call_is_answered(provider):
    """No faster than the rate, and each rejection was tried again."""
    gate = Gate(concurrency=20, bucket=TokenBucket(RATE, BURST - 4))
    answers = asyncio.run(search(provider, gate))
    ledger = provider.ledger()
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert ledger.answered == CALLS
    assert ledger.peak_in_flight <= 20
    assert gate.statistics().rejected == ledger.rejected
    assert gate.statistics().rejected_by_step.get("search", 0) == ledger.rejected
    starts = [call.start for call in ledger.calls]
    assert max(starts) - min(starts) > (CALLS - BURST) / RATE * 0.9


def test_a_cool_down_alone_serves_all_too(provider):
    """Without a bucket, as where nobody knows the provider's rate; it may cost rejections."""
    gate = Gate(concurrency=5)
    answers = asyncio.run(search(provider, gate))
    ledger = provider.ledger()
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert gate.statistics().rejected == ledger.rejected
