"""The docstrings of installed modules, as documents."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from langchain_core.documents import Document

from course_lib.rag.passages import MAX_CHARS, Slugs, check_max_chars, pieces
from course_lib.rag.sources import defined, parsed, public_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

__all__ = ["load_docstrings", "name_and_summary"]

_BETWEEN_WORDS: Final = re.compile(r"[._]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def load_docstrings(modules: Iterable[str], *, max_chars: int = MAX_CHARS) -> list[Document]:
    """Return the docstrings of modules, and of what is public in them and below them.

    They are read from source files: nothing is imported or run. So what is written in C is missing
    (`time.sleep`, `dict.get`). `sys.stdlib_module_names` names the whole standard library: some
    seconds of work, so call it in a thread where a loop runs.

    Args:
        modules: Names of installed modules or packages: "asyncio", "concurrent.futures". Names of
            the standard library that this platform lacks are passed over.
        max_chars: Characters of a passage, without its first line. Longer docstrings are cut at
            paragraphs, and their further pieces get `-2`, `-3` behind the id.

    Returns:
        Documents whose ids are dotted names as one would import them ("asyncio.Queue.get", though
        it is defined in `asyncio.queues`), with the signature as the first line, and as metadata
        `source` (the module that defines it), `title` (the name) and `kind` ("module", "class",
        "function" or "method"). Modules come in the order of their names.

    Raises:
        ModuleNotFoundError: A module is not installed.
        TypeError: `modules` is one string.
        ValueError: There is no docstring in any of them, or an argument is out of range.
    """
    if isinstance(modules, str):
        raise TypeError(f"modules={modules!r}: give a list of names, [{modules!r}]")
    names = sorted(set(modules))
    check_max_chars(max_chars)
    found: dict[str, Document] = {}
    for name in names:
        if not _is_private(name) and not any(name.startswith(f"{other}.") for other in names):
            for document in _of_package(parsed(name), max_chars):
                found.setdefault(str(document.id), document)
    if not found:
        raise ValueError(f"no docstring in {', '.join(names) or 'no modules'}: name others")
    return list(found.values())


def name_and_summary(document: Document) -> str:
    """Return what a docstring is about: its name in words, and its first paragraph.

    `open_index(documents, ..., text=name_and_summary)` finds docstrings by this and returns them
    whole. PEP 257 has the first paragraph sum up the rest, and it is about as long as a question.
    The vector of the whole says a little of everything: arguments, errors, examples.

    Args:
        document: One that `load_docstrings` returned. The further pieces of a long docstring have
            a first paragraph of their own.

    Returns:
        Such as "asyncio wait for: Wait for the single Future or coroutine to complete, with
        timeout."

    Raises:
        KeyError: The document has no `title`: it is another's.
    """
    _, _, text = document.page_content.partition("\n\n")
    words = _BETWEEN_WORDS.sub(" ", document.metadata["title"]).strip()
    summary, _, _ = text.partition("\n\n")
    return f"{words}: {summary}"


def _of_package(trees: dict[str, ast.Module], max_chars: int) -> Iterator[Document]:
    public = public_names(trees)
    for module, tree in trees.items():
        yield from _of_module(module, tree, public, max_chars)


def _of_module(
    module: str, tree: ast.Module, public: dict[tuple[str, str], str], max_chars: int
) -> Iterator[Document]:
    hidden = _is_private(module)
    if not hidden:
        yield from _documents(tree, module, _about(module, "module", module), max_chars)
    for node in defined(tree.body):
        name = public.get((module, node.name))
        if name is None and (hidden or node.name.startswith("_")):
            continue
        yield from _of_definition(node, name or f"{module}.{node.name}", module, max_chars)


def _of_definition(
    node: Definition, name: str, module: str, max_chars: int, *, inside: bool = False
) -> Iterator[Document]:
    if not isinstance(node, ast.ClassDef):
        about = _about(name, "method" if inside else "function", module)
        yield from _documents(node, _signature(node, name), about, max_chars)
        return
    yield from _documents(node, f"class {name}", _about(name, "class", module), max_chars)
    for below in defined(node.body):
        if not below.name.startswith("_"):
            yield from _of_definition(below, f"{name}.{below.name}", module, max_chars, inside=True)


def _about(name: str, kind: str, module: str) -> dict[str, str]:
    return {"source": module, "title": name, "kind": kind}


def _documents(
    node: Definition | ast.Module, first: str, about: dict[str, str], max_chars: int
) -> Iterator[Document]:
    text = (ast.get_docstring(node) or "").strip()
    slugs = Slugs()
    for piece in pieces(text, max_chars) if text else []:
        yield Document(
            id=slugs.unique(about["title"]),
            page_content=f"{first}\n\n{piece}",
            metadata=dict(about),
        )


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{word}{name}({ast.unparse(node.args)})"


def _is_private(module: str) -> bool:
    return any(part.startswith("_") for part in module.split("."))
