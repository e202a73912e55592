"""The provider that the room shares: who may ask, how much, and what the boards see of it."""

import asyncio
import base64
import json

import pytest
from room.room_support import running_room

from course_lib.async_batch import ServiceClient
from course_lib.errors import BadRequest, RateLimited, TimedOut
from course_lib.lab import simulate
from course_lib.room.client import Address, Seat
from course_lib.room.provider import ABANDONED, CAPACITY, SEAT_BURST, Calls, token_in


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with running_room(tmp_path_factory.mktemp("room") / "room.sqlite") as running:
        yield running


def provider_of(room, name="Ada"):
    """The provider's address for a new seat, as `lab.join` returns it."""
    return Seat.take(room.url, room.code, name).provider


async def ask(url, *, times=1, patience=30.0):
    """What came of so many searches at once."""
    async with ServiceClient(url, max_connections=times, timeout=patience) as client:
        calls = (client.search("What does a gate do?") for _ in range(times))
        return await asyncio.gather(*calls, return_exceptions=True)


def test_a_seats_token_is_its_key(room):
    """The course's client asks with the address that joining returned, and is answered."""
    [found] = asyncio.run(ask(provider_of(room)))
    assert len(found) == 5
    assert found[0].metadata["score"] > 0


@pytest.mark.parametrize("key", ["", "seat:1.x@", "seat:x@"])
def test_nobody_asks_without_a_seat(room, key):
    """Nor with a wrong token, nor with the instructor's key."""
    url = room.url.replace("//", f"//{key}") + "/api/provider"
    [error] = asyncio.run(ask(url))
    assert isinstance(error, BadRequest)
    assert room.ask("/api/provider/search?q=a", token=room.key)[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/admin/behaviour"), ("DELETE", "/admin/ledger"), ("GET", "/admin/ledger"),
     ("POST", "/search"), ("GET", "/metrics"), ("GET", "/../admin/ledger"), ("GET", "//search")],
)  # fmt: skip
def test_a_seat_changes_nothing_of_the_provider(room, method, path):
    """It reaches what is asked of a provider, and nothing about the process."""
    _, token = room.join()
    body = b"{}" if method != "GET" else None
    assert room.ask(f"/api/provider{path}", body, token=token, method=method)[0] == 404


def test_a_seat_has_a_limit_of_its_own(room):
    """Beyond it 429 says when to come back; another seat is answered."""
    loud, quiet = provider_of(room, "Loud"), provider_of(room, "Quiet")
    came = asyncio.run(ask(loud, times=3 * SEAT_BURST))
    refused = [each for each in came if isinstance(each, RateLimited)]
    assert len(refused) > SEAT_BURST
    assert all(each.retry_after > 0 for each in refused)
    [found] = asyncio.run(ask(quiet))
    assert len(found) == 5


def test_who_gives_up_frees_the_slot(room):
    """Their calls are seen as given up, and the next one is answered."""
    came = asyncio.run(ask(provider_of(room), times=4, patience=0.01))
    assert all(isinstance(each, TimedOut) for each in came)
    [found] = asyncio.run(ask(provider_of(room)))
    assert len(found) == 5


def test_boards_see_who_asked_and_what_came_back(room):
    """By seat, with the figures; only with the instructor's key."""
    url = provider_of(room, "Seen")
    number = int(url.partition("seat:")[2].partition(".")[0])
    assert room.ask("/api/calls")[0] == 401
    frames = watched_calls(room, lambda: asyncio.run(ask(url, times=3)))
    ended = [row for frame in frames for row in frame["ended"] if row[0] == number]
    assert [row[3] for row in ended] == [200, 200, 200]
    assert all(end - start >= 0.05 for _, start, end, _ in ended)


def watched_calls(room, act):
    """The frames that a board gets until three calls have ended."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", room.port, timeout=60)
    connection.request("GET", "/api/calls", headers={"Authorization": f"Bearer {room.key}"})
    answer = connection.getresponse()
    act()
    frames, rows = [], 0
    while rows < 3:
        line = answer.readline()
        if line.startswith(b"data: "):
            frames.append(json.loads(line[6:]))
            rows += len(frames[-1]["ended"])
    connection.close()
    return frames


def test_a_frame_is_made_once_however_many_watch():
    """And none while nobody does: watchers cost the provider no work of their own."""

    class Board:
        def __init__(self):
            self.got = []

        async def write(self, frame):
            self.got.append(frame)

    async def main(boards):
        calls = Calls()
        await asyncio.sleep(10)
        assert calls.frames == 0
        tasks = [asyncio.create_task(calls.watch(board)) for board in boards]
        await asyncio.sleep(10.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        made = calls.frames
        await asyncio.sleep(10)
        assert calls.frames == made
        return made

    one, five = [Board()], [Board() for _ in range(5)]
    assert simulate(main(one)).value == simulate(main(five)).value == 40
    assert all(frame is five[0].got[k] for board in five for k, frame in enumerate(board.got))


def test_figures_are_of_the_last_two_seconds():
    """Rates by what came back, p95 of what was answered, and who waits behind the slots."""

    async def main():
        calls = Calls()
        for status, seconds in [(200, 0.1), (200, 0.3), (429, 0.0), (ABANDONED, 0.5), (502, 0.1)]:
            number = calls.begin(1)
            await asyncio.sleep(seconds)
            calls.end(number, status)
        now = calls.figures()
        for _ in range(CAPACITY.slots + 3):
            calls.begin(2)
        waiting = calls.figures()["queue"]
        await asyncio.sleep(2.1)
        return now, waiting, calls.figures()

    now, waiting, later = simulate(main()).value
    kinds = ("answered", "refused", "abandoned", "failed")
    assert [now[kind] for kind in kinds] == [1.0, 0.5, 0.5, 0.5]
    assert now["p95"] == pytest.approx(0.3, rel=0.01)
    assert waiting == 3
    assert [later[kind] for kind in kinds] == [0, 0, 0, 0]
    assert later["p95"] is None


def test_an_address_shows_no_key():
    """As a cell's result it is shown without; as a string it has it."""
    address = Address("http://seat:1.secret@192.168.1.20:8900/api/provider")
    assert repr(address) == "'http://192.168.1.20:8900/api/provider'"
    assert "secret" in address


def test_keys_are_taken_as_clients_send_them():
    """As a bearer's token, or as a password."""
    basic = base64.b64encode(b"seat:1.abc").decode()
    assert token_in("Bearer 1.abc") == token_in(f"Basic {basic}") == "1.abc"
    assert token_in("Basic ???") == token_in("Digest x") == token_in("") == ""
