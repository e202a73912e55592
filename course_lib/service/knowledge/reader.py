"""The stand-in for a language model: it reads the passages in a prompt and quotes the answer.

A prompt holds passages, each beginning on a line of its own with its id in square brackets, and a
question:

    Answer from these passages, and name the one that you used.

    [littles-law] In a stable system the mean number of items is ...

    [token-bucket] A token bucket holds up to ...

    Question: What does Little's law say?

What stands before the first passage is for real models; nothing is made of it. The passages may
as well be in a system message, and the question alone in the user's.

The answer is the two sentences of the best passage that fit the question best, and its id. It
writes no sentence of its own, so it cannot make one up; it cannot draw two passages together
either.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from course_lib.service.knowledge.embedder import Embedder

__all__ = ["IGNORANCE", "PromptPassage", "Task", "parse_prompt", "read"]

IGNORANCE: Final = "I do not know."
"""The answer where no passage is given, or none is on the subject."""

LEAST_LIKENESS: Final = 0.2
"""Cosine of question and best passage below which they have nothing to do with each other."""

SENTENCES: Final = 2
QUESTION: Final = re.compile(r"^[ \t]*question:", re.IGNORECASE | re.MULTILINE)
PASSAGE: Final = re.compile(r"^\[([^\[\]\s]{1,200})\][ \t]+", re.MULTILINE)
SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(\[\d])|\n\s*\n")


@dataclass(frozen=True, slots=True)
class PromptPassage:
    """A passage in a prompt.

    Attributes:
        id: What stands in the square brackets.
        text: What follows them.
    """

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """What a prompt asks for.

    Attributes:
        question: The question, without what stands round it.
        sources: The passages, in their order.
    """

    question: str
    sources: tuple[PromptPassage, ...]


def parse_prompt(messages: Sequence[tuple[str, str]]) -> Task:
    """Find question and passages in the messages of a chat.

    Args:
        messages: Role and text of each. The question is in the last one of the role "user": after
            "Question:" at the start of a line, or else its last paragraph if it has passages, or
            all of it. An empty "Answer:" at the end is left out.
    """
    asked = next((text for role, text in reversed(messages) if role == "user"), "")
    sources = tuple(source for _, text in messages for source in _sources(text))
    return Task(_question(asked), sources)


def _split(text: str) -> tuple[str, str | None]:
    """Return what stands before the last line that begins with "Question:", and what follows it."""
    *_, last = (None, *QUESTION.finditer(text))
    return (text, None) if last is None else (text[: last.start()], text[last.end() :])


def _question(text: str) -> str:
    before, asked = _split(text)
    if asked is None:
        asked = before.strip()
        if PASSAGE.search(before):
            asked = asked.split("\n\n")[-1]
    head, _, last = asked.rstrip().rpartition("\n")
    return (head if last.strip().lower() == "answer:" else asked).strip()


def _sources(text: str) -> Iterable[PromptPassage]:
    parts = PASSAGE.split(_split(text)[0])
    for name, passage in zip(parts[1::2], parts[2::2], strict=True):
        yield PromptPassage(name, passage.strip())


async def read(task: Task, embedder: Embedder) -> str:
    """Return the answer: sentences of the best passage, and its id in square brackets.

    Raises:
        ModelError: There is no embedding model.
    """
    sources = [source for source in task.sources if source.text]
    if not sources or not task.question:
        return IGNORANCE
    vectors = await embedder.embed([task.question, *(source.text for source in sources)])
    likeness = vectors[1:] @ vectors[0]
    best = int(np.argmax(likeness))
    if likeness[best] < LEAST_LIKENESS:
        return IGNORANCE
    sentences = _sentences(sources[best].text)
    vectors = await embedder.embed([task.question, *sentences])
    chosen = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:SENTENCES]
    quoted = " ".join(sentences[i] for i in sorted(chosen))
    return f"{quoted} [{sources[best].id}]"


def _sentences(text: str) -> list[str]:
    return [" ".join(part.split()) for part in SENTENCE_END.split(text) if part.strip()]
