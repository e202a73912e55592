"""Search by words: BM25 over the passages, cheap enough for the event loop.

bm25s scores every passage when the index is built (Lucene's BM25, k1 = 1.5, b = 0.75), so that a
query only adds up a few columns; see Lù, "BM25S" (2024), https://arxiv.org/abs/2407.03618. Its own
`retrieve` is made for batches of queries: here a query is looked up in the vocabulary and scored
by `get_scores_from_ids`, without its token objects, progress bars and thread pools.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from course_lib.service.knowledge.corpus import Passage

__all__ = ["LexicalIndex"]

WORD = re.compile(r"(?u)\b\w\w+\b")
"""What counts as a word: bm25s's own rule, two letters or more."""

ACCELERATORS = ("numba", "jax", "scipy")
"""Used by bm25s if installed; importing one takes seconds and gains nothing here."""


class LexicalIndex:
    """Finds the passages that share words with a query, English stop words left out.

    Args:
        passages: What is searched, title and text. Equal scores come in this order.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        bm25s = _bm25s()
        stop_words = frozenset(bm25s.stopwords.STOPWORDS_EN)
        self.passages = tuple(passages)
        words = [_words(f"{passage.title} {passage.text}") for passage in passages]
        kept = [[word for word in each if word not in stop_words] for each in words]
        # Our own vocabulary, in order of appearance: bm25s takes it from a set, whose order
        # differs between processes, and so would the last digit of a score.
        self._ids: dict[str, int] = {}
        tokens = [[self._ids.setdefault(word, len(self._ids)) for word in each] for each in kept]
        self._index = bm25s.BM25()
        self._index.index((tokens, self._ids), create_empty_token=False, show_progress=False)

    def search(self, query: str, k: int) -> list[tuple[Passage, float]]:
        """Return the best passages with their scores, best first.

        Args:
            query: What is looked for, in plain words.
            k: Passages wanted, at least 1. Fewer come back where fewer share a word with it.
        """
        ids = self._ids
        known = [ids[word] for word in _words(query) if word in ids]
        if not known:
            return []
        scores = self._index.get_scores_from_ids(known)
        return [(self.passages[i], float(scores[i])) for i in _best(scores, k)]


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _best(scores: Any, k: int) -> list[int]:
    """Return the places of the `k` highest scores above 0, equal ones in order of place."""
    found = np.flatnonzero(scores)
    values = scores[found]
    if len(found) > k:
        least = np.partition(values, -k)[-k]
        found = found[values >= least]
        values = scores[found]
    order = np.argsort(-values, kind="stable")[:k]
    places: list[int] = found[order].tolist()
    return places


def _bm25s() -> Any:
    """Import bm25s in its plainest form: without progress bars and accelerators."""
    os.environ.setdefault("DISABLE_TQDM", "1")
    with _hidden(ACCELERATORS):
        import bm25s  # noqa: PLC0415 - inside, because of what it would import
    return bm25s


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None: import fails
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
