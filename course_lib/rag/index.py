"""Embeddings kept on disk, so that only what is new is embedded again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from langchain_core.documents import Document

from course_lib.batching import amap
from course_lib.rag.matrix import MatrixVectorStore
from course_lib.rag.vector_file import (
    VectorFileError,
    read_vectors,
    row_of,
    write_vectors,
)
from course_lib.rag.vectors import directions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.embeddings import Embeddings

    from course_lib.rag.vectors import Floats

__all__ = ["INDEX_FILE", "fingerprint", "open_index"]

INDEX_FILE: Final = "index.npz"
"""Name of the file in an index's folder."""

_log = logging.getLogger("course_lib.rag")


async def open_index(
    documents: Sequence[Document],
    embedding: Embeddings,
    folder: str | Path,
    *,
    model_name: str,
    text: Callable[[Document], str] | None = None,
    batch_size: int = 64,
    concurrency: int = 2,
    progress: Callable[[int, int], object] | None = None,
    make_store: Callable[[Embeddings], MatrixVectorStore] = MatrixVectorStore,
) -> MatrixVectorStore:
    """Return a store of the documents, with their embeddings from disk where they are there.

    The folder keeps one file. If its fingerprint is that of these documents and this model, nothing
    is embedded and nothing written. Otherwise each text that the file does not hold for this model
    is embedded once, and the file is replaced. If that fails or is cancelled half-way, what has
    been embedded by then is kept, and the next call goes on from there. A damaged file is logged
    and built again. Processes that build at once may each embed everything; the last to end
    leaves its file, whole.

    With `text`, a document is found by something shorter than itself, and returned whole: a summary
    is closer to a question than a passage that says much else, and sooner embedded. The file then
    keeps these texts in place of the documents' own, and is compared with them.

    Documents that nothing can find (their text is blank, or its vector has no direction) are left out
    of the store, with a warning in the log that names them.

    Reading, writing and comparing are done in a thread.

    Args:
        documents: What is searched, each with an id of its own.
        embedding: Embeds documents (now) and queries (later).
        folder: Where the file is; made where there is none.
        model_name: What tells this embedding from others: embeddings under another are not used.
        text: Returns what of a document is embedded; by default all of its text. Called in a
            thread, once for each document.
        batch_size: Texts embedded with one call of `aembed_documents`.
        concurrency: Such calls under way at once.
        progress: Called with the numbers of texts embedded so far and to be embedded in all, after
            each batch; not at all if there is nothing to embed.
        make_store: Makes the empty store: a class, or a function of the embedding.

    Raises:
        ValueError: A document has no id or that of another, there is no model name, a number is
            out of range, or the embedding returned vectors of no use: none of them has a direction,
            say, or not all have one dimension.
        TypeError: Metadata holds what JSON does not, or `text` returned no string.
        OSError: The file cannot be read or written.
    """
    _check(documents, model_name, batch_size, concurrency)
    held = list(documents)
    rows = await asyncio.to_thread(_rows, held, text)
    index = await asyncio.to_thread(_Index, Path(folder) / INDEX_FILE, rows, model_name)
    await asyncio.to_thread(index.read)
    if not index.current:
        try:
            await _embed(index, embedding, batch_size, concurrency, progress)
        except BaseException:
            if index.fresh:
                with suppress(Exception):  # what stopped it is what the caller must hear of
                    await asyncio.to_thread(index.write)
            raise
        await asyncio.to_thread(index.write, whole=True)
    store = make_store(embedding)
    await asyncio.to_thread(index.fill, store, held)
    return store


def fingerprint(documents: Sequence[Document], model_name: str) -> str:
    """Return the SHA-256 over the model's name and each document's id, text and metadata, in order.

    Raises:
        TypeError: Metadata holds what JSON does not.
    """
    digest = hashlib.sha256(model_name.encode())
    for each in documents:
        digest.update(f"\n{row_of(each)}".encode())
    return digest.hexdigest()


class _Index:
    """The texts that are embedded, which of them are so already, and the file that keeps both."""

    def __init__(self, path: Path, rows: list[Document], model_name: str) -> None:
        self._path = path
        self._rows = rows
        self._model = model_name
        self._fingerprint = fingerprint(rows, model_name)
        self._vectors: dict[str, Floats] = {}
        self.current = False  # whether the file holds all of it, and nothing else
        self.fresh = 0  # texts embedded that the file does not hold

    def read(self) -> None:
        """Take from the file what can be used."""
        try:
            held = read_vectors(self._path)
        except FileNotFoundError:
            return
        except VectorFileError as error:
            _log.warning("the index is built again: %s", error)
            return
        if held.about.get("model") != self._model:
            return
        texts = (each.page_content for each in held.documents)
        self._vectors.update(zip(texts, held.vectors, strict=True))
        self.current = held.about.get("fingerprint") == self._fingerprint

    def missing(self) -> list[str]:
        """Return each text without an embedding, once, in the order of the documents."""
        texts = dict.fromkeys(each.page_content for each in self._rows)
        return [text for text in texts if text not in self._vectors and text.strip()]

    def add(self, texts: Sequence[str], embedded: list[list[float]]) -> None:
        """Take embeddings, one for each text; those without a direction are passed over."""
        vectors, directed = directions(embedded, len(texts))
        dimensions = {len(vector) for vector in islice(self._vectors.values(), 1)}
        if dimensions and dimensions != {vectors.shape[1]}:
            raise ValueError(
                f"{self._model!r} now embeds in {vectors.shape[1]} dimensions, the index holds "
                f"{dimensions.pop()}: give another model another model_name"
            )
        found = zip(texts, vectors, directed, strict=True)
        self._vectors.update(
            (text, vector) for text, vector, has_direction in found if has_direction
        )
        self.fresh += int(directed.sum())

    def write(self, *, whole: bool = False) -> None:
        """Replace the file: by all, or by as much as there is."""
        rows = [each for each in self._rows if each.page_content in self._vectors]
        if whole and not rows and self.missing():
            raise ValueError(
                f"no vector that {self._model!r} returned has a direction: check the embedding"
            )
        about = {"model": self._model} | ({"fingerprint": self._fingerprint} if whole else {})
        write_vectors(self._path, rows, self._stacked(rows), about)

    def fill(self, store: MatrixVectorStore, documents: list[Document]) -> None:
        """Add the documents to a store, each with the vector of its row."""
        found = [each.page_content in self._vectors for each in self._rows]
        if not all(found):
            left_out = [each.id for each, there in zip(documents, found, strict=True) if not there]
            _log.warning("left out, since nothing would find them: %.500s", left_out)
        store.add_vectors(
            list(compress(documents, found)), self._stacked(list(compress(self._rows, found)))
        )

    def _stacked(self, rows: list[Document]) -> Floats:
        if not rows:
            return np.empty((0, 0), np.float32)
        return np.stack([self._vectors[each.page_content] for each in rows])


def _rows(documents: list[Document], text: Callable[[Document], str] | None) -> list[Document]:
    """Return the documents with what is embedded of each as their text."""
    if text is None:
        return documents
    return [
        Document(id=each.id, page_content=_embedded(each, text), metadata=each.metadata)
        for each in documents
    ]


def _embedded(document: Document, text: Callable[[Document], str]) -> str:
    found: object = text(document)
    if not isinstance(found, str):
        raise TypeError(
            f"text={text!r:.80} returned {found!r:.60} for {document.id!r}: return the text to embed"
        )
    return found


async def _embed(
    index: _Index,
    embedding: Embeddings,
    batch_size: int,
    concurrency: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Embed what is missing, batch by batch."""

    async def embed(texts: list[str]) -> list[list[float]]:
        return await embedding.aembed_documents(texts)

    missing = index.missing()
    batches = [missing[i : i + batch_size] for i in range(0, len(missing), batch_size)]
    done = 0
    async with amap(embed, batches, limit=concurrency) as outcomes:
        async for outcome in outcomes:
            texts = batches[outcome.index]
            index.add(texts, outcome.result())
            done += len(texts)
            if progress is not None:
                progress(done, len(missing))


def _check(
    documents: Sequence[Document], model_name: str, batch_size: int, concurrency: int
) -> None:
    if not model_name:
        raise ValueError("model_name='': name the embedding model, so that another is noticed")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: embed at least 1 text with a call")
    if concurrency < 1:
        raise ValueError(f"concurrency={concurrency!r}: make at least 1 call at once")
    seen: set[str] = set()
    for each in documents:
        if not each.id:
            raise ValueError(f"a document without id ({each.page_content!r:.60}): give it one")
        if each.id in seen:
            raise ValueError(f"id {each.id!r} is that of two documents: rename one")
        seen.add(each.id)
