"""A learner's own copies of the notebooks, in `my/`: without outputs, and never overwritten.

The stored notebooks show each result right under the cell that asks for a guess. A copy shows
nothing until it is run. `my/` lies beside `notebooks/`, so that links lead where they led; git
ignores it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "RECORD", "Offer", "find", "is_copy", "reset", "stem_of", "update"]

FOLDER = "my"
RECORD = ".course.json"  # what each copy was made from: its presence marks a learner's folder
NEWER = ".newer.ipynb"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the course now says otherwise than a learner's copy did when it was made.

    Attributes:
        copy: The learner's copy, which is left as it is.
        newer: The course's present notebook, put beside it.
        cells: How many of its cells are new or have been changed.
    """

    copy: Path
    newer: Path
    cells: int

    def __str__(self) -> str:
        return (
            f"{self.copy.name} has {self.cells} new or changed cells in this version of the course. "
            f"Your copy was not touched: the newer one is {self.newer.name}."
        )


def update(root: Path) -> list[Offer]:
    """Copy into `my/` each notebook that is not there yet, and lay newer ones beside the others.

    Args:
        root: The folder that holds `notebooks/`.

    Returns:
        What has changed since a copy was made; each change is told once.

    Raises:
        FileNotFoundError: There are no notebooks in `root`.
    """
    originals = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    if not originals:
        raise FileNotFoundError(
            f"no notebooks in {root / 'notebooks'}: run this from a clone of the course"
        )
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    record = _record(folder)
    offers = []
    for original in originals:
        notebook = _without_outputs(original)
        cells, copy = _digests(notebook), folder / original.name
        known = record.get(original.name)
        record[original.name] = cells
        if not copy.exists():
            _write(copy, notebook)
        elif known is not None and known != cells:
            newer = copy.with_suffix(NEWER)
            _write(newer, notebook)
            offers.append(Offer(copy, newer, len(set(cells) - set(known))))
    _write(folder / RECORD, record)
    return offers


def find(root: Path, name: str) -> Path:
    """Return the learner's copy of a notebook.

    Args:
        root: The folder that holds `notebooks/`.
        name: The notebook's name, such as "01_async_batch", or its number.

    Raises:
        LookupError: There is no such notebook; names those there are.
    """
    copies = [path for path in sorted((root / FOLDER).glob("[0-9]*.ipynb")) if is_copy(path)]
    wanted = Path(name).name.removesuffix(".ipynb")
    for copy in copies:
        if copy.stem == wanted or copy.stem.startswith(f"{wanted:0>2}_"):
            return copy
    raise LookupError(f"no notebook {name!r}: there are {', '.join(copy.stem for copy in copies)}")


def reset(root: Path, *, as_zip: bool = False) -> Path | None:
    """Begin anew: put `my/` aside, progress and all, and copy the notebooks again.

    Args:
        root: The folder that holds `notebooks/`.
        as_zip: Pack them into one archive, for the next group on the same machine.

    Returns:
        Where the old copies are now; None if there were none.
    """
    folder, aside = root / FOLDER, None
    if folder.exists():
        aside = _free(root / f"{FOLDER}-{time.strftime('%Y-%m-%d')}")
        folder.rename(aside)
        if as_zip:
            packed = shutil.make_archive(str(aside), "zip", root, aside.name)
            shutil.rmtree(aside)
            aside = Path(packed)
    update(root)
    return aside


def is_copy(path: Path) -> bool:
    """Return whether this is a notebook that the learner works in, rather than a newer one beside."""
    return not path.name.endswith(NEWER)


def stem_of(path: Path) -> str:
    """Return the name by which a notebook is known, also of a newer one beside it."""
    return path.name.removesuffix(".ipynb").removesuffix(".newer")


def _free(wanted: Path) -> Path:
    number, free = 1, wanted
    while free.exists() or free.with_suffix(".zip").exists():
        number += 1
        free = wanted.with_name(f"{wanted.name}-{number}")
    return free


def _record(folder: Path) -> dict[str, list[str]]:
    """Return the digests of the cells that each copy was made from; {} where they are lost."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _without_outputs(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def _digests(notebook: dict[str, Any]) -> list[str]:
    sources = ("".join(cell["source"]) for cell in notebook["cells"])
    return [hashlib.sha256(source.encode()).hexdigest()[:16] for source in sources]


def _write(path: Path, content: Any) -> None:
    """Write a file in one step: what breaks off in the middle leaves the earlier one."""
    draft = path.with_name(f".{path.name}.draft")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(path)
