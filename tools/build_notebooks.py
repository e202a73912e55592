"""Builds the learner's and the solved notebooks from their percent scripts, and executes both.

    python tools/build_notebooks.py                  build and execute all
    python tools/build_notebooks.py 01_async_batch   these stems only
    python tools/build_notebooks.py --text           store changed text alone, and execute nothing
    python tools/build_notebooks.py --check          exit 1 if a notebook differs from its script

The picture of a cell tagged `readme` is stored as `docs/pictures/<stem>.png`, too.

Notebooks are executed one after the other: measurements of two at once would disturb each other.
`nbtools/source.py` says how solutions are marked in a script.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbtools.execution import ROOT, execute
from nbtools.source import KINDS, BuildError, Target, variant

if TYPE_CHECKING:
    from collections.abc import Iterator


def build(target: Target) -> None:
    """Makes, executes and stores one notebook; an earlier one stands until this one is whole."""
    notebook = variant(target)
    target.path.parent.mkdir(exist_ok=True)
    try:
        execute(notebook, target.path.parent)
    except BuildError as error:
        raise BuildError(f"{target.kind}/{target.name}: {error}") from None
    store(notebook, target)
    if target.kind == "learner":
        store_pictures(notebook, target.script.parents[2] / "docs" / "pictures", target.script.stem)


def build_text(target: Target) -> None:
    """Stores a notebook whose text is new and whose code is not: outputs stay as they are.

    Raises:
        BuildError: there is no stored notebook, or one of its code cells differs from the script.
    """
    notebook = variant(target)
    stored = nbformat.read(target.path, 4).cells if target.path.exists() else []
    ran = [cell for cell in stored if cell.cell_type == "code"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [_face(cell) for cell in ran] != [_face(cell) for cell in code]:
        raise BuildError(f"{target.kind}/{target.name}: its code is new, too: build without --text")
    for cell, before in zip(code, ran, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    store(notebook, target)


def store(notebook: Any, target: Target) -> None:
    """Writes a notebook to its place, whole or not at all."""
    nbformat.validate(notebook)
    draft = target.path.with_name(f".{target.name}.draft")
    nbformat.write(notebook, draft)
    draft.replace(target.path)


def store_pictures(notebook: Any, folder: Path, name: str) -> None:
    """Stores the picture of each cell tagged `readme`, so that the README shows a real result."""
    for cell in notebook.cells:
        if "readme" in cell.metadata.get("tags", []):
            folder.mkdir(parents=True, exist_ok=True)
            (png,) = (output.data["image/png"] for output in cell.outputs if "data" in output)
            (folder / f"{name}.png").write_bytes(base64.b64decode(png))


def differences(target: Target) -> Iterator[str]:
    """What keeps the stored notebook from being what its script says, one line each."""
    if not target.path.exists():
        yield "is missing"
        return
    stored, wanted = nbformat.read(target.path, 4), variant(target)
    if [_face(cell) for cell in stored.cells] != [_face(cell) for cell in wanted.cells]:
        yield "differs from its source"
    if any(c.cell_type == "code" and c.execution_count is None for c in stored.cells):
        yield "has cells that were not executed"


def _face(cell: Any) -> tuple[Any, ...]:
    return cell.id, cell.cell_type, cell.source, cell.metadata


def orphans(notebooks: Path) -> Iterator[Path]:
    """Stored notebooks that no script makes any more."""
    for folder in (notebooks, notebooks / "solutions"):
        for path in sorted(folder.glob("*.ipynb")):
            if not (notebooks / "sources" / f"{path.stem}.py").exists():
                yield path


def targets(notebooks: Path, stems: list[str], kinds: tuple[str, ...] = KINDS) -> list[Target]:
    """The notebooks asked for, all if no stem is given.

    Raises:
        BuildError: there is no source of that name.
    """
    sources = {path.stem: path for path in sorted((notebooks / "sources").glob("[0-9]*.py"))}
    if unknown := sorted(set(stems) - set(sources)):
        raise BuildError(f"no source for {', '.join(unknown)}; there are: {', '.join(sources)}")
    return [Target(sources[stem], kind) for stem in stems or sources for kind in kinds]


def check(notebooks: Path, wanted: list[Target]) -> list[str]:
    """All differences between sources and stored notebooks, one line each."""
    found = [f"{t.kind}/{t.name} {what}" for t in wanted for what in differences(t)]
    return found + [f"{path.name} has no source: delete it" for path in orphans(notebooks)]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stems", nargs="*", help="such as 01_async_batch; all if none is given")
    parser.add_argument("--check", action="store_true", help="compare only, execute nothing")
    parser.add_argument("--text", action="store_true", help="only text is new: execute nothing")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder")
    chosen = parser.parse_args(arguments)
    folder = chosen.notebooks.resolve()
    try:
        wanted = targets(folder, chosen.stems, (chosen.kind,) if chosen.kind else KINDS)
        if chosen.check:
            stale = check(folder, wanted)
            print(*stale, *(["Run: python tools/build_notebooks.py"] if stale else []), sep="\n")
            return int(bool(stale))
        for target in wanted:
            begin = time.monotonic()
            build_text(target) if chosen.text else build(target)
            seconds, size = time.monotonic() - begin, target.path.stat().st_size // 1024
            print(f"{target.kind}/{target.name}  {seconds:.1f} s  {size} KiB", flush=True)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
