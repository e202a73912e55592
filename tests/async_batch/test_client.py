"""The async client against the real provider."""

import asyncio
import socket

import aiohttp
import psutil
import pytest

from course_lib.async_batch import ServiceClient
from course_lib.errors import BadRequest, RateLimited, TimedOut, Unavailable
from course_lib.service import Faults, Latency, Provider, RateLimit

TRICKY = ["R&D budget", "C# tutorial", "a+b", "50% of p99?", "café", "quote ' and \" slash /"]


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_search_returns_documents_best_first(provider: Provider):
    """The passage on the subject comes first, with its score."""

    async def main():
        async with ServiceClient(provider.url) as client:
            return await client.search("What does Little's law say?", k=3)

    found = asyncio.run(main())
    assert len(found) == 3
    scores = [document.metadata["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert "Little" in found[0].metadata["title"]


def test_queries_arrive_as_they_were_written(provider: Provider):
    """Characters that mean something in a URL are encoded."""

    async def main():
        async with ServiceClient(provider.url) as client:
            for query in TRICKY:
                await client.search(query)

    asyncio.run(main())
    assert [call.query for call in provider.ledger().calls] == TRICKY


def test_one_session_reuses_its_connections(provider: Provider):
    """Calls one after another share one connection; the provider counts."""

    async def main():
        async with ServiceClient(provider.url) as client:
            for _ in range(10):
                await client.search("loop")

    asyncio.run(main())
    assert provider.ledger().connections == 1


def test_no_more_calls_in_flight_than_connections(provider: Provider):
    """`max_connections` bounds what the provider has in hand."""
    provider.configure(latency=Latency.constant(0.02))

    async def main():
        async with ServiceClient(provider.url, max_connections=7) as client:
            await asyncio.gather(*(client.search("loop") for _ in range(40)))

    asyncio.run(main())
    ledger = provider.ledger()
    assert (ledger.requests, ledger.peak_in_flight, ledger.connections) == (40, 7, 7)


def test_a_call_that_waits_for_its_connection_does_not_time_out(provider: Provider):
    """Time runs from admission: ten calls through one connection all have their own second."""
    provider.configure(latency=Latency.constant(0.15))

    async def main():
        async with ServiceClient(provider.url, max_connections=1, timeout=1.0) as client:
            return await asyncio.gather(*(client.search("loop") for _ in range(10)))

    assert len(asyncio.run(main())) == 10


async def outcome(provider: Provider, **options):
    async with ServiceClient(provider.url, **options) as client:
        return await client.search("loop")


def test_a_provider_that_hangs_raises_timed_out(provider: Provider):
    """Both `ServiceError` and `TimeoutError` catch it."""
    provider.configure(faults=Faults(hang=1.0))
    with pytest.raises(TimedOut, match=r"within 0\.1 s") as caught:
        asyncio.run(outcome(provider, timeout=0.1))
    assert isinstance(caught.value, TimeoutError)


def test_a_provider_that_fails_raises_unavailable(provider: Provider):
    """A 500 is no answer."""
    provider.configure(faults=Faults(error=1.0))
    with pytest.raises(Unavailable, match="500"):
        asyncio.run(outcome(provider))


def test_a_dropped_connection_raises_unavailable(provider: Provider):
    """No aiohttp error comes through."""
    provider.configure(faults=Faults(drop=1.0))
    with pytest.raises(Unavailable) as caught:
        asyncio.run(outcome(provider))
    assert not isinstance(caught.value, aiohttp.ClientError)


def test_a_call_is_one_request_also_when_a_kept_connection_breaks(provider: Provider):
    """Left to itself, aiohttp sends a GET again: the provider counts it, nobody hears of it."""

    async def main():
        async with ServiceClient(provider.url) as client:
            await client.search("loop")  # its connection is kept
            provider.configure(faults=Faults(drop=1.0))
            with pytest.raises(Unavailable, match="GET /search failed: Server disconnected"):
                await client.search("loop")

    asyncio.run(main())
    assert (provider.ledger().requests, provider.ledger().dropped) == (2, 1)


def test_nobody_listening_raises_unavailable():
    """A wrong port is named in the message."""
    url = f"http://127.0.0.1:{closed_port()}"

    async def main():
        async with ServiceClient(url) as client:
            await client.search("loop")

    with pytest.raises(Unavailable, match="failed"):
        asyncio.run(main())


def test_a_refusal_says_when_to_come_back(provider: Provider):
    """429 carries the provider's own waiting time."""
    provider.configure(rate_limit=RateLimit(rate=0.5, burst=1))

    async def main():
        async with ServiceClient(provider.url) as client:
            await client.search("loop")
            await client.search("loop")

    with pytest.raises(RateLimited) as caught:
        asyncio.run(main())
    assert 0 < caught.value.retry_after <= 2


def test_a_bad_question_raises_bad_request_with_the_reason(provider: Provider):
    """The provider's own words say what was wrong with it."""

    async def main():
        async with ServiceClient(provider.url) as client:
            await client.search("")

    with pytest.raises(BadRequest, match="answered 400: .*q"):
        asyncio.run(main())


def test_a_cancelled_call_frees_its_slot(provider: Provider):
    """With one connection, the next call goes through."""
    provider.configure(latency=Latency.constant(0.05))

    async def main():
        async with ServiceClient(provider.url, max_connections=1) as client:
            hasty = asyncio.create_task(client.search("loop"))
            await asyncio.sleep(0.01)
            hasty.cancel()
            await asyncio.wait([hasty])
            return await client.search("loop")

    assert asyncio.run(main())


def test_a_client_that_is_not_open_says_how_to_open_it(provider: Provider):
    """Before and after its `async with` block."""

    async def main():
        client = ServiceClient(provider.url)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="async with"):
                await client.search("loop")
            async with client:
                await client.search("loop")

    asyncio.run(main())


def test_a_client_can_be_opened_only_once_at_a_time(provider: Provider):
    """A second `async with` would orphan the first session."""

    async def main():
        async with ServiceClient(provider.url) as client:
            with pytest.raises(RuntimeError, match="open already"):
                await client.__aenter__()
            assert await client.search("loop")

    asyncio.run(main())


def test_a_client_says_so_when_used_in_another_loop(provider: Provider):
    """Instead of aiohttp's obscure failures."""

    async def main():
        async with ServiceClient(provider.url) as client:

            def elsewhere():
                with pytest.raises(RuntimeError, match="another event loop"):
                    asyncio.run(client.search("loop"))

            await asyncio.to_thread(elsewhere)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="Windows counts handles")
def test_a_closed_client_leaves_no_file_open(provider: Provider):
    """Sessions do not leak."""

    async def main():
        async with ServiceClient(provider.url) as client:
            await asyncio.gather(*(client.search("loop") for _ in range(10)))

    asyncio.run(main())
    before = psutil.Process().num_fds()
    asyncio.run(main())
    assert psutil.Process().num_fds() == before


def test_repr_shows_whether_the_client_is_open(provider: Provider):
    """Live state, for a notebook."""

    async def main():
        client = ServiceClient(provider.url, max_connections=3)
        closed = repr(client)
        async with client:
            return closed, repr(client)

    closed, opened = asyncio.run(main())
    assert "closed, max_connections=3" in closed
    assert "open," in opened
