"""Servers that misbehave: whatever they answer, both clients raise errors of the tree."""

import asyncio
import gzip
import json
import re
from contextlib import aclosing
from functools import cache

import pytest
from fake_server import fake_server, http
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from course_lib.async_batch import ServiceClient, SyncServiceClient, wire
from course_lib.errors import BadRequest, ServiceError, TimedOut, Unavailable

CHAT = "/v1/chat/completions"
PROMPT = "a prompt that stays here"
CALLS = {
    "search": ("q",),
    "rerank": ("q", [Document("a"), Document("b")]),
    "embed": (["a", "b"],),
    "chat": (PROMPT,),
}
GOOD = {
    "search": {"results": []},
    "rerank": {"results": [{"index": 1, "relevance_score": 1}]},
    "embed": {"data": [{"index": number, "embedding": [1.0]} for number in range(2)]},
    "chat": {"choices": [{"message": {"content": "hi"}}]},
}
MEBIBYTE = bytes(2**20)


@pytest.fixture(scope="module")
def shared():
    """One server for a module's tests."""
    with fake_server() as server:
        yield server


@pytest.fixture
def server(shared):
    """A server that has been asked nothing yet."""
    shared.reply = b""
    shared.requests.clear()
    return shared


def ask_async(url, name, *, timeout=30.0):
    """Make a call with the async client; a stream is read to its end."""

    async def main():
        async with ServiceClient(url, timeout=timeout) as client:
            if name != "stream":
                return await getattr(client, name)(*CALLS[name])
            async with aclosing(client.stream_chat(PROMPT)) as pieces:
                return [piece async for piece in pieces]

    return asyncio.run(main())


def ask_sync(url, name, *, timeout=30.0):
    """Make a call with the sync client."""
    with SyncServiceClient(url, timeout=timeout) as client:
        return getattr(client, name)(*CALLS[name])


EACH_CLIENT = pytest.mark.parametrize("ask", [ask_async, ask_sync])
EACH = pytest.mark.parametrize(
    ("ask", "name"),
    [
        *((ask, name) for ask in (ask_async, ask_sync) for name in ("search", "chat")),
        (ask_async, "stream"),
    ],
)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ODD = [
    b"",
    b"\r\n\r\n",
    b"hello\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 99999999 OK\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n{}",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"-ERR unknown command\r\n",
    b"\x15\x03\x01\x00\x02\x02\x16",
    OK,
    OK + b"\r\n",
    OK + b"Content-Length: -1\r\n\r\n{}",
    OK + b"Content-Length: many\r\n\r\n{}",
    OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    OK + b"Content-Length: 100\r\n\r\n{}",
    OK + b"no colon\r\n\r\n{}",
    OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n{}",
    OK + b"X: a\r\n" * 1_000 + b"\r\n{}",
    OK + b"X\0: \xff\r\n\r\n{}",
    OK + b"Set-Cookie: \xff=\0; Expires=never\r\n\r\n{}",
    OK + b"Content-Type: application/json; charset=klingon\r\n\r\n[]",
    CHUNKED + b"zz\r\n",
    CHUNKED + b"5\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"-1\r\n{}",
    CHUNKED + b"f" * 100 + b"\r\n{}",
    OK + b"Transfer-Encoding: nonsense\r\nContent-Length: 2\r\n\r\n[]",
    http(b"{}", "Content-Encoding: gzip"),
    http(gzip.compress(b"{}")[:-5], "Content-Encoding: gzip"),
    http(b"{}", "Content-Encoding: br"),
    http(gzip.compress(gzip.compress(b"{}")), "Content-Encoding: gzip, gzip"),
    http(status=204),
    http(status=304),
    http(b"<html>", status=502),
    http(b"{}", status=999),
    *(
        http(b"moved", f"Location: {place}", status=status)
        for status, place in [
            (301, ""),
            (302, "http://["),
            (303, "//"),
            (307, "http://" + "a" * 300 + ".example"),
            (308, "javascript:alert(1)"),
            (302, "http://127.0.0.1:99999/"),
            (302, "\xff\xfe"),
            (302, "/v1"),
        ]
    ),
]


@EACH
@pytest.mark.parametrize("reply", ODD, ids=range(len(ODD)))
def test_what_is_no_answer_is_an_error_of_the_tree(server, ask, name, reply):
    """No error of an HTTP library comes through, nor one of this package's own reading."""
    server.reply = reply
    with pytest.raises(ServiceError):
        ask(server.url, name, timeout=5.0)
    assert len(server.requests) == 1


@EACH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_carries_nothing_elsewhere(server, ask, name, status):
    """Neither to another host nor to another path: a call is one request."""
    with fake_server(http(b"{}")) as elsewhere:
        for place in (elsewhere.url, server.url):
            server.reply = http(b"", f"Location: {place}/elsewhere", status=status)
            with pytest.raises(Unavailable, match=f"answered {status}: redirects are not followed"):
                ask(server.url, name)
        assert elsewhere.requests == []
    assert len(server.requests) == 2


@cache
def bomb():
    """Compress a hundred megabytes; not where tests are only collected."""
    return gzip.compress(MEBIBYTE * 100, 1)


@EACH
@pytest.mark.parametrize("status", [200, 302, 429])
def test_a_body_has_a_bound_when_it_is_compressed(server, ask, name, status):
    """Some hundred kilobytes that stand for a hundred megabytes are given up, or never read."""
    server.reply = http(bomb(), "Content-Encoding: gzip", "Location: /", status=status)
    with pytest.raises(Unavailable, match=r"more than \d+ bytes|redirects are not followed"):
        ask(server.url, name)


@EACH
def test_a_body_without_end_has_a_bound(server, ask, name):
    """It is given up in the middle, and its connection closed."""

    async def reply(writer):
        writer.write(CHUNKED)
        while True:
            writer.write(b"100001\r\n:" + MEBIBYTE[:-1] + b"\n\r\n")
            await writer.drain()

    server.reply = reply
    with pytest.raises(Unavailable, match=f"answered with more than {64 * 2**20} bytes"):
        ask(server.url, name)


def test_a_stream_without_lines_has_a_bound(server):
    """An event that does not end is not kept for ever."""

    async def reply(writer):
        writer.write(CHUNKED)
        while True:
            writer.write(b"100000\r\n" + MEBIBYTE + b"\r\n")
            await writer.drain()

    server.reply = reply
    with pytest.raises(Unavailable, match="answered with an event of more than"):
        ask_async(server.url, "stream")


@EACH
def test_an_answer_that_drips_is_given_up(server, ask, name):
    """The time is that of a call, not of each of its bytes."""

    async def reply(writer):
        writer.write(OK + b"Content-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    server.reply = reply
    with pytest.raises(TimedOut, match=r"gave no answer within 0\.3 s"):
        ask(server.url, name, timeout=0.3)


@EACH_CLIENT
@pytest.mark.parametrize("name", CALLS)
def test_a_compressed_answer_is_an_answer(server, ask, name):
    """With a length, and in pieces."""
    packed = gzip.compress(json.dumps(GOOD[name]).encode())
    server.reply = http(packed, "Content-Encoding: gzip")
    whole = ask(server.url, name)
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in packed)
    server.reply = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + pieces
    server.reply += b"0\r\n\r\n"
    assert ask(server.url, name) == whole
    assert b"accept-encoding: gzip, deflate\r\n" in server.requests[0].lower()


def test_a_compressed_stream_is_a_stream(server):
    """Cut up anywhere."""
    events = b"".join(
        b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"
        for text in "hello"
    )
    packed = gzip.compress(events + b"data: [DONE]\n\n")
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    server.reply = head + b"".join(b"1\r\n%c\r\n" % byte for byte in packed) + b"0\r\n\r\n"
    assert ask_async(server.url, "stream") == list("hello")


# --- what nobody may see --------------------------------------------------------------------------

PASSWORD = "s3cret/wörd"  # noqa: S105 - of nobody
WRITTEN = "s3cret%2Fw%C3%B6rd"


@EACH
def test_user_and_password_are_sent_and_shown_nowhere(server, ask, name):
    """Neither by the clients nor in an error that quotes what was sent; a call needs no other."""
    url = server.url.replace("://", f"://user:{WRITTEN}@")
    said = []
    for status in (401, 307, 500):
        body = json.dumps(
            {"error": {"message": f"no: {PASSWORD} {WRITTEN} dXNlcjpzM2NyZXQvd8O2cmQ="}}
        )
        server.reply = http(body.encode(), f"Location: {url}", status=status)
        with pytest.raises(ServiceError) as caught:
            ask(url, name)
        said.append(f"{caught.value} {caught.value.__cause__}")
    closed = url.replace(re.search(r":(\d+)$", server.url)[1], "1")
    with pytest.raises(Unavailable) as caught:
        ask(closed, name)
    said += [str(caught.value), repr(ServiceClient(url)), repr(SyncServiceClient(url))]
    assert not any(secret in text for text in said for secret in ("s3cret", "dXNlcjpz"))
    assert all(b"authorization: basic dxnlcj" in each.lower() for each in server.requests)
    assert PASSWORD.encode() not in b"".join(server.requests)


@EACH_CLIENT
def test_what_is_answered_once_is_not_tried_again(server, ask):
    """429 with `insufficient_quota` is told apart by its code, not by its words."""
    for code, kind in [("insufficient_quota", "BadRequest"), ("slow_down", "RateLimited")]:
        body = json.dumps({"error": {"message": "insufficient_quota", "code": code}}).encode()
        server.reply = http(body, "Retry-After: 3", status=429)
        with pytest.raises(ServiceError) as caught:
            ask(server.url, "chat")
        assert type(caught.value).__name__ == kind
    assert issubclass(BadRequest, ServiceError)


# --- fuzzed ---------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        *("results", "data", "choices", "error", "message", "code", "content", "delta", "usage"),
        *("index", "embedding", "id", "text", "title", "topic", "score", "relevance_score"),
        *("prompt_tokens", "completion_tokens", "total_tokens", "model", "finish_reason"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([10**400, 1e308, "gAAA", "AAAAAA==", "AACAPwAAgD8=", "\ud800", 429, 503]),
    st.floats(),
    st.text(st.characters(), max_size=5),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def near(draw, value):
    """Make JSON that is nearly a good answer: here and there something else stands in it."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    if isinstance(value, list):
        kept = [
            draw(near(each)) for each in value for _ in range(draw(st.sampled_from([1, 1, 0, 2])))
        ]
        return draw(st.permutations(kept))
    if isinstance(value, dict):
        return {k: draw(near(v)) for k, v in value.items() if draw(st.integers(0, 9))}
    return value


FULL = {
    "search": {
        "results": [{"id": "a", "text": "t", "title": "T", "topic": "o", "score": 0.5}] * 2,
    },
    "rerank": {"results": [{"index": i, "relevance_score": 0.5} for i in range(2)]},
    "embed": {"data": [{"index": i, "embedding": "AACAPwAAgD8="} for i in range(2)]},
    "chat": {
        "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "model": "m",
    },
}
FULL["stream"] = {"choices": [{"delta": {"content": "hi"}}]}
FITS = {
    "search": lambda found: all(isinstance(each, Document) for each in found),
    "rerank": lambda found: len(found) <= 2 and all(isinstance(each, Document) for each in found),
    "embed": lambda found: len(found) == 2 and all(found) and len({*map(len, found)}) == 1,
    "chat": lambda found: isinstance(found.content, str),
    "stream": lambda found: all(isinstance(each, str) for each in found),
}
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 408, 425, 429, 500, 600])
HEADERS = st.lists(
    st.sampled_from(
        [
            *("Retry-After: -1", "Retry-After: 1e400", "Retry-After: \xff", "retry-after-ms: nan"),
            *("Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: identity"),
            *("Location: http://[", "Content-Type: text/html; charset=\xff", "Set-Cookie: \xff"),
        ]
    ),
    max_size=2,
)


def check(ask, name, server):
    """A call gives what it promises, or an error of the tree."""
    try:
        found = ask(server.url, name)
    except ServiceError:
        return
    assert FITS[name](found)


@st.composite
def answers(draw):
    """Make nearly good answers: what was asked, and the bytes that come back."""
    name, headers = draw(st.sampled_from(sorted(FULL))), draw(HEADERS)
    body = json.dumps(draw(near(FULL[name]))).encode()
    if name == "stream":
        body = b"data: " + body + b"\n\ndata: [DONE]\n\n"
    if headers and headers[0].endswith("gzip"):
        body = gzip.compress(body)
    return name, http(body, *headers, status=draw(STATUSES))


@EACH_CLIENT
def test_no_answer_gets_past_the_tree(shared, ask):
    """Nearly good ones, of every status, compressed or not."""

    @given(answers())
    def receive(answer):
        name, shared.reply = answer
        check(ask if name in CALLS else ask_async, name, shared)

    receive()


@EACH_CLIENT
def test_no_bytes_get_past_the_tree(shared, ask):
    """What is hardly HTTP, and bodies of any bytes."""
    heads = st.sampled_from([b"", OK, OK + b"\r\n", CHUNKED, OK + b"Content-Length: 5\r\n\r\n"])
    ends = st.sampled_from([b"", b"\r\n\r\n", b"0\r\n\r\n"])

    @given(st.sampled_from(sorted(FULL)), heads, st.binary(max_size=60), ends)
    def receive(name, head, body, end):
        shared.reply = head + body + end
        check(ask if name in CALLS else ask_async, name, shared)

    receive()


@given(name=st.sampled_from(sorted(CALLS)), data=st.data(), status=STATUSES)
def test_no_json_gets_past_the_reader(name, data, status):
    """The one that both clients have, without any server."""
    request = {
        "search": wire.search_request("q", 5),
        "rerank": wire.rerank_request(*CALLS["rerank"], None),
        "embed": wire.embed_request(*CALLS["embed"], "m"),
        "chat": wire.chat_request(PROMPT, "m", None),
    }[name]
    body = json.dumps(data.draw(near(FULL[name]) | JSON)).encode()
    try:
        found = request.answer(status, {}, body)
    except ServiceError:
        return
    assert FITS[name](found)
