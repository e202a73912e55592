"""Requests, and answers: what they carry, or an error that says what happened."""

import base64
import json
import math
import struct
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from course_lib.async_batch.wire import (
    Decoder,
    authorization,
    chat_request,
    checked_url,
    embed_request,
    rerank_request,
    search_request,
    token,
)
from course_lib.errors import BadRequest, RateLimited, ServiceError, Unavailable

ERROR = json.dumps({"error": {"type": "x", "message": "say please"}}).encode()
TEN = [Document(f"text {number}", id=str(number)) for number in range(10)]
SEARCH = search_request("q", 5)
RERANK = rerank_request("q", TEN, None)
EMBED = embed_request(["a", "b", "c"], "m")
CHAT = chat_request("Hello?", "m", None)
REQUESTS = [SEARCH, RERANK, EMBED, CHAT]


def answer(request, value):
    """Read a good answer."""
    return request.answer(200, {}, json.dumps(value).encode())


def failure(
    status: int, headers: dict[str, str] | None = None, body: bytes = ERROR
) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        SEARCH.answer(status, headers or {}, body)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (404, BadRequest),
        (413, BadRequest),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (408, Unavailable),
        (425, Unavailable),
        (302, Unavailable),
        (307, Unavailable),
        (999, Unavailable),
    ],
)
def test_each_status_raises_its_own_error(status, kind):
    """The class tells a caller whether trying again may help."""
    assert type(failure(status)) is kind


def test_the_message_names_call_status_and_reason():
    """Whoever reads the message knows what was asked and what the provider said."""
    assert str(failure(400)) == "GET /search answered 400: say please"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b"\xff"])
def test_an_error_without_a_readable_reason_is_still_typed(body):
    """A body of any kind, as proxies send them, does not hide the status."""
    assert str(failure(502, body=body)) == "GET /search answered 502: no reason given"


def test_a_long_reason_is_cut():
    """An error page does not fill the learner's screen."""
    body = json.dumps({"error": {"message": "x" * 5000}}).encode()
    assert len(str(failure(500, body=body))) < 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "later"}, 0.0),
        ({}, 0.0),
    ],
)
def test_retry_after_is_read_in_seconds(headers, seconds):
    """The exact header wins, whole seconds come second, nonsense counts as not given."""
    error = failure(429, headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_retry_after_may_be_a_date():
    """RFC 9110 allows an HTTP date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = failure(429, {"Retry-After": date})
    assert isinstance(error, RateLimited)
    assert 0 < error.retry_after <= 60


def test_an_empty_account_is_no_rate_limit():
    """429 with `insufficient_quota`: waiting does not help, so it is not tried again."""
    body = json.dumps({"error": {"message": "pay", "code": "insufficient_quota"}}).encode()
    assert type(failure(429, {"Retry-After": "1"}, body)) is BadRequest


def test_a_redirect_says_what_to_do():
    """Without the address that it names: there may be a key in it."""
    error = failure(307, {"Location": "https://elsewhere.example/?key=s3cret"})
    assert "redirects are not followed" in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b"[" * 100_000, b"9" * 5_000, b"{"])
def test_a_good_status_with_a_broken_body_is_no_answer(body):
    """A 200 that is not JSON is a failure of the provider."""
    with pytest.raises(Unavailable, match="GET /search answered 200 with a body that is not JSON"):
        SEARCH.answer(200, {}, body)


FOUND = {"id": "a", "title": "A", "topic": "T", "text": "words", "score": 1.5}


def test_results_become_documents_in_their_order():
    """Text, id and metadata arrive where LangChain looks for them."""
    (document,) = answer(SEARCH, {"query": "q", "results": [FOUND]})
    assert (document.id, document.page_content) == ("a", "words")
    assert document.metadata == {"title": "A", "topic": "T", "score": 1.5}
    assert answer(SEARCH, {"results": []}) == []


HI = {"message": {"role": "assistant", "content": "hi"}}
VECTOR = {"index": 0, "embedding": [1.0, 2.0]}
PACKED = base64.b64encode(struct.pack("<2f", 0.5, math.nan)).decode()


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
@pytest.mark.parametrize("value", [None, [], {}, "text", 3, {"results": None}, {"data": {}}])
def test_another_shape_is_no_answer(request_, value):
    """It says which call was answered so."""
    with pytest.raises(Unavailable, match=f"{request_} answered 200 with what is no answer to it"):
        answer(request_, value)


@pytest.mark.parametrize(
    ("request_", "value", "reason"),
    [
        (SEARCH, {"hits": []}, "its shape is another"),
        (SEARCH, {"results": [FOUND | {"text": None}]}, "its shape is another"),
        (SEARCH, {"results": [FOUND | {"score": "high"}]}, "its shape is another"),
        (SEARCH, {"results": [FOUND | {"score": math.nan}]}, "its shape is another"),
        (RERANK, {"results": [{"index": -1, "relevance_score": 1}]}, "an index that nothing has"),
        (RERANK, {"results": [{"index": 10, "relevance_score": 1}]}, "an index that nothing has"),
        (RERANK, {"results": [{"index": True, "relevance_score": 1}]}, "an index that nothing"),
        (RERANK, {"results": [{"index": 0, "relevance_score": 1}] * 2}, "has two places"),
        (RERANK, {"results": [{"index": 0, "relevance_score": 1}] * 11}, "11 results, of which 10"),
        (RERANK, {"results": [{"index": 0, "relevance_score": 10**400}]}, "its shape is another"),
        (EMBED, {"data": []}, "0 vectors"),
        (EMBED, {"data": [VECTOR, VECTOR | {"index": 1}]}, "2 vectors, of 2 texts; 3 were sent"),
        (EMBED, {"data": [VECTOR] * 3}, "3 vectors, of 1 texts; 3 were sent"),
        (EMBED, {"data": [VECTOR | {"index": 3}]}, "an index that nothing has"),
        (EMBED, {"data": [VECTOR | {"embedding": None}]}, "its shape is another"),
        (EMBED, {"data": [VECTOR | {"embedding": []}]}, "a vector without numbers"),
        (EMBED, {"data": [VECTOR | {"embedding": ["1"]}]}, "its shape is another"),
        (EMBED, {"data": [VECTOR | {"embedding": "AAAA"}]}, "its shape is another"),
        (EMBED, {"data": [VECTOR | {"embedding": "A" * 5}]}, "its shape is another"),
        (EMBED, {"data": [VECTOR | {"embedding": PACKED}]}, "a vector without numbers"),
        (CHAT, {"choices": None}, "its shape is another"),
        (CHAT, {"choices": []}, "its shape is another"),
        (CHAT, {"choices": [{}]}, "its shape is another"),
        (CHAT, {"choices": [{"message": {"content": ["hi"]}}]}, "its shape is another"),
    ],
)
def test_what_cannot_be_an_answer_is_none(request_, value, reason):
    """Rather than a value that is wrong: nobody is handed a vector of another text."""
    with pytest.raises(Unavailable, match=f"{request_} answered 200 .*{reason}"):
        answer(request_, value)


def test_vectors_of_several_lengths_are_no_answer():
    """They come from several models."""
    data = [{"index": number, "embedding": [1.0] * (1 + number)} for number in range(3)]
    with pytest.raises(Unavailable, match="vectors of several lengths"):
        answer(EMBED, {"data": data})


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"message": "busy", "code": 429}, RateLimited, "answered 429: busy"),
        ({"message": "gone", "code": 404}, BadRequest, "answered 404: gone"),
        ({"message": "overloaded"}, Unavailable, "answered 200: overloaded"),
        ({"message": "pay", "code": "insufficient_quota"}, BadRequest, "answered 200: pay"),
        ({"message": "key s3cret is wrong"}, Unavailable, "answered 200: key [*]+ is wrong"),
    ],
)
@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_an_error_inside_a_good_answer_is_that_error(request_, error, kind, message):
    """Gateways send it so, where the provider behind them has failed."""
    body = json.dumps({"choices": None, "error": error}).encode()
    with pytest.raises(kind, match=f"{request_} {message}") as caught:
        request_.answer(200, {}, body, ["s3cret"])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("used", "counted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, (3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": None}, (3, 2, 5)),
        ({"total_tokens": 7}, None),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, None),
        ({"prompt_tokens": 3, "completion_tokens": -1}, None),
        ({"prompt_tokens": 3.5, "completion_tokens": True}, None),
        ("many", None),
        ([], None),
    ],
)
def test_a_good_text_with_its_usage_in_part_is_an_answer(used, counted):
    """The tokens are told where they are there."""
    message = answer(CHAT, {"choices": [HI], "usage": used, "model": ["m"]})
    found = message.usage_metadata
    assert message.content == "hi"
    assert message.response_metadata == {"model_name": None, "finish_reason": None}
    assert counted == (
        found and (found["input_tokens"], found["output_tokens"], found["total_tokens"])
    )


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://host", "http://"])
def test_an_address_that_is_not_http_is_refused(url):
    """The mistake is named before the first call."""
    with pytest.raises(ValueError, match="no http address"):
        checked_url(url)


def test_an_address_must_be_a_string():
    """A provider in place of its url, for one."""
    with pytest.raises(TypeError, match=r"provider\.url"):
        checked_url(object())


def test_a_query_must_be_text_that_can_be_sent():
    """Refused alike by both clients, before anything is sent."""
    with pytest.raises(TypeError, match="not a string"):
        search_request(None, 5)
    with pytest.raises(BadRequest, match="cannot be sent"):
        search_request("a\udcff", 5)


def test_user_and_password_of_an_address_go_into_a_header():
    """Unquoted, as UTF-8; without them there is none."""
    said = base64.b64encode("user:p/w é".encode()).decode()
    assert authorization("http://user:p%2Fw%20%C3%A9@host") == {"Authorization": f"Basic {said}"}
    assert authorization("http://token@host") != {}
    assert authorization("http://host") == {}


def test_vectors_come_in_the_order_of_the_texts():
    """Whatever their order in the answer, packed or not."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    data = [{"index": 1, "embedding": [1, 2.0]}, {"index": 0, "embedding": packed}]
    assert answer(embed_request(["a", "b"], "m"), {"data": data}) == [[0.5, -1.0], [1.0, 2.0]]


def test_ranked_documents_have_their_new_score():
    """Id, text and the rest of the metadata stay."""
    document = Document("text", id="a", metadata={"score": 3.0, "title": "A"})
    results = [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0}]
    request = rerank_request("q", [document, Document("other")], None)
    second, first = answer(request, {"results": results})
    assert (second.page_content, second.metadata) == ("other", {"score": 0.5})
    assert first == Document("text", id="a", metadata={"score": 0.0, "title": "A"})
    assert document.metadata["score"] == 3.0


def test_no_more_documents_come_back_than_were_asked_for():
    """Fewer may."""
    request = rerank_request("q", TEN, 2)
    results = [{"index": number, "relevance_score": 1} for number in range(3)]
    assert len(answer(request, {"results": results[:2]})) == 2
    assert len(answer(request, {"results": results[:1]})) == 1
    with pytest.raises(Unavailable, match="3 results, of which 2 were asked for"):
        answer(request, {"results": results})


def test_a_reply_without_usage_is_a_message_without_usage():
    """Not every provider counts."""
    message = answer(CHAT, {"choices": [{"message": {"content": None}}]})
    assert (message.content, message.usage_metadata) == ("", None)


def test_bodies_name_only_what_was_asked_for():
    """No limit that the caller did not set."""
    messages = [{"role": "user", "content": "Hi"}]
    assert json.loads(chat_request("Hi", "m", None).body) == {"model": "m", "messages": messages}
    streamed = json.loads(chat_request("Hi", "m", 5, stream=True).body)
    assert (streamed["max_completion_tokens"], streamed["stream"]) == (5, True)
    reranked = rerank_request("q", [Document("a")], None)
    assert json.loads(reranked.body) == {"query": "q", "documents": ["a"]}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'data: {"choices": [{"delta": {"content": "a b"}}]}\n', "a b"),
        (b'data:{"choices": [{"delta": {"content": null}}]}\r\n', ""),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n', ""),
        (b'data: {"choices": [], "usage": {}}\n', ""),
        (b"data: [DONE]\n", None),
        (b": a comment to keep the line open\n", ""),
        (b"event: ping\n", ""),
        (b"\n", ""),
        (b"", ""),
    ],
)
def test_a_line_of_a_stream_carries_text_or_nothing(line, text):
    """As Server-Sent Events have it."""
    assert token(CHAT, 200, line) == text


@pytest.mark.parametrize(
    "line",
    [
        *(b"data: <html>", b"data: []", b"data: null", b'data: {"choices": [3]}'),
        *(b'data: {"error": {}}', b'data: {"choices": [{"delta": {"content": 3}}]}'),
        *(b"data: " + b"[" * 100_000, b"data: \xff"),
    ],
)
def test_a_line_that_is_no_event_of_a_chat_is_an_error(line):
    """The provider failed in the middle of its answer."""
    with pytest.raises(Unavailable, match="POST /v1/chat/completions answered with a stream"):
        token(CHAT, 200, line)


def test_an_error_in_a_stream_is_that_error():
    """It cannot have a status any more."""
    with pytest.raises(RateLimited, match=r"answered 429: slow [*]+ down"):
        token(
            CHAT, 200, b'data: {"error": {"message": "slow s3cret down", "code": 429}}', ["s3cret"]
        )
    with pytest.raises(Unavailable, match="answered 200: out of memory"):
        token(CHAT, 200, b'data: {"error": {"message": "out of memory"}}')


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "GZIP", "identity", ""])
@given(data=st.binary(max_size=2_000), cuts=st.lists(st.integers(0, 2_000), max_size=5))
def test_a_body_is_decompressed_as_it_comes(coding, data, cuts):
    """However it is cut up."""
    sent = data
    if coding not in {"identity", ""}:
        packing = zlib.compressobj(wbits=15 if coding == "deflate" else 31)
        sent = packing.compress(data) + packing.flush()
    decoder = Decoder(SEARCH, {"Content-Encoding": coding} if coding else {})
    places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[a:b] for a, b in pairwise(places)]
    assert b"".join(map(decoder.decode, pieces)) == data


@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_no_more_is_taken_of_a_body_than_there_is_room_for(coding):
    """Nor is more decompressed: a thousand times as much may be packed in it."""
    data = bytes(10_000)
    if coding == "gzip":
        packing = zlib.compressobj(wbits=31)
        data = packing.compress(bytes(100_000_000)) + packing.flush()
    decoder = Decoder(SEARCH, {"Content-Encoding": coding}, most=9_999)
    with pytest.raises(Unavailable, match="GET /search answered with more than 9999 bytes"):
        decoder.decode(data)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip, deflate", "?"])
def test_an_encoding_that_was_not_asked_for_is_refused(coding):
    """Nobody here can bound it."""
    with pytest.raises(Unavailable, match="not asked for"):
        Decoder(SEARCH, {"Content-Encoding": coding})


def test_broken_compression_is_an_error_of_the_tree():
    """Told by zlib, and by nobody beyond."""
    with pytest.raises(Unavailable, match="broken compression"):
        Decoder(SEARCH, {"Content-Encoding": "gzip"}).decode(b"hello")
