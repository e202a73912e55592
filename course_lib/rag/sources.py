"""Source files of installed modules, found and parsed without importing or running any of them."""

from __future__ import annotations

import ast
import logging
import pkgutil
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

__all__ = ["defined", "exported", "parsed", "public_names"]

_log = logging.getLogger("course_lib.rag")
_NOT_FOR_READERS: Final = ("test", "tests", "idle_test", "__main__", "conftest")
_DEFINITIONS: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES: Final = (ast.If, ast.Try, ast.With)


def parsed(name: str) -> dict[str, ast.Module]:
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


def defined(
    body: list[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the classes and functions that a module or class defines, in its branches, too."""
    for node in _statements(body):
        if isinstance(node, _DEFINITIONS):
            yield node


def exported(tree: ast.Module) -> list[str]:
    """Return the names that `from module import *` brings, as far as the source spells them."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Assign) and _is_all(node.targets[0]):
            try:
                return list(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                break  # computed
    return [node.name for node in defined(tree.body) if not node.name.startswith("_")]


def public_names(trees: dict[str, ast.Module]) -> dict[tuple[str, str], str]:
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
        pairs = [(name, name) for name in exported(tree)]
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
