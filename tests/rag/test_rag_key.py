"""Another provider with this wire format, and its key, which is shown nowhere."""

import asyncio
import json
import logging
import pickle
import traceback

import langchain_openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fake_server import FakeServer
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.runnables import RunnableLambda
from langchain_core.stores import InMemoryByteStore
from pydantic import SecretStr
from rag.vectors_support import WordEmbedding

from course_lib.caching import AsyncCache
from course_lib.errors import BadRequest, ServiceError
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag import MatrixVectorStore, RagPipeline, RagSettings, naive_rag
from course_lib.rag.settings import endpoint_from_environment

KEY = "sk-never-to-be-seen-0123456789"
BASIC = "Basic bWU6aHVzaC9odXNo"
TEXTS = {"bucket": "A token bucket is refilled at a steady rate.", "gate": "A gate has slots."}


class Foreign:
    """Embeds and chats, wants a key, and is careless with it when something is wrong.

    Attributes:
        wrong: Whether to answer 401 and quote the key.
        odd: What it answers to a chat in place of a right answer.
        before: What it says before it quotes the key.
        spelt: How it writes the key in JSON.
        seen: Paths asked, with whether the key was right.
        sent: What came in the header that is for this.
    """

    def __init__(self, *, wrong=False, odd=None, before="Incorrect key: ", spelt=str):
        self.wrong, self.odd, self.before, self.spelt = wrong, odd, before, spelt
        self.seen, self.sent = [], set()

    async def handle(self, request):
        self.sent.add(request.headers.get("Authorization"))
        right = request.headers.get("Authorization") in {f"Bearer {KEY}", BASIC}
        self.seen.append((request.path, right))
        if self.wrong or not right:
            quoted = self.spelt(request.headers.get("Authorization"))
            said = f'{{"error": {{"message": "{self.before}{quoted}"}}}}'
            return web.Response(text=said, status=401, content_type="application/json")
        if self.odd is not None and request.path.endswith("/completions"):
            return self.odd()
        asked = await request.json()
        if request.path.endswith("/embeddings"):
            vectors = WordEmbedding().embed_documents(asked["input"])
            data = [{"index": i, "embedding": each} for i, each in enumerate(vectors)]
            return web.json_response({"data": data, "model": "m"})
        message = {"role": "assistant", "content": "Steadily. [bucket]"}
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            | {"choices": choices, "usage": usage}
        )


class Told(AsyncCallbackHandler):
    """Keeps all that callbacks are told, and the errors among it."""

    def __init__(self):
        self.all, self.errors = [], []

    async def on_chat_model_start(self, *told, **more):
        self.all += [told, more]

    async def on_llm_error(self, *told, **more):
        self.errors.append(told[0])
        self.all += [told, more, "".join(traceback.format_exception(told[0]))]

    async def on_llm_end(self, *told, **more):
        self.all += [told, more]

    async def on_chain_start(self, *told, **more):
        self.all += [told, more]

    async def on_chain_end(self, *told, **more):
        self.all += [told, more]


def store():
    """The passages, embedded by the same model as the foreign provider's."""
    documents = [Document(id=name, page_content=text) for name, text in TEXTS.items()]
    made = MatrixVectorStore(WordEmbedding())
    made.add_documents(documents)
    return made


@pytest.fixture(params=["openai", "lean"])
def ask(request, monkeypatch):
    """Ask the foreign provider that the environment names."""

    def asked(use, foreign, path="/api/v1", key=KEY, user="", **options):
        async def main():
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", foreign.handle)
            async with TestServer(app) as server:
                url = str(server.make_url(path)).replace("://", f"://{user}")
                monkeypatch.setenv("COURSE_BASE_URL", url)
                monkeypatch.setenv("COURSE_API_KEY", key)
                pipeline = RagPipeline.from_environment(store(), chat=request.param, **options)
                async with pipeline:
                    return await use(pipeline)

        return asyncio.run(main())

    return asked


def test_any_provider_with_this_wire_format_will_do(ask):
    """Passages come from the store, in its order, and the key goes with each call."""
    foreign = Foreign()
    answer = ask(lambda pipeline: pipeline.ainvoke("How is a token bucket refilled?"), foreign)
    assert answer.text == "Steadily. [bucket]"
    assert [source.id for source in answer.sources] == ["bucket", "gate"]
    assert [each.stage for each in answer.timings] == ["embed", "retrieve", "generate"]
    assert answer.tokens == 11
    assert foreign.seen == [("/api/v1/embeddings", True), ("/api/v1/chat/completions", True)]


def test_the_key_is_seen_nowhere(ask, caplog):
    """Not in answers, errors, logs, callbacks, what is kept, monitors, nor in how anything looks."""
    caplog.set_level(logging.DEBUG)
    foreign, told, monitor, kept = Foreign(), Told(), PerformanceMonitor(), InMemoryByteStore()
    cache = AsyncCache(ttl=60, maxsize=100, store=kept)
    config = {"callbacks": [told]}

    async def use(pipeline):
        answers = [await pipeline.ainvoke("How?", config)]
        foreign.wrong = True
        answers.append(await pipeline.ainvoke("What else?", config))
        answers += [each async for each in pipeline.astream("Which one?", config)]
        with pytest.raises(ServiceError) as caught:
            await pipeline.retrieve("What then?")
        trace = "".join(traceback.format_exception(caught.value))
        return answers, repr(pipeline), repr(vars(pipeline)), str(vars(pipeline._assembly)), trace

    answers, *seen = ask(use, foreign, cache=cache, corpus="two", monitor=monitor)
    assert [answer.ok for answer in answers] == [True, False, False]
    assert all("***" in each.error.reason for each in answers[1:])
    assert kept.store
    seen += [repr(answers), str(answers), caplog.text, str(told.all), repr(kept.store)]
    seen += [repr(monitor.report()), repr(monitor.report().spans), repr(pickle.dumps(answers))]
    assert not [text for text in seen if KEY in text]


def test_a_chat_that_quotes_the_key_is_not_quoted(ask):
    """What LangChain's callbacks are told of a failed chat has no key in it either."""
    foreign, told = Foreign(), Told()

    async def use(pipeline):
        await pipeline.retrieve("How?")
        foreign.wrong = True
        return await pipeline.ainvoke("How?", config={"callbacks": [told]})

    answer = ask(use, foreign)
    assert (answer.error.stage, answer.error.kind) == ("generate", "BadRequest")
    assert "Incorrect key: Bearer ***" in answer.error.reason
    assert KEY not in repr(told.all)
    assert KEY not in "".join(str(each) for each in told.all)


def escaped(text):
    """Each letter as JSON may escape it."""
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


@pytest.mark.parametrize("spelt", [str, escaped, lambda text: text.replace("-", "\\u002D")])
@pytest.mark.parametrize("before", ["Incorrect key: ", "x" * (200 - len(KEY)), "x" * 190])
def test_no_piece_of_a_key_is_told_wherever_it_stands_and_however_it_is_written(ask, spelt, before):
    """Not by the answer, whose reason is cut, nor by the error that callbacks get."""
    foreign, told = Foreign(before=before, spelt=spelt), Told()

    async def use(pipeline):
        await pipeline.retrieve("How?")
        foreign.wrong = True
        return await pipeline.ainvoke("How?", config={"callbacks": [told]})

    answer = ask(use, foreign)
    assert (answer.error.stage, answer.error.kind) == ("generate", "BadRequest")
    everything = f"{answer}{told.all}{list(map(vars, told.errors))}"
    for piece in (KEY[:6], KEY[6:12], KEY[-6:], spelt(KEY)[:12], spelt(KEY)[-12:]):
        assert piece not in everything


@pytest.mark.parametrize("ask", ["openai"], indirect=True)
def test_callbacks_get_an_error_of_the_tree(ask):
    """One of the client's own would hold the request, key included; so would its context."""
    foreign, told = Foreign(), Told()

    async def use(pipeline):
        await pipeline.retrieve("How?")
        foreign.wrong = True
        await pipeline.ainvoke("How?", config={"callbacks": [told]})
        return [piece async for piece in pipeline.astream("How?", config={"callbacks": [told]})]

    ask(use, foreign)
    assert {type(each) for each in told.errors} == {BadRequest}
    assert {each.__context__ for each in told.errors} == {None}


def stream_of(event):
    """Answer with an event, as a stream."""
    return lambda: web.Response(text=f"data: {event}\n\n", content_type="text/event-stream")


def json_of(value):
    """Answer with a JSON value."""
    return lambda: web.json_response(value)


ODD = [
    *(json_of(value) for value in (None, [], "text", {}, {"choices": None}, {"choices": []})),
    json_of({"choices": [{"message": None}]}),
    json_of({"choices": [{"index": 0, "message": {"role": "assistant", "content": 7}}]}),
    lambda: web.Response(text="<html>"),
    lambda: web.Response(text="{", content_type="application/json"),
    lambda: web.Response(text="[" * 100_000, content_type="application/json"),
]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_chat_is_an_error_of_the_tree(odd, monkeypatch):
    """What ChatOpenAI makes of such an answer is many-fold; the answer says what it was."""
    foreign = Foreign(odd=odd)

    async def main():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", foreign.handle)
        async with TestServer(app) as server:
            url, settings = str(server.make_url("/")), RagSettings(rerank=False, attempts=2)
            options = {"store": store(), "settings": settings, "key": SecretStr(KEY)}
            async with RagPipeline(url, **options) as pipeline:
                return await pipeline.ainvoke("How?")

    answer = asyncio.run(main())
    assert answer.ok or (answer.error.stage, answer.error.kind) == ("generate", "Unavailable")
    assert answer.retries == (not answer.ok)


def test_an_error_within_a_stream_does_not_tell_the_key_either(ask):
    """It comes with a good status, so that nothing but its text says what it is."""
    event = f'{{"error": {{"message": "Incorrect key: {escaped(KEY)}"}}}}'
    foreign, told = Foreign(odd=stream_of(event)), Told()

    async def use(pipeline):
        return [each async for each in pipeline.astream("How?", {"callbacks": [told]})]

    answer = ask(use, foreign)[-1]
    assert (answer.error.stage, answer.error.kind) == ("generate", "Unavailable")
    assert KEY not in f"{answer}{told.all}"


def test_user_and_password_of_an_address_are_seen_nowhere(ask, caplog):
    """Not in logs, callbacks, what is kept, errors, nor in how anything looks; they are sent."""
    caplog.set_level(logging.DEBUG)
    foreign, told, kept = Foreign(), Told(), InMemoryByteStore()
    cache = AsyncCache(ttl=60, maxsize=100, store=kept)

    async def use(pipeline):
        answer = await pipeline.ainvoke("How?", {"callbacks": [told]})
        return answer, repr(pipeline), repr(pipeline._assembly._chat), repr(kept.store)

    seen = ask(use, foreign, cache=cache, corpus="two", key="", user="me:hush%2Fhush@")
    assert foreign.sent == {BASIC}
    assert "hush" not in f"{seen}{told.all}{caplog.text}"
    assert "bWU6aHVzaC9odXNo" not in f"{seen}{told.all}{caplog.text}"


def test_a_user_and_a_key_are_one_too_many():
    """Both would be sent in one header; the message shows neither."""
    with pytest.raises(ValueError, match="leave one of them out") as refused:
        RagPipeline("http://me:hush@h", key=SecretStr(KEY))
    assert "hush" not in str(refused.value)


def test_the_environment_must_name_a_provider():
    """Without an address there is nothing to ask; a key is optional."""
    with pytest.raises(ValueError, match="COURSE_BASE_URL is not set"):
        endpoint_from_environment({})
    found = endpoint_from_environment({"COURSE_BASE_URL": "http://h/v1/", "COURSE_API_KEY": KEY})
    assert found.url == "http://h"
    assert found.key.get_secret_value() == KEY
    assert KEY not in repr(found)
    assert "hush" not in repr(endpoint_from_environment({"COURSE_BASE_URL": "http://me:hush@h"}))
    assert endpoint_from_environment({"COURSE_BASE_URL": "http://h"}).key is None


def test_a_shared_cache_needs_to_know_which_chat_model_this_is():
    """Otherwise one model would answer for another."""
    chat, cache = RunnableLambda(str), AsyncCache(ttl=1, maxsize=1)
    with pytest.raises(ValueError, match="RagSettings\\(model="):
        RagPipeline("http://h", chat=chat, cache=cache)
    assert RagPipeline("http://h", chat=chat)
    assert RagPipeline("http://h", chat=chat, cache=cache, settings=RagSettings(model="mine"))


def test_a_shared_cache_needs_to_know_which_passages_these_are():
    """Otherwise one corpus would answer for another."""
    with pytest.raises(ValueError, match="corpus="):
        RagPipeline("http://h", store=store(), cache=AsyncCache(ttl=1, maxsize=1))
    assert RagPipeline("http://h", key=SecretStr(KEY), settings=RagSettings(passages=1))


def test_the_naive_pipeline_shows_no_password_either(monkeypatch):
    """It is sent with each call, and stands in no model and no event of it."""
    found = {"id": "bucket", "title": "Bucket", "topic": "t", "text": TEXTS["bucket"], "score": 1.0}
    message = {"role": "assistant", "content": "Steadily. [bucket]"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    chat = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    shown, server = [], FakeServer()

    class Watched(langchain_openai.ChatOpenAI):
        def invoke(self, *args, **kwargs):
            shown.append((repr(self), dumps(self), self.model_dump(), vars(self)))
            return super().invoke(*args, **kwargs)

    async def reply(writer):
        body = json.dumps({"results": [found], **chat})
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    monkeypatch.setattr(langchain_openai, "ChatOpenAI", Watched)
    server.reply = reply
    try:
        url = server.url.replace("://", "://me:hush%2Fhush@")
        (answer,) = naive_rag(url, ["How?"], settings=RagSettings(rerank=False))
    finally:
        server.close()
    assert answer.text == "Steadily. [bucket]"
    assert [BASIC.encode() in request for request in server.requests] == [True, True]
    assert "hush" not in repr(shown)
    assert shown
