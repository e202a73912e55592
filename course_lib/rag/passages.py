"""How text is cut into passages: at headings and paragraphs, at words only where it must be."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_CHARS",
    "Section",
    "Slugs",
    "check_max_chars",
    "first_words",
    "pieces",
    "sections",
    "slug",
]

MAX_CHARS: Final = 1200
"""Characters of a passage: some 250 tokens. Small embedding models pass over what is beyond 256."""

_HEADING: Final = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
_ANCHOR: Final = re.compile(r"(.*?)\s*\{#([^\s{}]+)\}")
# What stands behind backticks that open a block has none: else it is code in a line.
_FENCE: Final = re.compile(r" {0,3}(`{3,}+(?!.*`)|~{3,}+)")
_ENDS: Final = ("\n", ". ", " ")  # where a long paragraph is cut, the first choice first
_FEW_WORDS: Final = 6


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the text below it, up to the next heading.

    Attributes:
        title: The heading; empty for what stands before the first.
        above: The headings that it stands under, outermost first.
        anchor: Id that the heading names itself (`## Title {#id}`), or "".
        text: The text without the heading.
    """

    title: str
    above: tuple[str, ...]
    anchor: str
    text: str


class Slugs:
    """Gives names that are unique in a file: the second `title` is `title-2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return the name, or the first of `name-2`, `name-3`... that is free."""
        candidate = name
        while candidate in self._taken:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            candidate = f"{name}-{self._numbers[name]}"
        self._taken.add(candidate)
        return candidate


def slug(text: str) -> str:
    """Return a text as a name: lower case, letters and digits of any script, hyphens between."""
    plain = unicodedata.normalize("NFC", text).lower()
    return re.sub(r"[\W_]+", "-", plain).strip("-") or "section"


def first_words(text: str) -> str:
    """Return the words by which a passage without a heading is named."""
    return " ".join(re.findall(r"\w+", text)[:_FEW_WORDS])


def sections(markdown: str) -> Iterator[Section]:
    """Yield the sections of a Markdown text that hold any.

    Headings are lines that begin with `#`, outside of fenced code. (Underlined ones are text.)
    """
    above: list[tuple[int, str]] = []
    anchor, lines, fence = "", list[str](), ""
    for line in markdown.split("\n"):
        fence = _fence(line, fence)
        heading = None if fence else _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        yield from _section(above, anchor, lines)
        level, lines = len(heading[1]), []
        title, anchor = _title(heading[2])
        above = [*((lower, name) for lower, name in above if lower < level), (level, title)]
    yield from _section(above, anchor, lines)


def _section(above: list[tuple[int, str]], anchor: str, lines: list[str]) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if text:
        *outer, title = [name for _, name in above] or [""]
        yield Section(title, tuple(outer), anchor, text)


def pieces(text: str, limit: int = MAX_CHARS) -> list[str]:
    """Return a text in pieces of at most `limit` characters, without losing a word.

    Paragraphs stay whole where they fit, and as many as fit are put together. A longer one is cut
    at the end of a line, of a sentence or of a word, and within a word only if that is longer still.
    """
    packed: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        for part in _cut(block, limit):
            if packed and len(packed[-1]) + 2 + len(part) <= limit:
                packed[-1] += f"\n\n{part}"
            else:
                packed.append(part)
    return packed


def check_max_chars(limit: int) -> None:
    """Refuse a size that leaves nothing to find.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"max_chars={limit!r}: give a passage at least 1 character")


def _cut(block: str, limit: int) -> Iterator[str]:
    rest = block.strip("\n").rstrip()
    while len(rest) > limit:
        ends = (rest.rfind(end, limit // 2, limit) + len(end) for end in _ENDS)
        place = next((end for end in ends if end > limit // 2), limit)
        if piece := rest[:place].rstrip():
            yield piece
        rest = rest[place:].lstrip()
    if rest:
        yield rest


def _title(heading: str) -> tuple[str, str]:
    found = _ANCHOR.fullmatch(heading)
    title, anchor = (found[1], found[2]) if found else (heading, "")
    return title.replace("`", ""), anchor


def _fence(line: str, fence: str) -> str:
    """Return the fence of the code block that a line is in, "" outside of one."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    closes = found[1].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closes else fence
