"""The provider in virtual time."""

import asyncio

import pytest

from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.lab import VirtualProvider, simulate
from course_lib.service import (
    Behaviour,
    Capacity,
    Faults,
    Generation,
    Latency,
    RateLimit,
    TokenLimit,
)


def outcomes(provider, count):
    async def main():
        calls = (provider.search(str(number)) for number in range(count))
        return await asyncio.gather(*calls, return_exceptions=True)

    return simulate(main)


def test_calls_take_the_time_they_are_given_exactly():
    """And the provider keeps its ledger."""
    provider = VirtualProvider(latency=Latency.constant(0.1), capacity=Capacity(4))
    run = outcomes(provider, 8)
    assert run.seconds == 0.2
    assert run.value[0] == "answer to 0"
    assert provider.ledger().peak_working == 4


def test_a_refusal_is_the_same_error_as_over_http():
    """With the seconds to wait."""
    provider = VirtualProvider(rate_limit=RateLimit(rate=2, burst=1))
    _, refused = outcomes(provider, 2).value
    assert isinstance(refused, RateLimited)
    assert refused.retry_after == 0.5


@pytest.mark.parametrize("faults", [Faults(error=1.0), Faults(drop=1.0)])
def test_a_fault_is_the_same_error_as_over_http(faults):
    """Whatever went wrong."""
    (failed,) = outcomes(VirtualProvider(faults=faults), 1).value
    assert isinstance(failed, Unavailable)


def test_behaviour_may_change_while_it_runs():
    """Only what is named."""
    provider = VirtualProvider(latency=Latency.constant(1.0), faults=Faults(error=1.0))

    async def main():
        provider.configure(faults=None)
        return await provider.search("q")

    assert simulate(main).seconds == 1.0


def test_each_endpoint_has_its_behaviour():
    """Rerank through one slot, chat at its own pace, the rest at the shared one."""
    slow = Behaviour(Latency.constant(1.0), capacity=Capacity(1))
    provider = VirtualProvider(latency=Latency.constant(0.25), endpoints={"/rerank": slow})

    async def main():
        provider.configure(path="/v1/chat/completions", latency=Latency.constant(3.0))
        return await asyncio.gather(
            provider.rerank("q", ["a", "b"]),
            provider.rerank("q", ["c"]),
            provider.embed(["four", "seventh"]),
            provider.chat("hello"),
        )

    run = simulate(main)
    assert run.value == [["b", "a"], ["c"], [[4.0], [7.0]], "reply to hello"]
    ledger = provider.ledger()
    assert [call.end for call in ledger.path("/rerank").calls] == [1.0, 2.0]
    assert ledger.path("/v1/embeddings").calls[0].end == 0.25
    assert run.seconds == 3.0


def test_refusals_of_every_call_are_typed():
    """Not only a search's."""
    provider = VirtualProvider(faults=Faults(error=1.0))

    async def main():
        calls = (provider.rerank("q", ["a"]), provider.embed(["a"]), provider.chat("a"))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcome) for outcome in simulate(main).value] == [Unavailable] * 3


def test_chats_are_written_at_the_speed_of_the_generation():
    """Two answers of 11 tokens share a server that does one thing at a time."""
    provider = VirtualProvider(
        latency=None, generation=Generation(first_token=1.0, tokens_per_second=10, gain=0)
    )

    async def main():
        return await asyncio.gather(*(provider.chat("hi", tokens=11) for _ in range(2)))

    assert simulate(main).seconds == 4.0
    assert [call.tokens for call in provider.ledger().calls] == [12, 12]


def test_tokens_are_limited_as_over_http():
    """A refusal says when to come back; what can never be let in is a bad request."""
    provider = VirtualProvider(latency=None, token_limit=TokenLimit(60))

    async def main():
        await provider.embed(["one two three"])
        calls = (provider.chat("hi", tokens=59), provider.chat("hi", tokens=60))
        return await asyncio.gather(*calls, return_exceptions=True)

    refused, impossible = simulate(main).value
    assert isinstance(refused, RateLimited)
    assert refused.retry_after == 3.0
    assert isinstance(impossible, BadRequest)
