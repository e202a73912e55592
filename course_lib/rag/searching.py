"""LangChain's many ways to search a vector store, in terms of one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from langchain_core.vectorstores import VectorStore

from course_lib.rag.hits import Hits, allowed, copy_of
from course_lib.rag.rows import Rows
from course_lib.rag.vectors import best, diverse, scores_of, unit_vector

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings

    from course_lib.rag.hits import Filter
    from course_lib.rag.rows import View
    from course_lib.rag.vectors import Floats

__all__ = ["SearchingStore"]

Result = TypeVar("Result")

_PER_FILTERED: Final = 2_000
"""Numbers multiplied in the time in which a filter looks at one document."""


class SearchingStore(VectorStore):
    """Searches by text, by vector, with score, with relevance and for diversity, sync and async.

    Args:
        embedding: Embeds documents and queries.
        inline_up_to: How many numbers (vectors times dimension) a search on the event loop may
            look at; larger ones go to a thread of its default pool. The default is searched in
            about 0.1 ms, twice a hop to a thread. (In virtual time there are no threads.)
    """

    def __init__(self, embedding: Embeddings, *, inline_up_to: int = 1_000_000) -> None:
        if inline_up_to < 0:
            raise ValueError(f"inline_up_to={inline_up_to!r}: give numbers, 0 for always a thread")
        self._embedding = embedding
        self._inline_up_to = inline_up_to
        self._rows = Rows()

    @property
    def embeddings(self) -> Embeddings:
        """What embeds documents and queries."""
        return self._embedding

    @property
    def size(self) -> int:
        """How many documents there are."""
        return self._rows.view().size

    @property
    def version(self) -> tuple[int, int]:
        """What no change leaves as it is: how often rows were replaced or deleted, and their number."""
        view = self._rows.view()
        return view.epoch, view.size

    def similarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002 - LangChain's name
    ) -> list[tuple[Document, float]]:
        """Return the documents nearest to a vector with their cosines, best first.

        Args:
            embedding: A vector of any length but 0; an array is taken, too.
            k: How many, at least 1. Fewer come back where there are fewer.
            filter: Which documents may be found: a function of a document (which must not change
                it), or metadata to be equal. Called in a thread where the store is large.

        Returns:
            Pairs of a document of your own and a score from -1 to 1. Equal scores come in the
            order in which the documents were added.

        Raises:
            ValueError: `k` is below 1, or the vector has another dimension than the store's, is
                zero, or not finite.
        """
        return self._hits(embedding, k, filter).pairs()

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector`, off the event loop when the store is large."""
        return await self._aside(
            lambda: self.similarity_search_with_score_by_vector(embedding, k, **kwargs),
            self._numbers(kwargs.get("filter")),
        )

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """`similarity_search_with_score_by_vector` without the scores."""
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, **kwargs))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """`asimilarity_search_with_score_by_vector` without the scores."""
        found = await self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs)
        return _documents(found)

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Embed a text, and search by its vector (see `similarity_search_with_score_by_vector`)."""
        _checked(k)
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, **kwargs)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score`, embedding with `aembed_query`."""
        _checked(k)
        vector = await self._embedding.aembed_query(query)
        return await self.asimilarity_search_with_score_by_vector(vector, k, **kwargs)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """`similarity_search_with_score` without the scores."""
        return _documents(self.similarity_search_with_score(query, k, **kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """`asimilarity_search_with_score` without the scores."""
        return _documents(await self.asimilarity_search_with_score(query, k, **kwargs))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,  # noqa: A002 - LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """Return documents that are near to a vector and differ from each other.

        Args:
            embedding: A vector.
            k: How many, at least 1.
            fetch_k: Nearest documents among which to choose; `k` if that is more.
            lambda_mult: From 0 (as different as can be) to 1 (as near as can be).
            filter: Which documents may be found.
            **kwargs: None is known.

        Raises:
            ValueError: As for other searches, or `lambda_mult` is not from 0 to 1.
            TypeError: There is an argument of another name.
        """
        if kwargs:
            raise TypeError(f"no argument {next(iter(kwargs))!r} is known: see the signature")
        if not 0 <= lambda_mult <= 1:
            raise ValueError(f"lambda_mult={lambda_mult!r}: give a share from 0 to 1")
        hits = self._hits(embedding, max(_checked(k), fetch_k), filter)
        candidates = hits.view.matrix[hits.places]
        chosen = diverse(hits.query, candidates, k, lambda_mult)
        return [copy_of(hits.view.documents[hits.places[i]]) for i in chosen]

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """The same, off the event loop when the store is large."""
        return await self._aside(
            lambda: self.max_marginal_relevance_search_by_vector(
                embedding, k, fetch_k, lambda_mult, **kwargs
            ),
            self._numbers(kwargs.get("filter")),
        )

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """Embed a text, and call `max_marginal_relevance_search_by_vector`."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **kwargs
        )

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """`max_marginal_relevance_search`, embedding with `aembed_query`."""
        vector = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **kwargs
        )

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Relevance is the cosine, and 0 where that is negative."""
        return lambda cosine: max(0.0, cosine)

    def _hits(self, vector: Any, k: int, wanted: Filter | None) -> Hits:
        _checked(k)
        view = self._rows.view()
        if not view.size:
            return Hits(view, np.empty(0, np.float32), [], [])
        query = unit_vector(vector, view.matrix.shape[1])
        if wanted is None:
            return self._nearest(view, query, k)
        rows = allowed(view, wanted)
        scores = scores_of(view.matrix, query)[rows]
        places = best(scores, k)
        return Hits(view, query, rows[places].tolist(), scores[places].tolist())

    def _nearest(self, view: View, query: Floats, k: int) -> Hits:
        """Return the best of all rows: the one step that another index does in its own way."""
        scores = scores_of(view.matrix, query)
        places = best(scores, k)
        return Hits(view, query, places, scores[places].tolist())

    def _numbers(self, wanted: Filter | None) -> int:
        """Return how many numbers a search looks at, or could in the time that its filter takes."""
        view = self._rows.view()
        return view.matrix.size + (wanted is not None) * _PER_FILTERED * view.size

    async def _aside(self, work: Callable[[], Result], numbers: int) -> Result:
        """Do some work where it does not hold up the event loop."""
        return work() if numbers <= self._inline_up_to else await asyncio.to_thread(work)


def _documents(found: list[tuple[Document, float]]) -> list[Document]:
    return [document for document, _ in found]


def _checked(k: int) -> int:
    if k < 1:
        raise ValueError(f"k={k!r} finds nothing: ask for at least 1")
    return k
