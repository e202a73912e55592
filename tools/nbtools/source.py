"""From a percent script to the two notebooks that it holds.

- Lines between `### BEGIN SOLUTION` and `### END SOLUTION` are the solution of an exercise; the
  learner gets `raise NotImplementedError` instead.
- A line `rate = ...  ### SOLUTION: 4 / 2` asks for one value; the learner gets the `...`, the
  solved notebook the value.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a field's type
from typing import Any

import jupytext

__all__ = ["KERNELSPEC", "KINDS", "LINK", "BuildError", "Target", "load", "variant"]

KINDS = ("learner", "solutions")
KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}

BLOCK = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*### END SOLUTION[ \t]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
VALUE = re.compile(r"^(.*?\S)[ \t]*### SOLUTION:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
MARKER = re.compile(r"### (?:BEGIN SOLUTION|END SOLUTION|SOLUTION)")
LINK = re.compile(r"""(\]\(|(?:href|src)=["']|^\[[^\]]+\]:[ \t]+)([^\s)"'>]+)""", re.MULTILINE)


class BuildError(Exception):
    """A source cannot become a notebook, or the notebook does not run."""


@dataclass(frozen=True, slots=True)
class Target:
    """One notebook to be made: from which script, of which kind, to which file."""

    script: Path
    kind: str

    @property
    def path(self) -> Path:
        """Where the notebook is stored: beside `sources`, the solved one in `solutions`."""
        folder = self.script.parent.parent
        return (folder / "solutions" if self.kind == "solutions" else folder) / self.name

    @property
    def name(self) -> str:
        """File name of the notebook, the same for both kinds."""
        return f"{self.script.stem}.ipynb"


def load(script: Path) -> Any:
    """Reads a percent script as a notebook with stable cell ids and no incidental metadata."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata.clear()
    notebook.metadata.update(kernelspec=KERNELSPEC, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        cell.metadata.pop("lines_to_next_cell", None)
        cell["id"] = cell_id(cell.source, seen)
    return notebook


def cell_id(source: str, seen: Counter[str]) -> str:
    """An id from the cell's text, so that adding a cell leaves the ids of the others alone."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    seen[digest] += 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def variant(target: Target) -> Any:
    """The notebook of one kind, not yet executed.

    Raises:
        BuildError: a solution is not marked as this module's docstring says.
    """
    notebook = load(target.script)
    for number, cell in enumerate(notebook.cells):
        try:
            cell.source = cell_source(cell, target.kind)
        except BuildError as error:
            raise BuildError(f"{target.script.name}, cell {number}: {error}") from None
    if target.kind == "solutions":
        say_solved(notebook, target.name)
    return notebook


def cell_source(cell: Any, kind: str) -> str:
    """A cell's text as it stands in a notebook of this kind."""
    solved = kind == "solutions"
    if cell.cell_type != "code":
        return moved_links(cell.source) if solved else str(cell.source)
    source = (solution if solved else stub)(cell.source)
    if MARKER.search(source):
        raise BuildError("a BEGIN SOLUTION or END SOLUTION without its partner")
    return source.rstrip("\n")


def stub(source: str) -> str:
    """The cell as the learner gets it."""
    if any(not block.group(1) for block in BLOCK.finditer(source)):
        raise BuildError(
            "a solution at the top level cannot become a stub that runs: "
            "put it into a function, or mark one value with `...  ### SOLUTION: value`"
        )
    return VALUE.sub(r"\1", BLOCK.sub(r"\1raise NotImplementedError\n", source))


def solution(source: str) -> str:
    """The cell with its exercise solved."""
    return VALUE.sub(filled_in, BLOCK.sub(r"\2", source))


def filled_in(line: re.Match[str]) -> str:
    """A line with its place to fill in replaced by the value."""
    code, value = line.groups()
    if "..." not in code:
        raise BuildError(f"nothing to fill in: put `...` where {value!r} belongs in {code!r}")
    return code.replace("...", value, 1)


def moved_links(markdown: str) -> str:
    """Relative links as seen from `solutions/`; those to other notebooks stay in that folder."""

    def moved(link: re.Match[str]) -> str:
        before, target = link.groups()
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:|/", path, re.IGNORECASE):
            return str(link.group())
        if not re.fullmatch(r"[^/]+\.ipynb", path):
            path = posixpath.relpath(posixpath.join("notebooks", path), "notebooks/solutions")
        return f"{before}{path}{hash_}{anchor}"

    return LINK.sub(moved, markdown)


def say_solved(notebook: Any, name: str) -> None:
    """Says under the title that this is the solved version, and where the other one is."""
    title, newline, rest = notebook.cells[0].source.partition("\n")
    note = f"*The solved version: try [the exercises](../{name}) before you read on.*"
    notebook.cells[0].source = f"{title}\n\n{note}\n{newline}{rest.lstrip()}"
