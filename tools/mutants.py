"""Grade every mutant of every exercise's solution: what share does the check refuse?

    python tools/mutants.py              all exercises
    python tools/mutants.py 2.1 3.3      these
    python tools/mutants.py --sample 20  every twentieth mutant of each

A mutant is the solution with one slip (see nbtools/mutation.py). Each is checked as a learner's answer
is, in a child process with limits of time; one that does not end is refused, too. Survivors are
printed. Those that do the same as the solution stand in mutants.toml, each with the reason, and are
left out of the count. Fails where a check refuses fewer than 95 of 100.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import inspect
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbtools.mutation import Mutant, mutants

from course_lib.table import text_table

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = ROOT / "notebooks/solutions"
LEAST = 0.95  # of the mutants, refused
PATIENCE = 60.0  # seconds for one mutant; a check bounds itself to a few
MOST = 1_800.0  # seconds for one exercise
EQUIVALENT = tomllib.loads((ROOT / "tools/mutants.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Answer:
    """An exercise's solution, as it stands in the notebook.

    Attributes:
        number: The exercise's id.
        prelude: Imports, functions and classes of the cells before it, a source each.
        solution: The source of its cell.
        check: The source of the cell that checks it.
    """

    number: str
    prelude: tuple[str, ...]
    solution: str
    check: str


@dataclass
class Tally:
    """What became of an exercise's mutants.

    Attributes:
        number: The exercise's id.
        refused: Mutants that the check refused.
        equivalent: Mutants that do the same as the solution.
        survivors: Mutants that passed though they should not have.
        processor: Seconds of the processor that the check of the solution takes.
    """

    number: str
    refused: int = 0
    equivalent: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    processor: float = 0.0

    @property
    def share(self) -> float:
        """The part that was refused of those that do another thing."""
        counted = self.refused + len(self.survivors)
        return self.refused / counted if counted else 1.0


def answers() -> dict[str, Answer]:
    """Return the solutions of all exercises by their numbers, in order."""
    found = {}
    for path in sorted(SOLUTIONS.glob("[0-9]*.ipynb")):
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        for place, cell in enumerate(cells):
            if number := cell.metadata.get("exercise"):
                later = (c for c in cells[place:] if "check" in c.metadata.get("tags", []))
                prelude = tuple(p for c in cells[:place] for p in _definitions(c.source))
                found[number] = Answer(number, prelude, cell.source, next(later).source)
    return found


def _definitions(source: str) -> list[str]:
    """Return the imports, functions, classes and constants of a cell: what runs at once."""
    with contextlib.suppress(SyntaxError):  # a magic
        body = ast.parse(source).body
        kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return [ast.unparse(each) for each in body if isinstance(each, kinds) or _constant(each)]
    return []


def _constant(statement: ast.stmt) -> bool:
    """Whether a statement gives a name in capitals a value."""
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).isupper()


def passes(answer: Answer, source: str) -> tuple[bool, float]:
    """Return whether the check takes a source in the solution's place, and the processor's seconds."""
    space: dict[str, Any] = {"__name__": "__main__"}
    for each in answer.prelude:
        with contextlib.suppress(Exception):  # it needs what a cell measured, and no check does
            exec(each, space)  # noqa: S102 - our own notebooks
    try:
        exec(compile(source, "<mutant>", "exec"), space)  # noqa: S102 - likewise
        code = compile(answer.check, "<check>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        begun = time.process_time()
        card = asyncio.run(_shown(code, space))
    except BaseException:  # noqa: BLE001 - a learner sees it: it is refused
        return False, 0.0
    return bool(card.passed), time.process_time() - begun


async def _shown(code: Any, space: dict[str, Any]) -> Any:
    """Run a check cell; return the card that it shows."""
    from course_lib.lab.exercises import Exercise  # noqa: PLC0415 - only in the children

    cards = []
    check = Exercise.check

    async def kept(self: Exercise, *given: Any) -> Any:
        cards.append(await check(self, *given))
        return cards[-1]

    Exercise.check = kept  # type: ignore[method-assign]
    try:
        result = eval(code, space)  # noqa: S307 - our own notebooks
        if inspect.isawaitable(result):
            await result
    finally:
        Exercise.check = check  # type: ignore[method-assign]
    return cards[-1]


def grade(number: str, start: int, step: int) -> None:
    """In a child: print for each mutant from `start` on whether it passes; the solution is first."""
    answer = answers()[number]
    passes(answer, answer.solution)  # what is imported for the first time is not the check's cost
    sources = [answer.solution, *(each.source for each in list(mutants(answer.solution))[::step])]
    for place, source in enumerate(sources[start:], start):
        print(json.dumps([place, *passes(answer, source)]), flush=True)
    os._exit(0)  # what a mutant left running is not waited for


def tally(answer: Answer, step: int) -> Tally:
    """Have every mutant of a solution graded, in children; one that does not end ends its child.

    Raises:
        RuntimeError: The solution itself does not pass.
    """
    found = Tally(answer.number)
    kinds = list(mutants(answer.solution))[::step]
    place, until = 0, time.monotonic() + MOST
    while place <= len(kinds):
        for passed, seconds in _graded(answer.number, place, step):
            if place == 0:
                found.processor = seconds
                if not passed:
                    raise RuntimeError(f"the solution of {answer.number} does not pass its check")
            else:
                _count(found, kinds[place - 1], passed=passed)
            place += 1
        if place <= len(kinds):  # the child was ended, or ended itself
            if place:
                _count(found, kinds[place - 1], passed=False)
            place += 1
        if time.monotonic() > until:
            raise RuntimeError(f"{answer.number}: {len(kinds) - place} mutants left after {MOST} s")
    return found


def _count(found: Tally, mutant: Mutant, *, passed: bool) -> None:
    if not passed:
        found.refused += 1
    elif mutant.slip in EQUIVALENT.get(found.number, {}):
        found.equivalent += 1
    else:
        found.survivors.append(mutant)


def _graded(number: str, place: int, step: int) -> Any:
    """Yield what a child says of each mutant, until it is silent for too long or gone."""
    command = [sys.executable, __file__, "--grade", number, str(place), str(step)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as child,
    ):  # fmt: skip
        said: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_read, args=(child.stdout, said), daemon=True)
        reader.start()
        try:
            while line := said.get(timeout=PATIENCE):
                with contextlib.suppress(json.JSONDecodeError, ValueError):  # a mutant prints, too
                    _, passed, seconds = json.loads(line)
                    yield passed, seconds
        except queue.Empty:
            pass
        finally:
            child.kill()


def _read(lines: Iterable[str], said: queue.Queue[str]) -> None:
    for line in lines:
        said.put(line)
    said.put("")


def report(found: list[Tally]) -> int:
    """Print the table and the survivors; return how many checks refuse too few."""
    head = ["exercise", "mutants", "the same", "refused", "share", "check, CPU s"]
    rows = [
        [
            each.number,
            str(each.refused + each.equivalent + len(each.survivors)),
            str(each.equivalent),
            str(each.refused),
            f"{each.share:.1%}",
            f"{each.processor:.2f}",
        ]
        for each in found
    ]
    print(text_table([head, *rows]))
    for each in found:
        for mutant in each.survivors:
            print(f"{each.number} line {mutant.line}: {mutant.slip}")
    return sum(each.share < LEAST for each in found)


def main(arguments: list[str] | None = None) -> int:
    """Grade the mutants of the exercises asked for; 0 if each check refuses enough of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="of exercises, such as 2.1; by default all")
    parser.add_argument("--sample", type=int, default=1, help="grade every so manieth mutant")
    parser.add_argument("--grade", nargs=3, metavar=("NUMBER", "START", "STEP"), help="a child's")
    asked = parser.parse_args(arguments)
    if asked.grade:
        number, start, step = asked.grade
        grade(number, int(start), int(step))
    known = answers()
    if unknown := set(asked.numbers) - set(known):
        parser.error(f"no exercise {min(unknown)}; there are {', '.join(known)}")
    chosen = [known[number] for number in asked.numbers or known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda answer: tally(answer, asked.sample), chosen))
    return 1 if report(found) else 0


if __name__ == "__main__":
    sys.exit(main())
