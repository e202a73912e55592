"""The pipeline against the real service: one client for all, streams, failures, a storm."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from file_changes import counted_file_changes

from course_lib import service
from course_lib.rag import RagAnswer, RagPipeline, RagSettings, read_questions
from course_lib.rate_limiting import Gate
from course_lib.service import Faults, RateLimit

CORPUS = Path(service.__file__).parent / "corpus"
QUESTIONS = [each.text for each in read_questions(CORPUS / "questions.toml")]
CHAT = "/v1/chat/completions"
MOST_CHANGES = 230


def test_one_pipeline_after_another_in_loops_of_their_own(provider):
    """No HTTP client outlives its event loop."""

    async def ask():
        async with RagPipeline(provider.url) as pipeline:
            return await pipeline.ainvoke(QUESTIONS[0])

    assert [asyncio.run(ask()).ok for _ in range(3)] == [True] * 3


def test_a_query_is_read_in_few_files(provider):
    """Who follows one with nothing kept changes file no more often than this, all packages included."""

    async def ask():
        async with RagPipeline(provider.url) as pipeline:
            await pipeline.ainvoke(QUESTIONS[0])
            with counted_file_changes() as changes:
                answer = await pipeline.ainvoke(QUESTIONS[1])
            return answer, changes.count

    answer, count = asyncio.run(ask())
    assert answer.ok
    assert 0 < count <= MOST_CHANGES


def test_connections_are_opened_once(provider):
    """However many calls there are, connections are as many as calls were under way at once."""

    async def ask():
        async with RagPipeline(provider.url) as pipeline:
            for question in QUESTIONS[:4]:
                await pipeline.high_performance_rag(question)

    asyncio.run(ask())
    seen = provider.ledger()
    assert (seen.requests, seen.connections) == (12, 2)  # one session, one chat model


def test_equal_questions_are_answered_once(provider):
    """Of fifty at once, one makes the calls; a later one makes none and says so."""

    async def ask():
        async with RagPipeline(provider.url) as pipeline:
            answers = await pipeline.batch_rag(QUESTIONS[:1] * 50)
            return answers, await pipeline.ainvoke(QUESTIONS[0])

    answers, later = asyncio.run(ask())
    assert provider.ledger().requests == 3
    assert {answer.text for answer in answers} == {later.text}
    assert later.from_cache == ("retrieve", "rerank", "generate")
    assert sum(not answer.from_cache for answer in answers) == 1


def test_a_stream_comes_in_pieces_and_ends_with_the_answer(provider):
    """The pieces make up the text, and what was streamed is kept for who does not stream."""
    provider.configure(path=CHAT, generation=service.Generation(0.02, 500))

    async def ask():
        async with RagPipeline(provider.url) as pipeline:
            async with aclosing(pipeline.astream(QUESTIONS[0])) as stream:
                pieces = [piece async for piece in stream]
            return pieces, await pipeline.ainvoke(QUESTIONS[0])

    (*texts, answer), later = asyncio.run(ask())
    assert isinstance(answer, RagAnswer)
    assert len(texts) > 5
    assert "".join(texts) == answer.text == later.text
    assert 0.02 <= answer.first_token < answer.seconds
    assert answer.tokens == later.tokens > 0
    assert "generate" in later.from_cache


def test_a_failed_query_is_a_failed_answer(provider):
    """It names stage and reason; the others are answered."""
    provider.configure(path="/rerank", faults=Faults(error=0.2, seed=3))

    async def ask():
        settings = RagSettings(attempts=1)
        async with RagPipeline(provider.url, settings=settings) as pipeline:
            return await pipeline.batch_rag(QUESTIONS[:20])

    answers = asyncio.run(ask())
    failed = [answer for answer in answers if not answer.ok]
    assert len(failed) == provider.ledger().errors > 0
    assert {(each.error.stage, each.error.kind) for each in failed} == {("rerank", "Unavailable")}
    assert "POST /rerank answered 500" in failed[0].error.reason


def test_what_the_chat_client_raises_is_understood(provider):
    """A 429 cools the stage down and a 500 is tried again, each once, outside of the client."""
    provider.configure(path=CHAT, rate_limit=RateLimit(rate=50, burst=1), faults=Faults(error=0.3))

    async def ask():
        settings = RagSettings(attempts=20)
        async with RagPipeline(provider.url, settings=settings) as pipeline:
            answers = await pipeline.batch_rag(QUESTIONS[:10])
            return answers, pipeline.gates["generate"].statistics()

    answers, gate = asyncio.run(ask())
    seen = provider.ledger().path(CHAT)
    assert all(answer.ok for answer in answers)
    assert seen.errors > 0
    assert gate.rejected == seen.rejected > 0
    assert gate.admitted == seen.requests == 10 + sum(answer.retries for answer in answers)


def test_a_storm_loses_nothing(provider):
    """Errors, hangs and 429s: an answer or a reason for each of 500, and both sides count alike."""
    provider.configure(faults=Faults(error=0.05, hang=0.02))
    provider.configure(path="/rerank", rate_limit=RateLimit(rate=500, burst=1))
    questions = [QUESTIONS[n % 12] for n in range(500)]

    async def ask():
        settings = RagSettings(attempts=8, timeout=0.5, cached=())
        gates = {"rerank": Gate(concurrency=4)}  # or most of the work would be to be rejected
        async with RagPipeline(
            provider.url, settings=settings, chat="lean", gates=gates
        ) as pipeline:
            answers = [answer async for answer in pipeline.answers(questions)]
            return answers, {name: gate.statistics() for name, gate in pipeline.gates.items()}

    answers, gates = asyncio.run(ask())
    assert sorted(answer.question for answer in answers) == sorted(questions)
    assert all(answer.ok or answer.error.reason for answer in answers)
    seen = provider.ledger()
    assert sum(each.admitted for each in gates.values()) == seen.requests
    assert sum(each.rejected for each in gates.values()) == seen.rejected > 0
