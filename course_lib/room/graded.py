"""The child of `grade`: runs one submitted notebook and reports each exercise's card.

Of the course's own cells only what defines something is run: imports, functions, classes, literals.
What the learner wrote is run whole. Cards are made by the course's own calls, so that it does not
matter what stands in the submitted cells that check. It reads its orders from standard input before
any foreign code runs.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final

__all__ = ["MOST_OUTPUT", "SIGNALLED", "main", "parts"]

MOST_OUTPUT: Final = 2**24
"""Bytes that a notebook may print."""

SIGNALLED: Final = 128
"""What a signal's number is added to, as shells do."""

GRADERS: Final = "course_lib.lab."


def parts(cells: list[dict[str, Any]], own: set[str]) -> list[ast.Module]:
    """Return what is run of a notebook's code cells, one module each.

    Args:
        cells: A notebook's cells.
        own: Sources of the course's own cells.

    Raises:
        SyntaxError: A learner's cell is no Python.
    """
    found = []
    for cell in cells:
        source = _without_magics("".join(cell["source"]))
        if cell["cell_type"] != "code" or "check" in cell.get("metadata", {}).get("tags", []):
            continue
        tree = ast.parse(source, "<the notebook>")
        if source in own:
            tree.body = [each for each in tree.body if _defines(each)]
        found.append(tree)
    return found


def _without_magics(source: str) -> str:
    return "\n".join(
        line for line in source.splitlines() if not line.lstrip().startswith(("%", "!", "?"))
    )


def _defines(statement: ast.stmt) -> bool:
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if isinstance(statement, ast.Assign):
        return not any(
            isinstance(each, (ast.Call, ast.Await)) for each in ast.walk(statement.value)
        )
    return isinstance(statement, kinds)


def main() -> int:
    """Run the notebook that standard input tells of; write a line of JSON for each exercise.

    The work is done by a child of this process, which watches it: whoever kills their parent has
    killed this one, and not the grader.
    """
    orders = json.loads(sys.stdin.readline())
    if (child := os.fork()) == 0:
        os._exit(_work(orders))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNALLED - code


def _work(orders: dict[str, Any]) -> int:
    import resource  # noqa: PLC0415 - where it is missing, `grade` has said so

    from course_lib.lab.exercises import EXERCISES  # noqa: PLC0415 - the watching process needs none

    resource.setrlimit(resource.RLIMIT_AS, (orders["memory"], orders["memory"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_OUTPUT, MOST_OUTPUT))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # who prints without end is ended by it
    write, sealed, exercises = os.write, _seal(), dict(EXERCISES)
    file, secret = orders["file"], orders["secret"]

    def tell(exercise: str, verdict: str, name: str) -> None:
        row = {"secret": secret, "exercise": exercise, "verdict": verdict, "diagnosis": name}
        row["sealed"] = sealed.items() <= _seal().items()
        write(file, f"{json.dumps(row)}\n".encode())

    try:
        trees = parts(orders["cells"], set(orders["own"]))
    except SyntaxError as error:
        tell("", "not graded", f"no Python: {error.msg}")
        return 0
    checks = orders["checks"]
    orders.clear()
    asyncio.run(_graded(trees, exercises, checks, tell))
    return 0


async def _graded(trees: list[ast.Module], exercises: Any, checks: Any, tell: Any) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    for tree in trees:
        # What fails here shows in its exercise's card: the name is missing, or does not work.
        with suppress(Exception):
            code = compile(tree, "<the notebook>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            made = eval(code, space)  # noqa: S307 - a notebook is a program, and this process is for it
            if inspect.isawaitable(made):
                await made
    for number, names in checks.items():
        if missing := [name for name in names if name not in space]:
            tell(number, "not yet", f"no-{'-'.join(missing)}")
            continue
        card = await exercises[number].check(*(space[name] for name in names))
        tell(number, card.verdict, card.name)


def _seal() -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return the graders' functions and their code, as they are now, by where they stand."""
    found = {}
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()) if name.startswith(GRADERS) else ():
            things = vars(value).items() if inspect.isclass(value) else [("", value)]
            for inner, thing in list(things):
                if inspect.isfunction(thing) or isinstance(thing, property):
                    found[name, key, inner] = id(thing), id(getattr(thing, "__code__", None))
    return found


if __name__ == "__main__":
    sys.exit(main())
