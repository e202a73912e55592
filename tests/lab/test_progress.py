"""What a learner has done is kept beside their copies, and nowhere else."""

import asyncio
import json
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from course_lib import working_copy
from course_lib.lab import exercise, predict, progress
from course_lib.lab.progress import _note_cell

module = sys.modules["course_lib.lab.progress"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A kernel of a learner's copy."""
    cells = [new_code_cell("def f(): ...", metadata={"exercise": "1.1"}), new_code_cell("1")]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks/01_first.ipynb")
    working_copy.update(tmp_path)
    monkeypatch.chdir(tmp_path / "my")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "my/01_first.ipynb"))
    return tmp_path / "my"


def row():
    """What the table says of the notebook."""
    (only,) = progress().rows
    return list(only)


def test_nothing_done_is_told_as_that(mine):
    """With what there is to do."""
    assert row() == ["01_first", "0 of 1", "0", "0", "0", "0"]


def test_checks_hints_and_guesses_are_counted(mine):
    """A stub is no attempt; a guess that is asked again counts once."""

    async def stub(*_):
        raise NotImplementedError

    async def wrong(*_):
        return None

    first = exercise("1.1")
    asyncio.run(first.check(stub))
    asyncio.run(first.check(wrong))
    first.hint()
    predict("how many", 5).reveal(7)
    predict("how many", 6)
    predict("no guess yet", ...).reveal(3)
    assert row() == ["01_first", "0 of 1", "1", "1", "1", "0"]
    kept = json.loads((mine / "progress/01_first.json").read_text())
    assert kept["predictions"] == {"how many": {"guess": 6.0, "actual": None}}


def test_what_was_solved_stays_solved(mine):
    """Also when it is tried again and fails."""
    module.note_check("1.1", attempted=True, passed=True)
    module.note_check("1.1", attempted=True, passed=False)
    assert row()[1:3] == ["1 of 1", "2"]


def test_what_was_solved_yesterday_is_solved_today(mine, monkeypatch):
    """A new kernel reads what the one before has kept."""
    module.note_check("1.1", attempted=True, passed=True)
    monkeypatch.setattr(module, "_solved", set())
    assert module.solved("1.1")
    assert not module.solved("1.2")


def test_minutes_are_those_between_cells_without_long_pauses(mine, monkeypatch):
    """Who goes to lunch has not worked on it meanwhile."""
    now = [0.0]
    monkeypatch.setattr(module, "_last_cell", None)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for now[0] in (0, 60, 300, 300 + module.LONGEST_PAUSE, 960):
        _note_cell()
    assert row()[-1] == "6"


def test_outside_a_learners_copy_nothing_is_kept(mine, monkeypatch, tmp_path):
    """Not in `notebooks/`, where nbval runs, and not where the notebook is not known."""
    monkeypatch.delenv("JPY_SESSION_NAME")
    predict("q", 1)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "notebooks/01_first.ipynb"))
    monkeypatch.chdir(tmp_path / "notebooks")
    predict("q", 1)
    exercise("1.1").hint()
    assert list(tmp_path.rglob("progress")) == []
    assert row()[4] == "0"  # found beside `notebooks/`


def test_without_copies_it_says_how_to_make_them(tmp_path, monkeypatch):
    """Instead of an empty table."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LookupError, match="make lab"):
        progress()


@pytest.mark.parametrize("damage", ["", "[]", '{"exercises": 3}', '{"seconds": "x"}'])
def test_damaged_progress_is_begun_anew(mine, damage):
    """The lesson goes on."""
    (mine / "progress").mkdir()
    (mine / "progress/01_first.json").write_text(damage)
    assert row()[4] == "0"
    predict("q", 1)
    assert row()[4] == "1"


def test_a_newer_notebook_counts_for_the_same(mine, monkeypatch):
    """It is laid beside the learner's copy, and is no notebook more."""
    (mine / "01_first.newer.ipynb").write_text((mine / "01_first.ipynb").read_text())
    monkeypatch.setenv("JPY_SESSION_NAME", str(mine / "01_first.newer.ipynb"))
    predict("q", 1)
    assert row()[4] == "1"


def test_a_folder_that_cannot_be_written_stops_no_lesson(mine, monkeypatch):
    """Progress is not worth an error."""
    (mine / "progress").write_text("a file in its place")
    predict("q", 1)
    assert row()[4] == "0"
