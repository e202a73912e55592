"""No speed-up lowers the quality: all questions of the handbook, on the real service."""

import asyncio
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from course_lib import service
from course_lib.async_batch import ServiceClient
from course_lib.rag import (
    MatrixVectorStore,
    Question,
    RagAnswer,
    RagPipeline,
    RagSettings,
    evaluate_rag,
    naive_rag,
    quality_of,
    read_questions,
)
from course_lib.rag.answer import Source
from course_lib.service.knowledge.corpus import load_passages

QUESTIONS = read_questions(Path(service.__file__).parent / "corpus" / "questions.toml")
TEXTS = [question.text for question in QUESTIONS]


@pytest.fixture(scope="module")
def naive(shared_provider):
    """What the naive pipeline answers."""
    return naive_rag(shared_provider.url, TEXTS)


def content(answers):
    return [(each.question, each.text, each.sources, each.tokens) for each in answers]


@pytest.mark.parametrize("chat", ["openai", "lean"])
def test_it_answers_as_the_naive_pipeline_does(provider, naive, chat):
    """Text, sources, scores and tokens are the same for all questions, so all quality is."""

    async def ask():
        async with RagPipeline(provider.url, chat=chat) as pipeline:
            answers = await pipeline.batch_rag(TEXTS)
            again = await pipeline.abatch(TEXTS)
            return answers, again

    answers, again = asyncio.run(ask())
    assert content(answers) == content(again) == content(naive)
    assert quality_of(answers, QUESTIONS).as_good_as(quality_of(naive, QUESTIONS))
    assert all(answer.ok and not answer.degraded for answer in answers)


class Embedded(Embeddings):
    """Embeds through an open client."""

    def __init__(self, client):
        self.aembed_documents = client.embed

    def embed_documents(self, texts):
        raise NotImplementedError

    def embed_query(self, text):
        raise NotImplementedError


def test_each_way_of_retrieving_is_measured(provider):
    """Vectors and the cascade find more than words do, and questions are embedded in batches.

    Answers are no better: the reader that stands in for a language model looks for the best of the
    passages by the same likeness, in whatever order they come.
    """
    documents = [
        Document(id=each.id, page_content=each.text, metadata={"title": each.title})
        for each in load_passages()
    ]
    no_rerank = RagSettings(rerank=False)

    async def measure():
        async with ServiceClient(provider.url) as client:
            store = MatrixVectorStore(Embedded(client))
            await store.aadd_documents(documents)
            options = {"chat": "lean"}
            async with (
                RagPipeline(client, settings=no_rerank, **options) as lexical,
                RagPipeline(client, store=store, settings=no_rerank, **options) as dense,
                RagPipeline(client, **options) as cascade,
            ):
                return [await evaluate_rag(each, QUESTIONS) for each in (lexical, dense, cascade)]

    lexical, dense, cascade = asyncio.run(measure())
    by_words = lexical.retrieval
    for better in (dense.retrieval, cascade.retrieval):
        assert better.recall >= by_words.recall
        assert better.mrr > by_words.mrr + 0.02
        assert better.ndcg > by_words.ndcg + 0.02
    assert min(each.answers.citation_accuracy for each in (lexical, dense, cascade)) > 0.6
    assert lexical.failed == lexical.degraded == 0.0
    seen = provider.ledger()
    assert seen.path("/v1/embeddings").requests < len(QUESTIONS)  # batches of questions


def test_quality_counts_failures_and_what_was_left_out():
    """A failed answer is wrong, whatever it says; shares are of all questions."""
    questions = [Question("a?", ("x",), ("right",)), Question("b?", ("y",))]
    good = RagAnswer("a?", "right [x]", sources=(Source("x", "", 1.0),), degraded=("rerank",))
    bad = RagAnswer("b?", "right [y]", error="anything")
    quality = quality_of([good, bad], questions)
    assert (quality.failed, quality.degraded) == (0.5, 0.5)
    assert quality.answers.answer_accuracy == 1.0
    assert quality.answers.citation_accuracy == 0.5
    assert quality.retrieval.recall == 0.5
    assert not quality.as_good_as(quality_of([good, good], questions[:1] * 2))
    assert quality.as_good_as(quality)
