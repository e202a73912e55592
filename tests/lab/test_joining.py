"""What leaves a learner's kernel, and what does not."""

import asyncio
import json
import sys

import pytest
from room.room_support import running_room

from course_lib import lab, working_copy
from course_lib.lab import exercise, hand, join, leave

module = sys.modules["course_lib.lab.joining"]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with running_room(tmp_path_factory.mktemp("room") / "room.sqlite") as running:
        yield running


@pytest.fixture
def joined(room, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    join(room.url, room.code, name=tmp_path.name)
    yield room
    leave()


def seat(room, tmp_path):
    """The learner's row."""
    return next(each for each in room.watched()["seats"] if each["name"] == tmp_path.name)


async def wrong(search, read, questions):
    secret_of_mine = questions  # noqa: F841 - code that must not travel
    raise KeyError("secret_of_mine")


async def right(search, read, questions):
    async def pages(question):
        return await asyncio.gather(*map(read, await search(question)))

    return dict(zip(questions, await asyncio.gather(*map(pages, questions)), strict=True))


def test_checks_are_sent_and_nothing_else(joined, tmp_path, capsys, eventually):
    """Exercise, passed or the diagnosis' name, counts; each is said under the cell."""
    first = exercise("1.1")
    first.hint()
    lab.predict("how many", 5)
    assert seat(joined, tmp_path)["done"] == {}
    asyncio.run(first.check(wrong))
    eventually(lambda: seat(joined, tmp_path)["done"])
    told = seat(joined, tmp_path)["done"]["1.1"]
    assert (told["passed"], told["diagnosis"]) == (False, "raised-keyerror")
    assert "secret_of_mine" not in json.dumps(joined.watched())
    assert "To the room: 1.1, not yet (raised-keyerror), " in capsys.readouterr().out
    asyncio.run(first.check(right))
    eventually(lambda: seat(joined, tmp_path)["done"]["1.1"]["passed"])


def test_a_hand_goes_up_and_down(joined, tmp_path, capsys):
    """By the same call."""
    hand()
    assert seat(joined, tmp_path)["hand"] is not None
    hand()
    assert seat(joined, tmp_path)["hand"] is None
    assert "up.\nYour hand is down." in capsys.readouterr().out


def test_nothing_is_sent_after_leave(room, tmp_path, monkeypatch, capsys):
    """The room shows that the learner has gone."""
    monkeypatch.chdir(tmp_path)
    join(room.url, room.code, name=tmp_path.name)
    leave()
    capsys.readouterr()
    asyncio.run(exercise("1.1").check(right))
    assert capsys.readouterr().out == ""
    assert (seat(room, tmp_path)["here"], seat(room, tmp_path)["done"]) == (False, {})
    with pytest.raises(RuntimeError, match=r"lab\.join"):
        hand()
    leave()


def test_each_notebook_of_a_learner_has_the_same_seat(room, tmp_path, monkeypatch):
    """It is kept beside their progress, for them alone, until they leave."""
    (tmp_path / working_copy.RECORD).write_text("{}")
    monkeypatch.chdir(tmp_path)
    for _ in "12":
        join(room.url, room.code, name=tmp_path.name)
    kept = tmp_path / "progress/room.json"
    assert kept.stat().st_mode & 0o077 == 0
    assert len([s for s in room.watched()["seats"] if s["name"].startswith(tmp_path.name)]) == 1
    leave()
    assert not kept.exists()


def test_a_room_that_is_gone_stops_no_lesson(tmp_path, monkeypatch, capsys, eventually):
    """It is told once, and what could not be sent goes with the next result."""
    monkeypatch.chdir(tmp_path)
    with running_room(tmp_path / "room.sqlite") as room:
        join(room.url, room.code, name="Ada")
    try:
        for _ in "123":
            assert asyncio.run(exercise("1.1").check(right)).passed
            eventually(lambda: module._joined.trouble and module._joined.sender is None)
        assert capsys.readouterr().out.count("did not get the last result") == 1
        assert list(module._joined.waiting) == ["1.1"]
    finally:
        leave()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://127.0.0.1:x", "room", "http://127.0.0.1:1"])
def test_a_wrong_address_says_what_one_looks_like(url):
    """Or that nobody answers there."""
    with pytest.raises(Exception, match="no address of a room|no answer from"):
        join(url, "code", name="Ada")


def test_a_wrong_code_is_said(room):
    """With where the right one stands."""
    with pytest.raises(Exception, match="stands on the board"):
        join(room.url, "wrong", name="Ada")
