"""Every cell may be run twice, as learners do."""

import copy

import nbformat
import pytest
from nbtools.execution import execute
from nbtools.source import BuildError
from notebook_support import SOLVED, code, code_cells, each, notebook, read


def doubled(nb):
    """The notebook with each code cell standing twice in a row."""
    twice = copy.deepcopy(nb)
    twice.cells = []
    for cell in nb.cells:
        twice.cells.append(cell)
        if cell.cell_type == "code":
            twice.cells.append(nbformat.from_dict({**cell, "id": f"{cell.id}-again"}))
    return twice


@each(SOLVED)
def test_each_cell_runs_twice_in_a_row(path):
    """No cell stumbles over what it left behind, and the closing hygiene holds."""
    nb = doubled(read(path))
    execute(nb, path.parent)
    assert len(code_cells(nb)) == code_cells(nb)[-1].execution_count


@pytest.mark.parametrize(
    "source", ["x = globals().get('x', 0) + 1\nassert x < 2", "del open_once\n"]
)
def test_a_cell_that_cannot_is_found(tmp_path, source):
    """A cell that fails the second time fails the test."""
    nb = notebook(code("open_once = 1"), code(source))
    execute(copy.deepcopy(nb), tmp_path)
    with pytest.raises(BuildError, match="AssertionError|NameError"):
        execute(doubled(nb), tmp_path)
