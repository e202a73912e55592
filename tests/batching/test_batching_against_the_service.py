"""Batching against the real provider, in real time: by the provider's own count."""

import asyncio

import pytest

from course_lib import service
from course_lib.async_batch import ServiceClient
from course_lib.batching import Backoff, MicroBatcher, amap
from course_lib.errors import BadRequest
from course_lib.service import Faults, Latency

ITEMS, LIMIT = 2000, 50
QUICK = Backoff(first=0.01, most=0.05)


@pytest.fixture(scope="module")
def provider():
    """As fast as it can be."""
    with service.running(latency=None) as one:
        yield one


async def searched(provider, **options):
    """What comes of many questions."""
    async with ServiceClient(provider.url, max_connections=LIMIT) as client:
        questions = (f"question {n}" for n in range(ITEMS))
        window = amap(client.search, questions, limit=LIMIT, backoff=QUICK, **options)
        return [outcome async for outcome in window]


def test_each_of_two_thousand_items_is_answered_though_one_in_twenty_calls_fails(provider):
    """Attempts by our count are requests by the provider's; never more in flight than the limit."""
    provider.configure(faults=Faults(error=0.05), latency=None)
    provider.reset()
    outcomes = asyncio.run(searched(provider, attempts=20))
    ledger = provider.ledger()
    assert sorted(outcome.index for outcome in outcomes) == list(range(ITEMS))
    assert all(outcome.ok for outcome in outcomes)
    assert ledger.answered == ITEMS
    assert ledger.errors > 0
    assert sum(outcome.attempts for outcome in outcomes) == ledger.requests == ITEMS + ledger.errors
    assert ledger.peak_in_flight <= LIMIT
    assert ledger.connections <= LIMIT


def test_dropped_connections_and_hangs_are_got_over_too():
    """Every item has its answer in the end; what was cut short was asked again."""
    faults = Faults(drop=0.03, hang=0.001, seed=1)
    with service.running(latency=None, faults=faults) as provider:
        outcomes = asyncio.run(searched(provider, attempts=20, timeout=2.0))
        ledger = provider.ledger()
    assert sum(outcome.ok for outcome in outcomes) == len(outcomes) == ITEMS
    assert ledger.dropped > 0
    # aiohttp itself sends a GET once more when a kept-alive connection turns out closed.
    assert ITEMS < sum(outcome.attempts for outcome in outcomes) <= ledger.requests


def test_a_consumer_that_leaves_early_costs_the_provider_only_what_was_in_flight():
    """It sees no more requests than were fetched, and one for each place."""

    async def first(provider, count):
        async with ServiceClient(provider.url, max_connections=LIMIT) as client:
            questions = (f"question {n}" for n in range(ITEMS))
            async with amap(client.search, questions, limit=LIMIT, buffer=0) as outcomes:
                for _ in range(count):
                    await anext(outcomes)
        return provider.ledger().requests

    with service.running(latency=Latency.constant(0.05)) as provider:
        requests = asyncio.run(first(provider, 10))
    assert requests <= 10 + LIMIT


def test_texts_that_cannot_be_embedded_harm_none_of_their_batch(provider):
    """A lone surrogate, nothing, no text: each is its own caller's error."""
    provider.configure(faults=None, latency=None)
    texts = ["a gate", "\ud800", "", None, "a cache"]

    async def main():
        client = ServiceClient(provider.url)
        async with client, MicroBatcher(client.embed, max_size=8) as embed:
            return await asyncio.gather(*map(embed, texts), return_exceptions=True)

    first, *bad, last = asyncio.run(main())
    assert len(first) == len(last) > 0
    assert [type(error) for error in bad] == [BadRequest, BadRequest, TypeError]
