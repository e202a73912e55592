"""Bodies of requests, and answers: what they carry, or an error that says what happened."""

import base64
import json
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from langchain_core.documents import Document

from course_lib.async_batch.wire import (
    chat_body,
    checked_url,
    documents,
    payload,
    ranked,
    reply,
    rerank_body,
    search_params,
    token,
    vectors,
)
from course_lib.errors import BadRequest, RateLimited, ServiceError, Unavailable

ERROR = json.dumps({"error": {"type": "x", "message": "say please"}}).encode()


def failure(
    status: int, headers: dict[str, str] | None = None, body: bytes = ERROR
) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        payload("GET /search", status, headers or {}, body)
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
        (302, Unavailable),
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


def test_a_good_status_with_a_broken_body_is_no_answer():
    """A 200 that is not JSON is a failure of the provider."""
    with pytest.raises(Unavailable, match="not JSON"):
        payload("GET /search", 200, {}, b"<html>")


def test_results_become_documents_in_their_order():
    """Text, id and metadata arrive where LangChain looks for them."""
    found = {"id": "a", "title": "A", "topic": "T", "text": "words", "score": 1.5}
    (document,) = documents({"query": "q", "results": [found]})
    assert (document.id, document.page_content) == ("a", "words")
    assert document.metadata == {"title": "A", "topic": "T", "score": 1.5}


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
        search_params(None, 5)
    with pytest.raises(BadRequest, match="cannot be sent"):
        search_params("a\udcff", 5)


def test_vectors_come_in_the_order_of_the_texts():
    """Whatever their order in the answer, packed or not."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    data = [{"index": 1, "embedding": [1.0, 2.0]}, {"index": 0, "embedding": packed}]
    assert vectors({"data": data}) == [[0.5, -1.0], [1.0, 2.0]]


def test_ranked_documents_have_their_new_score():
    """Id, text and the rest of the metadata stay."""
    document = Document("text", id="a", metadata={"score": 3.0, "title": "A"})
    results = [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0}]
    second, first = ranked({"results": results}, [document, Document("other")])
    assert (second.page_content, second.metadata) == ("other", {"score": 0.5})
    assert first == Document("text", id="a", metadata={"score": 0.0, "title": "A"})
    assert document.metadata["score"] == 3.0


def test_a_reply_without_usage_is_a_message_without_usage():
    """Not every provider counts."""
    message = reply({"choices": [{"message": {"content": None}}]})
    assert (message.content, message.usage_metadata) == ("", None)


def test_bodies_name_only_what_was_asked_for():
    """No limit that the caller did not set."""
    assert chat_body("Hi", "m", None) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert chat_body("Hi", "m", 5, stream=True)["max_completion_tokens"] == 5
    assert rerank_body("q", [Document("a")], None) == {"query": "q", "documents": ["a"]}


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
    assert token("POST /x", line) == text


@pytest.mark.parametrize(
    "line", [b"data: <html>", b"data: []", b'data: {"choices": [3]}', b'data: {"error": {}}']
)
def test_a_line_that_is_no_event_of_a_chat_is_an_error(line):
    """The provider failed in the middle of its answer."""
    with pytest.raises(Unavailable, match="POST /x answered with a stream"):
        token("POST /x", line)
