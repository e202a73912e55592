"""What a learner has done: exercises, predictions and minutes, kept beside their copies.

It is kept where the notebook is one of the learner's own copies (`course_lib.working_copy`), in one
file a notebook, and nowhere else: a run by nbval, or in `notebooks/`, leaves nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from course_lib.lab.progress_line import progress_line
from course_lib.table import Table
from course_lib.working_copy import FOLDER, RECORD, is_copy, stem_of

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["note_cells", "note_check", "note_hint", "note_prediction", "progress", "solved"]

LONGEST_PAUSE: Final = 600.0
"""Seconds between two cells from which on somebody has been away."""

_last_cell: float | None = None
_tried: dict[str, dict[str, int]] = {}
"""Attempts and hints of this kernel, by exercise."""
_solved: set[str] = set()
"""Exercises that were solved in this kernel."""


def progress(folder: Path | None = None, *, name: str = "") -> Table:
    """Return what has been done in each of the notebooks, as a table; print it as one line, too.

    The line can be pasted into a chat, and a workshop's board takes it from there.

    Args:
        folder: The learner's copies; by default where this notebook is, or else `my/` beside it.
        name: The learner's, for the line.

    Raises:
        LookupError: There are no copies of a learner's.
    """
    folder = folder or _folder() or _beside()
    if folder is None:
        raise LookupError(
            "progress is kept with your own copies of the notebooks: `make lab`, or "
            "`python -m course_lib lab`, makes them"
        )
    copies = [path for path in sorted(folder.glob("[0-9]*.ipynb")) if is_copy(path)]
    kept = [_read(_file(folder, path.stem))["exercises"] for path in copies]
    done = {number: each for exercises in kept for number, each in exercises.items()}
    print(progress_line(done, name))  # noqa: T201 - under the learner's cell
    return Table(
        ["notebook", "exercises", "attempts", "hints", "predictions", "minutes"],
        [_row(path, folder) for path in copies],
    )


def note_check(
    number: str, *, attempted: bool, passed: bool, diagnosis: str = ""
) -> dict[str, int]:
    """Keep the result of a check; a stub is no attempt, and what was solved stays solved.

    Args:
        number: The exercise's.
        attempted: Whether there was something to check.
        passed: Whether it is solved.
        diagnosis: The diagnosis' short name.

    Returns:
        The exercise's `attempts` and `hints` so far: in this kernel where no more is kept.
    """
    tried = _tried.setdefault(number, {"attempts": 0, "hints": 0})
    tried["attempts"] += attempted
    counts = dict(tried)
    if passed:
        _solved.add(number)

    def change(kept: dict[str, Any]) -> None:
        exercise = kept["exercises"].setdefault(number, {"attempts": 0, "hints": 0})
        exercise["attempts"] += attempted
        exercise["passed"] = exercise.get("passed", False) or passed
        exercise["diagnosis"] = "" if passed else diagnosis or exercise.get("diagnosis", "")
        counts.update({name: exercise[name] for name in counts})

    _change(change)
    return counts


def solved(number: str) -> bool:
    """Whether the exercise was solved, in this kernel or earlier in the learner's own copy."""
    folder, notebook = _folder(), _notebook()
    if number in _solved or folder is None or notebook is None:
        return number in _solved
    kept = _read(_file(folder, notebook))["exercises"]
    return bool(kept.get(number, {}).get("passed", False))


def note_hint(number: str) -> None:
    """Keep that a hint was asked for."""
    _tried.setdefault(number, {"attempts": 0, "hints": 0})["hints"] += 1

    def change(kept: dict[str, Any]) -> None:
        exercise = kept["exercises"].setdefault(number, {"attempts": 0, "hints": 0})
        exercise["hints"] += 1

    _change(change)


def note_prediction(question: str, guess: float | None, actual: float | None) -> None:
    """Keep a guess, if there is one, and its result."""
    if guess is not None:
        told = {"guess": guess, "actual": actual}
        _change(lambda kept: kept["predictions"].update({question: told}))


def note_cells() -> None:
    """Keep the time between cells, from now on and in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if shell is not None and _note_cell not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _note_cell)


def _note_cell(*_: object) -> None:
    global _last_cell  # noqa: PLW0603 - one notebook a kernel
    now, before = time.monotonic(), _last_cell
    _last_cell = now
    if before is not None and now - before < LONGEST_PAUSE:
        _change(lambda kept: kept.update(seconds=kept["seconds"] + now - before))


def _row(notebook: Path, folder: Path) -> list[str]:
    kept = _read(_file(folder, notebook.stem))
    exercises = kept["exercises"].values()
    return [
        notebook.stem,
        f"{sum(each.get('passed', False) for each in exercises)} of {_exercises_in(notebook)}",
        f"{sum(each['attempts'] for each in exercises)}",
        f"{sum(each['hints'] for each in exercises)}",
        f"{len(kept['predictions'])}",
        f"{kept['seconds'] / 60:.0f}",
    ]


def _exercises_in(notebook: Path) -> int:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return sum("exercise" in cell["metadata"] for cell in cells)


def _change(change: Callable[[dict[str, Any]], None]) -> None:
    """Change what is kept of this notebook, if it is a learner's copy.

    Progress is not worth an error: where it cannot be written, the lesson goes on.
    """
    folder, notebook = _folder(), _notebook()
    if folder is None or notebook is None:
        return
    path = _file(folder, notebook)
    try:
        kept = _read(path)
        change(kept)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        draft.replace(path)
    except OSError:
        return


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept = {
            "exercises": dict(kept["exercises"]),
            "predictions": dict(kept["predictions"]),
            "seconds": float(kept["seconds"]),
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {"exercises": {}, "predictions": {}, "seconds": 0.0}
    return kept


def _file(folder: Path, notebook: str) -> Path:
    return folder / "progress" / f"{notebook}.json"


def _folder() -> Path | None:
    """Return the folder of learner's copies that this kernel runs in, if it does."""
    here = Path.cwd()
    return here if (here / RECORD).is_file() else None


def _beside() -> Path | None:
    beside = Path.cwd().parent / FOLDER
    return beside if (beside / RECORD).is_file() else None


def _notebook() -> str | None:
    """Return the stem of this kernel's notebook, which the Jupyter server names."""
    name = os.environ.get("JPY_SESSION_NAME")
    return stem_of(Path(name)) if name else None
