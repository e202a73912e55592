"""Passages and questions, read from files that people edit.

A Markdown file is a topic, a second-level heading a passage:

    # Topic

    ## Title {#id}

    Paragraphs.

What looks like a heading in a fenced block of code is code.

Questions are a TOML file of `[[question]]` tables with `text`, `kind`, `passages` (ids) and, where
answers are to be measured as well, `answer`.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["CORPUS", "JudgedQuestion", "Passage", "load_passages", "load_questions"]

CORPUS: Final = Path(__file__).parents[1] / "corpus"
"""The handbook that comes with the course."""

KINDS = ("lexical", "paraphrase")
HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
TITLE = re.compile(r"(?P<title>.+?)\s*\{#(?P<id>[a-z0-9-]+)\}")
# What stands behind backticks that open a block has none: else it is code in a line.
FENCE = re.compile(r" {0,3}(`{3,}+(?!.*`)|~{3,}+)")


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of text that a search finds.

    Attributes:
        id: Lower-case letters, digits and hyphens; unique in its corpus.
        title: Its heading.
        topic: Heading of the file it stands in.
        text: Its paragraphs, in Markdown, separated by an empty line.
    """

    id: str
    title: str
    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question whose answers are known, to measure a search by.

    Attributes:
        text: The question.
        kind: "lexical" if it shares words with its answer, "paraphrase" if it avoids them.
        passages: Ids of the passages that answer it.
        answer: A phrase from one of them that a good answer quotes; "" if none was written down.
    """

    text: str
    kind: str
    passages: tuple[str, ...]
    answer: str = ""


def load_passages(folder: Path = CORPUS) -> tuple[Passage, ...]:
    """Read all Markdown files of a folder.

    Args:
        folder: Where the files are; those in folders below it are not read.

    Returns:
        The passages in the order of their ids.

    Raises:
        ValueError: A file breaks the format, an id is given twice, or there is no passage at all;
            the message names the file and the fix.
    """
    passages: dict[str, Passage] = {}
    for file in sorted(folder.glob("*.md")):
        for passage in _passages(file):
            if passage.id in passages:
                raise ValueError(f"{file.name}: id {passage.id!r} is taken already: rename one")
            passages[passage.id] = passage
    if not passages:
        raise ValueError(f"no passage in {folder}: put Markdown files there")
    return tuple(passages[name] for name in sorted(passages))


def _passages(file: Path) -> Iterable[Passage]:
    topic, sections = "", list[tuple[str, list[str]]]()
    for line, code in _lines(file.read_text(encoding="utf-8")):
        heading = None if code else HEADING.fullmatch(line)
        level = len(heading[1]) if heading else 0
        if heading and level == 1 and not sections:
            topic = topic or heading[2]
        elif heading and level == 2:  # noqa: PLR2004 - `##`
            sections.append((heading[2], []))
        elif sections:
            sections[-1][1].append(line)
    if not topic:
        raise ValueError(f"{file.name}: begin the file with a line `# Topic`")
    for title, lines in sections:
        yield _passage(file, topic, title, "\n".join(lines))


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line, and whether it belongs to a fenced block of code."""
    fence = ""
    for line in text.split("\n"):
        found = FENCE.match(line)
        if not fence:
            fence = found[1] if found else ""
            yield line, bool(fence)
            continue
        yield line, True
        if found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""


def _passage(file: Path, topic: str, heading: str, text: str) -> Passage:
    parts = TITLE.fullmatch(heading)
    if parts is None:
        raise ValueError(f"{file.name}: write the heading {heading!r} as `## Title {{#id}}`")
    if not text.strip():
        raise ValueError(f"{file.name}: passage {parts['id']!r} has no text: write some")
    return Passage(parts["id"], parts["title"], topic, _unwrapped(text))


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph; code, lists and tables keep theirs."""
    blocks = [list[str]()]
    for line, code in _lines(text.strip()):
        if not line.strip() and not code:
            blocks.append([])
        else:
            blocks[-1].append(line)
    return "\n\n".join(map(_paragraph, filter(None, blocks)))


def _paragraph(lines: list[str]) -> str:
    kept = any(re.match(r"\s*([-*+|>]|\d+\.\s|```|~~~| {4})", line) for line in lines)
    return ("\n" if kept else " ").join(lines)


def load_questions(
    passages: Iterable[Passage], folder: Path = CORPUS
) -> tuple[JudgedQuestion, ...]:
    """Read `questions.toml` of a folder.

    Args:
        passages: The corpus that the questions are about.
        folder: Where the file is.

    Raises:
        ValueError: A question breaks the format, names a passage that is not there, or has an answer
            that none of its passages holds.
    """
    tables = tomllib.loads((folder / "questions.toml").read_text(encoding="utf-8"))
    known = {passage.id: passage.text for passage in passages}
    return tuple(_question(table, known) for table in tables.get("question", []))


def _question(table: dict[str, Any], known: Mapping[str, str]) -> JudgedQuestion:
    try:
        text, kind, passages = table["text"], table["kind"], tuple(table["passages"])
    except KeyError as error:
        raise ValueError(f"question {table.get('text', '')!r} needs {error}") from None
    question = JudgedQuestion(text, kind, passages, table.get("answer", ""))
    if question.kind not in KINDS:
        raise ValueError(f"question {question.text!r}: kind is one of {', '.join(KINDS)}")
    if not question.passages:
        raise ValueError(f"question {question.text!r}: name at least one passage")
    if unknown := sorted(set(question.passages) - set(known)):
        raise ValueError(f"question {question.text!r}: there is no passage {unknown[0]!r}")
    if not any(question.answer in known[name] for name in question.passages):
        raise ValueError(
            f"question {question.text!r}: no passage holds its answer {question.answer!r}"
        )
    return question
