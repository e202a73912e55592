"""What the diagnoses' names mean, in a sentence each for the board: the graders' own words.

A name says what was looked at, such as "peak-in-flight". Where a grader has one fixed sentence for
what is wrong there, it is read from its source; a diagnosis that quotes a learner's values has
none, and its name has to do. Beside them are the questions that help, from questions.toml.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from course_lib.lab.exercises import EXERCISES, named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["questions", "sentences"]


@cache
def sentences() -> dict[str, dict[str, str]]:
    """Return the sentences by exercise and diagnosis' name."""
    return {number: _of(inspect.getmodule(each.grade)) for number, each in EXERCISES.items()}


@cache
def questions() -> dict[str, dict[str, str]]:
    """Return the question that helps by exercise, or "*" for all, and diagnosis' name."""
    text = (resources.files("course_lib.room") / "questions.toml").read_text("utf-8")
    return {
        number: {name: question for question, names in asked.items() for name in names}
        for number, asked in tomllib.loads(text).items()
    }


@cache
def _of(module: ModuleType | None) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(module)) if module else ast.Module([], [])
    return dict(_observed(tree)) or {"raised-an-error": "it raised an error"}


def _observed(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield name and sentence of what is observed under fixed words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".observe"):
            match node.args:
                case [ast.Constant(str(what)), _, _, _, ast.Constant(str(mistake))]:
                    yield named(what), mistake
                case [ast.Constant(str(what)), *_]:
                    yield named(what), what
