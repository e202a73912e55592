"""What the tests of notebooks share: the stored notebooks, and small ones made by hand."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
LEARNER = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
SOLVED = sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))


def each(paths, *, name="path"):
    """Parametrises a test over stored notebooks, under names such as `solutions/01_x`."""
    return pytest.mark.parametrize(name, paths, ids=[label(path) for path in paths])


def label(path):
    """The notebook's name below `notebooks`."""
    return path.relative_to(NOTEBOOKS).with_suffix("").as_posix()


def read(path):
    """The stored notebook."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    """The code cells, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    """The cell's tags."""
    return cell.metadata.get("tags", [])


def markdown(text):
    """A text cell."""
    return new_markdown_cell(text)


def code(source, *outputs, tags=(), count=1, **metadata):
    """A code cell, executed unless `count` is None."""
    if tags:
        metadata["tags"] = list(tags)
    return new_code_cell(source, outputs=list(outputs), execution_count=count, metadata=metadata)


def stream(text, name="stdout"):
    """Printed output."""
    return new_output("stream", text=text, name=name)


def shown(**data):
    """Displayed output by kind: text, html, png."""
    kinds = {"text": "text/plain", "html": "text/html", "png": "image/png"}
    return new_output("display_data", data={kinds[kind]: value for kind, value in data.items()})


def error(ename="ValueError", evalue="no"):
    """The output of a cell that raised."""
    return new_output("error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"])


def notebook(*cells):
    """A notebook of these cells, each with an id of its own."""
    fresh = [nbformat.from_dict({**cell, "id": f"cell-{k}"}) for k, cell in enumerate(cells)]
    return new_notebook(cells=fresh)
