"""Submitted notebooks are graded; whatever one of them does is one row with a reason."""

import csv
import json
import shutil

import pytest
from room.room_support import ROOT

from course_lib.__main__ import main as command_line
from course_lib.room.grade import Limits, grade

NOTEBOOK = ROOT / "notebooks" / "02_rate_limiting.ipynb"
SOLVED = ROOT / "notebooks" / "solutions" / NOTEBOOK.name
ROOMY = Limits(seconds=200, mebibytes=1024)
LIMITS = {
    "no end within": Limits(seconds=5),
    "processes at once": Limits(seconds=200, processes=8),
}


def submitted(folder, source, learner="ada"):
    """Hand in notebook 2 with this in exercise 2.3's cell."""
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    cell = next(each for each in notebook["cells"] if each["metadata"].get("exercise") == "2.3")
    cell["source"] = source
    (folder / learner).mkdir()
    (folder / learner / NOTEBOOK.name).write_text(json.dumps(notebook), "utf-8")


@pytest.mark.nightly
@pytest.mark.parametrize(
    "solved", sorted(SOLVED.parent.glob("0*.ipynb")), ids=lambda path: path.stem
)
def test_every_solution_passes(tmp_path, solved):
    """All exercises of all six notebooks."""
    shutil.copy(solved, tmp_path / "ada.ipynb")
    rows = grade(tmp_path, ROOMY)
    cells = json.loads(solved.read_text("utf-8"))["cells"]
    numbers = [each["metadata"]["exercise"] for each in cells if "exercise" in each["metadata"]]
    assert [(row.exercise, row.result) for row in rows] == [(each, "passed") for each in numbers]
    assert {row.learner for row in rows} == {"ada"}


def test_a_table_has_a_line_for_learner_and_exercise(tmp_path, capsys):
    """With the diagnosis; it is said that other people's code runs, and how to run it apart."""
    one = "def next_limit(limit, rejected, used):\n    return limit"
    submitted(tmp_path, one)
    submitted(tmp_path, 'raise OSError("no")', learner="=cmd()")
    table = tmp_path / "table.csv"
    assert command_line(["grade", str(tmp_path), "--csv", str(table)]) == 0
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    by_learner = {(row["learner"], row["exercise"]): row for row in rows}
    assert by_learner["ada", "2.3"]["result"] == "not yet"
    assert by_learner["ada", "2.3"]["diagnosis"]
    assert by_learner["ada", "2.1"]["result"] == "not attempted yet"
    assert by_learner["'=cmd()", "2.3"]["diagnosis"] == "no-next_limit"
    said = capsys.readouterr().out
    assert "other people's code" in said
    assert "unshare -rn" in said


BAD = {
    "no Python": "def fetch_all(:",
    "no end within": "while True:\n    pass",
    "printed without end": "while True:\n    print('x' * 10_000)",
    "processes at once": "import os, time\nfor _ in range(60):\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\ntime.sleep(60)",
    "of memory": "import time\nkept = bytearray(1_300_000_000)\nkept[::4096] = b'x' * len(kept[::4096])\ntime.sleep(60)",
    "ended before all was checked": "import os\nos._exit(0)",
    "killed its parent": "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)",
    "changed its graders": "from course_lib.lab.exercises.engine import Exercise, ScoreCard\n"
    "async def check(self, *_):\n    return ScoreCard('mine', 'passed')\nExercise.check = check",
    "forged a card": "import os\nfor file in range(3, 1_000):\n    try:\n        os.write(file, b'{\"exercise\": \"1.1\", \"verdict\": \"passed\"}\\n')\n"
    "    except OSError:\n        pass",
}  # fmt: skip


DAILY = ("no Python", "no end within", "forged a card")


@pytest.mark.parametrize(
    "reason",
    [pytest.param(each, marks=() if each in DAILY else pytest.mark.nightly) for each in BAD],
)
def test_what_is_broken_or_hostile_is_one_row_with_a_reason(tmp_path, reason):
    """And the grader lives on."""
    submitted(tmp_path, BAD[reason])
    [row] = grade(tmp_path, LIMITS.get(reason, ROOMY))
    assert (row.exercise, row.result) == ("", "not graded")
    # Where it sees no process but its own, its parent cannot be killed, and it ends itself.
    wanted = (reason, "ended by SIGKILL") if reason == "killed its parent" else (reason,)
    assert any(each in row.diagnosis for each in wanted), row


@pytest.mark.parametrize(
    "text", ["", "[]", '{"cells": [{"cell_type": "code", "source": "1"}]}', '{"cells": 1}']
)
def test_what_is_no_notebook_of_the_course_says_so(tmp_path, text):
    """An empty file, other JSON, a notebook without an exercise."""
    (tmp_path / "ada.ipynb").write_text(text, "utf-8")
    [row] = grade(tmp_path, ROOMY)
    assert (row.result, row.diagnosis.partition(":")[0]) == (
        "not graded",
        "no notebook of the course",
    )
