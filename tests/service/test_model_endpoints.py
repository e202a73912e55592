"""Embeddings, rerank and chat over the wire, without any client's help."""

import asyncio
import base64
import http.client
import json
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pytest

from course_lib.service import (
    Behaviour,
    Capacity,
    Faults,
    Generation,
    Latency,
    RateLimit,
    TokenLimit,
)
from course_lib.service import model_replies as replies
from course_lib.service.app import App
from course_lib.service.engine import Engine
from course_lib.service.knowledge.corpus import Passage
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.lexical import LexicalIndex
from course_lib.service.knowledge.model import ModelError
from course_lib.service.model_requests import LONGEST_ANSWER, LONGEST_PROMPT, EmbeddingRequest

CHAT = "/v1/chat/completions"
BUCKET = (
    "A token bucket holds at most a number of tokens. It is refilled at a steady rate. "
    "Cats are not involved."
)
PROMPT = f"[cats] Cats sleep.\n\n[bucket] {BUCKET}\n\nQuestion: How is a token bucket refilled?"
ANSWER = (
    "A token bucket holds at most a number of tokens. It is refilled at a steady rate. [bucket]"
)


def send(provider, path, data, method="POST"):
    """Make a request and leave the answer to be read."""
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=60)
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    connection.request(method, path, body)
    return connection, connection.getresponse()


def post(provider, path, data, method="POST"):
    """Make a request and return status and JSON."""
    connection, response = send(provider, path, data, method)
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def get(provider, path):
    """Ask for something and return status and JSON."""
    return post(provider, path, b"", "GET")


def chat(provider, prompt=PROMPT, **fields):
    """Ask for the answer to a prompt."""
    return post(provider, CHAT, {"messages": [{"role": "user", "content": prompt}], **fields})


def stream(provider, prompt=PROMPT, **fields):
    """Ask for a streamed answer and return its events."""
    data = {"messages": [{"role": "user", "content": prompt}], "stream": True, **fields}
    connection, response = send(provider, CHAT, data)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    text = response.read().decode()
    connection.close()
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def test_one_text_or_many_become_vectors(provider):
    """In their order, with their tokens counted and the model named."""
    status, one = post(provider, "/v1/embeddings", {"input": "a b"})
    _, many = post(provider, "/v1/embeddings", {"input": ["c", "a b"], "model": "any"})
    assert status == 200
    assert one["model"] == "all-MiniLM-L6-v2-int8"
    assert one["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert [each["index"] for each in many["data"]] == [0, 1]
    assert many["data"][1]["embedding"] == one["data"][0]["embedding"]
    assert len(one["data"][0]["embedding"]) == 384


def test_base64_carries_the_same_vector(provider):
    """Little-endian float32, as OpenAI's client reads it."""
    _, floats = post(provider, "/v1/embeddings", {"input": "loop"})
    _, packed = post(provider, "/v1/embeddings", {"input": "loop", "encoding_format": "base64"})
    found = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    assert found.tolist() == floats["data"][0]["embedding"]


def test_rerank_puts_the_best_first(provider):
    """By cosine, with the positions of the documents; `top_n` bounds them."""
    data = {"query": "sleeping animals", "documents": ["A steady rate.", {"text": "Cats sleep."}]}
    status, answer = post(provider, "/rerank", data)
    assert status == 200
    assert answer["model"] == "cascade-all-MiniLM-L6-v2-int8"
    assert [each["index"] for each in answer["results"]] == [1, 0]
    scores = [each["relevance_score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert post(provider, "/rerank", data | {"top_n": 1})[1]["results"] == answer["results"][:1]


def test_a_chat_is_answered_from_its_passages(provider):
    """With the id; the same question has the same answer, to the byte."""
    status, answer = chat(provider, temperature=2, model="gpt-9")
    assert status == 200
    assert answer["model"] == "stand-in-reader"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": ANSWER, "refusal": None}
    assert choice["finish_reason"] == "stop"
    used = answer["usage"]
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    assert chat(provider)[1] == answer
    (first, _) = provider.ledger().calls
    assert (first.query, first.tokens) == ("How is a token bucket refilled?", used["total_tokens"])


def test_content_may_come_in_parts(provider):
    """As some clients send it."""
    parts = [{"type": "text", "text": f"[bucket] {BUCKET}"}, {"type": "text", "text": "Bucket?"}]
    assert "[bucket]" in chat(provider, parts)[1]["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": ""},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": []},
    ],
)
def test_only_a_user_has_to_say_something(provider, message):
    """Empty instructions, and answers that were calls of a tool, are part of real conversations."""
    asked = [message, {"role": "user", "content": PROMPT}]
    status, answer = post(provider, CHAT, {"messages": asked})
    assert (status, answer["choices"][0]["message"]["content"]) == (200, ANSWER)


def test_an_answer_is_cut_where_asked(provider):
    """And says that it was; both names of the field are known."""
    for name in ("max_tokens", "max_completion_tokens"):
        (choice,) = chat(provider, **{name: 3})[1]["choices"]
        assert choice["message"]["content"] == "A token bucket"
        assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("stop", "left"),
    [
        (" refilled", "A token bucket holds at most a number of tokens. It is"),
        (["zebra", "."], "A token bucket holds at most a number of tokens"),
        (["rate", "bucket holds"], "A token"),
        ([], ANSWER),
    ],
)
def test_an_answer_ends_before_the_first_of_its_stops(provider, stop, left):
    """Whole and streamed, with the tokens that are left."""
    answer = chat(provider, stop=stop)[1]
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == left
    assert choice["finish_reason"] == "stop"
    events = stream(provider, stop=stop, stream_options={"include_usage": True})
    pieces = [each["delta"].get("content", "") for event in events for each in event["choices"]]
    assert "".join(pieces) == choice["message"]["content"]
    assert events[-1]["usage"] == answer["usage"]


def test_an_answer_that_stops_before_it_begins_is_empty(provider):
    """It has taken the time to its first token, whole or streamed."""
    generation = Generation(first_token=0.1, tokens_per_second=200)
    provider.configure(path=CHAT, generation=generation)
    answer = chat(provider, stop="A token")[1]
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["usage"]["completion_tokens"] == 0
    assert len(stream(provider, stop="A token")) == 2
    for call in provider.ledger().calls:
        assert call.end - call.start >= 0.1


def test_a_stream_is_the_same_answer_in_pieces(provider):
    """The role comes with the first piece, the reason to end with an empty one."""
    events = stream(provider)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    assert [delta.get("role") for delta in deltas][:2] == ["assistant", None]
    assert [event["choices"][0]["finish_reason"] for event in events][-2:] == [None, "stop"]
    assert {event["id"] for event in events} == {chat(provider)[1]["id"]}


def test_a_stream_ends_with_its_usage_where_asked(provider):
    """In an event of its own without choices."""
    *_, last = stream(provider, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == chat(provider)[1]["usage"]


def test_a_stream_comes_token_by_token_at_its_speed(provider):
    """Whole and streamed answers take the generation's time, on the provider's own clock."""
    generation = Generation(first_token=0.1, tokens_per_second=200)
    provider.configure(path=CHAT, generation=generation)
    events = stream(provider)
    used = chat(provider)[1]["usage"]["completion_tokens"]
    assert 2 < len(events) <= used + 1
    for call in provider.ledger().calls:
        assert call.end - call.start >= generation.work(used)


def test_generations_at_once_slow_each_other_down(provider):
    """Two of 0.2 s without a gain take 0.4 s: the second began while the first was read."""
    provider.configure(path=CHAT, generation=Generation(0.2, 1000, gain=0))
    data = {"messages": [{"role": "user", "content": "Hello?"}]}
    both = []
    for _ in range(2):
        connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=60)
        connection.request("POST", CHAT, json.dumps(data))
        both.append(connection)
    for connection in both:
        connection.getresponse().read()
        connection.close()
    calls = provider.ledger().calls
    overlap = min(call.end for call in calls) - max(call.start for call in calls)
    longest = max(call.end - call.start for call in calls)
    assert longest >= 0.2 + overlap / 2 - 0.01


def test_a_stream_stops_when_the_client_leaves(provider, eventually):
    """The slot is free again, and the ledger has the tokens that were written."""
    provider.configure(
        path=CHAT, generation=Generation(0, 20), capacity=Capacity(1, queue=0), latency=None
    )
    data = {"messages": [{"role": "user", "content": PROMPT}], "stream": True}
    connection, response = send(provider, CHAT, data)
    response.read(1)
    assert chat(provider)[0] == 429
    response.close()
    connection.close()
    eventually(lambda: provider.ledger().dropped == 1)
    (gone,) = (call for call in provider.ledger().calls if call.status == 0)
    provider.configure(path=CHAT, generation=None)
    whole = chat(provider)[1]["usage"]
    assert whole["prompt_tokens"] < gone.tokens < whole["total_tokens"]


def test_a_token_limit_says_when_to_come_back(provider):
    """429 with `Retry-After`; a request that could never be let in is refused for good."""
    used = chat(provider, max_tokens=5)[1]["usage"]["total_tokens"]
    provider.configure(path=CHAT, token_limit=TokenLimit(used))
    assert chat(provider, max_tokens=5)[0] == 200
    connection, response = send(
        provider, CHAT, {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
    )
    assert (response.status, int(response.headers["Retry-After"]) > 1) == (429, True)
    assert "too many tokens" in response.read().decode()
    connection.close()
    status, answer = chat(provider)
    assert status == 400
    assert "are allowed a minute" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/embeddings", {"input": "a"}),
        ("/rerank", {"query": "a", "documents": ["b"]}),
        (CHAT, {"messages": [{"role": "user", "content": "a"}]}),
        (CHAT, {"messages": [{"role": "user", "content": "a"}], "stream": True}),
    ],
)
def test_limits_and_faults_reach_every_endpoint(provider, path, data):
    """Each goes through the engine, by its own behaviour, and stands in its ledger."""
    provider.configure(path=path, faults=Faults(error=1))
    assert post(provider, path, data)[0] == 500
    provider.configure(path=path, faults=None, rate_limit=RateLimit(0.001, 1))
    assert post(provider, path, data | {"stream": False})[0] == 200
    assert post(provider, path, data)[0] == 429
    part = provider.ledger().path(path)
    assert (part.requests, part.errors, part.answered, part.rejected) == (3, 1, 1, 1)


def test_the_models_are_listed_and_say_what_they_are(provider):
    """The chat model stands in, the reranker is no cross-encoder."""
    listed = get(provider, "/v1/models")[1]["data"]
    assert [each["id"] for each in listed] == [
        "stand-in-reader",
        "all-MiniLM-L6-v2-int8",
        "cascade-all-MiniLM-L6-v2-int8",
    ]
    assert "no LLM" in listed[0]["description"]
    assert "No cross-encoder" in listed[2]["description"]
    assert provider.ledger().path("/v1/models").answered == 1


def test_one_model_is_told_by_its_name(provider):
    """As it stands in the list; it counts as a look at the list."""
    for each in get(provider, "/v1/models")[1]["data"]:
        name = each["id"].replace("-", "%2D")
        assert get(provider, f"/v1/models/{name}") == (200, each)
    status, answer = get(provider, "/v1/models/meta/gpt-9")
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "no model 'meta/gpt-9': there is stand-in-reader" in error["message"]
    seen = provider.ledger().path("/v1/models")
    assert [call.status for call in seen.calls] == [200, 200, 200, 200, 404]
    assert seen.calls[1].query == "stand-in-reader"


TOOL = {"type": "function", "function": {"name": "look_up"}}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("tools", [TOOL], "calls no tools"),
        ("tools", [], "calls no tools"),
        ("tool_choice", "none", "calls no tools"),
        ("parallel_tool_calls", False, "calls no tools"),
        ("functions", [{"name": "look_up"}], "calls no tools"),
        ("function_call", "auto", "calls no tools"),
        ("response_format", {"type": "json_object"}, "writes no JSON"),
        ("response_format", "json", "writes no JSON"),
        ("logprobs", True, "no token by its probability"),
        ("logprobs", 1, "true or false"),
        ("top_logprobs", 3, "no token by its probability"),
        ("modalities", ["text", "audio"], "it writes text"),
        ("n", 2, "one answer"),
        ("n", True, "one answer"),
        ("stream_options", {"include_usage": True}, "stream_options are for streams"),
        ("stream_options", True, "an object"),
    ],
)
def test_what_it_does_not_do_is_refused_and_never_ignored(provider, field, value, reason):
    """400 that names the field, and why: who sends tools would wait for a call of one."""
    status, answer = chat(provider, **{field: value})
    assert (status, answer["error"]["param"]) == (400, field)
    assert reason in answer["error"]["message"]
    assert provider.ledger().peak_in_flight == 0


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(
            ["tools", "tool_choice", "response_format", "logprobs", "n", "stream_options"]
        ),
        {"n": 1, "logprobs": False, "response_format": {"type": "text"}, "modalities": ["text"]},
        {"stream": False, "temperature": 2, "seed": 7, "user": "me", "metadata": {}},
    ],
)
def test_what_it_does_anyway_may_be_asked_for(provider, fields):
    """The values that stand for what it does, and null."""
    assert chat(provider, **fields)[0] == 200


def test_answers_have_the_fields_that_clients_look_for(provider):
    """`refusal` in the message; in a stream that ends with its usage, none in the other events."""
    (choice,) = chat(provider)[1]["choices"]
    assert choice["message"]["refusal"] is None
    first, *between, last = stream(provider, stream_options={"include_usage": True})
    assert first["choices"][0]["delta"]["refusal"] is None
    assert [event["usage"] for event in (first, *between)] == [None] * (1 + len(between))
    assert last["usage"]["total_tokens"] > 0
    assert all("usage" not in event for event in stream(provider))


def test_a_stream_tells_its_id_and_limits_before_it_begins(provider):
    """As an answer in one piece does."""
    provider.configure(path=CHAT, rate_limit=RateLimit(1, 5), token_limit=TokenLimit(1000))
    data = {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 50, "stream": True}
    for streamed in (True, False):
        connection, response = send(provider, CHAT, {**data, "stream": streamed})
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["x-ratelimit-limit-requests"] == "5"
        assert response.headers["x-ratelimit-limit-tokens"] == "1000"
        assert 900 <= int(response.headers["x-ratelimit-remaining-tokens"]) < 1000
        response.read()
        connection.close()


def test_a_prompt_that_is_too_long_has_the_code_that_clients_know(provider):
    """`context_length_exceeded`; what a limit can never hold has another one."""
    error = chat(provider, "a " * 9000)[1]["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    provider.configure(path=CHAT, token_limit=TokenLimit(1))
    assert chat(provider)[1]["error"]["code"] == "request_too_large"


MANY = ["a"] * 2049
ASKED = {"messages": [{"role": "user", "content": "a"}]}
TEXT = {"type": "text", "text": "What is it?"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("/v1/embeddings", b"{", "not JSON"),
        ("/v1/embeddings", {}, "input is missing or empty"),
        ("/v1/embeddings", {"input": []}, "input is missing or empty"),
        ("/v1/embeddings", {"input": ""}, r"input[0] is empty"),
        ("/v1/embeddings", {"input": ["a", " "]}, r"input[1] is empty"),
        ("/v1/embeddings", {"input": ["a", 3]}, r"input[1] is empty or not a text"),
        ("/v1/embeddings", {"input": ["\ud800"]}, r"input[0] is empty or not a text"),
        ("/v1/embeddings", {"input": [[1, 2]]}, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": [1, 2]}, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": MANY}, "input has 2049 texts: at most 2048"),
        ("/v1/embeddings", {"input": [None]}, r"input[0] is empty or not a text"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format='int8'"),
        (
            "/v1/embeddings",
            {"input": "a", "encoding_format": ["float"]},
            "encoding_format=['float']",
        ),
        ("/v1/embeddings", {"input": "a", "dimensions": 256}, "dimensions=256: all-MiniLM"),
        ("/v1/embeddings", {"input": "a", "dimensions": 0}, "dimensions=0: a whole number"),
        ("/rerank", {"documents": ["a"]}, "query is missing or empty"),
        ("/rerank", {"query": "a"}, "documents is missing or empty"),
        ("/rerank", {"query": "a", "documents": [{"title": "b"}]}, r"documents[0] is empty"),
        ("/rerank", {"query": "a", "documents": ["b"] * 1001}, "1001 texts: at most 1000"),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n=0"),
        (CHAT, {}, "messages is missing or empty"),
        (CHAT, {"messages": ["a"]}, "messages[0] is not {'role'"),
        (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages[0] is not"),
        (CHAT, {"messages": [{"role": "user", "content": "\udc00"}]}, "messages[0] is not"),
        (CHAT, {"messages": [{"role": "system", "content": "a"}]}, "no message has the role"),
        (CHAT, {"messages": [{"role": "user", "content": []}]}, "messages[0] is not"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [PICTURE, TEXT]}]},
            "with a text as content",
        ),
        (CHAT, ASKED | {"n": 2}, "n=2: one answer"),
        (CHAT, ASKED | {"n": [2]}, "n=[2]: one answer"),
        (CHAT, ASKED | {"stream": "yes"}, "stream='yes': true or false"),
        (CHAT, ASKED | {"stop": 7}, "stop=7: a text or a list of texts"),
        (CHAT, ASKED | {"stop": ["a", ""]}, "stop=['a', '']: a text or a list of texts"),
        (CHAT, ASKED | {"stop": list("abcde")}, "stop has 5 texts: at most 4"),
        (CHAT, ASKED | {"max_tokens": "x"}, "max_tokens="),
        (CHAT, {"messages": [{"role": "user", "content": "a " * 9000}]}, "9000 tokens: at most"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_a_reason(provider, path, data, reason):
    """400 in OpenAI's shape, in the ledger, at no cost."""
    status, answer = post(provider, path, data)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert reason in answer["error"]["message"]
    assert [call.status for call in provider.ledger().path(path).calls] == [400]
    assert provider.ledger().peak_in_flight == 0


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/embeddings", "input"), ("/rerank", "query"), (CHAT, "messages")]
)
@pytest.mark.parametrize("space", [" ", "\n"])
def test_a_text_that_is_nearly_all_space_is_read_at_once(provider, path, field, space):
    """Nothing on the loop takes time with the square of a text's length."""
    texts = [f"queue{space * 200_000}", f"queue{space * 200_000}?"]
    for text in texts:
        data = {"documents": ["a"], field: text}
        if path == CHAT:
            data[field] = [{"role": "user", "content": text}]
        assert post(provider, path, data)[0] == 200


def test_a_refusal_does_not_repeat_all_that_was_sent(provider):
    """A value that does not fit is shown in short."""
    for field in ("dimensions", "encoding_format"):
        _, answer = post(provider, "/v1/embeddings", {"input": "a", field: "x" * 100_000})
        assert len(answer["error"]["message"]) < 200


def test_vectors_are_written_a_few_at_a_time():
    """Between them the loop has its turns."""
    vectors = np.ones((200, 384), dtype=np.float32)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        counting = asyncio.create_task(count())
        body = await replies.embeddings(EmbeddingRequest((), False, None, 7), "m", vectors)
        counting.cancel()
        return json.loads(body)

    answer = asyncio.run(main())
    assert [each["index"] for each in answer["data"]] == list(range(200))
    assert (answer["object"], answer["model"]) == ("list", "m")
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert turns >= 200 // replies.AT_ONCE


def test_a_long_prompt_is_answered_within_the_limits(provider):
    """The most tokens that a prompt may have, and an answer no longer than the longest."""
    filler = "word " * (LONGEST_PROMPT - 60)
    status, answer = chat(provider, f"{filler}\n\n{PROMPT}", max_tokens=10_000)
    assert status == 200
    assert answer["usage"]["completion_tokens"] <= LONGEST_ANSWER
    assert answer["choices"][0]["message"]["content"] == ANSWER


def test_chats_do_not_hold_up_searches(provider):
    """The model works on threads: a search is answered while vectors are computed."""
    provider.configure(latency=Latency.constant(0))
    texts = [f"{number} " + "long text " * 100 for number in range(10)]
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=60)
    connection.request("POST", "/v1/embeddings", json.dumps({"input": texts}))
    searches = 0
    while provider.ledger().path("/v1/embeddings").answered == 0 and searches < 1000:
        searcher, response = send(provider, "/search?q=queue", b"", "GET")
        assert response.status == 200
        response.read()
        searcher.close()
        searches += 1
    connection.getresponse().read()
    connection.close()
    calls = provider.ledger().calls
    (long,) = (call for call in calls if call.path == "/v1/embeddings")
    assert any(long.start < c.start and c.end < long.end for c in calls if c is not long)


def test_without_a_model_the_answer_says_what_to_install():
    """503 for what needs it; searches go on, and the list of models has the reason."""

    def load():
        raise ModelError("there is no embedding model. A is not installed: pip install a")

    async def main():
        passages = [Passage("a", "A title", "Topic", "Some text.")]
        app = App(Engine(Behaviour()), LexicalIndex(passages), Embedder(load))
        server = await asyncio.get_running_loop().create_server(app.server(), "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
                statuses = []
                for path, data in (
                    ("/v1/embeddings", {"input": "a"}),
                    ("/rerank", {"query": "a", "documents": ["b"]}),
                    (CHAT, {"messages": [{"role": "user", "content": "a"}]}),
                ):
                    async with session.post(path, json=data) as response:
                        assert "pip install a" in await response.text()
                        statuses.append(response.status)
                async with session.get("/v1/models") as response:
                    assert "Not available" in await response.text()
                async with session.get("/search?q=text") as response:
                    statuses.append(response.status)
        return statuses, app.engine.ledger()

    statuses, ledger = asyncio.run(main())
    assert statuses == [503, 503, 503, 200]
    assert (ledger.errors, ledger.answered) == (3, 2)
