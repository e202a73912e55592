"""Reading the answers of models: vectors, ranks, messages, events of a stream."""

import base64
import struct

import pytest
from langchain_core.documents import Document

from course_lib.async_batch.model_wire import chat_body, ranked, reply, rerank_body, token, vectors
from course_lib.errors import Unavailable


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
