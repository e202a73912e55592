"""An exact vector store over one matrix, in memory, with a file to keep it in."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from langchain_core.documents import Document

from course_lib.rag.hits import copy_of
from course_lib.rag.searching import SearchingStore
from course_lib.rag.vector_file import read_vectors, write_vectors
from course_lib.rag.vectors import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from langchain_core.embeddings import Embeddings

__all__ = ["MatrixVectorStore"]

_PER_ADDED: Final = 50
"""Numbers searched in the time in which one number of a new vector is scaled and stored."""


class MatrixVectorStore(SearchingStore):
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

    # --- adding --------------------------------------------------------------------------------

    def add_documents(
        self, documents: list[Document], ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """Embed documents and add them; one whose id is there already takes its place.

        Args:
            documents: What to add; they are not changed.
            ids: An id for each, in place of its own. A document without one gets a new UUID.
            **_: Passed over: LangChain's indexing API sends its own `batch_size`.

        Returns:
            The ids, in the order of the documents.

        Raises:
            ValueError: An id comes twice, the numbers of ids and documents differ, or a vector is
                of no use (see `add_vectors`). Then nothing has been added.
        """
        named = _named(documents, ids)
        vectors = self._embedding.embed_documents([each.page_content for each in named])
        return self._put(named, vectors)

    async def aadd_documents(
        self, documents: list[Document], ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """`add_documents`, embedding with `aembed_documents`; a lot of work goes to a thread."""
        named = _named(documents, ids)
        vectors = await self._embedding.aembed_documents([each.page_content for each in named])
        numbers = _PER_ADDED * sum(map(len, vectors)) + self._rows.view().matrix.size
        return await self._aside(lambda: self._put(named, vectors), numbers)

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
        return self._put(_named(documents, None), vectors)

    def _put(self, documents: list[Document], vectors: Any) -> list[str]:
        ids = [str(each.id) for each in documents]
        self._rows.put(documents, unit_vectors(vectors, ids))
        return ids

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
