"""An exact vector store over one matrix, in memory, with a file to keep it in."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from course_lib.rag.rows import Hits, Rows, allowed, copy_of
from course_lib.rag.vector_file import read_vectors, write_vectors
from course_lib.rag.vectors import best, diverse, scores_of, unit_vector, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from langchain_core.embeddings import Embeddings

    from course_lib.rag.rows import Filter, View
    from course_lib.rag.vectors import Floats

__all__ = ["MatrixVectorStore"]

Result = TypeVar("Result")

_log = logging.getLogger("course_lib.rag")

_PER_ADDED: Final = 50
"""Numbers searched in the time in which one number of a new vector is scaled and stored."""

_PER_FILTERED: Final = 2_000
"""Numbers multiplied in the time in which a filter looks at one document."""


class MatrixVectorStore(VectorStore):
    """A LangChain `VectorStore` that compares a query with every document, exactly and at once.

    Vectors are kept at length 1 in one float32 matrix, so that a search is one product and a
    partial sort. Scores are cosines. Any thread and any event loop may call any method at any
    time: a search sees the store as it was when it began. Appending is cheap; replacing and
    deleting copy the matrix once a call (100,000 x 384: some 0.1 s), so do many in one call.

    Documents are copied on their way in and out, their metadata one level deep.

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

    # --- adding --------------------------------------------------------------------------------

    def add_documents(
        self, documents: list[Document], ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """Embed documents and add them; one whose id is there already takes its place.

        A document without text is passed over, with a warning in the log: nothing would find it, and
        many a provider refuses the call that holds it.

        Args:
            documents: What to add; they are not changed.
            ids: An id for each, in place of its own. A document without one gets a new UUID.
            **_: Passed over: LangChain's indexing API sends its own `batch_size`.

        Returns:
            The ids of what was added, in the order of the documents.

        Raises:
            ValueError: An id comes twice, the numbers of ids and documents differ, or a vector is
                of no use (see `add_vectors`). Then nothing has been added.
        """
        named, names = _with_text(documents, ids)
        vectors = self._embedding.embed_documents([each.page_content for each in named])
        return self._put(named, vectors, names)

    async def aadd_documents(
        self, documents: list[Document], ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """`add_documents`, embedding with `aembed_documents`; a lot of work goes to a thread."""
        named, names = _with_text(documents, ids)
        vectors = await self._embedding.aembed_documents([each.page_content for each in named])
        numbers = _PER_ADDED * sum(map(len, vectors)) + self._rows.view().matrix.size
        return await self._aside(lambda: self._put(named, vectors, names), numbers)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Add texts with their metadata, as `add_documents` does."""
        return self.add_documents(_as_documents(texts, metadatas), ids)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Add texts with their metadata, as `aadd_documents` does."""
        return await self.aadd_documents(_as_documents(texts, metadatas), ids)

    def add_vectors(self, documents: list[Document], vectors: Any) -> list[str]:
        """Add documents whose vectors are known, without the embedding.

        Args:
            documents: What to add; they are not changed.
            vectors: A vector for each, shape (documents, dimension), of any length but 0.

        Returns:
            The ids, in the order of the documents.

        Raises:
            ValueError: An id comes twice, there is not one vector for each document, or a vector
                has another dimension than those in the store, is zero, or not finite.
        """
        return self._put(_named(documents, None), vectors, _names(documents, None))

    # --- by id ---------------------------------------------------------------------------------

    def delete(self, ids: Sequence[str] | None = None, **_: Any) -> bool:
        """Delete documents by id, and all of them without `ids`, as LangChain has it.

        Returns:
            True; an id that is not there is no error.
        """
        self._rows.drop(_ids(ids) if ids is not None else None)
        return True

    async def adelete(self, ids: Sequence[str] | None = None, **_: Any) -> bool:
        """`delete`, off the event loop when the store is large."""
        return await self._aside(lambda: self.delete(ids), self._rows.view().matrix.size)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in this order, without those that are not there."""
        return [copy_of(document) for document in self._rows.find(_ids(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids`; there is nothing to wait for."""
        return self.get_by_ids(ids)

    # --- making, saving, loading ---------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return a new store with these texts; further arguments are the class's own."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """`from_texts`, embedding with `aembed_documents`."""
        store = cls(embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    def save(self, path: str | Path) -> None:
        """Write documents and vectors to one file, whole or not at all (see `vector_file`).

        Raises:
            TypeError: Metadata holds what JSON does not; the message names the document.
            OSError: The file cannot be written.
        """
        view = self._rows.view()
        write_vectors(path, view.documents[: view.size], view.matrix)

    @classmethod
    def load(cls, path: str | Path, embedding: Embeddings, **kwargs: Any) -> Self:
        """Return the store that was saved, by this class or its kin.

        Args:
            path: The file.
            embedding: The model that embedded the documents.
            **kwargs: Further arguments of the class.

        Raises:
            FileNotFoundError: There is no such file.
            VectorFileError: It is damaged, or of another kind or version.
        """
        content = read_vectors(path)
        store = cls(embedding, **kwargs)
        store._rows.put(content.documents, content.vectors)
        return store

    # --- searching: LangChain's many ways, in terms of one ----------------------------------------

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

    # --- beneath them -----------------------------------------------------------------------------

    def _put(self, documents: list[Document], vectors: Any, names: list[str]) -> list[str]:
        self._rows.put(documents, unit_vectors(vectors, names))
        return [str(each.id) for each in documents]

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


def _named(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[Document]:
    """Return copies of the documents that all have ids, each its own."""
    given = _ids(ids) if ids is not None else [each.id for each in documents]
    if len(given) != len(documents):
        raise ValueError(f"{len(given)} ids for {len(documents)} documents: give one for each")
    named = [copy_of(each) for each in documents]
    for document, name in zip(named, given, strict=True):
        document.id = name or str(uuid.uuid4())
    counts = Counter(document.id for document in named)
    if named and counts.most_common(1)[0][1] > 1:
        twice = counts.most_common(1)[0][0]
        raise ValueError(f"id {twice!r} comes twice in one call: give each document its own")
    return named


def _with_text(
    documents: Sequence[Document], ids: Sequence[str | None] | None
) -> tuple[list[Document], list[str]]:
    """Return copies of the documents that have a text, with ids, and what they are in messages."""
    named, names = _named(documents, ids), _names(documents, ids)
    blank = [not each.page_content.strip() for each in named]
    if any(blank):
        without = ", ".join(compress(names, blank))
        _log.warning("passed over, since there is no text to find it by: %.500s", without)
    keep = [not each for each in blank]
    return list(compress(named, keep)), list(compress(names, keep))


def _names(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[str]:
    """Return what the caller knows each document by: its id, or else its place and first words."""
    given = _ids(ids) if ids is not None else [each.id for each in documents]
    return [
        f"{name!r:.80}" if name else f"document {place} ({each.page_content!r:.60})"
        for place, (name, each) in enumerate(zip(given, documents, strict=True))
    ]


def _ids(ids: Sequence[Any]) -> list[Any]:
    if isinstance(ids, str):
        raise TypeError(f"ids={ids!r} is one string: give a list of ids")
    return list(ids)


def _as_documents(
    texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None
) -> list[Document]:
    texts = list(texts)
    if metadatas and len(metadatas) != len(texts):
        raise ValueError(f"{len(metadatas)} metadatas for {len(texts)} texts: give one for each")
    pairs = zip(texts, metadatas or [{}] * len(texts), strict=True)
    return [Document(page_content=text, metadata=metadata) for text, metadata in pairs]


def _documents(found: list[tuple[Document, float]]) -> list[Document]:
    return [document for document, _ in found]


def _checked(k: int) -> int:
    if k < 1:
        raise ValueError(f"k={k!r} finds nothing: ask for at least 1")
    return k
