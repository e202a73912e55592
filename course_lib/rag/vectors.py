"""Arithmetic of vector search: unit vectors, cosine scores, the best of them, diverse choices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Floats",
    "best",
    "directions",
    "diverse",
    "scores_of",
    "unit_vector",
    "unit_vectors",
]

Floats: TypeAlias = npt.NDArray[np.float32]

_BLOCK: Final = 1 << 18
"""Numbers multiplied at once.

Above some 460,000 numbers OpenBLAS splits a product over threads, which wait for each other: when
another process has one of two cores, 10,000 vectors of 384 then take 4 ms in place of 0.3 ms.
"""


def unit_vectors(vectors: Any, names: Sequence[str]) -> Floats:
    """Return vectors scaled to length 1, so that their dot products are cosines.

    Args:
        vectors: Vectors of one dimension, shape (n, dimension).
        names: What each vector belongs to, for messages.

    Returns:
        float32, shape (n, dimension).

    Raises:
        ValueError: There is not one vector for each name, they differ in dimension, or one has no
            direction: it is zero, or holds a number that is not finite.
    """
    unit, directed = directions(vectors, len(names))
    if not directed.all():
        raise ValueError(
            f"the vector of {names[int(directed.argmin())]} has no direction (zero, or not "
            "finite): leave such a text out, or check the embedding"
        )
    return unit


def directions(vectors: Any, number: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return vectors scaled to length 1, and which of them have a direction: the others are zero.

    Args:
        vectors: Vectors of one dimension, shape (n, dimension).
        number: How many there should be.

    Raises:
        ValueError: There is another number, or they differ in dimension.
    """
    if len(vectors) != number:
        raise ValueError(
            f"{len(vectors)} vectors for {number} texts: an embedding returns one for each text"
        )
    if not number:
        return np.empty((0, 0), np.float32), np.empty(0, np.bool_)
    if len(sizes := {len(vector) for vector in vectors}) > 1:
        raise ValueError(f"vectors of {sorted(sizes)} dimensions: embed all with one model")
    exact = np.asarray(vectors, np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True, initial=0.0)
    directed = np.isfinite(largest) & (largest > 0)
    exact = np.divide(exact, largest, out=np.zeros_like(exact), where=directed)
    # Divided first, or squares of very large and very small numbers would be lost.
    lengths = np.where(directed, np.linalg.norm(exact, axis=1, keepdims=True), 1.0)
    return (exact / lengths).astype(np.float32), directed[:, 0]


def unit_vector(vector: Any, dimension: int) -> Floats:
    """Return one vector scaled to length 1, shape (dimension,).

    Raises:
        ValueError: It has another dimension, or no direction.
    """
    if len(vector) != dimension:
        raise ValueError(
            f"the query has {len(vector)} dimensions, the store {dimension}: "
            "embed queries with the model that embedded the documents"
        )
    unit: Floats = unit_vectors([vector], ["the query"])[0]
    return unit


def scores_of(matrix: Floats, query: Floats) -> Floats:
    """Return the cosine of each row with the query, shape (n,), computed on one thread.

    Args:
        matrix: Unit vectors, shape (n, dimension).
        query: A unit vector, shape (dimension,).
    """
    scores = np.empty(len(matrix), np.float32)
    rows = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        end = start + rows
        np.dot(matrix[start:end], query, out=scores[start:end])
    return np.clip(scores, -1.0, 1.0, out=scores)  # rounding may leave them a little above 1


def best(scores: Floats, k: int) -> list[int]:
    """Return the places of the `k` highest scores, highest first, equal ones in order of place."""
    if k < len(scores):
        least = np.partition(scores, -k)[-k]
        found = np.flatnonzero(scores >= least)
    else:
        found = np.arange(len(scores))
    order = np.argsort(-scores[found], kind="stable")[:k]
    places: list[int] = found[order].tolist()
    return places


def diverse(query: Floats, vectors: Floats, k: int, relevance: float) -> list[int]:
    """Return the places of `k` vectors near the query and far from each other, first choice first.

    Maximal marginal relevance (Carbonell and Goldstein, 1998): each choice has the highest
    `relevance * cosine(query) - (1 - relevance) * (highest cosine with those chosen before)`.

    Args:
        query: A unit vector, shape (dimension,).
        vectors: Unit vectors to choose from, shape (n, dimension).
        k: How many; all if there are fewer.
        relevance: 1 looks at the query alone, 0 at the others alone.
    """
    nearness = scores_of(vectors, query)
    redundancy = np.full(len(vectors), -math.inf)
    worth = nearness.astype(np.float64)
    chosen: list[int] = []
    while len(chosen) < min(k, len(vectors)):
        chosen.append(int(worth.argmax()))
        redundancy = np.maximum(redundancy, scores_of(vectors, vectors[chosen[-1]]))
        worth = relevance * nearness - (1 - relevance) * redundancy
        worth[chosen] = -math.inf
    return chosen
