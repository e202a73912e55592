"""The activity with one provider: the notebook is what its source says, and does what it promises."""

import subprocess
import sys

import build_notebooks
import pytest
from nbtools.execution import execute
from nbtools.source import Target, variant
from room.room_support import ROOT

from course_lib.room import Alone, RoomError, Seat

FOLDER = ROOT / "docs" / "instructor"
SOURCE = FOLDER / "sources" / "01_one_provider.py"


def test_the_stored_notebook_is_what_its_source_says():
    """Built by tools/build_notebooks.py --notebooks docs/instructor --kind learner."""
    wanted = build_notebooks.targets(FOLDER, [], ("learner",))
    assert build_notebooks.check(FOLDER, wanted) == []


@pytest.mark.kernel
@pytest.mark.nightly
def test_the_activity_runs_alone():
    """Its last cell asserts that the room's goodput rose above the storm's."""
    notebook = variant(Target(SOURCE, "learner"))
    for cell in notebook.cells:
        cell.source = cell.source.replace("SECONDS = 4.0", "SECONDS = 1.5")
    execute(notebook, FOLDER)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.kernel
def test_the_activity_joins_a_room():
    """With address and code it has one seat, which a board shows."""
    room = Alone(0)
    notebook = variant(Target(SOURCE, "learner"))
    for cell in notebook.cells:
        told = f'URL, CODE, NAME = "{room.url}", "{room.code}", "Ada"'
        cell.source = cell.source.replace('URL, CODE, NAME = "", "", "Ada"', told)
        cell.source = cell.source.replace("SECONDS = 4.0", "SECONDS = 0.2")
    execute(notebook, FOLDER)
    seat = Seat.take(room.url, room.code, "Alan")
    room.close()
    assert seat.number == 2


def test_a_room_alone_ends_with_its_owner(eventually):
    """Also where the owner is killed: nothing of it is left."""
    program = (
        "import os, signal\n"
        "from course_lib.room import Alone\n"
        "room = Alone(1)\n"
        "print(room.url, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    eventually(lambda: refuses(said.stdout.strip()))


def refuses(url):
    """Whether nobody answers there."""
    try:
        Seat.take(url, "no", "no")
    except RoomError as error:
        return "no answer" in str(error)
    return False
