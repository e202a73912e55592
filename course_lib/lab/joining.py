"""A learner in a workshop's room: `join`, `hand`, `leave`, and what is sent meanwhile.

Only after `join`, and until `leave`, is the result of each `exercise(...).check` sent to the room,
and nothing else. What is sent is printed under the cell. Sending never delays a lesson and never
breaks one: it happens in a thread, and an error is told once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.working_copy import RECORD

if TYPE_CHECKING:
    from course_lib.room import Seat

__all__ = ["hand", "join", "leave", "share"]

KEPT = "room.json"
"""Where the seat is kept beside a learner's progress, so that each notebook has the same one."""

FAREWELL = 5.0
"""Seconds that `leave` waits for results that are still on their way."""


@dataclass(slots=True)
class _Joined:
    """The seat, and what is on its way to the room."""

    seat: Seat
    since: float
    began: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sender: threading.Thread | None = None
    trouble: str = ""
    told: bool = False
    raised: bool = False


_joined: _Joined | None = None


def join(url: str, code: str, *, name: str) -> str:
    """Join a workshop's room: from now on the results of your checks are sent to its board.

    In another notebook of yours the same call gives you the same seat.

    Args:
        url: The room's address, as the board shows it.
        code: The join code, as the board shows it.
        name: How the board is to call you.

    Returns:
        The address of the room's provider for this seat, where the room has one; "" otherwise.

    Raises:
        RoomError: The room cannot be reached, or the code is wrong.
    """
    global _joined  # noqa: PLW0603 - one learner a kernel
    from course_lib.room import Seat  # noqa: PLC0415 - nothing of the room is loaded unless asked

    seat = Seat.take(url, code, name, _kept_token(url))
    _keep(seat)
    _joined = _Joined(seat, time.monotonic())
    _say(
        f"Joined the room as {name}, seat {seat.number}. Sent from now on, for each check: the "
        "exercise, passed or the name of the diagnosis, attempts, hints, minutes. Never your code, "
        "and nothing from any other call. lab.leave() ends it."
    )
    return seat.provider


def hand(up: bool | None = None) -> None:  # noqa: FBT001 - lab.hand(False) reads well
    """Raise your hand, or lower it: call it again, or say which.

    Args:
        up: True raises it, False lowers it, None does the other of the last.

    Raises:
        RuntimeError: No room was joined.
        RoomError: The room cannot be reached.
    """
    here = _here()
    wanted = not here.raised if up is None else up
    here.seat.say("hand", up=wanted)
    here.raised = wanted
    _say("Your hand is up." if wanted else "Your hand is down.")


def leave() -> None:
    """Leave the room: nothing is sent any more. Without a room it does nothing."""
    global _joined
    here, _joined = _joined, None
    if here is None:
        return
    if here.sender is not None:
        here.sender.join(FAREWELL)
    from course_lib.room import RoomError  # noqa: PLC0415 - it is loaded: a room was joined

    try:
        here.seat.say("leave")
    except RoomError as error:
        _say(f"Left the room, which does not know it: {error}. Nothing more is sent.")
    else:
        _say("Left the room. Nothing more is sent.")
    if (path := _file()) is not None:
        path.unlink(missing_ok=True)


def share(number: str, *, passed: bool, diagnosis: str, attempts: int, hints: int) -> None:
    """Send the result of a check, where a room was joined."""
    here = _joined
    if here is None:
        return
    now = time.monotonic()
    minutes = (now - here.began.setdefault(number, here.since)) / 60
    here.since = now
    _complain(here)
    result = "passed" if passed else f"not yet ({diagnosis or 'no diagnosis'})"
    _say(
        f"To the room: {number}, {result}, attempts {attempts}, hints {hints}, minutes {minutes:.0f}."
    )
    here.waiting[number] = {
        "exercise": number, "passed": passed, "diagnosis": diagnosis, "attempts": attempts,
        "hints": hints, "minutes": round(minutes),
    }  # fmt: skip
    with here.lock:
        if here.sender is None or not here.sender.is_alive():
            here.sender = threading.Thread(target=_send, args=(here,), name="to-room", daemon=True)
            here.sender.start()


def _send(here: _Joined) -> None:
    """Send what waits, oldest first; what fails stays, and goes with the next one."""
    from course_lib.room import RoomError  # noqa: PLC0415 - it is loaded: a room was joined

    while True:
        with here.lock:
            if not here.waiting:
                here.sender = None
                return
            number, message = next(iter(here.waiting.items()))
        try:
            here.seat.say("result", **message)
        except RoomError as error:
            with here.lock:
                here.trouble, here.sender = str(error), None
            return
        with here.lock:
            if here.waiting.get(number) is message:
                del here.waiting[number]


def _complain(here: _Joined) -> None:
    """Tell of an error in sending, once."""
    if here.trouble and not here.told:
        here.told = True
        _say(f"The room did not get the last result ({here.trouble}); it goes with the next one.")


def _here() -> _Joined:
    if _joined is None:
        raise RuntimeError('no room was joined: lab.join("http://…", code, name="…")')
    return _joined


def _file() -> Path | None:
    """Return the file that keeps the seat, in a folder of learner's copies."""
    here = Path.cwd()
    return here / "progress" / KEPT if (here / RECORD).is_file() else None


def _kept_token(url: str) -> str:
    path = _file()
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return str(kept["token"]) if kept.get("url") == url.rstrip("/") else ""
    except (OSError, ValueError, KeyError, AttributeError):
        return ""


def _keep(seat: Seat) -> None:
    """Keep the seat for other notebooks, readable by the learner alone."""
    path = _file()
    if path is None:
        return
    try:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"url": seat.url, "token": seat.token}, file)
    except OSError:
        return


def _say(text: str) -> None:
    print(text)  # noqa: T201 - under the learner's cell
