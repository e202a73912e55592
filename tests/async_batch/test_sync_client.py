"""The sync client against the real provider."""

import asyncio
import socket

import pytest
import requests

from course_lib.async_batch import ServiceClient, SyncServiceClient
from course_lib.errors import BadRequest, RateLimited, TimedOut, Unavailable
from course_lib.service import Faults, Latency, Provider, RateLimit


def test_both_clients_give_the_same_answer(provider: Provider):
    """The comparison in the notebook compares like with like."""

    async def main():
        async with ServiceClient(provider.url) as client:
            return await client.search("token bucket")

    with SyncServiceClient(provider.url) as client:
        assert client.search("token bucket") == asyncio.run(main())


@pytest.mark.parametrize("query", ["R&D budget", "C# tutorial", "a+b"])
def test_queries_arrive_as_they_were_written(provider: Provider, query):
    """Characters that mean something in a URL are encoded."""
    with SyncServiceClient(provider.url) as client:
        client.search(query)
    assert provider.ledger().calls[-1].query == query


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(error=1.0), Unavailable),
        (Faults(drop=1.0), Unavailable),
        (Faults(hang=1.0), TimedOut),
    ],
)
def test_failures_are_typed_as_in_the_async_client(provider: Provider, faults, error):
    """No error of requests comes through."""
    provider.configure(faults=faults)
    with SyncServiceClient(provider.url, timeout=0.1) as client, pytest.raises(error) as caught:
        client.search("loop")
    assert not isinstance(caught.value, requests.RequestException)


def test_refusals_are_typed_as_in_the_async_client(provider: Provider):
    """429 says when to come back, 400 why not."""
    provider.configure(rate_limit=RateLimit(rate=0.5, burst=1))
    with SyncServiceClient(provider.url) as client:
        with pytest.raises(BadRequest, match="answered 400"):
            client.search("")
        client.search("loop")
        with pytest.raises(RateLimited) as caught:
            client.search("loop")
    assert caught.value.retry_after > 0


def test_a_proxy_for_the_web_does_not_see_calls_to_loopback(provider: Provider, monkeypatch):
    """A learner behind a company's proxy can still run the course."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with SyncServiceClient(provider.url) as client:
            assert client.search("loop")


def test_more_threads_than_connections_wait_for_one(provider: Provider):
    """Every call is answered, over no more connections than allowed."""
    provider.configure(latency=Latency.constant(0.01))

    async def main(client):
        await asyncio.gather(*(asyncio.to_thread(client.search, "loop") for _ in range(12)))

    with SyncServiceClient(provider.url, max_connections=2) as client:
        asyncio.run(main(client))
    ledger = provider.ledger()
    assert (ledger.answered, ledger.connections) == (12, 2)
