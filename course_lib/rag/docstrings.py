"""The docstrings of installed modules, as documents: read from their source files, none imported."""

from __future__ import annotations

import ast
import logging
import pkgutil
import re
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

from langchain_core.documents import Document

from course_lib.rag.passages import MAX_CHARS, Slugs, check_max_chars, pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec

    Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

__all__ = ["load_docstrings", "name_and_summary"]

_log = logging.getLogger("course_lib.rag")
_NOT_FOR_READERS: Final = ("test", "tests", "idle_test", "__main__", "conftest")
_DEFINITIONS: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES: Final = (ast.If, ast.Try, ast.With)
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
            for document in _of_package(_parsed(name), max_chars):
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
    public = _public_names(trees)
    for module, tree in trees.items():
        yield from _of_module(module, tree, public, max_chars)


def _of_module(
    module: str, tree: ast.Module, public: dict[tuple[str, str], str], max_chars: int
) -> Iterator[Document]:
    hidden = _is_private(module)
    if not hidden:
        yield from _documents(tree, module, _about(module, "module", module), max_chars)
    for node in _defined(tree.body):
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
    for below in _defined(node.body):
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


def _parsed(name: str) -> dict[str, ast.Module]:
    """Return the trees of a module and of those below it, by dotted name.

    Tests and `__main__` are left out, and so is what has no source or cannot be parsed.

    Raises:
        ModuleNotFoundError: It is not installed, and is not of the standard library (of which
            each platform lacks some).
    """
    spec = _spec(name)
    if spec is None:
        if name.partition(".")[0] in sys.stdlib_module_names:
            return {}
        raise ModuleNotFoundError(f"no module {name!r} is installed: check its name", name=name)
    trees = {}
    for dotted, file in _files(name, spec):
        tree = _tree(file)
        if tree is not None:
            trees[dotted] = tree
    return trees


def _defined(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the classes and functions that a module or class defines, in its branches, too."""
    for node in _statements(body):
        if isinstance(node, _DEFINITIONS):
            yield node


def _exported(tree: ast.Module) -> list[str]:
    """Return the names that `from module import *` brings, as far as the source spells them."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Assign) and _is_all(node.targets[0]):
            try:
                return list(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                break  # computed
    return [node.name for node in _defined(tree.body) if not node.name.startswith("_")]


def _public_names(trees: dict[str, ast.Module]) -> dict[tuple[str, str], str]:
    """Return under which name a package hands on what a module below it defines.

    So ("asyncio.queues", "Queue") is "asyncio.Queue", since `asyncio` imports it from there.
    """
    names: dict[tuple[str, str], str] = {}
    for package in sorted(trees, key=lambda each: each.count("."), reverse=True):
        for node in _statements(trees[package].body):
            if not isinstance(node, ast.ImportFrom):
                continue
            origin = _origin(node, package)
            if origin in trees and origin.startswith(f"{package}."):
                names |= _handed_on(node, package, origin, trees[origin])
    return names  # the outermost package that does so came last, and stays


def _handed_on(
    node: ast.ImportFrom, package: str, origin: str, tree: ast.Module
) -> dict[tuple[str, str], str]:
    pairs = [(alias.name, alias.asname or alias.name) for alias in node.names]
    if pairs[0][0] == "*":
        pairs = [(name, name) for name in _exported(tree)]
    return {
        (origin, name): f"{package}.{public}"
        for name, public in pairs
        if not public.startswith("_")
    }


def _origin(node: ast.ImportFrom, package: str) -> str:
    """Return the module that a package's `from ... import` names, made absolute."""
    if not node.level:
        return node.module or ""
    above = package.split(".")
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _spec(name: str) -> ModuleSpec | None:
    """Find a module as an import would, but without importing the packages that it is in."""
    spec, path, above = None, None, ""
    for part in name.split("."):
        above = f"{above}.{part}" if above else part
        spec = PathFinder.find_spec(above, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _files(name: str, spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    if spec.origin and spec.origin.endswith(".py") and Path(spec.origin).is_file():
        yield name, Path(spec.origin)
    for below in sorted(pkgutil.iter_modules(spec.submodule_search_locations or [])):
        if below.name in _NOT_FOR_READERS:
            continue
        dotted = f"{name}.{below.name}"
        found = PathFinder.find_spec(dotted, list(spec.submodule_search_locations or []))
        if found is not None:
            yield from _files(dotted, found)


def _tree(file: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # others' invalid escapes
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError) as error:
        _log.warning("%s is passed over: %s", file, error)
        return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements in order, with those in branches (`if`, `try`, `with`)."""
    for node in body:
        yield node
        if isinstance(node, _BRANCHES):
            yield from _statements(node.body)
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)
            yield from _statements(getattr(node, "orelse", []))


def _is_all(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__all__"
