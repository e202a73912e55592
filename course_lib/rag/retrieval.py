"""The stages that find passages: embed, retrieve, rerank."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from langchain_core.documents import Document

from course_lib.batching import MicroBatcher
from course_lib.errors import BadRequest
from course_lib.rag.trace import StageFailed, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from course_lib.rag.kept import Kept
    from course_lib.rag.searching import SearchingStore
    from course_lib.rag.settings import RagSettings
    from course_lib.rag.stages import Stage

__all__ = ["Retrieval", "SearchClient"]

_BATCHES: Final = 2
"""Batches of questions embedded at once: one is answered while the next one fills."""


class SearchClient(Protocol):
    """A provider's client, as far as passages are found with it: `ServiceClient` is one."""

    async def search(self, query: str, *, k: int) -> list[Document]:
        """Return the `k` passages that fit best."""

    async def rerank(
        self, query: str, documents: Sequence[Document], *, top_n: int | None
    ) -> list[Document]:
        """Return the passages in order, best first."""

    async def embed(self, texts: Sequence[str], *, model: str) -> list[list[float]]:
        """Return a vector for each text."""


class _Embedded(NamedTuple):
    vector: list[float]
    seconds: float
    attempts: int


class Retrieval:
    """Finds passages: by the provider's search, or in a vector store, with the provider's vectors.

    Args:
        client: The provider.
        store: What is searched; None for the provider's own `/search`.
        settings: How many passages, models.
        stages: The remote stages by name.
        kept: Results kept.
    """

    def __init__(
        self,
        client: SearchClient,
        store: SearchingStore | None,
        settings: RagSettings,
        stages: Mapping[str, Stage],
        kept: Kept,
    ) -> None:
        self._client = client
        self._store = store
        self._settings = settings
        self._stages = stages
        self._kept = kept
        alone = settings.embed_batch == 1
        self.batcher: MicroBatcher[str, _Embedded] = MicroBatcher(
            self._embed_together,
            max_size=settings.embed_batch,
            concurrency=stages["embed"].gate.concurrency if alone else _BATCHES,
            isolate=lambda error: isinstance(error, BadRequest),
            name="embed",
        )

    async def best(self, question: str, k: int, *, rerank: bool) -> list[Document]:
        """Return the `k` passages that fit a question best, as copies.

        Args:
            question: The question.
            k: How many.
            rerank: Whether the candidates are put in order by the reranker.

        Raises:
            ServiceError: A stage failed.
        """
        trace = Trace()
        try:
            found = await self.candidates(question, max(k, self._settings.candidates), trace)
            if found and rerank:
                found = await self.ranked(question, found, k, trace)
        except StageFailed as failed:
            raise failed.error from None
        return [each.model_copy(deep=True) for each in found[:k]]

    async def candidates(self, question: str, k: int, trace: Trace) -> tuple[Document, ...]:
        """Return the `k` passages that fit a question best, best first."""
        store = self._store
        way = None if store is None else [self._settings.embedding_model, *store.version]

        async def find() -> tuple[Document, ...]:
            return tuple(await self._found(question, k, trace))

        return await self._kept.fetch("retrieve", (question, k, way), find)

    async def ranked(
        self, question: str, documents: Sequence[Document], top_n: int, trace: Trace
    ) -> tuple[Document, ...]:
        """Return the best `top_n` of some passages, in the order of the reranker."""

        async def rank() -> tuple[Document, ...]:
            return tuple(
                await self._stages["rerank"].call(
                    lambda: self._client.rerank(question, documents, top_n=top_n), trace=trace
                )
            )

        return await self._kept.fetch("rerank", _ranking(question, documents, top_n), rank)

    async def ranking_is_kept(
        self, question: str, documents: Sequence[Document], top_n: int
    ) -> bool:
        """Return whether `ranked` would make no call."""
        return await self._kept.has("rerank", _ranking(question, documents, top_n))

    async def _found(self, question: str, k: int, trace: Trace) -> list[Document]:
        store = self._store
        if store is None:
            return await self._stages["retrieve"].call(
                lambda: self._client.search(question, k=k), trace=trace
            )
        with trace.within("embed"):
            embedded = await self.batcher(question)
        trace.called("embed", embedded.seconds, embedded.attempts)
        clock = asyncio.get_running_loop().time
        start = clock()
        found = await store.asimilarity_search_with_score_by_vector(embedded.vector, k=k)
        trace.called("retrieve", clock() - start)
        return [_scored(document, score) for document, score in found]

    async def _embed_together(self, questions: list[str]) -> list[_Embedded]:
        together = Trace()
        vectors = await self._stages["embed"].call(
            lambda: self._client.embed(questions, model=self._settings.embedding_model),
            trace=together,
        )
        seconds, attempts = together.service["embed"], together.calls["embed"]
        return [_Embedded(vector, seconds, attempts) for vector in vectors]


def _scored(document: Document, score: float) -> Document:
    return Document(
        id=document.id,
        page_content=document.page_content,
        metadata={**document.metadata, "score": score},
    )


def _ranking(question: str, documents: Sequence[Document], top_n: int) -> tuple[Any, ...]:
    """Return all that a ranking depends on: the texts by their digest, since keys are to be short."""
    digest = sha256()
    for each in documents:
        digest.update(f"{each.id}\0{each.page_content}\0".encode(errors="surrogatepass"))
    return question, top_n, digest.hexdigest()
