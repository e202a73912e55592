"""The docstrings of the whole standard library: indexed by the course's provider, and asked.

Embeddings come over HTTP, as from any provider with OpenAI's wire format. The model is small and
runs on this machine. It embeds name and summary of each docstring; what is found is the whole.

Then the questions go through `RagPipeline`. The provider's reranker compares whole passages with a
question, and so does what stands in for a language model there, to choose the one that it quotes.
Summaries tell more, so the fewer passages there are to choose from, the better.
"""

import asyncio
import sys
import textwrap
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from openai import DefaultAsyncHttpxClient

from course_lib import service
from course_lib.rag import (
    MatrixVectorStore,
    RagAnswer,
    RagPipeline,
    RagSettings,
    cites_rightly,
    evaluate,
    load_docstrings,
    name_and_summary,
    open_index,
    read_questions,
)
from course_lib.table import Table

K = 5
DEPTH = 10  # results of a search, for nDCG@10
LEAST_PASSAGES = 3_000
LEAST_SHARE = 0.6  # of the questions, with a right source among the first K
LEAST_ANSWERS = 10  # that cite a right source, and no other
EMBEDDINGS = "/v1/embeddings"
QUESTIONS = read_questions(Path(__file__).with_suffix(".toml"))

BEST = "the first passage"
WAYS = {
    BEST: RagSettings(rerank=False, passages=1),
    "the first 5": RagSettings(rerank=False),
    "the best 5 of 20, reranked": RagSettings(),
}


def embeddings(provider: service.Provider, client: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        http_async_client=client,  # its own would be closed by the garbage collector, too late
        base_url=f"{provider.url}/v1",
        api_key="unused",
        check_embedding_ctx_length=False,
        max_retries=0,
    )


def show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,}", end="", file=sys.stderr, flush=True)


async def opened(
    documents: list[Document], embedding: OpenAIEmbeddings, folder: Path
) -> tuple[MatrixVectorStore, float]:
    """Return the index, and the seconds that it took."""
    start = time.perf_counter()
    store = await open_index(
        documents,
        embedding,
        folder,
        model_name="provider",
        text=name_and_summary,
        batch_size=32,
        progress=show,
    )
    return store, time.perf_counter() - start


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def calls(provider: service.Provider) -> int:
    """Return how often the provider was asked for embeddings."""
    return provider.ledger().path(EMBEDDINGS).requests


def read() -> list[Document]:
    """Print what it takes to read all docstrings; return them."""
    start = time.perf_counter()
    documents = load_docstrings(sys.stdlib_module_names)
    seconds = time.perf_counter() - start
    size = sum(len(each.page_content) for each in documents) / 1e6
    print(f"{len(documents):,} passages, {size:.1f} MB, read in {seconds:.1f} s")
    return documents


async def indexed(
    provider: service.Provider, client: Any, documents: list[Document], folder: Path
) -> MatrixVectorStore:
    """Print what it takes to index everything, and to open the index again; return it."""
    short = sum(len(name_and_summary(each)) for each in documents) / 1e6
    embedding = embeddings(provider, client)
    _, seconds = await opened(documents, embedding, folder)
    rate, kept = len(documents) / seconds, bytes_in(folder) / 1e6
    print(f"{short:.1f} MB embedded in {seconds:.0f} s: {rate:.0f} a second; {kept:.1f} MB on disk")
    before = calls(provider)
    store, seconds = await opened(documents, embedding, folder)
    print(f"opened again in {seconds:.2f} s\n")
    say(f"{store.size:,} passages: thousands", store.size >= LEAST_PASSAGES)
    say("opened again, nothing is embedded", calls(provider) == before > 0)
    return store


async def searched(store: MatrixVectorStore) -> None:
    """Print what is found for each question, and how good that is."""
    rows, right = [], 0
    start = time.perf_counter()
    for question in QUESTIONS:
        found = [str(each.id) for each in await store.asimilarity_search(question.text, k=K)]
        ranks = [rank for rank, name in enumerate(found, 1) if name in question.relevant]
        right += bool(ranks)
        rows.append([question.text, found[0], str(ranks[0]) if ranks else "-"])
    seconds = (time.perf_counter() - start) / len(QUESTIONS)
    print(f"\n{Table(['question', 'first found', 'rank of a right one'], rows)}")
    quality = await evaluate(store.as_retriever(search_kwargs={"k": DEPTH}), QUESTIONS, k=K)
    figures = f"recall@5 {quality.recall:.2f}, MRR {quality.mrr:.2f}, nDCG@10 {quality.ndcg:.2f}"
    print(f"\n{figures}; a search with its embedding: {1_000 * seconds:.0f} ms\n")
    share = right / len(QUESTIONS)
    say(f"{right} of {len(QUESTIONS)} find a right source among {K}", share >= LEAST_SHARE)


async def answered(url: str, store: MatrixVectorStore, ids: set[str]) -> None:
    """Print how many answers cite a right source, in each way, and ten of them."""
    asked = [question.text for question in QUESTIONS]
    right: dict[str, list[RagAnswer]] = {}
    for way, settings in WAYS.items():
        async with RagPipeline(url, store=store, settings=settings, chat="lean") as pipeline:
            pairs = zip(await pipeline.batch_rag(asked), QUESTIONS, strict=True)
            right[way] = [answer for answer, each in pairs if cites_rightly(answer.text, each, ids)]
    rows = [[way, f"{len(answers)} of {len(asked)}"] for way, answers in right.items()]
    print(f"\n{Table(['answered from', 'cite a right source'], rows)}\n")
    for answer in right[BEST][:LEAST_ANSWERS]:
        print(f"{answer.question}\n{textwrap.indent(shortened(answer), '    ')}")
    count = len(right[BEST])
    say(f"{count} of {len(asked)} answers cite a right source", count >= LEAST_ANSWERS)


def shortened(answer: RagAnswer) -> str:
    """Return what is said, in a line or two, and its sources."""
    said = textwrap.shorten(answer.text.rpartition(" [")[0], 160, placeholder=" ...")
    return f"{said}\nfrom {', '.join(source.id for source in answer.sources)}"


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


async def run(provider: service.Provider, folder: Path) -> None:
    documents = await asyncio.to_thread(read)
    async with DefaultAsyncHttpxClient() as client:
        store = await indexed(provider, client, documents, folder)
        await searched(store)
        await answered(provider.url, store, {str(each.id) for each in documents})


def main() -> None:
    with service.running(latency=None) as provider, TemporaryDirectory() as folder:
        asyncio.run(run(provider, Path(folder)))
