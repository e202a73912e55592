"""Documents and their vectors, in rows that grow, and views of them that do not change."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from langchain_core.documents import Document

    from course_lib.rag.vectors import Floats

__all__ = ["Rows", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """The rows as they were at one moment.

    Attributes:
        documents: One for each row; more may follow, which belong to later views.
        matrix: Unit vectors, shape (rows, dimension).
        epoch: Changes when rows that were there before are replaced or gone.
    """

    documents: list[Document]
    matrix: Floats
    epoch: int

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.matrix)


class Rows:
    """Documents, each with a unit vector, found by id. Every method may be called by any thread.

    What a view shows is never written again: new rows go behind it, and whoever replaces or drops
    rows does so in a copy. So searches need no lock, and appending costs no copy but when the
    matrix is full (it doubles); replacing and dropping copy it, once a call.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._documents: list[Document] = []
        self._places: dict[str, int] = {}
        self._room = np.empty((0, 0), np.float32)
        self._epoch = 0

    def view(self) -> View:
        """Return what is there now."""
        with self._lock:
            return View(self._documents, self._room[: len(self._places)], self._epoch)

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
        with self._lock:
            self._check_dimension(vectors.shape[1])
            places = [self._places.get(_id(document)) for document in documents]
            old = [i for i, place in enumerate(places) if place is not None]
            new = [i for i, place in enumerate(places) if place is None]
            if old:
                self._begin_epoch(self._room.copy(), list(self._documents))
            for i in old:
                self._set(self._places[_id(documents[i])], documents[i], vectors[i])
            self._append([documents[i] for i in new], vectors[new])

    def drop(self, ids: Iterable[str] | None) -> None:
        """Remove rows by id (None: all); ids that are not there are passed over."""
        with self._lock:
            gone = self._places.keys() if ids is None else self._places.keys() & set(ids)
            if gone:
                self._keep(gone)

    def find(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in this order, without those that are not there."""
        with self._lock:
            places = [self._places[each] for each in ids if each in self._places]
            return [self._documents[place] for place in places]

    def _keep(self, gone: Collection[str]) -> None:
        kept = [place for name, place in self._places.items() if name not in gone]
        kept.sort()
        self._begin_epoch(self._room[kept], [self._documents[place] for place in kept])
        self._places = {_id(document): i for i, document in enumerate(self._documents)}

    def _begin_epoch(self, room: Floats, documents: list[Document]) -> None:
        self._room, self._documents = room, documents
        self._epoch += 1

    def _append(self, documents: list[Document], vectors: Floats) -> None:
        size = len(self._places)
        needed = size + len(documents)
        if needed > len(self._room):
            room = np.empty((max(needed, 2 * len(self._room)), vectors.shape[1]), np.float32)
            if size:
                room[:size] = self._room[:size]
            self._room = room
        self._room[size:needed] = vectors
        self._documents.extend(documents)
        self._places.update((_id(each), size + i) for i, each in enumerate(documents))

    def _set(self, place: int, document: Document, vector: Floats) -> None:
        self._documents[place] = document
        self._room[place] = vector

    def _check_dimension(self, dimension: int) -> None:
        if self._places and self._room.shape[1] != dimension:
            raise ValueError(
                f"vectors of {dimension} dimensions, in a store of {self._room.shape[1]}: "
                "embed all documents with one model"
            )


def _id(document: Document) -> str:
    """Return the id that every document in a row has."""
    return document.id or ""
