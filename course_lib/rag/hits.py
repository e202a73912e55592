"""What a search found, and which documents it may find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from langchain_core.documents import Document

if TYPE_CHECKING:
    import numpy.typing as npt

    from course_lib.rag.rows import View
    from course_lib.rag.vectors import Floats

__all__ = ["Filter", "Hits", "allowed", "copy_of"]

Filter: TypeAlias = Callable[[Document], bool] | Mapping[str, Any]
"""Which documents may be found: a function that says so, or metadata to be equal."""


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


def _predicate(wanted: Filter) -> Callable[[Document], bool]:
    if callable(wanted):
        return wanted
    if not isinstance(wanted, Mapping):
        raise TypeError(f"filter={wanted!r:.80}: give a function of a document, or a dict")
    absent = object()
    return lambda document: all(
        document.metadata.get(name, absent) == value for name, value in wanted.items()
    )
