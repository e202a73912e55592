"""LangChain's own models behind a gate: other clients' errors, retries of their own, tools."""

import asyncio
import json
import warnings
from contextlib import asynccontextmanager

import httpx
import openai
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from typing_extensions import TypedDict

from course_lib.async_batch import as_runnable
from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.lab.simulation import simulate
from course_lib.rate_limiting import Gate, limited
from course_lib.service import RateLimit

CHAT = "/v1/chat/completions"
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "any",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
    ],
}


class Server:
    """Answers what it is told to, and then "ok": (status, headers, code) a call."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        """Answer a request, without any network."""
        self.requests.append(json.loads(request.content))
        if not self.answers:
            return httpx.Response(200, json=ANSWER)
        status, headers, code = self.answers.pop(0)
        body = {"error": {"message": "no", "code": code}}
        return httpx.Response(status, headers=headers, json=body)


@asynccontextmanager
async def chat_model(server, **options):
    """LangChain's chat model, which asks a server of this process."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        yield ChatOpenAI(
            base_url="http://server/v1",
            api_key="x",
            model="any",
            max_retries=0,
            http_async_client=http,
            **options,
        )


async def ask(server, gate, **options):
    """Ask a model behind a gate."""
    async with chat_model(server) as model:
        return await limited(model, gate, jitter=0, **options).ainvoke("?")


def refused(**headers):
    """A 429 with these headers."""
    return 429, {name.replace("_", "-"): value for name, value in headers.items()}, None


def test_a_rejection_of_openai_is_waited_for_and_tried_again():
    """The gate counts it and cools everybody down, as for our own client's."""
    server, gate = Server(refused(retry_after_ms="20")), Gate(concurrency=2)
    answer = asyncio.run(ask(server, gate, name="chat"))
    assert (answer.content, len(server.requests)) == ("ok", 2)
    assert gate.statistics().rejected_by_step == {"chat": 1}
    assert gate.statistics().waits >= 0.0199


def test_all_calls_of_a_model_are_answered_by_a_provider_that_refuses_most(provider):
    """By the provider's own count: nothing but what the gate knows of was refused."""
    provider.configure(path=CHAT, rate_limit=RateLimit(rate=100, burst=1))
    gate = Gate(concurrency=4)

    async def main():
        async with httpx.AsyncClient() as http:
            model = ChatOpenAI(
                base_url=f"{provider.url}/v1",
                api_key="x",
                model="any",
                max_retries=0,
                http_async_client=http,
            )
            return await limited(model, gate, attempts=1000).abatch(["Hello?"] * 8)

    assert all(answer.content for answer in asyncio.run(main()))
    assert gate.statistics().rejected == provider.ledger().rejected > 0


@pytest.mark.parametrize("told", ["86400", "inf"])
def test_a_daily_limit_is_the_callers_to_decide(told):
    """At once, as `RateLimited`, with what the provider said; nobody else is held back."""
    server, gate = Server(refused(retry_after=told)), Gate(concurrency=2)
    with pytest.raises(RateLimited) as caught:
        asyncio.run(ask(server, gate))
    assert caught.value.retry_after == float(told)
    assert isinstance(caught.value.__cause__, openai.RateLimitError)
    assert (gate.statistics().cooling, gate.statistics().rejected) == (0, 1)


def test_our_own_clients_daily_limit_is_raised_as_it_is():
    """The bound is the gate's: a longer one is obeyed."""

    class Daily:
        def __init__(self):
            self.error = RateLimited("429", retry_after=300)
            self.calls = 0

        async def __call__(self, _):
            self.calls += 1
            if self.calls == 1:
                raise self.error
            return self.calls

    daily = Daily()
    with pytest.raises(RateLimited) as caught:
        simulate(lambda: limited(as_runnable(daily), Gate(concurrency=1)).ainvoke("?"))
    assert (caught.value, daily.calls) == (daily.error, 1)
    patient = Gate(concurrency=1, longest_cool_down=600)
    done = simulate(lambda: limited(as_runnable(Daily()), patient, jitter=0).ainvoke("?"))
    assert (done.value, done.seconds) == (2, 300)


def test_an_empty_account_is_asked_once():
    """By the code of the answer; the model's own error is raised."""
    server, gate = Server((429, {}, "insufficient_quota")), Gate(concurrency=1)
    with pytest.raises(openai.RateLimitError):
        asyncio.run(ask(server, gate, retry_on=(Unavailable,)))
    assert len(server.requests) == 1
    assert gate.statistics().rejected == 0


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_what_is_named_in_the_trees_words_is_tried_again_for_openai_too(status):
    """408 and 425 are transient, as 5xx is; without being named they are raised, once."""
    again = Server((status, {}, None))
    answer = asyncio.run(ask(again, Gate(concurrency=1), retry_on=(Unavailable,), backoff=1e-3))
    assert (answer.content, len(again.requests)) == ("ok", 2)
    with pytest.raises(openai.APIStatusError):
        asyncio.run(ask(Server((status, {}, None)), Gate(concurrency=1)))


def test_after_the_last_attempt_the_models_own_error_is_raised():
    """So that whoever handles that goes on to do so."""
    server = Server(*[refused(retry_after_ms="1")] * 3)
    with pytest.raises(openai.RateLimitError):
        asyncio.run(ask(server, Gate(concurrency=1), attempts=3))
    assert len(server.requests) == 3


def test_what_is_wrong_with_a_request_is_not_tried_again():
    """Whichever client says so."""
    server = Server((400, {}, None))
    with pytest.raises(openai.BadRequestError):
        asyncio.run(ask(server, Gate(concurrency=1), retry_on=(Unavailable,)))
    assert len(server.requests) == 1


def unasked(**options):
    """A model that nobody asks anything."""
    return ChatOpenAI(base_url="http://server/v1", api_key="x", model="any", **options)


@pytest.mark.parametrize(("options", "attempts"), [({}, 2), ({"max_retries": 5}, 5)])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: model.bind(stop=["."]),
        lambda model: PromptTemplate.from_template("{q}") | model | StrOutputParser(),
        lambda model: RunnableParallel(a=model, b=RunnableLambda(str)),
        lambda model: RunnableLambda(str).with_fallbacks([model]),
    ],
    ids=["itself", "bound", "in a chain", "side by side", "a fallback"],
)
def test_a_model_that_tries_again_by_itself_is_told(wrap, options, attempts):
    """With how often, also where it leaves that to its client: those attempts pass no gate."""
    with pytest.warns(UserWarning, match=f"ChatOpenAI makes up to {attempts} further attempts"):
        limited(wrap(unasked(**options)), Gate(concurrency=1))


def test_a_model_that_does_not_is_not():
    """Nor is a Runnable that has nothing to do with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = unasked(max_retries=0)
        limited(model, Gate(concurrency=1))
        limited(limited(model, Gate(concurrency=1)) | StrOutputParser(), Gate(concurrency=1))
        limited(FakeListChatModel(responses=["no"]), Gate(concurrency=1))


class Verdict(BaseModel):
    """What a model is to fill in."""

    good: bool


class Handy(FakeListChatModel):
    """Takes tools, and says by a call of the first one that all is good."""

    def bind_tools(self, tools, **options):
        """Bind them as a real model does."""
        return self.bind(tools=tools, **options)

    async def _agenerate(self, messages, stop=None, run_manager=None, *, tools=(), **options):
        result = self._generate(messages, stop, run_manager)
        if tools:
            call = {"name": "Verdict", "args": {"good": True}, "id": "1"}
            result.generations[0].message = AIMessage("", tool_calls=[call])
        return result


def test_tools_and_structured_output_go_through_the_gate():
    """They are asked of the model, with the limits and the name of the one they are asked of."""

    async def main():
        gate = Gate(concurrency=1)
        model = limited(Handy(responses=["?"]), gate, name="judge")
        tools, verdict = model.bind_tools([Verdict]), model.with_structured_output(Verdict)
        answers = await asyncio.gather(tools.ainvoke("?"), verdict.ainvoke("?"))
        return answers, tools.name, verdict.name, gate.statistics().admitted

    (message, verdict), *names, admitted = asyncio.run(main())
    assert message.tool_calls[0]["args"] == {"good": True}
    assert (verdict, names, admitted) == (Verdict(good=True), ["judge", "judge"], 2)


@pytest.mark.parametrize("method", ["bind_tools", "with_structured_output"])
def test_what_is_no_model_says_where_to_ask_for_tools(method):
    """A chain has no tools: its model has, before the chain is made of it."""
    chain = RunnableLambda(str) | FakeListChatModel(responses=["no"])
    runnable = limited(chain, Gate(concurrency=1), name="judge")
    message = rf"judge has no {method}: it is a RunnableSequence.*model\.{method}\(\.\.\.\)"
    with pytest.raises(TypeError, match=message):
        getattr(runnable, method)(Verdict)


class Arguments(TypedDict):
    """Of a tool."""

    word: str
    times: int


def repeat(arguments: Arguments) -> str:
    """Say a word several times."""
    return arguments["word"] * arguments["times"]


def shout(word: str) -> str:
    """Say a word loudly."""
    return word.upper()


@pytest.mark.filterwarnings("ignore:This API is in beta")
@pytest.mark.parametrize(
    ("function", "given", "wanted"), [(repeat, {"word": "a", "times": 3}, "aaa"), (shout, "a", "A")]
)
def test_as_a_tool_it_is_what_it_wraps(function, given, wanted):
    """Name, arguments and description are those of the plain Runnable, and it takes them."""
    plain = RunnableLambda(function)
    tool, own = limited(plain, Gate(concurrency=1)).as_tool(), plain.as_tool()
    assert (tool.name, tool.args, tool.description) == (own.name, own.args, own.description)
    assert tool.invoke(given) == wanted


def test_a_bad_request_of_the_tree_stays_one():
    """What needs no translation is left alone."""
    error = BadRequest("400")

    async def fail(_):
        raise error

    with pytest.raises(BadRequest) as caught:
        simulate(lambda: limited(as_runnable(fail), Gate(concurrency=1)).ainvoke("?"))
    assert caught.value is error
