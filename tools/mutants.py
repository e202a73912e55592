"""Mutates the solution of each exercise, and asks the exercise's own check to refuse the mutants.

    python tools/mutants.py             all exercises: exit 1 if a share is below 95 %, or a mutant
                                        survives that is not named in SURVIVORS
    python tools/mutants.py 4.2 6.1     these alone

A mutant runs in a process of its own with a limit of processor time, so that one that never ends
counts as refused, and as nothing else. The table says what each exercise is graded with.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import difflib
import gc
import os
import re
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutation import mutants
from nbtools.source import load, solution

from course_lib.lab.exercises import EXERCISES, virtual
from course_lib.table import text_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[1]
SOURCES, TABLES = ROOT / "notebooks/sources", ROOT / "tests/lab/exercises"
SHARE = 0.95
"""Of the mutants of a solution, at least so many are refused."""
SECONDS, EFFORT = 20, 2.0
"""Of the processor: what a check may take in all, and what a mutant may within virtual time."""
CHECK = re.compile(r'exercise\("([\d.]+)"\)\.check\((.*)\)')

PAIRS = "as many answers as questions are there: nothing is left over in any case"
ABSENT = "what does not apply may be missing: who asks with `get` finds None"
CHOSEN = "- return {'answer': found, 'failed': None, 'error': None, 'seconds': seconds}"
FAILED = "- return {'answer': None, 'failed': name, 'error': error, 'seconds': seconds}"
RESULT = "- result = {'answer': None, 'failed': None, 'error': None, 'skipped': skipped}"

SURVIVORS: dict[str, dict[str, str]] = {
    "1.1": {
        f"- return dict(zip(questions, found, strict=True))  + return dict(zip(questions, found{end}))": PAIRS
        for end in (", strict=None", "", ", strict=False")
    },
    "2.1": {
        "- self.refill()  + pass": "after the wait: the next call refills what passed meanwhile, too",
        "- if self.tokens < 1:  + if self.tokens <= 1:": "it sleeps for 0 s",
        "- if self.tokens < 1:  + if self.tokens < 2:": "it sleeps for 0 s, or less, which is none",
    },
    "2.2": {
        "- for attempt in range(1, attempts + 1):  + for attempt in range(1, attempts + 2):": (
            "the last attempt raises or returns: the loop ends there"
        )
    },
    "4.1": {
        "- return f'{name}:{json.dumps(arguments, sort_keys=True)}'  "
        "+ return f'{name}XX:XX{json.dumps(arguments, sort_keys=True)}'": (
            "another text between the two keeps them as far apart"
        )
    },
    "6.1": {
        f"{line}  + {line[2:].replace(repr(key), repr(other))}": ABSENT
        for line, keys in ((CHOSEN, ("failed", "error")), (FAILED, ("answer",)))
        for key in keys
        for other in (f"XX{key}XX", key.upper())
    },
    "6.4": {
        f"{RESULT}  + {RESULT[2:].replace(repr(key), repr(other))}": ABSENT
        for key in ("answer", "failed", "error")
        for other in (f"XX{key}XX", key.upper())
    },
}
"""By exercise, mutants that are to survive: the changed lines, and why that is no mistake."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The solution of an exercise, as its notebook has it.

    Attributes:
        number: Of the exercise.
        source: The cell, solved.
        before: Imports and definitions of the cells before it.
        arguments: What its check is given, as the notebook writes it.
    """

    number: str
    source: str
    before: str
    arguments: str

    def passes(self, source: str) -> bool:
        """Whether the check accepts a program in place of the solution."""
        with contextlib.suppress(Exception):
            space = dict(named_before(self.before))
            exec(compile(source, f"<{self.number}>", "exec"), space)  # noqa: S102 - the course's own
            arguments = eval(f"({self.arguments},)", space)  # noqa: S307
            return asyncio.run(EXERCISES[self.number].check(*arguments)).passed
        return False


@cache
def named_before(source: str) -> dict[str, Any]:
    """Return what the cells before an exercise import and define."""
    space: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(source, "<before>", "exec"), space)  # noqa: S102 - the course's own
    return space


@dataclass(slots=True)
class Result:
    """What came of the mutants of one exercise.

    Attributes:
        number: Of the exercise.
        made: Mutants.
        survived: Changed lines of those that were accepted.
    """

    number: str
    made: int = 0
    survived: list[str] = field(default_factory=list)

    @property
    def named(self) -> dict[str, str]:
        """Those that are to survive, with the reason."""
        return SURVIVORS.get(self.number, {})

    @property
    def share(self) -> float:
        """Share of those that are no equivalent programs which the check refuses."""
        unnamed = len(set(self.survived) - self.named.keys())
        return 1 - unnamed / max(1, self.made - len(self.named.keys() & set(self.survived)))

    @property
    def troubles(self) -> list[str]:
        """What is to be done."""
        gone = self.named.keys() - set(self.survived)
        return [
            *(f"survives: {each}" for each in self.survived if each not in self.named),
            *(f"is named in SURVIVORS and does not survive: {each}" for each in sorted(gone)),
        ]


def references() -> dict[str, Reference]:
    """Return the solutions of all exercises, by number."""
    found = {}
    for script in sorted(SOURCES.glob("*.py")):
        number, before = "", ""
        source = ""
        for cell in load(script).cells:
            text = solution(cell.source) if cell.cell_type == "code" else ""
            if check := CHECK.search(text):
                if check[1] == number:
                    found[number] = Reference(number, source, before, check[2])
                    before += f"\n{definitions(source)}"
            elif "exercise" in cell.metadata:
                number, source = cell.metadata["exercise"], text
            else:
                before += f"\n{definitions(text)}"
    return found


def definitions(text: str) -> str:
    """Return imports, functions and classes of a cell, and nothing that does something.

    One that needs what a cell has computed (a default, a decorator) is left out.
    """
    try:
        body = ast.parse(text).body
    except SyntaxError:  # a magic
        return ""
    kept = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return "\n".join(
        f"try:\n{_indented(each)}\nexcept Exception: pass"
        for each in body
        if isinstance(each, kept)
    )


def _indented(node: ast.stmt) -> str:
    return "\n".join(f"    {line}" for line in ast.unparse(node).splitlines())


def changed_lines(before: str, after: str) -> str:
    """Return what is different, in one line: `- old` and `+ new`."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    shown = [line[0] + " " + line[1:].strip() for line in list(lines)[2:] if line[:2] != "@@"]
    return "  ".join(shown)


def apart(question: Callable[[], bool]) -> bool:
    """Ask in a process of its own, which ends after `SECONDS` of the processor: then it is False."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            code = 0 if question() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def examined(reference: Reference, workers: int = 2, every: int = 1) -> Result:
    """Return what the check says to the mutants of a solution.

    Args:
        reference: The solution.
        workers: Processes at once.
        every: Take one mutant of so many.

    Raises:
        AssertionError: The solution itself is refused.
    """
    plain = ast.unparse(ast.parse(reference.source))
    if not reference.passes(plain):  # here, so that what it imports is there in each fork
        raise AssertionError(f"{reference.number}: the solution is refused")
    texts = list(mutants(reference.source))[::every]
    gc.freeze()  # else each fork copies the whole heap when it collects
    with ThreadPoolExecutor(workers) as pool:
        passed = list(pool.map(lambda text: apart(lambda: reference.passes(text)), texts))
    result = Result(reference.number, len(texts))
    result.survived = [
        changed_lines(plain, text) for text, good in zip(texts, passed, strict=True) if good
    ]
    return result


def main(arguments: Sequence[str]) -> int:
    """Print the table and what is to be done; return how many exercises are not good enough."""
    virtual.EFFORT = EFFORT
    known = references()
    missing = EXERCISES.keys() - known.keys()
    rows, poor = [], len(missing)
    for number in arguments or EXERCISES:
        if number in missing:
            print(f"{number}: no solution in {SOURCES}")
            continue
        start, result = time.monotonic(), examined(known[number], os.cpu_count() or 1)
        poor += result.share < SHARE or bool(result.named.keys() - set(result.survived))
        rows.append(row(result))
        print(f"{number}: {result.made} mutants, {time.monotonic() - start:.0f} s", flush=True)
        print("".join(f"  {each}\n" for each in result.troubles), end="", flush=True)
    print(text_table([HEAD, *rows]))
    return poor


HEAD = ("exercise", "sentences", "right", "wrong", "mutants", "refused", "equivalent", "survivors")


def row(result: Result) -> tuple[str, ...]:
    """Return a line of the table."""
    sentences, right, wrong = counts(result.number)
    equivalent = result.named.keys() & set(result.survived)
    return (
        result.number, str(sentences), str(right), str(wrong), str(result.made),
        f"{result.share:.1%}", str(len(equivalent)), str(len(set(result.survived) - equivalent)),
    )  # fmt: skip


def counts(number: str) -> tuple[int, int, int]:
    """Return how many sentences are graded, right styles and wrong answers the tests have."""
    if str(TABLES) not in sys.path:
        sys.path.insert(0, str(TABLES))
    tables = __import__("answer_tables")
    return tables.counts(number)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
