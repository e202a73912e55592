"""What the room keeps and shows, over kills and restarts; and that nothing of it loads unasked."""

import asyncio
import signal
import socket
import subprocess
import sys

import pytest
from room.room_support import ROOT, result, running_room

from course_lib.lab.progress_line import progress_line
from course_lib.room.register import MOST_SEATS, Full, Register
from course_lib.room.sentences import questions, sentences
from course_lib.room.store import Store


def test_a_kill_and_a_restart_lose_nothing(tmp_path):
    """Code, key, seats, results, hands and the timer are as before; tokens still open their seats."""
    file = tmp_path / "room.sqlite"
    with running_room(file) as room:
        _, ada = room.join("Ada")
        _, alan = room.join("Alan")
        room.ask("/api/result", result(attempts=3), token=ada)
        room.ask("/api/result", result(passed=True, diagnosis=""), token=alan)
        room.ask("/api/hand", {"up": True}, token=alan)
        room.ask("/api/timer", {"exercise": "1.2", "seconds": 600}, token=room.key)
        before = room.watched()
        room.process.kill()  # SIGKILL
    with running_room(file) as again:
        assert (again.code, again.key) == (room.code, room.key)
        after = again.watched()
        for state in (before, after):
            del state["now"], state["version"]
        assert after == before
        assert again.ask("/api/hand", {"up": False}, token=alan)[0] == 200
        assert again.join("Ada", token=ada) == (1, ada)


def test_ctrl_c_ends_it_while_a_board_watches(tmp_path):
    """In peace: no traceback, exit status 0, and the file is whole without its log."""
    with running_room(tmp_path / "room.sqlite") as room, socket.socket() as board:
        room.join()
        board.connect(("127.0.0.1", room.port))
        asked = f"GET /api/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {room.key}"
        board.sendall(f"{asked}\r\n\r\n".encode())
        assert board.recv(12) == b"HTTP/1.1 200"
        room.process.send_signal(signal.SIGINT)
        assert room.process.wait(60) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["room.sqlite"]


def test_all_is_deleted_by_one_command(tmp_path):
    """And it says so."""
    file = tmp_path / "room.sqlite"
    with running_room(file) as room:
        room.join()
    command = [sys.executable, "-m", "course_lib", "room", "--forget", f"--file={file}"]
    said = [
        subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True) for _ in "12"
    ]
    assert list(tmp_path.iterdir()) == []
    assert [each.returncode for each in said] == [0, 0]
    assert "Deleted" in said[0].stdout
    assert "nothing was kept" in said[1].stdout


def test_a_listening_room_says_that_it_can_be_read(tmp_path):
    """And shows no address that learners cannot reach."""
    command = [sys.executable, "-m", "course_lib", "room", "--port=0", "--listen=0.0.0.0",
               f"--file={tmp_path / 'room'}"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        while "--forget" not in said and (line := process.stdout.readline()):
            said += line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert "plain HTTP" in said
    assert 'lab.join("http://127.' not in said


def test_nothing_of_it_loads_unless_asked_for():
    """Neither with the bench nor with the command line."""
    program = (
        "import sys, course_lib.lab, course_lib.__main__\n"
        "print([name for name in sys.modules if name.startswith('course_lib.room')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]"


@pytest.fixture
def register():
    now = [1000.0]
    store = Store(None)
    made = Register(store, wall=lambda: now[0])
    made.now = now
    yield made
    store.close()


def test_the_diagnoses_of_the_room_are_counted(register):
    """Most frequent first, of those who tried that exercise; what is solved counts no more."""

    async def main():
        seats = [(await register.take("A"))[0] for _ in range(4)]
        for seat in seats:
            await register.note(seat, result(diagnosis="makespan"))
        for seat in seats[:2]:
            await register.note(seat, result("1.2", diagnosis="answers"))
        await register.note(seats[0], result(passed=True, diagnosis=""))
        await register.note(seats[1], result(diagnosis="order"))

    asyncio.run(main())
    found = [(each["count"], each["of"], each["diagnosis"]) for each in register.diagnoses()]
    assert found == [(2, 4, "makespan"), (2, 2, "answers"), (1, 4, "order")]


def test_how_long_somebody_is_at_an_exercise(register):
    """From what they checked before it, or from when they joined."""

    async def main():
        seat, _ = await register.take("Ada")
        for minute, each in enumerate(["1.1", "1.1", "1.2"], start=1):
            register.now[0] = 1000 + 60 * minute
            await register.note(seat, result(each))

    asyncio.run(main())
    [seat] = register.newer(-1)["seats"]
    assert seat["done"]["1.1"]["began"] == 1000
    assert seat["done"]["1.2"]["began"] == 1120


def test_a_board_is_told_what_changed(register):
    """The seats that are newer than what it has."""

    async def main():
        seats = [(await register.take("A"))[0] for _ in range(3)]
        seen = register.newer(-1)["version"]
        change = asyncio.create_task(register.change_from(seen))
        await register.set_hand(seats[1], up=True)
        await change
        return register.newer(seen)["seats"]

    [seat] = asyncio.run(main())
    assert (seat["seat"], seat["name"], seat["hand"]) == (2, "A (2)", 1000.0)


def test_a_room_is_full_at_some_point(register):
    """Nobody fills its memory; whoever has a seat keeps it."""

    async def main():
        taken = [await register.take("A") for _ in range(MOST_SEATS)]
        with pytest.raises(Full):
            await register.take("B")
        assert await register.take("A", taken[0][1]) == taken[0]

    asyncio.run(main())


def test_a_pasted_line_is_taken_once_a_learner(tmp_path):
    """A newer line of the same learner changes their row; a cut one is refused, with what to do."""
    done = {"1.1": {"passed": True, "attempts": 2, "hints": 0}}
    with running_room(tmp_path / "room.sqlite") as room:
        line = progress_line(done, "Ada")
        for sent in (line, progress_line(done | {"1.2": dict(done["1.1"])}, "Ada")):
            assert room.ask("/api/paste", {"line": sent}, token=room.key)[0] == 200
        status, _, said = room.ask("/api/paste", {"line": line.replace("2", "3")}, token=room.key)
        [seat] = room.watched()["seats"]
    assert (status, "have it sent again" in said) == (400, True)
    assert (seat["name"], sorted(seat["done"])) == ("Ada", ["1.1", "1.2"])


def test_diagnoses_have_sentences():
    """The graders' own, by exercise and name; names are those that a room takes."""
    from course_lib.room.guard import SLUG

    known = sentences()
    assert known["1.4"]["calls-made"] == "ask each question exactly once"
    assert all(known.values())
    assert all(SLUG.fullmatch(name) for names in known.values() for name in names)


def test_each_question_that_helps_belongs_to_a_diagnosis():
    """Of an exercise that there is."""
    known, asked = sentences(), questions()
    assert set(asked) - {"*"} <= set(known)
    assert asked["1.3"]["makespan"].startswith("At which moment may the next call begin")
    assert all(question.endswith("?") for names in asked.values() for question in names.values())
