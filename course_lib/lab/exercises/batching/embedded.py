"""Exercise 3.4: what is wrong here? A loop over batches that an empty text ends."""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["embed_all", "grade_embedded"]

Embed = Callable[[list[Any]], Awaitable[list[Any]]]
Embedded = Callable[[Embed, Iterable[Any], int], Awaitable[Any]]

SIZE = 3
"""The size that the learner's texts are tried with."""
TEXTS = ["one", "", "one", "", "", "two", "\n", "three", "", "", "", "", "four", "five"]
"""Empty texts at the start of a batch, in it, and a whole batch of them; one text twice."""
SIZES = (1, 2, 4, 7, 14, 100)


async def embed_all(embed: Embed, texts: Iterable[Any], size: int) -> list[Any]:
    """Return what the notebook's faulty program returns."""
    source, vectors = iter(texts), list[Any]()
    while text := next(source, None):
        batch = [text, *itertools.islice(source, size - 1)]
        vectors += await embed(batch)
    return vectors


async def grade_embedded(embedded: Embedded, breaks: Any) -> Grading:
    """The learner's texts through the faulty program; then texts of all kinds through the other."""
    grading, runs = Grading(), [_Run(embedded, TEXTS, size) for size in SIZES]
    others = [_Run(embedded, values, 2) for values in ([None, "a"], [0, 1, 2], [])]
    _grade_texts(grading, breaks)
    wrong = [run for run in (*runs, *others) if run.got != run.wanted]
    grading.observe(
        "vectors", "one for each text, in order" if not wrong else "not those",
        "one for each text, in order", not wrong, wrong[0].lost() if wrong else "",
    )  # fmt: skip
    odd = [run for run in runs if list(map(len, run.batches)) != run.sizes()]
    grading.observe(
        "batches", "full, and the last what is left" if not odd else f"of {odd[0].lengths()}",
        f"of {', '.join(map(str, odd[0].sizes()))}" if odd else "full", not odd,
        _sizes(odd[0]) if odd else "",
    )  # fmt: skip
    ahead = max(run.ahead for run in runs)
    grading.observe(
        "texts read ahead", ahead, 0, ahead == 0,
        "it reads more of `texts` than the batch that it is about to embed: `texts` may be a file "
        "larger than memory, so take `size` of them with `islice`, embed them, and go on",
    )  # fmt: skip
    return grading


class _Run:
    """One run of the learner's function, and what it handed to `embed`."""

    def __init__(self, embedded: Embedded, texts: list[Any], size: int) -> None:
        self.texts, self.size = texts, size
        self.batches: list[list[Any]] = []
        self.read = self.ahead = 0
        self.wanted = [self._vector(number, text) for number, text in enumerate(texts)]
        self.got = run_virtually(lambda: embedded(self._embed, self._source(), size)).value

    def _source(self) -> Iterator[Any]:
        for text in self.texts:
            self.read += 1
            yield text

    def _vector(self, number: int, text: Any) -> Any:
        return [] if number % 3 == 2 else [number, text]  # noqa: PLR2004 - an empty one now and then

    async def _embed(self, batch: list[Any]) -> list[Any]:
        before = sum(map(len, self.batches))
        self.batches.append(list(batch))
        self.ahead = max(self.ahead, self.read - before - len(batch))
        return [self._vector(before + at, text) for at, text in enumerate(batch)]

    def sizes(self) -> list[int]:
        """Return how many texts each call should embed."""
        full, rest = divmod(len(self.texts), self.size)
        return [self.size] * full + [rest] * bool(rest)

    def lengths(self) -> str:
        """Return how many texts each call embedded, as text."""
        return ", ".join(str(len(batch)) for batch in self.batches) or "none"

    def lost(self) -> str:
        """Say what is wrong with the vectors."""
        if not isinstance(self.got, list):
            return "return a list of the vectors: is a `return` missing?"
        if len(self.got) < len(self.wanted):
            return (
                "some texts have no vector: which texts end the loop, or are left out? An empty text "
                "is one, too, and so is what is left in the end"
            )
        return "the vectors are not those of the texts, each in its place"


def _sizes(run: _Run) -> str:
    if any(not batch for batch in run.batches):
        return "a call embeds nothing: stop when there is nothing left"
    return f"with {len(run.texts)} texts and a `size` of {run.size} each call takes `size` texts, and the last what is left"


def _grade_texts(grading: Grading, breaks: Any) -> None:
    texts = isinstance(breaks, list) and all(isinstance(each, str) for each in breaks)
    lost = len(breaks) - _vectors(breaks) if texts else 0
    grading.observe(
        "your texts, in the program above", f"{lost} without a vector", "1 or more", lost > 0,
        f"with these texts and a `size` of {SIZE} the program above loses nothing: when does "
        "its `while` end?" if texts else "hand over a list of texts that shows the fault",
    )  # fmt: skip


def _vectors(texts: list[str]) -> int:
    async def embed(batch: list[Any]) -> list[Any]:
        return batch

    return len(run_virtually(lambda: embed_all(embed, texts, SIZE)).value)
