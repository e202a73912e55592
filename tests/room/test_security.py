"""The room is attacked here as somebody in the same network might: by real requests."""

import json
import socket

import pytest
from room.room_support import result, running_room


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with running_room(tmp_path_factory.mktemp("room") / "room.sqlite") as running:
        yield running


POSTS = ["join", "result", "hand", "leave", "timer", "paste"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "x@127.0.0.1", "[", ""])
@pytest.mark.parametrize("path", ["/board", "/api/watch"])
def test_a_foreign_host_is_refused(room, host, path):
    """A name that somebody lets resolve to this machine reads nothing."""
    status, _, text = room.ask(path, token=room.key, Host=host)
    assert status == 421
    assert room.code not in text


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}],
)
def test_a_page_of_another_origin_is_refused(room, path, headers):
    """Also with the right key, code and token."""
    body = {"code": room.code, "name": "Eve", "up": True, "exercise": "1.1", "seconds": 9}
    assert room.ask(f"/api/{path}", body, token=room.key, **headers)[0] == 403
    assert room.ask("/api/watch", token=room.key, **headers)[0] == 403


@pytest.mark.parametrize("token", ["", "1", "1.", "1.x", "x.y", "9" * 5000, "²", "-1.a"])
def test_a_wrong_token_opens_no_seat_and_no_board(room, token):
    """Whatever it looks like."""
    room.join()
    for path in ("result", "hand", "leave", "timer", "paste"):
        assert room.ask(f"/api/{path}", result(), token=token.encode())[0] == 401
    assert room.ask("/api/watch", token=token.encode())[0] == 401


def test_a_learner_is_no_instructor_and_the_instructor_no_learner(room):
    """A seat's token moves no timer, reads no board; the key checks no exercise."""
    _, token = room.join()
    assert room.ask("/api/timer", {"exercise": "1.1", "seconds": 9}, token=token)[0] == 401
    assert room.ask("/api/watch", token=token)[0] == 401
    assert room.ask("/api/result", result(), token=room.key)[0] == 401


def test_no_answer_holds_anothers_token(room):
    """Nor the key: not the board's, not an error's, not that of whoever takes the same name."""
    _, token = room.join("Grace")
    _, other = room.join("Grace")
    assert token != other
    answers = [room.ask("/board"), room.ask("/board.js"), room.ask("/api/watch")]
    answers += [
        room.ask("/api/result", result(), token=other),
        room.ask("/api/hand", {}, token=room.code),
    ]
    answers.append(room.ask("/api/join", {"code": room.code, "name": "Grace"}))
    said = "".join(text for _, _, text in answers) + json.dumps(room.watched())
    assert not [secret for secret in (token, other, room.key) if secret in said]


def test_the_file_holds_no_token(tmp_path):
    """Who reads it later takes nobody's seat; and only its owner can read it."""
    file = tmp_path / "room.sqlite"
    with running_room(file) as room:
        _, token = room.join()
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.encode() not in kept
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 41, 7, None, ["a"], "\u202e\u200b", "\x00"], ids=ascii
)
def test_a_name_has_bounds(room, name):
    """It is a short line of visible letters."""
    assert room.ask("/api/join", {"code": room.code, "name": name})[0] == 400


def test_a_name_is_only_text(room):
    """Control characters and lines go; what looks like a page's code is shown as it stands."""
    seat, _ = room.join("<img src=x>\n\u202eA")
    names = {each["seat"]: each["name"] for each in room.watched()["seats"]}
    assert names[seat] == "<img src=x>A"


@pytest.mark.parametrize(
    "change",
    [
        {"exercise": "9.9"}, {"exercise": ["1.1"]}, {"passed": 1}, {"diagnosis": "it raised `my code`"},
        {"diagnosis": "x" * 61}, {"diagnosis": None}, {"attempts": -1}, {"attempts": True},
        {"hints": 10_000}, {"minutes": 0.5}, {"minutes": 1e400},
    ],
    ids=str,
)  # fmt: skip
def test_a_result_has_bounds(room, change):
    """Learners' code does not pass for a diagnosis' name."""
    _, token = room.join()
    assert room.ask("/api/result", result(**change), token=token)[0] == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 8000, b"\xff", b"null"], ids=repr)
def test_what_is_no_message_is_refused(room, body):
    """With a reason; the room goes on."""
    assert room.ask("/api/join", body)[0] == 400


def test_a_long_body_is_refused(room):
    """Before anything of it is read as a message."""
    assert room.ask("/api/join", {"code": room.code, "name": "A", "x": "y" * 9000})[0] == 413
    assert room.ask("/api/join", b"name=A", Content_Type="text/plain")[0] == 415


@pytest.mark.parametrize(
    "path",
    ["/../course_lib/errors.py", "/page/board.html", "/board/../../etc/passwd", "/%2e%2e/etc/passwd",
     "/board.css/../board.html", "/static/", "//etc/passwd", "/room.sqlite"],
)  # fmt: skip
def test_no_path_leads_to_a_file(room, path):
    """There are three pages, and nothing else."""
    assert room.ask(path)[0] == 404


def test_every_answer_has_a_policy(room):
    """Pages, messages, refusals and errors: no foreign script, no frame, nothing kept."""
    for path in ("/board", "/board.js", "/board.css", "/api/watch", "/nowhere", "/"):
        _, headers, _ = room.ask(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
    assert "http" not in room.ask("/board")[2] + room.ask("/board.css")[2]


def test_codes_cannot_be_guessed(tmp_path):
    """After ten wrong ones an address has to wait, also with the right one; seats go on."""
    with running_room(tmp_path / "room.sqlite") as room:
        _, token = room.join()
        wrong = [room.ask("/api/join", {"code": f"{k:08}", "name": "E"})[0] for k in range(40)]
        assert wrong[:10] == [403] * 10
        assert wrong.count(429) >= 20
        assert room.ask("/api/hand", {"up": True}, token=token)[0] == 200


def test_a_code_may_be_typed_as_it_was_heard(room):
    """In capitals, with a blank, without the dash."""
    for typed in (room.code.upper(), room.code.replace("-", " "), room.code.replace("-", "")):
        assert room.ask("/api/join", {"code": typed, "name": "A"})[0] == 200


def test_a_seat_has_a_rate(room):
    """Of its own: another one is heard meanwhile."""
    _, loud = room.join("Loud")
    _, quiet = room.join("Quiet")
    said = [room.ask("/api/hand", {"up": True}, token=loud)[0] for _ in range(60)]
    assert 429 in said
    assert room.ask("/api/hand", {"up": True}, token=quiet)[0] == 200


def test_it_listens_on_this_machine_only(room):
    """Unless it is told otherwise: its other addresses refuse."""
    from course_lib.room.command import own_addresses

    for address in own_addresses() - {"127.0.0.1", "::1"}:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.settimeout(5)
            assert probe.connect_ex((address, room.port)) != 0
