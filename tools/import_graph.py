"""Which module of a package imports which: read from the sources, nothing is imported or run."""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Import", "Package", "circles", "imports_in", "reached"]


class Import(NamedTuple):
    """One name that a module imports.

    Attributes:
        base: The module that it comes from, dotted, relative ones made absolute.
        name: The name; "" where the module itself is imported.
        alias: What stands behind `as`, "" if nothing does.
        typing: Whether it is for type checkers alone: below `if TYPE_CHECKING`.
        late: Whether it is imported in a function, where that is called.
    """

    base: str
    name: str
    alias: str
    typing: bool
    late: bool

    @property
    def full(self) -> str:
        """The dotted name of what is imported."""
        return f"{self.base}.{self.name}" if self.name else self.base

    @property
    def bound(self) -> str:
        """What it is called in the module."""
        return self.alias or self.name or self.base


class Package:
    """The modules of a package by dotted name, and what each of them imports.

    Args:
        root: The package's folder.
    """

    def __init__(self, root: Path) -> None:
        self.name = root.name
        self.files: dict[str, Path] = {}
        for file in sorted(root.rglob("*.py")):
            dotted = file.relative_to(root.parent).with_suffix("").parts
            self.files[".".join(dotted).removesuffix(".__init__")] = file

    @cached_property
    def imports(self) -> dict[str, list[Import]]:
        """What each module imports, anywhere in it."""
        return {
            module: list(imports_in(ast.parse(file.read_text("utf-8")), self.folder_of(module)))
            for module, file in self.files.items()
        }

    def is_package(self, module: str) -> bool:
        """Whether it is a folder, whose `__init__` stands for it."""
        return self.files[module].name == "__init__.py"

    def folder_of(self, module: str) -> str:
        """The package that a module lies in; a package lies in itself."""
        return module if self.is_package(module) else module.rpartition(".")[0]

    def part_of(self, module: str) -> str:
        """The first name below the package; "" for the package itself."""
        return f"{module}.".split(".")[1]

    def exported(self, module: str) -> set[str]:
        """The names of a package for others: `__all__`, and what `from x import y as y` hands on.

        The second is how typed packages mark an export; here it is one for other packages of the
        project, not for its users.
        """
        handed_on = {each.name for each in self.imports[module] if each.alias == each.name}
        return handed_on | set(self.public(module))

    def public(self, module: str) -> list[str]:
        """The names in a module's `__all__`, none where it has none."""
        for node in ast.parse(self.files[module].read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return [str(name) for name in ast.literal_eval(node.value)]
        return []

    def origin(self, name: str, *, inside: str = "") -> str | None:
        """Return the module that a dotted name is defined in, None if it is another package's.

        Args:
            name: Such as "course_lib.caching.cached", which `caching/__init__.py` has from
                elsewhere.
            inside: The module that imports it. Within its own package it is not followed: there
                the `__init__` has not ended yet.
        """
        module, rest = name, ""
        while module not in self.files:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
            if not module:
                return None
        first = rest.partition(".")[0]
        if first and self.is_package(module) and not f"{inside}.".startswith(f"{module}."):
            for each in self.imports[module]:
                if each.bound == first:
                    return self.origin(each.full, inside=module) or module
        return module

    def graph(self, *, typing: bool = False, late: bool = False) -> dict[str, set[str]]:
        """Return which modules each module needs.

        Args:
            typing: Whether imports for type checkers count.
            late: Whether imports in functions count.
        """
        return {
            module: {
                origin
                for each in found
                if (typing or not each.typing) and (late or not each.late)
                if (origin := self.origin(each.full, inside=module)) not in {None, module}
            }
            for module, found in self.imports.items()
        }

    def others(self, modules: set[str]) -> set[str]:
        """Return the top-level names of other packages that are loaded with these modules."""
        found = [each for module in modules for each in self.imports[module]]
        names = {each.base.partition(".")[0] for each in found if not (each.typing or each.late)}
        return names - {self.name}


def imports_in(tree: ast.AST, folder: str = "") -> Iterator[Import]:
    """Yield what a module imports.

    Args:
        tree: The module.
        folder: The package that it lies in, dotted, to make relative imports absolute.
    """
    yield from _below(tree, folder, typing=False, late=False)


def _below(node: ast.AST, folder: str, *, typing: bool, late: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, "", alias.asname or "", typing, late)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, folder)
        for alias in node.names:
            yield Import(base, alias.name, alias.asname or "", typing, late)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for each in node.body:
            yield from _below(each, folder, typing=True, late=late)
        for each in node.orelse:
            yield from _below(each, folder, typing=typing, late=late)
    else:
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for each in ast.iter_child_nodes(node):
            yield from _below(each, folder, typing=typing, late=late)


def _absolute(node: ast.ImportFrom, folder: str) -> str:
    if not node.level:
        return node.module or ""
    above = folder.split(".")
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return all modules that lie on a way from one; itself only if a way leads back."""
    found: set[str] = set()
    todo = [start]
    while todo:
        for each in graph[todo.pop()] - found:
            found.add(each)
            todo.append(each)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that need each other, directly or not, each in order of names."""
    ways = {module: reached(graph, module) for module in graph}
    rings = {
        frozenset(other for other in ways[module] if module in ways[other])
        for module in graph
        if module in ways[module]
    }
    return sorted(sorted(ring) for ring in rings)
