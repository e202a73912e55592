"""The build makes two notebooks of one script, and makes the same ones again."""

import os
import shutil
import subprocess
import sys

import build_notebooks
import nbformat
import pytest
from nbtools.execution import clean_traceback
from nbtools.source import BuildError, Target, moved_links, variant
from notebook_support import NOTEBOOKS, ROOT, code_cells, read

SOURCE = '''# %% [markdown]
# # 1 · A sample
#
# One sentence with [a licence](../LICENSE).

# %%
import asyncio

# %% tags=["exercise"] exercise="1.1"
async def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% tags=["check"]
try:
    print("✔", await double(2))
except NotImplementedError:
    print("not attempted yet")

# %%
waves = ...  ### SOLUTION: 4 / 2
print(waves)

# %% tags=["raises-exception"]
asyncio.run(double(2))
'''


@pytest.fixture
def sources(tmp_path):
    """A course folder with one source; call with other text to replace it."""
    folder = tmp_path / "notebooks" / "sources"
    folder.mkdir(parents=True)

    def write(text=SOURCE):
        (folder / "01_sample.py").write_text(text)
        return folder / "01_sample.py"

    write()
    return write


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder of notebooks built from the sample, by the command and from elsewhere."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    (folder / "sources").mkdir(parents=True)
    (folder / "sources/01_sample.py").write_text(SOURCE)
    command = [sys.executable, ROOT / "tools/build_notebooks.py", "--notebooks", folder]
    subprocess.run(command, cwd=os.sep, check=True, capture_output=True, timeout=300)
    return folder


def cell_sources(notebook):
    """All cells' text."""
    return "\n".join(cell.source for cell in notebook.cells)


def outputs(notebook):
    """Printed text, cell by cell."""
    return [o.text for cell in code_cells(notebook) for o in cell.outputs if "text" in o]


def test_stored_notebooks_are_what_their_sources_say():
    """Nobody edited a notebook by hand or forgot to build."""
    assert build_notebooks.check(NOTEBOOKS, build_notebooks.targets(NOTEBOOKS, [])) == []


@pytest.mark.kernel
def test_the_learner_gets_a_stub_and_its_output(built):
    """The learner's notebook holds no solution, and was executed as it stands."""
    learner = read(built / "01_sample.ipynb")
    assert "raise NotImplementedError" in cell_sources(learner)
    assert "waves = ...\n" in cell_sources(learner)
    assert "return 2 * x" not in cell_sources(learner)
    assert "SOLUTION" not in cell_sources(learner)
    assert outputs(learner) == ["not attempted yet\n", "Ellipsis\n"]


@pytest.mark.kernel
def test_the_solved_notebook_is_executed_with_its_solutions(built):
    """The solved notebook says what it is, and its links work from its folder."""
    solved = read(built / "solutions/01_sample.ipynb")
    assert "    return 2 * x" in cell_sources(solved)
    assert "SOLUTION" not in cell_sources(solved)
    assert outputs(solved) == ["✔ 4\n", "2.0\n"]
    assert "(../01_sample.ipynb)" in solved.cells[0].source.splitlines()[2]
    assert "(../../LICENSE)" in solved.cells[0].source


@pytest.mark.kernel
def test_new_text_keeps_the_outputs_and_new_code_is_refused(built, tmp_path, capsys):
    """With `--text` nothing is executed, so what was printed must be what the code prints."""
    folder = tmp_path / "notebooks"
    shutil.copytree(built, folder)
    script, arguments = folder / "sources/01_sample.py", ["--text", "--notebooks", str(folder)]
    before = outputs(read(folder / "01_sample.ipynb"))
    script.write_text(SOURCE.replace("One sentence", "Another sentence"))
    assert build_notebooks.main(arguments) == 0
    learner = read(folder / "01_sample.ipynb")
    assert "Another sentence" in cell_sources(learner)
    assert outputs(learner) == before
    assert build_notebooks.main(["--check", *arguments[1:]]) == 0
    script.write_text(SOURCE.replace("print(waves)", "print(waves + 1)"))
    assert build_notebooks.main(arguments) == 1
    assert "its code is new" in capsys.readouterr().err
    assert outputs(read(folder / "01_sample.ipynb")) == before


@pytest.mark.kernel
def test_both_notebooks_have_the_same_cells(built):
    """Ids, order and tags are common, so that a solution is found by its exercise."""
    learner, solved = read(built / "01_sample.ipynb"), read(built / "solutions/01_sample.ipynb")
    assert [(c.id, c.metadata) for c in learner.cells] == [(c.id, c.metadata) for c in solved.cells]
    assert {"tags": ["exercise"], "exercise": "1.1"} in [c.metadata for c in learner.cells]


@pytest.mark.kernel
def test_stored_notebooks_hold_nothing_of_this_run(built):
    """No times, no colours, no folders; the kernel is named as everywhere."""
    text = (built / "01_sample.ipynb").read_text()
    for trace in ("\\u001b", "iopub.", str(ROOT), str(built), sys.prefix, "site-packages"):
        assert trace not in text
    notebook = read(built / "01_sample.ipynb")
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert any(o.output_type == "error" for c in code_cells(notebook) for o in c.outputs)


@pytest.mark.kernel
def test_a_second_build_changes_nothing(built):
    """Building again gives the same bytes where nothing was measured."""
    before = (built / "01_sample.ipynb").read_bytes()
    assert build_notebooks.main(["--notebooks", str(built), "--kind", "learner"]) == 0
    assert (built / "01_sample.ipynb").read_bytes() == before
    assert build_notebooks.main(["--notebooks", str(built), "--check"]) == 0


@pytest.mark.kernel
def test_check_finds_a_changed_source(built, capsys):
    """An edit without a build is reported for both notebooks."""
    script = built / "sources/01_sample.py"
    script.write_text(SOURCE.replace("print(waves)", "print(waves + 1)"))
    try:
        assert build_notebooks.main(["--notebooks", str(built), "--check"]) == 1
    finally:
        script.write_text(SOURCE)
    said = capsys.readouterr().out
    assert "learner/01_sample.ipynb differs" in said
    assert "solutions/01_sample.ipynb differs" in said


def test_check_finds_a_cell_without_execution(sources):
    """A notebook stored without its outputs is stale, whatever its cells say."""
    target = Target(sources(), "learner")
    nbformat.write(variant(target), target.path)
    assert list(build_notebooks.differences(target)) == ["has cells that were not executed"]


def test_check_finds_missing_notebooks_and_orphans(sources):
    """What was never built, and what no script builds any more, is reported."""
    notebooks = sources().parent.parent
    (notebooks / "02_gone.ipynb").write_text("{}")
    found = build_notebooks.check(notebooks, build_notebooks.targets(notebooks, []))
    assert "learner/01_sample.ipynb is missing" in found
    assert "02_gone.ipynb has no source: delete it" in found


@pytest.mark.kernel
def test_a_failing_cell_fails_the_build_and_stores_nothing(sources, capsys):
    """An error nobody announced ends the build; what was stored before stands."""
    notebooks = sources("# %%\n1 / 0\n").parent.parent
    (notebooks / "01_sample.ipynb").write_text("before")
    assert build_notebooks.main(["--notebooks", str(notebooks)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (notebooks / "01_sample.ipynb").read_text() == "before"
    assert {path.name for path in notebooks.iterdir()} >= {"01_sample.ipynb"}
    assert not list(notebooks.glob(".*"))


def test_an_unknown_notebook_is_refused(sources, capsys):
    """A stem that does not exist is answered with those that do."""
    notebooks = sources().parent.parent
    assert build_notebooks.main(["--notebooks", str(notebooks), "07_nothing"]) == 1
    assert "there are: 01_sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# %%\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", "top level"),
        ("# %%\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n", "without its partner"),
        ("# %%\nx = 2  ### SOLUTION: 1\n", "put `...` where"),
    ],
)
def test_a_solution_marked_wrongly_is_refused(sources, text, reason):
    """The message names the script and the cell, and says what to do."""
    script = sources(text)
    with pytest.raises(BuildError, match=rf"01_sample.py, cell 0: .*{reason}"):
        [variant(Target(script, kind)) for kind in ("learner", "solutions")]


def test_ids_of_other_cells_stay_when_one_is_added(sources):
    """A new cell is one change in the diff; cells of equal text have different ids."""
    before = [c.id for c in variant(Target(sources(), "learner")).cells]
    after = [
        c.id for c in variant(Target(sources("# %%\n1\n\n# %%\n1\n\n" + SOURCE), "learner")).cells
    ]
    assert after[2:] == before
    assert after[0] != after[1]


@pytest.mark.parametrize(
    ("link", "moved"),
    [
        ("[x](../course_lib/errors.py)", "[x](../../course_lib/errors.py)"),
        ("[x](02_rate_limiting.ipynb#Recap)", "[x](02_rate_limiting.ipynb#Recap)"),
        ("[x](solutions/01_async_batch.ipynb)", "[x](01_async_batch.ipynb)"),
        ("[x](sources/01_async_batch.py)", "[x](../sources/01_async_batch.py)"),
        ("[x](#Recap)", "[x](#Recap)"),
        ("[x](https://example.org/a)", "[x](https://example.org/a)"),
        ('<a href="../README.md">x</a>', '<a href="../../README.md">x</a>'),
        ("[x]: ../README.md", "[x]: ../../README.md"),
    ],
)
def test_links_are_moved_with_the_solved_notebook(link, moved):
    """A link leads to the same file from `notebooks/` and from `notebooks/solutions/`."""
    assert moved_links(link) == moved


def test_tracebacks_keep_modules_and_lose_folders():
    """Where a library or the course is installed is nobody's business."""
    assert clean_traceback("\x1b[31mFile ~/x/lib/python3.11/site-packages/a/b.py:3\x1b[0m") == (
        "File a/b.py:3"
    )
    assert (
        clean_traceback("File /usr/lib/python3.13/asyncio/tasks.py:1") == "File asyncio/tasks.py:1"
    )
    assert clean_traceback(f"File {ROOT}/course_lib/errors.py:1") == "File course_lib/errors.py:1"
