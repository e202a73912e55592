"""Vectors that lie in clusters, as those of texts do, stores that hold them, and the bound."""

from collections.abc import Callable
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

__all__ = ["DIMENSION", "SPREAD", "Bound", "Ready", "filled", "vectors_in_clusters"]

DIMENSION = 384
CLUSTERS, SPREAD = 1_000, 0.5  # noise of a vector beside the length of its cluster's centre
AT_ONCE = 10_000  # vectors put into a store in one call: as lists they take eight times the room
BLOCK = 1 << 18
"""Numbers multiplied at once: OpenBLAS does so few on one thread."""


class Ready(Embeddings):
    """Hands out vectors that are there already; a text is the number of its vector."""

    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors with these numbers."""
        rows: list[list[float]] = self.vectors[list(map(int, texts))].tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Return the vector with this number."""
        return self.embed_documents([text])[0]


class Bound:
    """Multiplies, and does nothing else.

    On one thread: OpenBLAS splits a larger product over threads that wait for each other, and where
    another program has one of the cores that takes many times as long. Who wants the least that the
    product may cost must not measure that wait.
    """

    def __init__(self, embedding: Ready) -> None:
        self.matrix = np.asarray(embedding.vectors, np.float32)
        self.scores = np.empty(len(self.matrix), np.float32)

    async def asimilarity_search_by_vector(self, query: list[float], k: int) -> Any:  # noqa: ARG002 - as a store has it
        """Return the products, unsorted."""
        asked, rows = np.asarray(query, np.float32), BLOCK // DIMENSION
        for start in range(0, len(self.matrix), rows):
            part = slice(start, start + rows)
            np.dot(self.matrix[part], asked, out=self.scores[part])
        return self.scores


def vectors_in_clusters(count: int) -> Any:
    draw = np.random.default_rng(6)
    centres = draw.normal(size=(CLUSTERS, DIMENSION))
    noise = draw.normal(size=(count, DIMENSION)) * SPREAD
    return centres[draw.integers(CLUSTERS, size=count)] + noise


def filled(make: Callable[[Any], Any], embedding: Ready) -> Any:
    store, count = make(embedding), len(embedding.vectors)
    if isinstance(store, VectorStore):
        for start in range(0, count, AT_ONCE):
            texts = map(str, range(start, min(start + AT_ONCE, count)))
            store.add_documents([Document(text, id=text) for text in texts])
    return store
