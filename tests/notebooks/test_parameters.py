"""What a cell invites to change can be changed: a notebook runs through, whatever sensible number.

Cells tagged `parameters` hold such numbers, in capitals. Each is halved, doubled and made odd, one at
a time, in the solved notebook; nothing may fail: what was expected is told in a sentence.
"""

import ast
import copy

import pytest
from nbtools.execution import execute
from notebook_support import NOTEBOOKS, SOLVED, code, label, notebook, read, tags

pytestmark = pytest.mark.kernel

ODD = 1.3  # times the number: the next odd whole number for whole ones, a fraction that is no round one


def invited(cells):
    """The cells whose numbers are meant to be changed."""
    return [c for c in cells if c.cell_type == "code" and "parameters" in tags(c)]


def numbers(source):
    """The numbers below names in capitals, in their order, each with its name and place.

    `RATE, BURST = 20, 10` holds two, `SIZES = (10, 20)` two below one name.
    """
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            name = ast.unparse(statement.targets[0])
            if name.isupper():
                yield from ((name, node) for node in constants(statement.value))


def constants(expression):
    """The numbers that stand in an expression as they are: not as the arguments of a call."""
    if isinstance(expression, ast.Call):
        return
    if isinstance(expression, ast.Constant):
        if type(expression.value) in {int, float}:
            yield expression
        return
    for child in ast.iter_child_nodes(expression):
        yield from constants(child)


def others(number):
    """A number's half, its double and an odd one, in its own type, without itself and without 0."""
    if isinstance(number, int):
        found = {max(1, number // 2), number * 2, int(number * ODD) | 1}
    else:
        found = {number / 2, number * 2, round(number * ODD, 6)}
    return sorted(found - {number})


def changes(source):
    """Each source with one number changed, under a name such as `RATE=40` (`SIZES=7,20`)."""
    lines = source.splitlines(keepends=True)
    for name, node in numbers(source):
        for other in others(node.value):
            line = lines[node.lineno - 1].encode()
            new = line[: node.col_offset] + repr(other).encode() + line[node.end_col_offset :]
            changed = [*lines[: node.lineno - 1], new.decode(), *lines[node.lineno :]]
            yield f"{name}: {node.value} to {other}", "".join(changed)


def cases():
    """Each notebook with each change; by day the first double of each notebook's first number."""
    for path in SOLVED:
        found = [
            (number, *change)
            for number, cell in enumerate(invited(read(path).cells))
            for change in changes(cell.source)
        ]
        for place, (number, name, source) in enumerate(found):
            marks = () if place == 0 and path == SOLVED[0] else (pytest.mark.nightly,)
            yield pytest.param(path, number, source, id=f"{label(path)}-{name}", marks=marks)


@pytest.mark.parametrize("path", SOLVED, ids=label)
def test_a_notebook_invites_to_change_numbers(path):
    """One cell at least holds numbers that are meant to be changed."""
    assert any(list(changes(cell.source)) for cell in invited(read(path).cells))


@pytest.mark.parametrize(("path", "number", "source"), list(cases()))
def test_a_notebook_runs_through_with_another_number(path, number, source):
    """No assert, no KeyError and no endless wait meets a learner who changes what they were asked to."""
    changed = copy.deepcopy(read(path))
    invited(changed.cells)[number].source = source
    execute(changed, NOTEBOOKS)


def test_numbers_are_found_and_changed_one_at_a_time():
    """Half, double and odd, also in tuples; calls, small letters and other cells stay."""
    cell = code("A, B = 20, 0.5  # both\nC = (1, 2)\nD = f(3)\nsmall = 4", tags=["parameters"])
    (only,) = invited(notebook(code("X = 1"), cell).cells)
    found = dict(changes(only.source))
    assert list(found) == [
        "(A, B): 20 to 10", "(A, B): 20 to 27", "(A, B): 20 to 40",
        "(A, B): 0.5 to 0.25", "(A, B): 0.5 to 0.65", "(A, B): 0.5 to 1.0",
        "C: 1 to 2", "C: 2 to 1", "C: 2 to 3", "C: 2 to 4",
    ]  # fmt: skip
    assert found["(A, B): 0.5 to 1.0"] == only.source.replace("0.5", "1.0")
    assert found["C: 2 to 4"] == only.source.replace("(1, 2)", "(1, 4)")
