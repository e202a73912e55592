import asyncio
import logging
from contextlib import aclosing
from itertools import islice
from uuid import uuid4

import aiohttp
import httpx
import openai
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from monitoring_support import SetClock, figures, spans_of, step, watched

from course_lib.caching import AsyncCache, cached
from course_lib.errors import RateLimited, Unavailable
from course_lib.lab import simulate
from course_lib.monitoring import PerformanceMonitor
from course_lib.rate_limiting import Gate, limited


class Slow(BaseRetriever):
    """Finds one document after a second."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(query)]

    async def _aget_relevant_documents(self, query, *, run_manager):
        await asyncio.sleep(1)
        return [Document(query)]


@tool
async def look_up(word: str) -> str:
    """Look a word up."""
    await asyncio.sleep(1)
    return word


class Chat(FakeListChatModel):
    """Answers after its pause, on the event loop."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(self.sleep or 0)
        return self._generate(messages, stop, run_manager, **kwargs)

    def _call(self, *args, **kwargs):
        return self.responses[0]


def chat_model(**options):
    return Chat(responses=["three"], **options)


@pytest.fixture
def monitor():
    return PerformanceMonitor()


def test_every_step_of_a_chain_is_seen(monitor):
    """With one config: the sequence, its lambda, its model, and which ran in which."""
    chain = (step("retrieve", 0.2) | chat_model()).with_config(run_name="answer")
    result = simulate(chain.ainvoke("why?", config=watched(monitor)))
    report = monitor.report()
    assert result.value.content == "three"
    assert {name: each.parents for name, each in report.steps.items()} == {
        "answer": (),
        "retrieve": ("answer",),
        "Chat": ("answer",),
    }
    assert report["answer"].maximum == report["retrieve"].maximum == 0.2
    assert all(figures(report, name) == (1, 0, 0) for name in report)
    assert report["answer"].wait.maximum == 0.0


def test_retrievers_tools_and_text_models_are_seen(monitor):
    """Each by its own name, for as long as it took."""

    async def main():
        await Slow().ainvoke("a", config=watched(monitor))
        await look_up.ainvoke("word", config=watched(monitor))

    simulate(main)
    FakeListLLM(responses=["b"]).invoke("c", config=watched(monitor))
    report = monitor.report()
    assert list(report) == ["Slow", "look_up", "FakeListLLM"]
    assert report["Slow"].maximum == report["look_up"].maximum == 1.0


def test_a_run_name_goes_before_all_other_names(monitor):
    """For each kind of component."""
    components = [
        Slow(),
        look_up,
        chat_model(),
        RunnableLambda(asyncio.sleep),
    ]

    async def main():
        for number, component in enumerate(components):
            config = watched(monitor, run_name=f"step {number}")
            await component.ainvoke(0 if number == 3 else "a", config=config)

    simulate(main)
    assert list(monitor.report()) == [f"step {number}" for number in range(4)]


def test_what_has_no_name_is_called_by_its_kind(monitor):
    """A serialized id ends with the name of the class; without one the kind must do."""
    handler = monitor.callback
    handler.on_chain_start(None, {}, run_id=uuid4())
    handler.on_chat_model_start({"id": ["langchain", "ChatAny"]}, [[]], run_id=uuid4())
    handler.on_llm_start({"id": []}, [], run_id=uuid4())
    handler.on_retriever_start({}, "", run_id=uuid4(), name=None)
    handler.on_tool_start({"name": "look_up"}, "", run_id=uuid4())
    assert list(monitor.report()) == ["chain", "ChatAny", "LLM", "retriever", "look_up"]


def test_synchronous_calls_are_seen_too(monitor):
    """`invoke`, `batch` and `stream`, from the threads that they run in."""
    chain = RunnableLambda(lambda text: text + "!", name="shout") | chat_model()
    config = watched(monitor)
    assert chain.invoke("a", config=config).content == "three"
    assert len(chain.batch(["a", "b", "c"], config=config)) == 3
    assert "".join(piece.content for piece in chain.stream("a", config=config)) == "three"
    report = monitor.report()
    assert [figures(report, name) for name in report] == [(5, 0, 0)] * 3
    assert report["shout"].parents == ("RunnableSequence",)


def test_a_stream_counts_its_first_token(monitor):
    """From the start of the run; the run itself lasts until the last."""
    model = chat_model(sleep=0.1)

    async def main():
        return [piece.content async for piece in model.astream("a", config=watched(monitor))]

    pieces = simulate(main).value
    step = monitor.report()["Chat"]
    assert "".join(pieces) == "three"
    assert (step.first_token.count, step.first_token.maximum) == (1, 0.1)
    assert step.maximum == pytest.approx(0.1 * 5)


def test_what_does_not_stream_has_no_first_token(monitor):
    """It is None, not 0."""
    chat_model().invoke("a", config=watched(monitor))
    assert monitor.report()["Chat"].first_token is None


def test_an_empty_first_piece_is_no_token():
    """Many providers open a stream with one; a tool call is one, though it has no text."""
    clock = SetClock()
    monitor = PerformanceMonitor(timer=clock)
    call = {"name": "look_up", "args": "", "id": "1", "index": 0}
    calling = ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))
    empty = ChatGenerationChunk(message=AIMessageChunk(""))
    for chunk, token in ((calling, ""), (empty, "text")):
        run = uuid4()
        monitor.callback.on_chat_model_start({}, [[]], run_id=run, name="model")
        clock.advance(1)
        monitor.callback.on_llm_new_token("", chunk=empty, run_id=run)
        clock.advance(1)
        monitor.callback.on_llm_new_token(token, chunk=chunk, run_id=run)
        clock.advance(1)
        monitor.callback.on_llm_new_token(token, chunk=chunk, run_id=run)
        monitor.callback.on_llm_end(None, run_id=run)
    first = monitor.report()["model"].first_token
    assert (first.count, first.minimum, first.maximum) == (2, 2.0, 2.0)


@pytest.mark.parametrize("component", ["lambda", "retriever", "tool", "model"])
def test_an_error_is_counted_and_reaches_the_caller_unchanged(monitor, component):
    """At each level that it passes, and the very same object."""
    raised = ValueError("no")

    async def fail(_):
        raise raised

    class Failing(Slow):
        async def _aget_relevant_documents(self, query, *, run_manager):
            raise raised

    @tool("failing")
    async def failing(word: str) -> str:
        """Fail."""
        raise raised

    class FailingModel(Chat):
        def _call(self, *args, **kwargs):
            raise raised

    part = {
        "lambda": RunnableLambda(fail),
        "retriever": Failing(),
        "tool": failing,
        "model": FailingModel(responses=["a"]),
    }[component].with_config(run_name="part")
    chain = (part | step("never", 1)).with_config(run_name="chain")
    with pytest.raises(ValueError, match="no") as caught:
        asyncio.run(chain.ainvoke("a", config=watched(monitor)))
    assert caught.value is raised
    report = monitor.report()
    assert figures(report, "part") == figures(report, "chain") == (1, 1, 0)
    assert list(report) == ["chain", "part"]


def of_openai(status):
    response = httpx.Response(status, request=httpx.Request("POST", "http://provider"))
    return openai.RateLimitError("no", response=response, body=None)


def of_httpx(status):
    request = httpx.Request("POST", "http://provider")
    response = httpx.Response(status, request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


def of_requests(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


def of_aiohttp(status):
    return aiohttp.ClientResponseError(None, (), status=status)


class Unreadable(Exception):  # noqa: N818
    """An error whose attributes fail."""

    @property
    def response(self):
        raise RuntimeError("there is none")


CLIENTS = (of_openai, of_httpx, of_requests, of_aiohttp)


@pytest.mark.parametrize(
    ("error", "rejected"),
    [
        *((client(429), 1) for client in CLIENTS),
        *((client(503), 0) for client in CLIENTS),
        (RateLimited("429"), 1),
        (Unavailable("503"), 0),
        (Unreadable("no"), 0),
        (ValueError("429"), 0),
    ],
    ids=repr,
)
def test_a_429_is_counted_as_rejected_whichever_client_raises_it(monitor, error, rejected):
    """By the status that the error or its response carries; it is an error all the same."""

    async def ask(_):
        raise error

    async def main():
        await RunnableLambda(ask).ainvoke("a", config=watched(monitor))

    with pytest.raises(type(error)):
        simulate(main)
    with pytest.raises(type(error)), monitor.measure("ask"):
        raise error
    report = monitor.report()
    assert figures(report, "ask") == (2, 2, 0)
    assert report["ask"].rejected == 2 * rejected


@pytest.mark.parametrize(
    "component",
    [step("part", 5), Slow(), look_up, chat_model(sleep=5)],
    ids=lambda component: type(component).__name__,
)
def test_a_cancelled_chain_counts_as_cancelled(monitor, component):
    """And so does its step, also where LangChain tells no end of it."""
    chain = (component.with_config(run_name="part") | step("never", 1)).with_config(
        run_name="chain"
    )

    async def main():
        task = asyncio.create_task(chain.ainvoke("a", config=watched(monitor)))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert simulate(main).value
    report = monitor.report()
    assert figures(report, "part") == figures(report, "chain") == (1, 0, 1)
    assert report["part"].maximum == report["chain"].maximum == 0.5
    assert report["part"].in_flight == report["chain"].in_flight == 0


def test_a_retriever_that_ran_into_a_timeout_counts_as_cancelled(monitor):
    """Its end is told by nobody; that of the step in which it ran tells it."""

    async def impatient(query):
        try:
            async with asyncio.timeout(0.3):
                return await Slow().ainvoke(query)
        except TimeoutError:
            await asyncio.sleep(0.1)
            return []

    result = simulate(RunnableLambda(impatient).ainvoke("a", config=watched(monitor)))
    report = monitor.report()
    assert result.value == []
    assert figures(report, "Slow") == (1, 0, 1)
    assert figures(report, "impatient") == (1, 0, 0)
    assert len(monitor.callback._runs) == 0


def test_steps_that_go_on_after_a_failure_beside_them_are_not_given_up(monitor):
    """LangChain lets them run to their end, and so they are counted."""

    async def fail(_):
        await asyncio.sleep(0.1)
        raise ValueError("no")

    both = RunnableParallel(bad=RunnableLambda(fail), good=step("good", 1))

    async def main():
        with pytest.raises(ValueError, match="no"):
            await both.ainvoke("a", config=watched(monitor))
        during = monitor.report()["good"].in_flight
        await asyncio.sleep(2)
        return during

    assert simulate(main).value == 1
    report = monitor.report()
    assert figures(report, "good") == (1, 0, 0)
    assert report["good"].maximum == 1.0
    assert report["good"].parents == ("RunnableParallel<bad,good>",)


def test_a_stream_that_is_left_early_counts_as_cancelled(monitor):
    """Of a model as of a chain, with and without an event loop."""
    chain = step("retrieve", 0.1) | chat_model(sleep=0.01)

    async def main():
        async with aclosing(chain.astream("a", config=watched(monitor))) as stream:
            async for _ in stream:
                break

    simulate(main)
    report = monitor.report()
    assert figures(report, "Chat") == (1, 0, 1)
    stream = chat_model().stream("a", config=watched(monitor))
    list(islice(stream, 2))
    stream.close()
    assert figures(monitor.report(), "Chat") == (2, 0, 2)


def test_an_error_in_the_handler_changes_no_result(monitor, caplog):
    """LangChain logs it; the answer is the answer."""

    def broken():
        raise RuntimeError("broken")

    monitor._records.clock = type("Broken", (), {"nanoseconds": staticmethod(broken)})()
    chain = step("a", 0.1) | chat_model()
    with caplog.at_level(logging.WARNING):
        assert simulate(chain.ainvoke("q", config=watched(monitor))).value.content == "three"
        sync = RunnableLambda(str.upper, name="b") | chat_model()
        assert sync.invoke("q", config=watched(monitor)).content == "three"
    assert "broken" in caplog.text


def test_the_result_is_the_very_object_that_the_step_returned(monitor):
    """Inputs and outputs pass by untouched."""
    given = object()
    chain = RunnableLambda(lambda value: value, name="same")
    assert chain.invoke(given, config=watched(monitor)) is given
    assert asyncio.run(chain.ainvoke(given, config=watched(monitor))) is given


def test_a_handler_passed_twice_counts_once(monitor):
    """As by the chain's own config and the caller's; a start told twice is one."""
    part = step("part", 0.1).with_config(callbacks=[monitor.callback])
    simulate(part.ainvoke("a", config={"callbacks": [monitor.callback, monitor.callback]}))
    run = uuid4()
    for _ in range(2):
        monitor.callback.on_chain_start(None, {}, run_id=run, name="part")
    for _ in range(2):
        monitor.callback.on_chain_end({}, run_id=run)
    assert figures(monitor.report(), "part") == (2, 0, 0)
    assert monitor.report()["part"].in_flight == 0


def test_the_map_of_runs_is_bounded(monitor):
    """100,000 retrievers that were cancelled, and of which no end was ever told."""
    handler = monitor.callback
    for _ in range(100_000):
        handler.on_retriever_start({}, "query", run_id=uuid4(), name="search")
    assert len(monitor.callback._runs) == 10_000
    report = monitor.report()
    assert report.evicted_runs == 90_000
    assert (report["search"].in_flight, report["search"].count) == (10_000, 0)


def test_a_cancelled_parent_ends_all_runs_in_it(monitor):
    """However often: nothing is left, and nothing had to be given up."""
    handler = monitor.callback
    for _ in range(15_000):
        parent, child = uuid4(), uuid4()
        handler.on_chain_start(None, {}, run_id=parent, name="chain")
        handler.on_retriever_start({}, "", run_id=child, parent_run_id=parent, name="search")
        handler.on_chain_error(asyncio.CancelledError(), run_id=parent)
    report = monitor.report()
    assert len(monitor.callback._runs) == report.evicted_runs == 0
    assert figures(report, "search") == figures(report, "chain") == (15_000, 0, 15_000)


def test_ends_of_runs_that_were_given_up_count_nothing():
    """Neither does an end whose start nobody told, nor a second one."""
    monitor = PerformanceMonitor(timer=SetClock(), max_runs=1)
    handler, first, second = monitor.callback, uuid4(), uuid4()
    handler.on_chain_start(None, {}, run_id=first, name="a")
    handler.on_chain_start(None, {}, run_id=second, parent_run_id=first, name="b")
    handler.on_chain_end({}, run_id=first)
    handler.on_chain_end({}, run_id=second)
    handler.on_chain_end({}, run_id=second)
    handler.on_llm_new_token("a", run_id=first)
    handler.on_chain_end({}, run_id=uuid4())
    report = monitor.report()
    assert (report["a"].count, report["b"].count, report.evicted_runs) == (0, 1, 1)
    assert report["a"].in_flight == report["b"].in_flight == 0


class PlainRuns:
    """What the callback should know, kept as simply as can be: of the runs below, by number."""

    def __init__(self, room):
        self.room, self.known, self.ended, self.given_up = room, {}, [], 0

    def start(self, number, parent, silent, now):
        self.known[number] = (parent if parent in self.known else None, silent, now)
        if len(self.known) > self.room:
            del self.known[min(self.known)]
            self.given_up += 1

    def end(self, number, ending, now):
        if number not in self.known:
            return
        _, silent, start = self.known.pop(number)
        for child, (parent, quiet, _) in list(self.known.items()):
            if parent == number and quiet:
                self.end(child, "cancelled", now)
        self.ended.append((f"{silent}", now - start, ending))


RUNS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "end", "error", "cancel"]),
        st.integers(0, 30),  # which run, or which parent
        st.booleans(),  # whether it may end without a word
        st.integers(0, 8),  # eighths of a second that pass
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(RUNS, st.integers(1, 12))
def test_any_order_of_starts_and_ends_is_counted_as_it_came(events, room):
    """Of parents before children, of runs given up, of ends told twice: nothing is left over."""
    clock = SetClock()
    monitor, plain, keys = PerformanceMonitor(timer=clock, max_runs=room), PlainRuns(room), []
    for event, which, silent, eighths in events:
        clock.advance(eighths / 8)
        now = clock.seconds
        if event == "start":
            parent = which if which < len(keys) else None
            plain.start(len(keys), parent, silent, now)
            above = None if parent is None else keys[parent]
            keys.append(uuid4())
            starts = monitor.callback.on_retriever_start, monitor.callback.on_chain_start
            begin = starts[0] if silent else starts[1]
            begin({}, "", run_id=keys[-1], parent_run_id=above, name=f"{silent}")
        elif which < len(keys) and event == "end":
            plain.end(which, "ok", now)
            monitor.callback.on_chain_end({}, run_id=keys[which])
        elif which < len(keys):
            error = ValueError() if event == "error" else asyncio.CancelledError()
            plain.end(which, "error" if event == "error" else "cancelled", now)
            monitor.callback.on_chain_error(error, run_id=keys[which])
    report = monitor.report()
    assert sorted((s.name, s.end - s.start, s.outcome) for s in report.spans) == sorted(plain.ended)
    in_flight = sum(step.in_flight for step in report.steps.values())
    assert in_flight == len(plain.known) == len(monitor.callback._runs)
    assert report.evicted_runs == plain.given_up


def test_blocks_and_runs_know_each_other(monitor):
    """A block in a step in a block: each has the one around it as its parent."""

    async def work(_):
        with monitor.measure("parse"):
            await step("fetch", 0.1).ainvoke("a")

    async def main():
        with monitor.measure("request"):
            await RunnableLambda(work).ainvoke("a", config=watched(monitor))

    simulate(main)
    report = monitor.report()
    parents = {name: step.parents for name, step in report.steps.items()}
    assert parents == {"request": (), "work": ("request",), "parse": ("work",), "fetch": ("work",)}


def test_limited_steps_are_seen_with_each_attempt(monitor):
    """The wrapper is no run of its own; a rejected attempt is an error, the next one a call."""
    rejections = [RateLimited("429", retry_after=1.0)]

    async def search(query):
        await asyncio.sleep(0.5)
        if rejections:
            raise rejections.pop()
        return query

    async def main():
        calls = limited(RunnableLambda(search), Gate(concurrency=1), jitter=0)
        return await (calls | step("answer", 0.1)).ainvoke("a", config=watched(monitor))

    assert simulate(main).value == "a"
    report = monitor.report()
    assert figures(report, "search") == (2, 1, 0)
    assert report["search"].rejected == 1
    assert figures(report, "RunnableSequence") == (1, 0, 0)
    assert spans_of(report, "search") == [(0.0, 0.5), (1.5, 2.0)]
    assert report["search"].parents == ("RunnableSequence",)


def test_hits_of_a_cached_step_are_no_runs(monitor):
    """Of five questions, two are asked; the chain saw five."""
    search = cached(step("search", 1), AsyncCache(ttl=60, maxsize=10))
    chain = search | step("answer", 0.5)

    async def main():
        return await chain.abatch(["a", "b", "a", "a", "b"], config=watched(monitor))

    assert simulate(main).value == ["a", "b", "a", "a", "b"]
    report = monitor.report()
    assert figures(report, "search") == (2, 0, 0)
    assert figures(report, "RunnableSequence") == figures(report, "answer") == (5, 0, 0)


def test_the_callback_runs_in_the_thread_that_works(monitor):
    """It is inline, so it never waits for the loop's thread pool, which virtual time has not."""
    assert isinstance(monitor.callback, BaseCallbackHandler)
    assert monitor.callback.run_inline
    assert not monitor.callback.raise_error
    assert monitor.callback is monitor.callback
