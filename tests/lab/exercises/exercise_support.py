"""What the tests of exercises share: score cards, and tables of wrong answers."""

import asyncio
import inspect
import linecache
import sys
from functools import cache
from textwrap import dedent
from typing import NamedTuple

from course_lib.lab import exercise

BREAKS = {
    "5.2": [{0.01: 9_800}, {1.0: 200}],
}
"""Inputs that show a fault, by exercise, for answers that are about the mended program only."""


@cache  # a card is the same every time: one check serves all tests of it
def card(number, function):
    """The score card of a function, for the exercise of this number."""

    async def main():
        return await exercise(number).check(
            function, getattr(function, "breaks", BREAKS.get(number, ...))
        )

    return asyncio.run(main())


def breaks(value):
    """Decorates an answer with the input that it hands over to show a program's fault."""

    def decorated(function):
        function.breaks = value
        return function

    return decorated


class Wrong(NamedTuple):
    """A wrong answer, and what its diagnosis says."""

    function: object
    diagnosis: str


def wrong_answers(table):
    """The rows of a table, by the exercise's number and their names.

    A row is another program, `function: diagnosis`, or a solution with a slip in it,
    `name: (solution, {text: other text}, diagnosis)`.
    """
    return {number: dict(map(_row, rows.items())) for number, rows in table.items()}


def _row(row):
    key, value = row
    if callable(key):
        return key.__name__, Wrong(key, value)
    solution, changes, diagnosis = value
    return key, Wrong(changed(key, solution, changes), diagnosis)


def changed(name, solution, changes):
    """A function or class like `solution`, with each text of `changes` replaced by another.

    Raises:
        LookupError: The solution holds no such text, white space included.
    """
    source = dedent(inspect.getsource(solution))
    for text, other in changes.items():
        if text not in source:
            raise LookupError(f"{name}: {solution.__name__} holds no {text!r}")
        source = source.replace(text, other)
    file = f"<{solution.__module__}.{name}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    space = dict(vars(sys.modules[solution.__module__]))
    exec(compile(source, file, "exec"), space)  # noqa: S102 - these are our own
    space[solution.__name__].__name__ = name
    return space[solution.__name__]
