"""The pipeline as a Runnable and as a thing with a life: callbacks, chains, loops, monitor."""

import asyncio

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from rag.rag_support import VirtualClient, passage, pipeline_of, seconds

from course_lib.async_batch import as_runnable
from course_lib.caching import AsyncCache
from course_lib.errors import Unavailable
from course_lib.lab import simulate
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag import MatrixVectorStore, RagAnswer, RagPipeline, RagSettings, StageTiming
from course_lib.rate_limiting import Gate
from course_lib.service import Faults

THREE = {"retrieve": 0.1, "rerank": 0.2, "generate": 0.4}


def run(use, client=None, **options):
    """Open a pipeline in a simulation and use it."""

    async def main():
        own = client or VirtualClient(endpoints=seconds(**THREE))
        async with pipeline_of(own, **options) as pipeline:
            return await use(pipeline), own

    return simulate(main).value


class Runs(AsyncCallbackHandler):
    """Keeps the names of runs, with that of the one that each is in."""

    def __init__(self):
        self.names, self.seen = {}, []

    async def on_chain_start(self, _, __, *, run_id, parent_run_id=None, **more):
        self.names[run_id] = more["name"]
        self.seen.append((more["name"], self.names.get(parent_run_id)))

    async def on_chat_model_start(self, serialized, _, *, run_id, parent_run_id=None, **more):
        self.seen.append((serialized["id"][-1], self.names.get(parent_run_id)))


def test_callbacks_see_a_run_with_the_chat_model_in_it():
    """One for each question of a batch; what is kept runs no model."""
    runs = Runs()
    model = FakeListChatModel(responses=["fine [p0]"])

    async def main():
        client = VirtualClient(latency=None)
        async with RagPipeline(client, chat=model) as pipeline:
            answers = await pipeline.abatch(["a", "b"], {"callbacks": [runs]})
            await pipeline.ainvoke("a", {"callbacks": [runs]})
            return answers

    answers = asyncio.run(main())  # the model works in a thread
    assert [answer.text for answer in answers] == ["fine [p0]"] * 2
    assert runs.seen.count(("RagPipeline", None)) == 3
    assert runs.seen.count(("FakeListChatModel", "RagPipeline")) == 2
    assert len(runs.seen) == 5


def test_it_is_a_step_of_a_chain():
    """A question goes in and an answer comes out, whole or streamed."""

    async def use(pipeline):
        chain = as_runnable(stripped) | pipeline | as_runnable(shown)
        streamed = [piece async for piece in chain.astream(" q ")]
        return await chain.ainvoke(" q "), streamed

    async def stripped(text):
        return text.strip()

    async def shown(answer):
        assert isinstance(answer, RagAnswer)
        return answer.question

    (whole, streamed), _ = run(use)
    assert whole == "q"
    assert streamed == ["q"]


def test_a_batch_keeps_order_and_obeys_its_limit():
    """`max_concurrency` bounds what is under way; what is no question can be returned as an error."""

    async def use(pipeline):
        answers = await pipeline.abatch(["a", "b", "c", "d"], {"max_concurrency": 2})
        mixed = await pipeline.abatch(["a", 7], return_exceptions=True)
        with pytest.raises(TypeError, match="ask in words"):
            await pipeline.abatch([7])
        return answers, mixed, await pipeline.abatch([])

    (answers, mixed, none), client = run(use)
    assert [answer.question for answer in answers] == ["a", "b", "c", "d"]
    assert client.provider.ledger().peak_in_flight == 2
    assert mixed[0].ok
    assert isinstance(mixed[1], TypeError)
    assert none == []


def test_an_argument_by_another_name_is_refused():
    """A budget that is misspelt is not one that is passed over."""

    async def use(pipeline):
        for call in (pipeline.ainvoke("q", budgte=1), anext(pipeline.astream("q", budgte=1))):
            with pytest.raises(TypeError, match="budgte"):
                await call

    run(use)


def test_answers_as_they_come_have_their_places():
    """LangChain's own way to take them as they come works, too."""

    async def use(pipeline):
        return [each async for each in pipeline.abatch_as_completed(["a", "b"])]

    pairs, _ = run(use)
    assert {(index, answer.question) for index, answer in pairs} == {(0, "a"), (1, "b")}


@pytest.mark.parametrize("call", ["invoke", "batch", "stream"])
def test_the_sync_side_refuses(call):
    """It never hands the question back; the message says what to call."""
    pipeline = RagPipeline("http://localhost:1")
    given = ["q"] if call == "batch" else "q"
    with pytest.raises(TypeError, match="await pipeline.ainvoke"):
        list(getattr(pipeline, call)(given))


def test_it_must_be_open_in_the_loop_that_uses_it():
    """Before, after, twice and elsewhere it says what is wrong."""
    pipeline = pipeline_of(VirtualClient(latency=None))

    async def main():
        with pytest.raises(RuntimeError, match="not open"):
            await pipeline.high_performance_rag("q")
        async with pipeline:
            with pytest.raises(RuntimeError, match="open already"):
                await pipeline.__aenter__()
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, pipeline.high_performance_rag("q"))
        with pytest.raises(RuntimeError, match="not open"):
            await pipeline.batch_rag(["q"])

    asyncio.run(main())


def test_it_can_be_opened_again_with_what_it_has_kept():
    """In another loop, too: the cache outlives the client."""
    client = VirtualClient(latency=None)
    pipeline = pipeline_of(client)

    async def use():
        async with pipeline:
            return await pipeline.high_performance_rag("q")

    first, second = asyncio.run(use()), asyncio.run(use())
    assert first.text == second.text
    assert second.from_cache == ("retrieve", "rerank", "generate")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"provider": "no address"}, ValueError, "no http address"),
        ({"chat": "other"}, TypeError, "give 'openai', 'lean'"),
        ({"gates": {"search": Gate(concurrency=1)}}, ValueError, "no such stage"),
        ({"provider": object()}, TypeError, "chat='lean'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options, error, message):
    """The message names the argument."""
    with pytest.raises(error, match=message):
        RagPipeline(**{"provider": "http://localhost:1", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "candidates=0"),
        ({"passages": 30}, "passages=30 of candidates=20"),
        ({"timeout": 0}, "timeout=0"),
        ({"budget": -1}, "budget=-1"),
        ({"cached": ("search",)}, "cached='search'"),
        ({"attempts": True}, "attempts=True"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    """The message names the value."""
    with pytest.raises(ValueError, match=message):
        RagSettings(**options)


# --- a vector store ------------------------------------------------------------------------------


class Lengths:
    """Stands in for the model that embedded the passages."""

    def embed_query(self, text):
        raise AssertionError("questions are embedded by the provider")


def stored():
    """A store whose nearest passage for a question is the one of its length."""
    store = MatrixVectorStore(Lengths())
    numbers = range(1, 9)
    store.add_vectors([passage(n, "x") for n in numbers], [[1.0, float(n)] for n in numbers])
    return store


def test_questions_that_come_together_are_embedded_together():
    """Fifty different ones take a few calls, and each gets its own passages."""
    questions = [letter * length for letter in "abcdefg" for length in range(1, 8)]
    settings = RagSettings(candidates=1, passages=1, rerank=False)
    answers, client = run(
        lambda pipeline: pipeline.batch_rag(questions),
        VirtualClient(endpoints=seconds(**THREE)),
        store=stored(),
        settings=settings,
    )
    assert [answer.sources[0].id for answer in answers] == [f"p{len(q)}" for q in questions]
    assert client.asked["embed"] <= 3
    assert client.asked["search"] == client.asked["rerank"] == 0
    assert [each.stage for each in answers[0].timings] == ["embed", "retrieve", "generate"]
    assert answers[0].timings[0] == StageTiming("embed", 0.0, pytest.approx(0.1))


def test_one_that_cannot_be_embedded_names_that_stage():
    """Also those that shared the call, and they are not asked one by one for the provider's fault."""
    client = VirtualClient(latency=None, faults=Faults(error=1.0))
    answers, _ = run(
        lambda pipeline: pipeline.batch_rag(["a", "bb", "a"]),
        client,
        store=stored(),
        settings=RagSettings(attempts=2),
    )
    assert {answer.error.stage for answer in answers} == {"embed"}
    assert client.asked["embed"] == 2


def test_documents_added_to_the_store_are_found_by_the_next_query():
    """What was kept for fewer passages is not used for more."""
    store = stored()

    async def use(pipeline):
        before = await pipeline.retrieve("q" * 20, k=1)
        store.add_vectors([Document(id="new", page_content="new")], [[1.0, 20.0]])
        return before, await pipeline.retrieve("q" * 20, k=1)

    (before, after), _ = run(use, store=store, settings=RagSettings(rerank=False))
    assert [each.id for each in before] == ["p8"]
    assert [each.id for each in after] == ["new"]


def test_passages_alone_can_be_had():
    """With and without the reranker; errors are raised; documents are the caller's own."""

    async def use(pipeline):
        plain = await pipeline.retrieve("q", k=2, rerank=False)
        plain[0].metadata.clear()
        again = await pipeline.retrieve("q", k=2, rerank=False)
        best = await pipeline.retrieve("q", k=2)
        pipeline_client.provider.configure(path="/search", faults=Faults(error=1.0))
        with pytest.raises(Unavailable):
            await pipeline.retrieve("other")
        return again, best

    pipeline_client = VirtualClient(latency=None)
    (again, best), _ = run(use, pipeline_client, settings=RagSettings(attempts=1))
    assert [each.metadata["title"] for each in again] == ["Title 0", "Title 1"]
    assert [each.id for each in best] == ["p19", "p18"]


# --- the monitor ---------------------------------------------------------------------------------


def test_the_monitor_tells_wait_from_service():
    """Whole queries and attempts are counted; what comes from the cache is no attempt."""
    monitor = PerformanceMonitor()

    async def use(pipeline):
        await pipeline.batch_rag(["a", "b", "a"])
        return monitor.report()

    gates = {"rerank": Gate(concurrency=1)}
    report, _ = run(use, gates=gates, monitor=monitor)
    assert {name: report[name].count for name in (*THREE, "rag")} == {
        "retrieve": 2,
        "rerank": 2,
        "generate": 2,
        "rag": 3,
    }
    assert report["rerank"].service.total == pytest.approx(0.4)
    assert report["rerank"].wait.total == pytest.approx(0.2)


def test_attempts_that_fail_are_counted_as_such():
    """Each waits from the end of the one before it."""
    monitor = PerformanceMonitor()

    async def use(pipeline):
        await pipeline.high_performance_rag("q")
        return monitor.report()

    client = VirtualClient(endpoints=seconds(**THREE))
    client.provider.configure(path="/rerank", faults=Faults(error=1.0))
    report, _ = run(use, client, monitor=monitor, settings=RagSettings(attempts=3))
    assert (report["rerank"].count, report["rerank"].errors) == (3, 3)
    assert report["rerank"].wait.total <= 0.3  # the pauses alone


def test_a_passage_that_was_replaced_is_found_as_it_is_now():
    """What was found before a change of the store is not kept for after it."""
    corpus = stored()

    async def main():
        client = VirtualClient(latency=None)
        async with pipeline_of(
            client, store=corpus, settings=RagSettings(rerank=False)
        ) as pipeline:
            [before] = await pipeline.retrieve("qqq", k=1)
            corpus.add_vectors([passage(3, "news")], [[1.0, 3.0]])
            return before, *await pipeline.retrieve("qqq", k=1)

    before, after = simulate(main).value
    assert (before.page_content, after.page_content) == ("Passage 3 on x", "Passage 3 on news")


def test_two_corpora_in_one_cache_do_not_mix():
    """Each store has its name in the keys."""
    cache = AsyncCache(ttl=60, maxsize=100)
    other = MatrixVectorStore(Lengths())
    other.add_vectors([passage(n, "y") for n in range(1, 9)], [[1.0, n] for n in range(1, 9)])

    async def main():
        client = VirtualClient(latency=None)
        settings = RagSettings(rerank=False)
        options = {"cache": cache, "settings": settings}
        async with (
            pipeline_of(client, store=stored(), corpus="x", **options) as one,
            pipeline_of(client, store=other, corpus="y", **options) as two,
        ):
            return await one.retrieve("qqq", k=1), await two.retrieve("qqq", k=1)

    [one], [two] = simulate(main).value
    assert (one.page_content, two.page_content) == ("Passage 3 on x", "Passage 3 on y")
