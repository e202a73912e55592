"""A learner works in copies without outputs, which nothing overwrites."""

import json
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib import __main__ as command
from course_lib import working_copy


def store(root, name, *sources):
    """Store an executed notebook of the course."""
    cells = [new_markdown_cell("# Title"), *map(new_code_cell, sources)]
    for cell in cells[1:]:
        cell.execution_count = 1
        cell.outputs = [new_output("stream", text="9,900")]
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def course(tmp_path):
    """A clone with two notebooks."""
    store(tmp_path, "01_first", "guess = ...", "guess")
    store(tmp_path, "02_second", "1 + 1")
    return tmp_path


def sources(path):
    """The cells' texts."""
    return [cell.source for cell in nbformat.read(path, 4).cells]


def test_copies_have_all_cells_and_no_outputs(course):
    """Nothing tells the result before the guess is made."""
    assert working_copy.update(course) == []
    copy = nbformat.read(course / "my/01_first.ipynb", 4)
    nbformat.validate(copy)
    assert sources(course / "my/01_first.ipynb") == ["# Title", "guess = ...", "guess"]
    assert [(c.outputs, c.execution_count) for c in copy.cells[1:]] == [([], None)] * 2
    assert (course / "my/02_second.ipynb").exists()


def test_what_a_learner_wrote_is_never_overwritten(course):
    """Not by another start, and not by a newer course, which is laid beside it and told once."""
    working_copy.update(course)
    mine = course / "my/01_first.ipynb"
    mine.write_text(mine.read_text().replace("guess = ...", "guess = 5"))
    assert working_copy.update(course) == []
    store(course, "01_first", "guess = ...", "guess * 2", "new")
    (offer,) = working_copy.update(course)
    assert (offer.copy, offer.cells) == (mine, 2)
    assert "2 new or changed cells" in str(offer)
    assert sources(mine)[1] == "guess = 5"
    assert sources(offer.newer)[2:] == ["guess * 2", "new"]
    assert working_copy.update(course) == []


def test_a_copy_that_was_deleted_is_made_again(course):
    """From the course as it is now."""
    working_copy.update(course)
    (course / "my/01_first.ipynb").unlink()
    assert working_copy.update(course) == []
    assert (course / "my/01_first.ipynb").exists()


@pytest.mark.parametrize("damage", ["", "no json", "[]"])
def test_a_damaged_record_costs_no_copy(course, damage):
    """Then nobody knows what has changed, and nothing is offered."""
    working_copy.update(course)
    before = (course / "my/01_first.ipynb").read_text()
    (course / "my" / working_copy.RECORD).write_text(damage)
    assert working_copy.update(course) == []
    assert (course / "my/01_first.ipynb").read_text() == before


def test_beginning_anew_keeps_the_old_copies_aside(course):
    """Also twice on one day."""
    assert working_copy.reset(course) is None
    (course / "my/notes.txt").write_text("mine")
    first, second = working_copy.reset(course), working_copy.reset(course)
    assert (first / "notes.txt").read_text() == "mine"
    assert first != second
    assert not (course / "my/notes.txt").exists()
    assert (course / "my/01_first.ipynb").exists()


def test_the_old_copies_can_be_one_archive(course):
    """For the next group on the same machine; also twice on one day."""
    working_copy.update(course)
    (course / "my/notes.txt").write_text("mine")
    first, second = (working_copy.reset(course, as_zip=True) for _ in range(2))
    with zipfile.ZipFile(first) as packed:
        assert packed.read(f"{first.stem}/notes.txt") == b"mine"
    assert first != second
    assert sorted(path.name for path in course.glob("my*")) == sorted(
        ["my", first.name, second.name]
    )


@pytest.mark.parametrize("name", ["2", "02", "02_second", "02_second.ipynb", "my/02_second.ipynb"])
def test_a_notebook_is_found_by_its_name_or_number(course, name):
    """However it is written."""
    working_copy.update(course)
    assert working_copy.find(course, name) == course / "my/02_second.ipynb"


def test_a_notebook_that_is_not_there_is_told_with_those_that_are(course):
    """Instead of a JupyterLab that opens nothing."""
    working_copy.update(course)
    with pytest.raises(LookupError, match=r"no notebook '7': there are 01_first, 02_second"):
        working_copy.find(course, "7")


def test_the_command_opens_the_learners_copy(course, monkeypatch, capfd):
    """In JupyterLab, on loopback, which looks for no news; further flags are handed on."""
    jupyterlab = course / "jupyterlab.py"
    jupyterlab.write_text("import sys, json; print(json.dumps(sys.argv[1:]))")
    monkeypatch.setattr(command, "ROOT", course)
    monkeypatch.setenv("PYTHONPATH", str(course))
    assert command.main(["lab", "2", "--no-browser", "--port=1"]) == 0
    arguments = json.loads(capfd.readouterr().out)
    assert arguments[-1] == str(course / "my/02_second.ipynb")
    assert {"--no-browser", "--port=1", "--ServerApp.ip=127.0.0.1"} <= set(arguments)
    assert f"--ServerApp.root_dir={course}" in arguments


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capfd):
    """Outside a clone, for an unknown notebook, and for flags that nobody takes."""
    monkeypatch.setattr(command, "ROOT", tmp_path)
    assert command.main(["lab"]) == 2
    assert "run this from a clone of the course" in capfd.readouterr().err
    store(tmp_path, "01_first", "1")
    assert command.main(["lab", "9"]) == 2
    assert "no notebook '9'" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["reset", "--no-such-flag"])


def test_the_command_begins_anew(course, monkeypatch, capfd):
    """And says where the old copies are."""
    monkeypatch.setattr(command, "ROOT", course)
    assert command.main(["reset"]) == 0
    assert command.main(["reset"]) == 0
    assert "are in my-" in capfd.readouterr().out
