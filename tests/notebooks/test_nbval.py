"""`pytest --nbval notebooks` fails on everything that nbval alone lets pass, and on nothing else.

One run of pytest, with this repository's configuration, over a notebook whose cells are
right and one whose cells are each wrong in one way.
"""

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import nbformat
import pytest
from notebook_support import ROOT, code, error, notebook, shown, stream

pytestmark = pytest.mark.kernel

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
DISPLAY = "from IPython.display import display\ndisplay({%s}, raw=True)"
PLOT = DISPLAY % f"'image/png': '{PNG}', 'text/plain': 'two bars, 3.0 s and 0.1 s'"
NO_MAGIC = "UsageError: Line magic function `%nosuch` not found.\n"

RIGHT = {
    "a_duration_that_differs": code("print('took   0.5 s, 7x')", stream("took 12.25 s, 11.5x\n")),
    "html_with_another_duration": code(
        DISPLAY % "'text/html': '<b>0.5 s</b>'", shown(html="<b>12.25 s</b>")
    ),
    "other_pixels": code(PLOT, shown(png="AAAA", text="two bars, 2.9 s and 0.2 s")),
    "an_error_on_purpose": code(
        "1 / 0", error("ZeroDivisionError", "division by zero"), tags=["raises-exception"]
    ),
    "a_hidden_value": code("1 + 1;"),
    "history": code("1 + 1\nprint(len(In) > 1)", stream("True\n")),
    "nothing_in_it": code("", count=None),
    "output_ignored": code("print(3)", stream("4\n"), tags=["nbval-ignore-output"]),
}
WRONG = {
    "a_wrong_value": (code("print(3)", stream("4\n")), "Cell outputs differ"),
    "a_wrong_percentage": (code("print('3 %')", stream("4 %\n")), "Cell outputs differ"),
    "not_executed": (code("print(3)", count=None), "stored without outputs"),
    "unknown_magic": (code("%nosuch", stream(NO_MAGIC, "stderr")), "IPython refused"),
    "a_picture_missing": (
        code(DISPLAY % "'text/plain': 'two bars'", shown(png=PNG, text="two bars")),
        "image/png",
    ),
    "a_picture_too_many": (code(PLOT, shown(text="two bars, 3.0 s and 0.1 s")), "image/png"),
    "another_html": (code(DISPLAY % "'text/html': '<b>3</b>'", shown(html="<b>4</b>")), "text/html"),
    "an_error": (code("1 / 0", error("ZeroDivisionError", "division by zero")), "exception"),
    "no_error": (code("1", error(), tags=["raises-exception"]), "ename"),
    "another_error": (code("1 / 0", error(), tags=["raises-exception"]), "ename"),
    "output_where_none_was": (code("print(3)"), "stdout"),
    "a_kernel_that_dies": (code("import os\nos._exit(1)"), "the kernel died"),
}  # fmt: skip
TWICE = {
    "a_cell_that_can": (code("once = 1\nprint(once)", stream("1\n")), None),
    "a_cell_that_counts": (code("n = globals().get('n', 0) + 1\nassert n < 2"), "AssertionError"),
    "a_cell_that_uses_up": (code("del once"), "NameError"),
    "a_cell_that_differs": (code("print(n)", stream("3\n")), "Cell outputs differ"),
    "an_error_on_purpose": (
        code("1 / 0", error("ZeroDivisionError", "division by zero"), tags=["raises-exception"]),
        None,
    ),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What each sample failed with, None where it passed, by notebook and number of the cell."""
    root = tmp_path_factory.mktemp("course")
    for path in ("conftest.py", "pyproject.toml", "tests/notebooks/sanitize.cfg"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    shutil.copytree(ROOT / "tools/nbtools", root / "tools/nbtools")
    for folder in (".ipynb_checkpoints", "twice"):
        (root / "notebooks" / folder).mkdir(parents=True)
    wrong = notebook(*(cell for cell, _ in WRONG.values()))
    nbformat.write(notebook(*RIGHT.values()), root / "notebooks/right.ipynb")
    nbformat.write(wrong, root / "notebooks/wrong.ipynb")
    nbformat.write(wrong, root / "notebooks/.ipynb_checkpoints/wrong.ipynb")
    twice = notebook(*(cell for cell, _ in TWICE.values()))
    nbformat.write(twice, root / "notebooks/twice/twice.ipynb")
    options = ["--nbval", "--cells-twice=twice", f"--junitxml={root}/report.xml"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, "."],
        cwd=root / "notebooks", check=False, capture_output=True, timeout=300,
    )  # fmt: skip
    return dict(_outcomes(ET.parse(root / "report.xml")))  # noqa: S314 - written by this test


def _outcomes(report):
    for case in report.iter("testcase"):
        problem = next((child for child in case if child.tag in {"failure", "error"}), None)
        place = case.get("classname"), case.get("name")
        yield place, None if problem is None else f"{problem.get('message')}\n{problem.text}"


@pytest.mark.parametrize("name", RIGHT)
def test_what_may_differ_passes(failures, name):
    """Durations, ratios, pixels and deliberate errors do not fail a notebook."""
    assert failures["notebooks.right.ipynb", f"Cell {list(RIGHT).index(name)}"] is None


@pytest.mark.parametrize("name", WRONG)
def test_what_must_not_differ_fails(failures, name):
    """Each sample fails with a message that names what is wrong."""
    failure = failures["notebooks.wrong.ipynb", f"Cell {list(WRONG).index(name)}"]
    assert WRONG[name][1] in str(failure)


@pytest.mark.parametrize("name", TWICE)
def test_a_cell_may_have_to_run_twice(failures, name):
    """Where that is asked for, what fails the second time fails, and the outputs are compared."""
    failure = failures["notebooks.twice.twice.ipynb", f"Cell {list(TWICE).index(name)}"]
    wanted = TWICE[name][1]
    assert failure is None if wanted is None else wanted in failure


def test_each_notebook_is_collected_once_and_nothing_else(failures):
    """Checkpoints that Jupyter leaves behind are not executed."""
    assert len(failures) == len(RIGHT) + len(WRONG) + len(TWICE)


def test_nbval_is_off_unless_asked_for(pytestconfig):
    """What conftest.py sets has no effect on a run of the tests."""
    assert not pytestconfig.option.nbval
    assert pytestconfig.option.nbval_current_env
    assert pytestconfig.option.nbval_cell_timeout == 60
