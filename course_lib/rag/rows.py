"""Documents and their vectors, in rows that grow: views that do not change, and hits in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from langchain_core.documents import Document

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from course_lib.rag.vectors import Floats

__all__ = ["Filter", "Hits", "Rows", "View", "allowed", "copy_of"]

Filter: TypeAlias = Callable[[Document], bool] | Mapping[str, Any]
"""Which documents may be found: a function that says so, or metadata to be equal."""


@dataclass(frozen=True, slots=True)
class View:
    """The rows as they were at one moment.

    Attributes:
        documents: One for each row; more may follow, which belong to later views.
        places: The row of each id; with more, likewise.
        matrix: Unit vectors, shape (rows, dimension).
        epoch: Changes when rows that were there before are replaced or gone.
    """

    documents: list[Document]
    places: dict[str, int]
    matrix: Floats
    epoch: int

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.matrix)


class Rows:
    """Documents, each with a unit vector, found by id. Any thread may call any method.

    What a view shows is never written again: new rows go behind it, and whoever replaces or drops
    rows does so in a copy. So who reads never waits, and appending costs no copy but when the
    matrix is full (it doubles); replacing and dropping copy it, once a call.
    """

    def __init__(self) -> None:
        self._writing = Lock()
        self._room = np.empty((0, 0), np.float32)
        self._view = View([], {}, self._room, 0)

    def view(self) -> View:
        """Return what is there now."""
        return self._view

    def put(self, documents: list[Document], vectors: Floats) -> None:
        """Add rows; a document whose id is there already takes that row.

        Args:
            documents: Documents with ids, each id once.
            vectors: Their unit vectors, shape (documents, dimension).

        Raises:
            ValueError: The vectors have another dimension than those that are there.
        """
        if not documents:
            return
        with self._writing:
            _check_dimension(vectors, self._view.matrix)
            known = self._view.places
            old = [i for i, each in enumerate(documents) if _id(each) in known]
            new = [i for i, each in enumerate(documents) if _id(each) not in known]
            if old:
                self._replace([documents[i] for i in old], vectors[old])
            self._append([documents[i] for i in new], vectors[new])

    def drop(self, ids: Iterable[str] | None) -> None:
        """Remove rows by id (None: all); ids that are not there are passed over."""
        with self._writing:
            view = self._view
            gone = set(view.places) if ids is None else view.places.keys() & set(ids)
            if not gone:
                return
            documents = [each for each in view.documents if _id(each) not in gone]
            self._room = view.matrix[[view.places[_id(each)] for each in documents]]
            places = {_id(each): row for row, each in enumerate(documents)}
            self._view = View(documents, places, self._room, view.epoch + 1)

    def find(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in this order, without those that are not there."""
        view = self._view
        rows = (view.places.get(each) for each in ids)
        return [view.documents[row] for row in rows if row is not None]

    def _replace(self, documents: list[Document], vectors: Floats) -> None:
        view = self._view
        self._room = self._room.copy()
        replaced = list(view.documents)
        for document, vector in zip(documents, vectors, strict=True):
            row = view.places[_id(document)]
            replaced[row] = document
            self._room[row] = vector
        matrix = self._room[: view.size]
        self._view = View(replaced, dict(view.places), matrix, view.epoch + 1)

    def _append(self, documents: list[Document], vectors: Floats) -> None:
        view = self._view
        size = view.size
        needed = size + len(documents)
        if needed > len(self._room):
            room = np.empty((max(needed, 2 * len(self._room)), vectors.shape[1]), np.float32)
            if size:
                room[:size] = view.matrix
            self._room = room
        self._room[size:needed] = vectors
        view.documents.extend(documents)  # before their places, which others may look up
        view.places.update((_id(each), size + i) for i, each in enumerate(documents))
        self._view = View(view.documents, view.places, self._room[:needed], view.epoch)


class Hits(NamedTuple):
    """Rows of a view with their scores, best first.

    Attributes:
        view: What was searched.
        query: The query's unit vector.
        places: Rows found.
        scores: Their cosines with the query.
    """

    view: View
    query: Floats
    places: list[int]
    scores: list[float]

    def pairs(self) -> list[tuple[Document, float]]:
        """Return the documents, as copies, with their scores."""
        found = zip(self.places, self.scores, strict=True)
        return [(copy_of(self.view.documents[place]), score) for place, score in found]


def allowed(view: View, wanted: Filter) -> npt.NDArray[np.intp]:
    """Return the rows of the documents that may be found.

    Raises:
        TypeError: `wanted` is neither a function nor a mapping.
    """
    predicate = _predicate(wanted)
    documents = islice(view.documents, view.size)
    return np.flatnonzero(np.fromiter((bool(predicate(each)) for each in documents), bool))


def copy_of(document: Document) -> Document:
    """Return a document whose fields and metadata its receiver may set."""
    return Document(  # which copies the dict that it is given
        id=document.id, page_content=document.page_content, metadata=document.metadata
    )


def _check_dimension(vectors: Floats, matrix: Floats) -> None:
    if len(matrix) and matrix.shape[1] != vectors.shape[1]:
        raise ValueError(
            f"vectors of {vectors.shape[1]} dimensions, in a store of {matrix.shape[1]}: "
            "embed all documents with one model"
        )


def _id(document: Document) -> str:
    """Return the id that every document in a row has."""
    return document.id or ""


def _predicate(wanted: Filter) -> Callable[[Document], bool]:
    if callable(wanted):
        return wanted
    if not isinstance(wanted, Mapping):
        raise TypeError(f"filter={wanted!r:.80}: give a function of a document, or a dict")
    absent = object()
    return lambda document: all(
        document.metadata.get(name, absent) == value for name, value in wanted.items()
    )
