"""Questions whose answers are known, to measure retrieval and answers by."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Question", "read_questions"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the passages that answer it, and words of a right answer.

    Attributes:
        text: The question.
        relevant: Ids of the passages that answer it, at least one, best first.
        answers: Phrases of which a right answer contains one; empty where none is known.
        kind: A group that it belongs to, such as "lexical" or "paraphrase".

    Raises:
        ValueError: There is no text or no passage, or a passage is named twice.
    """

    text: str
    relevant: tuple[str, ...]
    answers: tuple[str, ...] = ()
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a question without text: write one")
        if not self.relevant:
            raise ValueError(f"question {self.text!r}: name at least one passage that answers it")
        if len(set(self.relevant)) < len(self.relevant):
            raise ValueError(f"question {self.text!r}: a passage is named twice")


def read_questions(path: str | Path) -> tuple[Question, ...]:
    """Read a TOML file of `[[question]]` tables.

    A table has `text`, `passages` (ids), and may have `kind` and `answer`: a phrase of the right
    answer, or a list of phrases of which one is enough. Other keys are passed over.

    Args:
        path: The file.

    Returns:
        The questions in the order of the file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no TOML, holds no question, or a table lacks something; the message says
            which.
    """
    path = Path(path)
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("question", [])
    if not tables:
        raise ValueError(f"{path.name} holds no [[question]]: write some")
    return tuple(_question(table) for table in tables)


def _question(table: dict[str, Any]) -> Question:
    name = table.get("text", table)
    try:
        answer = table.get("answer", [])
        return Question(
            _text(table["text"]),
            _texts(table["passages"]),
            (answer,) if isinstance(answer, str) else _texts(answer),
            _text(table.get("kind", "")),
        )
    except KeyError as error:
        raise ValueError(f"question {name!r:.80} needs {error}") from None
    except TypeError as error:
        raise ValueError(f"question {name!r:.80}: {error}") from None


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list of strings")
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
