"""A vector store whose searches go through a faiss index."""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any

from course_lib.rag.matrix import MatrixVectorStore
from course_lib.rag.rows import Hits

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from course_lib.rag.rows import View
    from course_lib.rag.vectors import Floats

__all__ = ["FaissVectorStore"]


class FaissVectorStore(MatrixVectorStore):
    """A `MatrixVectorStore` with a faiss index for searches without a filter.

    The index is brought up to date by the first search after a change: new rows are added to it,
    and it is built again once rows were replaced or deleted. It is not saved (a file is the same
    as a `MatrixVectorStore`'s). The matrix stays beside it, for filters and for new indexes, so
    that vectors are in memory twice. Searches wait for each other. Equal scores come in any order.

    Args:
        embedding: Embeds documents and queries.
        factory: What kind of index, as `faiss.index_factory` spells it: "Flat" is exact, "HNSW32"
            and "IVF256,Flat" look at a part of the vectors and may miss some of the nearest.
            Indexes that learn are trained on the vectors there are when they are built.
        inline_up_to: As for `MatrixVectorStore`.

    Raises:
        ImportError: faiss is not installed.
    """

    def __init__(
        self, embedding: Embeddings, *, factory: str = "Flat", inline_up_to: int = 1_000_000
    ) -> None:
        super().__init__(embedding, inline_up_to=inline_up_to)
        self._faiss = _faiss()
        self._factory = factory
        self._index: Any = None
        self._epoch = -1
        self._searching = Lock()

    def _nearest(self, view: View, query: Floats, k: int) -> Hits:
        with self._searching:
            if not self._up_to_date(view):
                return super()._nearest(view, query, k)
            scores, places = self._index.search(query[None], min(k, view.size))
        found = [
            (int(place), max(-1.0, min(1.0, float(score))))
            for place, score in zip(places[0], scores[0], strict=True)
            if place >= 0  # below 0 there was nothing more
        ]
        return Hits(view, query, [place for place, _ in found], [score for _, score in found])

    def _up_to_date(self, view: View) -> bool:
        """Bring the index up to a view; return whether it is not ahead of it."""
        if self._epoch > view.epoch:
            return False
        if self._epoch < view.epoch:
            self._index = self._built(view)
            self._epoch = view.epoch
        if self._index.ntotal < view.size:
            self._index.add(view.matrix[self._index.ntotal :])
        return bool(self._index.ntotal == view.size)

    def _built(self, view: View) -> Any:
        faiss = self._faiss
        try:
            index = faiss.index_factory(
                view.matrix.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT
            )
            if not index.is_trained:
                index.train(view.matrix)
        except RuntimeError as error:
            raise ValueError(
                f"no faiss index {self._factory!r} over {view.size} vectors: {error}"
            ) from error
        return index


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ImportError(
            "FaissVectorStore needs faiss: pip install 'course-lib[scale]' (or faiss-cpu), or use "
            "MatrixVectorStore, which is exact, too"
        ) from error
