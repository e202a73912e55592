"""The prompt: the best passages that fit into it, and the question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.documents import Document

__all__ = ["IGNORANCE", "Prompt", "build_prompt", "estimated_tokens"]

IGNORANCE: Final = "I do not know: no passage was found on this."
"""The answer where retrieval finds nothing; no model is asked."""

_INSTRUCTION: Final = (
    "Answer the question from the passages below, in at most three sentences. Name the passage that "
    "you used by its id in square brackets. If none of them answers it, say that you do not know."
)
_PIECE: Final = re.compile(r"\w+|[^\w\s]")
_LOOKS_LIKE_AN_ID: Final = re.compile(r"^\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a chat model is asked.

    Attributes:
        text: The whole prompt, one message of the user.
        documents: The passages in it, best first.
        tokens: Its tokens, as they were counted.
    """

    text: str
    documents: tuple[Document, ...]
    tokens: int


@lru_cache(maxsize=4_096)  # the same passages come again and again
def estimated_tokens(text: str) -> int:
    """Return about as many tokens as a model would count: words and marks.

    A real vocabulary has some 1.3 tokens for an English word, and is a download.
    """
    return len(_PIECE.findall(text))


def build_prompt(
    question: str,
    documents: Sequence[Document],
    *,
    most_tokens: int,
    count: Callable[[str], int] = estimated_tokens,
) -> Prompt:
    """Return a prompt with as many passages as fit, best first.

    A passage that does not fit is left out whole, and those behind it, too: half a passage may say
    the opposite. Only if the first one alone is too long, it is cut.

    Args:
        question: The question; line breaks in it become spaces.
        documents: Passages with ids, best first.
        most_tokens: Tokens of the prompt, at most.
        count: Returns the tokens of a text.

    Raises:
        ValueError: The question alone does not fit.
    """
    asked = f"Question: {' '.join(question.split())}"
    left = most_tokens - count(_INSTRUCTION) - count(asked)
    if left <= 0:
        raise ValueError(
            f"the question has {count(asked)} tokens, and the prompt may have {most_tokens}: "
            "ask a shorter one, or allow more"
        )
    parts: list[str] = []
    for document in documents:
        part = _passage(document)
        if (size := count(part)) > left:
            if parts:
                break
            part = _cut(part, left, count)
            size = count(part)
        parts.append(part)
        left -= size
    text = "\n\n".join([_INSTRUCTION, *parts, asked])
    return Prompt(text, tuple(documents[: len(parts)]), most_tokens - left)


def _passage(document: Document) -> str:
    """Return a passage behind its id; a line in it that begins like an id is none."""
    text = document.page_content
    if "[" in text:  # most have none, and a search for line ends costs more than all the rest
        text = _LOOKS_LIKE_AN_ID.sub(" [", text)
    return f"[{document.id}] {text}"


def _cut(text: str, most: int, count: Callable[[str], int]) -> str:
    """Return the longest beginning of a text that has `most` tokens, by bisection over words."""
    words = re.findall(r"\S+\s*", text)
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count("".join(words[:middle])) <= most else (low, middle - 1)
    return "".join(words[:low]).rstrip()
