"""Rerank, embeddings and chat through both clients, against the real provider."""

import asyncio
import inspect
from contextlib import aclosing, suppress

import pytest
from langchain_core.documents import Document

from course_lib.async_batch import ServiceClient, SyncServiceClient
from course_lib.errors import BadRequest, RateLimited, TimedOut, Unavailable
from course_lib.service import Faults, Generation, Provider, RateLimit

CHAT = "/v1/chat/completions"
DOCUMENTS = [
    Document("Soup is made of tomatoes.", id="soup", metadata={"score": 9.0, "topic": "food"}),
    Document("A token bucket limits a rate.", id="bucket"),
]
PROMPT = (
    "[bucket] A token bucket holds tokens. It is refilled at a steady rate.\n\n"
    "Question: How is a token bucket refilled?"
)
ANSWER = "A token bucket holds tokens. It is refilled at a steady rate. [bucket]"


class Sync:
    """The sync client with the async one's manners, so that one test serves both."""

    def __init__(self, url, **options):
        self._client = SyncServiceClient(url, **options)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._client.close()

    def __getattr__(self, name):
        async def call(*args, **options):
            return getattr(self._client, name)(*args, **options)

        return call


@pytest.fixture(params=[ServiceClient, Sync])
def call(request, provider: Provider):
    """Make one call with a client of either kind."""

    def make(name, *args, timeout=30.0, **options):
        async def main():
            async with request.param(provider.url, timeout=timeout) as client:
                return await getattr(client, name)(*args, **options)

        return asyncio.run(main())

    return make


def test_rerank_returns_copies_best_first(call):
    """With the new score and all that they carried; the ones passed stay as they are."""
    best, other = call("rerank", "How do I limit a rate?", DOCUMENTS)
    assert (best.id, other.id) == ("bucket", "soup")
    assert best.metadata["score"] > other.metadata["score"]
    assert other.metadata["topic"] == "food"
    assert DOCUMENTS[0].metadata["score"] == 9.0
    assert [each.id for each in call("rerank", "rate?", DOCUMENTS, top_n=1)] == ["bucket"]


def test_embed_returns_a_vector_for_each_text(call):
    """In their order, of length 1."""
    first, second = call("embed", ["a token bucket", "a bucket of tokens"])
    assert len(first) == 384
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert sum(x * y for x, y in zip(first, second, strict=True)) > 0.8


def test_chat_returns_a_message_with_its_tokens(call):
    """From a prompt or from messages alike."""
    message = call("chat", PROMPT)
    assert message.content == ANSWER
    assert message.usage_metadata["output_tokens"] == 17
    assert message.response_metadata["finish_reason"] == "stop"
    assert call("chat", [{"role": "user", "content": PROMPT}]).content == ANSWER
    assert call("chat", PROMPT, max_tokens=3).content == "A token bucket"


def test_nothing_to_do_costs_no_call(call, provider: Provider):
    """No documents, no texts."""
    assert call("rerank", "q", []) == []
    assert call("embed", []) == []
    assert provider.ledger().requests == 0


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("rerank", ("q", ["text"]), "pass Documents"),
        ("rerank", (3, DOCUMENTS), "query=3 is not a string"),
        ("embed", ("text",), "pass a list of strings"),
        ("embed", ([3],), "pass a list of strings"),
        ("chat", ([PROMPT],), "pass a prompt, or messages"),
    ],
)
def test_wrong_arguments_are_refused_before_the_call(call, provider: Provider, name, args, error):
    """The message says what to pass."""
    with pytest.raises(TypeError, match=error):
        call(name, *args)
    assert provider.ledger().requests == 0


def test_no_document_at_all_is_refused(call):
    """A `top_n` of 0 is a mistake."""
    with pytest.raises(ValueError, match="top_n=0"):
        call("rerank", "q", DOCUMENTS, top_n=0)


CALLS = [
    ("rerank", ("q", DOCUMENTS), "/rerank"),
    ("embed", (["a"],), "/v1/embeddings"),
    ("chat", (PROMPT,), CHAT),
]


@pytest.mark.parametrize("made", CALLS, ids=lambda made: made[0])
@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(error=1.0), Unavailable),
        (Faults(drop=1.0), Unavailable),
        (Faults(hang=1.0), TimedOut),
    ],
)
def test_failures_are_typed(call, provider: Provider, made, faults, error):
    """No error of an HTTP library comes through, and a POST is sent once."""
    name, args, path = made
    provider.configure(path=path, faults=faults)
    with pytest.raises(error, match=f"POST {path}"):
        call(name, *args, timeout=0.1)
    assert provider.ledger().requests == 1


@pytest.mark.parametrize(("name", "args", "path"), CALLS)
def test_refusals_are_typed(call, provider: Provider, name, args, path):
    """With the seconds to wait."""
    provider.configure(path=path, rate_limit=RateLimit(rate=0.5, burst=1))
    call(name, *args)
    with pytest.raises(RateLimited) as caught:
        call(name, *args)
    assert 0 < caught.value.retry_after <= 2


def stream(provider, *, stop_after=10_000, timeout=30.0, messages=PROMPT):
    """Return the first pieces of a streamed answer."""

    async def main():
        pieces = []
        async with ServiceClient(provider.url, max_connections=1, timeout=timeout) as client:
            async with aclosing(client.stream_chat(messages)) as answer:
                async for piece in answer:
                    pieces.append(piece)
                    if len(pieces) == stop_after:
                        break
            await client.search("the connection is free again")
        return pieces

    return asyncio.run(main())


def test_a_stream_is_the_answer_piece_by_piece(provider: Provider):
    """All of it, as it is written."""
    provider.configure(path=CHAT, generation=Generation(0, 500))
    pieces = stream(provider)
    assert len(pieces) > 1
    assert "".join(pieces) == ANSWER


def test_a_stream_that_is_left_stops_at_the_provider(provider: Provider, eventually):
    """The ledger shows a call without an end, and the client's slot is free."""
    provider.configure(path=CHAT, generation=Generation(0, 20))
    assert stream(provider, stop_after=2) == ["A", " token"]
    eventually(lambda: provider.ledger().path(CHAT).dropped == 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"faults": Faults(error=1.0)}, Unavailable),
        ({"faults": Faults(drop=1.0)}, Unavailable),
        ({"generation": Generation(0, 1)}, TimedOut),
    ],
)
def test_a_stream_that_fails_is_typed(provider: Provider, change, error):
    """Before its first piece, or in the middle."""
    provider.configure(path=CHAT, **change)
    with pytest.raises(error, match=f"POST {CHAT}"):
        stream(provider, timeout=0.2)


def test_a_stream_has_its_time_for_each_piece(provider: Provider):
    """All of it together may take longer."""
    provider.configure(path=CHAT, generation=Generation(0, len(ANSWER.split()) / 1.5))
    assert "".join(stream(provider, timeout=1.0)) == ANSWER


def stream_from(answer, **options):
    """All that is streamed by a server that answers so, and then goes on with signs of life."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
            while not left.is_set():
                writer.write(b"X-Alive: yes\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    left = asyncio.Event()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = "http://{}:{}".format(*server.sockets[0].getsockname())
            try:
                async with ServiceClient(url, **options) as client:
                    return [piece async for piece in client.stream_chat("Hi")]
            finally:
                left.set()
                await asyncio.sleep(0.05)  # for it to see that

    return asyncio.run(main())


@pytest.mark.parametrize("answer", [b"", b"\r\n"])
def test_signs_of_life_are_no_piece(answer):
    """Neither in a stream nor in its head, which would go on for ever."""
    with pytest.raises(TimedOut, match=f"POST {CHAT} gave no answer within 0.2 s"):
        stream_from(answer, timeout=0.2)


@pytest.mark.parametrize("missing", [0, 1000])
def test_a_stream_that_breaks_off_is_typed(missing):
    """An answer without its end is not taken for a whole one, however the connection ended."""
    event = b'data: {"choices": [{"delta": {"content": "half"}}]}\n\n'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(event) + missing}\r\n\r\n"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + event)
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = "http://{}:{}".format(*server.sockets[0].getsockname())
            async with ServiceClient(url) as client:
                return [piece async for piece in client.stream_chat("Hi")]

    with pytest.raises(Unavailable, match=f"POST {CHAT}"):
        asyncio.run(main())


def test_a_stream_that_is_refused_says_why(provider: Provider):
    """With the provider's own words."""
    with pytest.raises(BadRequest, match="messages is missing"):
        stream(provider, messages=[])


def test_both_clients_take_the_same_arguments():
    """What is learned with one holds for the other."""
    for name in ("search", "rerank", "embed", "chat"):
        slow, fast = getattr(SyncServiceClient, name), getattr(ServiceClient, name)
        assert inspect.signature(slow) == inspect.signature(fast)
