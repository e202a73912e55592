"""Documents and their vectors in one file: NumPy's `.npz`, with the documents as JSON.

No pickle is written and none is read. The file is a zip, so that each part has a checksum; it is
written beside its place and renamed, so that a reader finds the old one or the new one, whole.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from langchain_core.documents import Document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from course_lib.rag.vectors import Floats

__all__ = ["VectorFile", "VectorFileError", "read_vectors", "row_of", "write_vectors"]

_FORMAT: Final = "course_lib vectors"
_VERSION: Final = 1
_ROUNDING: Final = 1e-3  # by which the length of a unit vector may differ from 1


class VectorFileError(ValueError):
    """A file of vectors is damaged, or of another kind or version; the message says what to do."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """What a file holds.

    Attributes:
        documents: Documents, each with an id of its own.
        vectors: Their unit vectors, float32, shape (documents, dimension).
        about: What its writer noted about it.
    """

    documents: list[Document]
    vectors: Floats
    about: Mapping[str, str] = field(default_factory=dict)


def write_vectors(
    path: str | Path,
    documents: Sequence[Document],
    vectors: Floats,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a file, in place of the one that is there.

    Args:
        path: The file; its folder is made where there is none.
        documents: Documents with ids. Their metadata comes back as JSON has it: tuples as lists.
        vectors: Their unit vectors.
        about: What to note about it.

    Raises:
        TypeError: Metadata holds what JSON does not; the message names the document.
        OSError: The file cannot be written.
    """
    head = {"format": _FORMAT, "version": _VERSION, "about": dict(about or {})}
    rows = [row_of(document) for document in documents]
    text = f'{{"head": {json.dumps(head)}, "documents": [{", ".join(rows)}]}}'.encode("ascii")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, text=np.frombuffer(text, np.uint8), vectors=vectors)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_vectors(path: str | Path) -> VectorFile:
    """Read a file that `write_vectors` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        VectorFileError: It is damaged, or of another kind or version.
    """
    content = io.BytesIO(Path(path).read_bytes())  # so that what fails below is its fault
    try:
        return _read(content)
    except Exception as error:  # what damage makes zipfile, NumPy and JSON raise is many-fold
        raise VectorFileError(
            f"{path} is no file of vectors of version {_VERSION} ({error}): delete it, and build "
            "it again from the documents"
        ) from error


def row_of(document: Document) -> str:
    """Return a document as JSON, as it stands in a file.

    Raises:
        TypeError: Its metadata holds what JSON does not.
    """
    try:
        return json.dumps([document.id, document.page_content, document.metadata])
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the metadata of {document.id!r} cannot be kept ({error}): use what JSON knows"
        ) from error


def _read(file: io.BytesIO) -> VectorFile:
    parts = np.load(file, allow_pickle=False)
    if not isinstance(parts, np.lib.npyio.NpzFile):
        raise TypeError("not a zip")
    with parts:
        text, vectors = parts["text"].tobytes(), parts["vectors"]
    content = json.loads(text)
    head = content["head"]
    if (head["format"], head["version"]) != (_FORMAT, _VERSION):
        raise ValueError(f"it is {head['format']!r:.40}, version {head['version']!r:.40}")
    documents = [
        Document(id=name, page_content=body, metadata=metadata)
        for name, body, metadata in content["documents"]
    ]
    _check(documents, vectors)
    return VectorFile(documents, vectors, dict(head["about"]))


def _check(documents: list[Document], vectors: Any) -> None:
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(documents):  # noqa: PLR2004 - a matrix
        raise ValueError(f"{len(documents)} documents, vectors {vectors.dtype}{vectors.shape}")
    if len({document.id for document in documents} - {None, ""}) != len(documents):
        raise ValueError("ids are missing or come twice")
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1) < _ROUNDING):  # not a number is not less, either
        raise ValueError("vectors are not of length 1")
