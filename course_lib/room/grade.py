"""`python -m course_lib grade FOLDER --csv FILE`: the checks of submitted notebooks, as a table.

Each notebook runs in a child process of its own, with limits of time, memory, processes and output,
and on Linux in a namespace where it sees no process but its own. Whatever it does is a row.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from course_lib.room.graded import SIGNALLED

__all__ = ["Limits", "Row", "grade", "main"]

ROOT: Final = Path(__file__).resolve().parents[2]
LOOK: Final = 0.05
"""Seconds between two looks at a child."""

OPENLY: Final = """\
This runs other people's code as you, on this machine. Limits end what is endless, large or forking,
but they are no wall: code can read your files and use your network. Run it apart, for one as
  a user of its own:     sudo -u grader python -m course_lib grade FOLDER --csv FILE
  without a network:     unshare -rn python -m course_lib grade FOLDER --csv FILE
or in a container or a lent machine that holds nothing of yours. A card that is forged with care can
pass: look at the code of whom you grade for more than practice."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one notebook may take.

    Attributes:
        seconds: Time, from start to end.
        mebibytes: Memory of all its processes together.
        processes: How many it may have at once.
    """

    seconds: float = 120
    mebibytes: int = 2048
    processes: int = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        learner: The folder or file that was handed in.
        notebook: Its stem.
        exercise: Its number; "" where the whole notebook could not be graded.
        result: "passed", "not yet", "not attempted yet" or "not graded".
        diagnosis: The diagnosis' name, or the reason why it was not graded.
    """

    learner: str
    notebook: str
    exercise: str
    result: str
    diagnosis: str


def grade(folder: Path, limits: Limits) -> list[Row]:
    """Return the rows of all notebooks below a folder, by learner and notebook.

    A learner is the first folder below `folder`; where notebooks lie in it directly, their names.

    Args:
        folder: What was handed in.
        limits: For each notebook.

    Raises:
        FileNotFoundError: There is no notebook in it.
    """
    files = sorted(
        file for file in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts
    )
    if not files:
        raise FileNotFoundError(f"no notebook in {folder}")
    return [row for file in files for row in _rows(file, folder, limits)]


def _rows(file: Path, folder: Path, limits: Limits) -> list[Row]:
    within = file.relative_to(folder)
    learner = within.parts[0] if len(within.parts) > 1 else within.stem
    try:
        cells = json.loads(file.read_text("utf-8"))["cells"]
        own, checks = _original(cells)
        orders = {"cells": cells, "own": own, "checks": checks}
    except (ValueError, LookupError, TypeError, OSError, AttributeError) as error:
        return [Row(learner, within.stem, "", "not graded", f"no notebook of the course: {error}")]
    told, reason = _run(orders, limits)
    if reason:
        return [Row(learner, within.stem, "", "not graded", reason)]
    return [Row(learner, within.stem, *each) for each in told]


def _original(cells: list[dict[str, Any]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the course's own cells, and what each check is handed, of the notebook this was."""
    numbers = {cell.get("metadata", {}).get("exercise") for cell in cells} - {None}
    if not numbers:
        raise LookupError("it has no exercise")
    number = min(numbers)
    stem = next(
        (
            each
            for each in _originals()
            if any(number in _checks(cell) for cell in _originals()[each])
        ),
        None,
    )
    if stem is None:
        raise LookupError(f"no exercise {number!r}")
    original = _originals()[stem]
    own = [
        "".join(cell["source"]) for cell in original
        if cell["cell_type"] == "code" and "exercise" not in cell["metadata"]
    ]  # fmt: skip
    checks = {number: names for cell in original for number, names in _checks(cell).items()}
    return own, checks


@cache
def _originals() -> dict[str, list[dict[str, Any]]]:
    files = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    return {file.stem: json.loads(file.read_text("utf-8"))["cells"] for file in files}


def _checks(cell: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names that a cell of ours hands to an exercise's check, by the exercise's number."""
    if "check" not in cell["metadata"].get("tags", []):
        return {}
    match ast.parse("".join(cell["source"])).body:
        case [
            ast.Expr(ast.Await(ast.Call(ast.Attribute(ast.Call(_, [ast.Constant(number)])), names)))
        ]:
            return {str(number): [ast.unparse(each) for each in names]}
    return {}


def _run(orders: dict[str, Any], limits: Limits) -> tuple[list[tuple[str, str, str]], str]:
    """Run one notebook; return exercise, verdict and diagnosis of each, or why there are none."""
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="grade-") as folder, tempfile.TemporaryFile() as told:
        more = {"secret": secret, "memory": 2 * limits.mebibytes * 2**20, "file": told.fileno()}
        with (Path(folder) / "printed").open("w+b") as printed:
            process = subprocess.Popen(  # noqa: S603 - our own program; what it runs is the point
                [*_apart(), sys.executable, "-P", "-m", "course_lib.room.graded"],
                stdin=subprocess.PIPE, stdout=printed, stderr=printed, pass_fds=[told.fileno()],
                cwd=folder, env=_environment(folder), start_new_session=True,
            )  # fmt: skip
            assert process.stdin is not None  # noqa: S101 - for the type checker: we asked for a pipe
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(orders | more).encode() + b"\n")
                process.stdin.close()
            reason = _watch(process, limits)
        told.seek(0)
        return _read(told.read(), secret, orders["checks"], reason)


def _read(
    told: bytes, secret: str, checks: dict[str, list[str]], reason: str
) -> tuple[list[tuple[str, str, str]], str]:
    """Return what a child has told, or why it does not count."""
    try:
        rows = [json.loads(line) for line in told.splitlines()]
        genuine = all(row["secret"] == secret and row["sealed"] for row in rows)
    except (ValueError, LookupError, TypeError):
        rows, genuine = [], False
    if not genuine:
        return [], "changed its graders or forged a card"
    found = [(row["exercise"], row["verdict"], row["diagnosis"]) for row in rows]
    if found and not found[0][0]:
        return [], found[0][2]
    if not reason and [each[0] for each in found] != list(checks):
        reason = "ended before all was checked"
    return found, reason


def _watch(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Wait for a child's end, or end it; return the reason why it was no good end."""
    end, reason = time.monotonic() + limits.seconds, ""
    while process.poll() is None and not reason:
        count, memory = _taken(process.pid)
        if time.monotonic() > end:
            reason = f"no end within {limits.seconds:g} s"
        elif count > limits.processes:
            reason = f"more than {limits.processes} processes at once"
        elif memory > limits.mebibytes * 2**20:
            reason = f"more than {limits.mebibytes} MiB of memory"
        time.sleep(LOOK)
    _end(process)
    if reason or not process.returncode:
        return reason
    return _reason_of(process.returncode)


def _reason_of(code: int) -> str:
    number = code - SIGNALLED if code > SIGNALLED else -code
    if number == signal.SIGXFSZ:
        return "printed without end"
    if code < 0:
        return f"killed its parent process ({signal.Signals(number).name})"
    return f"ended by {signal.Signals(number).name}" if number > 0 else f"ended with status {code}"


def _taken(pid: int) -> tuple[int, int]:
    """Return how many processes there are below one, and bytes of memory of all."""
    import psutil  # noqa: PLC0415 - grading alone needs it

    memory = count = 0
    with suppress(psutil.Error):
        for each in psutil.Process(pid).children(recursive=True):
            count += 1
            with suppress(psutil.Error):
                memory += each.memory_info().rss
    return count, memory


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child and what it has started."""
    import psutil  # noqa: PLC0415 - grading alone needs it

    below = []
    with suppress(psutil.Error):
        below = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in below:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


@cache
def _apart() -> tuple[str, ...]:
    """Return what goes before a command so that it sees no process but its own, where that works."""
    command = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child")
    if shutil.which("unshare") is None:
        return ()
    tried = subprocess.run([*command, "true"], check=False, capture_output=True)  # noqa: S603
    return command if tried.returncode == 0 else ()


def _environment(folder: str) -> dict[str, str]:
    """Return the environment of a child: none of this user's keys, and a home that is thrown away."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "PYTHONPYCACHEPREFIX")
        if name in os.environ
    }
    return {**kept, "HOME": folder, "TMPDIR": folder, "OPENBLAS_NUM_THREADS": "1"}


def main(arguments: list[str]) -> int:
    """Grade a folder, print how it went, and write the table.

    Raises:
        OSError: There is nothing to grade, or the table cannot be written.
    """
    usual = Limits()
    parser = argparse.ArgumentParser(prog="python -m course_lib grade", description=__doc__)
    parser.add_argument("folder", type=Path, help="one folder a learner, or one notebook a learner")
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="the table")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="(%(default)s)")
    parser.add_argument("--mebibytes", type=int, default=usual.mebibytes, help="(%(default)s)")
    options = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        raise OSError("grading needs Linux or macOS: run it in a container or in WSL")
    sys.stdout.write(f"{OPENLY}\n")
    sys.stdout.flush()
    rows = grade(options.folder, Limits(options.seconds, options.mebibytes))
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["learner", "notebook", "exercise", "result", "diagnosis"])
        table.writerows([_plain(each) for each in astuple(row)] for row in rows)
    passed = sum(row.result == "passed" for row in rows)
    sys.stdout.write(f"{len(rows)} rows, {passed} passed: {options.csv}\n")
    return 0


def _plain(text: str) -> str:
    """Return text that a spreadsheet takes for text, whatever a folder is called."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
