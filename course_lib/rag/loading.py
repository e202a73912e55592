"""A folder of Markdown and text, as documents of one passage each."""

from __future__ import annotations

import codecs
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from langchain_core.documents import Document

from course_lib.rag.passages import (
    MAX_CHARS,
    Section,
    Slugs,
    check_max_chars,
    first_words,
    pieces,
    sections,
    slug,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["load_folder"]

_log = logging.getLogger("course_lib.rag")
_MARKDOWN: Final = (".md", ".markdown")
_MAX_BYTES: Final = 10_000_000


def load_folder(
    path: str | Path,
    *,
    suffixes: Sequence[str] = (".md", ".txt"),
    max_chars: int = MAX_CHARS,
    max_bytes: int = _MAX_BYTES,
    anchors: bool = False,
) -> list[Document]:
    """Return the passages of all files of a folder and those below it.

    Markdown is cut at its headings, and the heading goes before the text; longer sections, and
    text without headings, are cut at paragraphs. Ids are `path#name`, relative to the folder, where
    the name comes from the heading or the first words: an id stays the same while its heading does,
    whatever else is edited. The second of equal names gets `-2`, and so on.

    Read as UTF-8, as UTF-16 with its mark, and as Windows-1252 where it is neither. Passed over are
    hidden files and folders, links (what they lead to inside the folder is read where it is), and,
    with a warning in the log, files that are not text or too large.

    Args:
        path: The folder.
        suffixes: How names of files end, in any case of letters.
        max_chars: Characters of a passage, without its heading.
        max_bytes: Size of the largest file that is read.
        anchors: Whether a heading that names an id itself (`## Title {#id}`) gives its passage
            that id alone, without the path.

    Returns:
        Documents with ids, and as metadata `source` (the file, relative), `title` (its heading, or
        the file's name) and `topic` (the headings above, outermost first). Files come in the order
        of their names, passages in that of the file.

    Raises:
        NotADirectoryError: `path` is no folder.
        ValueError: There is no passage, an argument is out of range, or two headings name one id.
        OSError: A file cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"{path} is no folder: give one that holds the files")
    endings = _checked(suffixes)
    check_max_chars(max_chars)
    documents = [
        document
        for file in _files(root)
        if file.name.lower().endswith(endings) and (text := _read(file, max_bytes)) is not None
        for document in _documents(file.relative_to(root), text, max_chars, anchors=anchors)
    ]
    _check_ids(documents)
    if not documents:
        raise ValueError(f"no passage in {path}: put files there that end in {', '.join(endings)}")
    return documents


def _checked(suffixes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(suffixes, str) or not suffixes:
        raise ValueError(f"suffixes={suffixes!r}: give a tuple such as ('.md',)")
    for each in suffixes:
        if not each.startswith(".") or len(each) == 1:
            raise ValueError(f"suffix {each!r}: write it with its dot, such as '.md'")
    return tuple(each.lower() for each in suffixes)


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _read(file: Path, max_bytes: int) -> str | None:
    """Return the text of a file, or None if it is passed over."""
    if (size := file.stat().st_size) > max_bytes:
        _log.warning("%s is passed over: %d bytes, max_bytes=%d", file, size, max_bytes)
        return None
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    elif b"\0" in content:
        _log.warning("%s is passed over: it is not text", file)
        return None
    else:
        text = _decoded(content)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _documents(file: Path, text: str, max_chars: int, *, anchors: bool) -> Iterator[Document]:
    source = file.as_posix()
    slugs = Slugs()
    markdown = file.suffix.lower() in _MARKDOWN
    for section in sections(text) if markdown else [Section("", (), "", text)]:
        for piece in pieces(section.text, max_chars):
            name = section.anchor or slug(section.title or first_words(piece))
            unique = slugs.unique(name)
            bare = anchors and section.anchor
            yield Document(
                id=unique if bare else f"{source}#{unique}",
                page_content=f"{section.title}\n\n{piece}" if section.title else piece,
                metadata={
                    "source": source,
                    "title": section.title or file.stem,
                    "topic": " > ".join(section.above),
                },
            )


def _check_ids(documents: list[Document]) -> None:
    sources: dict[str | None, str] = {}
    for document in documents:
        source = document.metadata["source"]
        if document.id in sources:
            raise ValueError(
                f"id {document.id!r} is in {sources[document.id]} and in {source}: "
                "rename one, or leave out anchors=True"
            )
        sources[document.id] = source
