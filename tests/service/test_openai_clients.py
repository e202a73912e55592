"""The provider through the clients that learners use: `openai` and `langchain_openai`."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
import tiktoken
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from course_lib.service import Generation, RateLimit, TokenLimit

KEY = "no-key-needed"
CHAT = "/v1/chat/completions"
PROMPT = (
    "[bucket] A token bucket holds tokens. It is refilled at a steady rate.\n\n"
    "Question: How is a token bucket refilled?"
)
ANSWER = "A token bucket holds tokens. It is refilled at a steady rate. [bucket]"


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """Fail a test that asks tiktoken for a vocabulary, which it would fetch from the network."""

    def fetch(*_, **__):
        raise AssertionError("tiktoken was asked for a vocabulary")

    for name in ("get_encoding", "encoding_for_model"):
        monkeypatch.setattr(tiktoken, name, fetch)


@pytest.fixture
def sync_client(provider):
    """The plain client, which does not try again."""
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@asynccontextmanager
async def chat_model(provider, **options):
    """LangChain's chat model against the provider; its connections end with the loop's."""
    async with httpx.AsyncClient() as http:
        yield ChatOpenAI(
            base_url=f"{provider.url}/v1",
            api_key=KEY,
            model="any",
            max_retries=0,
            http_async_client=http,
            **options,
        )


def ask(client, **options):
    """Ask the plain client."""
    messages = [{"role": "user", "content": PROMPT}]
    return client.chat.completions.create(model="any", messages=messages, **options)


def test_openai_reads_answers_vectors_and_models(sync_client):
    """Base64 is what it asks for by default, and decodes itself."""
    answer = ask(sync_client)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )
    packed = sync_client.embeddings.create(model="any", input=["a", "b"])
    plain = sync_client.embeddings.create(model="any", input=["a", "b"], encoding_format="float")
    assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding)
    assert "stand-in-reader" in [model.id for model in sync_client.models.list()]


def test_openai_reads_a_stream(sync_client):
    """With the usage at its end."""
    *pieces, last = ask(sync_client, stream=True, stream_options={"include_usage": True})
    assert "".join(each.choices[0].delta.content or "" for each in pieces) == ANSWER
    assert last.usage == ask(sync_client).usage


def test_openai_names_its_errors(provider, sync_client):
    """By status; the waiting time is where its own retries look for it."""
    with pytest.raises(openai.BadRequestError, match="messages is missing"):
        sync_client.chat.completions.create(model="any", messages=[])
    provider.configure(path=CHAT, rate_limit=RateLimit.per_minute(1))
    ask(sync_client)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(sync_client)
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 60


def test_openai_tells_codes_fields_and_ids(sync_client):
    """What a program may look at, instead of the message."""
    with pytest.raises(openai.BadRequestError) as refused:
        ask(sync_client, tools=[{"type": "function", "function": {"name": "look_up"}}])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")
    assert refused.value.request_id.startswith("req_")
    assert ask(sync_client)._request_id != ask(sync_client)._request_id
    assert sync_client.models.retrieve("stand-in-reader").id == "stand-in-reader"
    with pytest.raises(openai.NotFoundError) as unknown:
        sync_client.models.retrieve("gpt-9")
    assert unknown.value.code == "model_not_found"


def test_openai_waits_as_told_and_tries_again(provider):
    """Its own retry follows `Retry-After`: refused once, then answered."""
    provider.configure(path=CHAT, rate_limit=RateLimit(rate=10, burst=1))
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key=KEY, max_retries=5) as client:
        for _ in range(2):
            assert ask(client).choices[0].message.content == ANSWER
    assert provider.ledger().answered == 2


def test_the_async_client_closes_a_stream_it_leaves(provider, eventually):
    """And the provider stops writing."""
    provider.configure(path=CHAT, generation=Generation(0, 20))

    async def main():
        url = f"{provider.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            stream = await ask(client, stream=True)
            async with stream:
                event = await anext(aiter(stream))
        return event.choices[0].delta.content

    assert asyncio.run(main()) == "A"
    eventually(lambda: provider.ledger().dropped == 1)


def test_langchain_chats_one_by_one_in_batches_and_in_streams(provider):
    """The same answer each way, its tokens with it."""

    async def main():
        async with chat_model(provider, stream_usage=True) as model:
            one = await model.ainvoke(PROMPT)
            many = await model.abatch([[HumanMessage(PROMPT)], "Hello?"])
            pieces = [piece async for piece in model.astream(PROMPT)]
        return one, many, pieces

    one, (first, second), pieces = asyncio.run(main())
    assert one.content == first.content == ANSWER
    assert second.content == "I do not know."
    assert one.response_metadata["model_name"] == "stand-in-reader"
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.content == ANSWER
    assert whole.usage_metadata["total_tokens"] == one.usage_metadata["total_tokens"] > 0


def test_langchain_raises_what_the_limits_say(provider):
    """A limit on tokens is a 429 like any other."""
    provider.configure(path=CHAT, token_limit=TokenLimit(240))

    async def main():
        async with chat_model(provider) as model:
            return await model.abatch([PROMPT] * 3, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [isinstance(each, openai.RateLimitError) for each in outcomes].count(True) == 2


def test_langchain_names_a_prompt_that_is_too_long(provider):
    """So that what shortens a conversation and asks again can be tried."""

    async def main():
        async with chat_model(provider) as model:
            with pytest.raises(ContextOverflowError):
                await model.ainvoke("word " * 9000)
            with pytest.raises(ContextOverflowError):
                async for _ in model.astream("word " * 9000):
                    pass

    asyncio.run(main())


def test_langchain_is_told_that_there_are_no_tools(provider):
    """Nor structured output: an error at once, instead of an answer that looks like one."""

    async def main():
        async with chat_model(provider) as model:
            for asking in (
                model.bind_tools([{"name": "look_up", "description": "", "parameters": {}}]),
                model.with_structured_output(
                    {
                        "title": "Answer",
                        "type": "object",
                        "properties": {"text": {"type": "string"}},
                    }
                ),
                model.bind(logprobs=True),
            ):
                with pytest.raises(openai.BadRequestError, match="is not supported"):
                    await asking.ainvoke(PROMPT)

    asyncio.run(main())


def test_langchain_embeds_texts_and_queries(provider):
    """A query has the vector of the same text; one request carries many texts."""
    options = {"base_url": f"{provider.url}/v1", "api_key": KEY}

    async def main():
        async with httpx.AsyncClient() as http:
            embeddings = OpenAIEmbeddings(
                check_embedding_ctx_length=False, http_async_client=http, **options
            )
            return await embeddings.aembed_documents(["a", "b"]), await embeddings.aembed_query("b")

    documents, query = asyncio.run(main())
    assert documents[1] == pytest.approx(query)
    with httpx.Client() as http:
        embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, http_client=http, **options)
        assert embeddings.embed_query("b") == pytest.approx(query)
    assert provider.ledger().requests == 3


def test_the_default_of_langchain_would_ask_for_a_vocabulary(provider):
    """So the flag is needed, and this file would notice a download."""
    embeddings = OpenAIEmbeddings(base_url=f"{provider.url}/v1", api_key=KEY)
    with pytest.raises(AssertionError, match="tiktoken"):
        embeddings.embed_query("a")


def test_the_key_is_neither_looked_at_nor_kept(provider, sync_client):
    """Nothing that the provider tells has it."""
    ask(sync_client)
    assert KEY not in json.dumps(provider.ledger().to_dict())
