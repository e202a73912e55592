"""The room's register: who sits where, what they have done, whose hand is up, which timer runs.

All of it is in memory, and each change in the store before it is answered. A change wakes those
who watch; they ask for what is newer than what they have.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.room.store import Store

__all__ = ["MOST_SEATS", "Full", "Register", "new_code"]

MOST_SEATS: Final = 200
"""Seats of a room: more are refused, so that nobody can fill its memory."""

LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of a join code: none that are taken for another."""

CODE_LENGTH: Final = 8


class Full(Exception):  # noqa: N818 - the room is full
    """All seats are taken."""


class Register:
    """What a room knows.

    Args:
        store: What outlives this process.
        wall: Returns the time of day, in seconds.
    """

    def __init__(self, store: Store, *, wall: Callable[[], float] = time.time) -> None:
        self._store, self._wall = store, wall
        self._secrets = store.read("secret")
        self._seats: dict[int, dict[str, Any]] = {
            int(key): seat for key, seat in store.read("seat").items()
        }
        self._timer: dict[str, Any] | None = store.read("timer").get("timer")
        self._versions = dict.fromkeys(self._seats, 0)
        self._version = 0
        self._changed = asyncio.Event()

    async def secret(self, name: str, make: Callable[[], str]) -> str:
        """Return the room's secret of this name; it stays the same over restarts."""
        if name not in self._secrets:
            self._secrets[name] = make()
            await self._store.write("secret", name, self._secrets[name])
        return str(self._secrets[name])

    async def take(self, name: str, token: str = "") -> tuple[int, str]:
        """Give somebody a seat: a new one, or their own if they show its token.

        Returns:
            The seat's number and its token, of which only a digest is kept.

        Raises:
            Full: There is none left.
        """
        number = self.seat_of(token)
        if number is None:
            if len(self._seats) >= MOST_SEATS:
                raise Full(f"all {MOST_SEATS} seats are taken")
            number = max(self._seats, default=0) + 1
            token = f"{number}.{secrets.token_urlsafe(24)}"
            self._seats[number] = {
                "digest": _digest(token), "joined": self._wall(), "hand": None, "done": {},
            }  # fmt: skip
        taken = {each["name"] for other, each in self._seats.items() if other != number}
        self._seats[number].update(name=_free(name, taken), here=True)
        await self._keep(number)
        return number, token

    def seat_of(self, token: str) -> int | None:
        """Return whose token this is, None if nobody's; it takes as long for a nearly right one."""
        number = token.partition(".")[0]
        short = len(number) <= len(str(MOST_SEATS)) and number.isascii() and number.isdecimal()
        seat = self._seats.get(int(number)) if short else None
        right = hmac.compare_digest(_digest(token), seat["digest"] if seat else _digest(""))
        return int(number) if seat and right else None

    def name_of(self, number: int) -> str:
        """Return how a seat is called."""
        return str(self._seats[number]["name"])

    async def note(self, number: int, result: dict[str, Any]) -> None:
        """Keep the result of a check; what was solved stays solved, counts do not shrink."""
        seat = self._seats[number]
        done, now = seat["done"], self._wall()
        name = result["exercise"]
        before = done.get(name, {"passed": False, "attempts": 0, "hints": 0, "minutes": 0})
        counts = {
            each: max(before[each], result[each]) for each in ("attempts", "hints", "minutes")
        }
        done[name] = {
            **counts,
            "passed": before["passed"] or result["passed"],
            "diagnosis": "" if result["passed"] else result["diagnosis"],
            "began": before.get("began", self._last(seat)),
            "at": now,
        }
        seat["here"] = True
        await self._keep(number)

    def _last(self, seat: dict[str, Any]) -> float:
        """Return when a learner turned to what they do now: after what they checked last."""
        times = [each["at"] for each in seat["done"].values()]
        return float(max([seat["joined"], *times]))

    async def set_hand(self, number: int, *, up: bool) -> None:
        """Raise or lower a hand; one that is up stays in its place in the queue."""
        seat = self._seats[number]
        seat["hand"] = (seat["hand"] or self._wall()) if up else None
        await self._keep(number)

    async def leave(self, number: int) -> None:
        """Note that a learner has gone; what they did stays until the room is forgotten."""
        self._seats[number].update(here=False, hand=None)
        await self._keep(number)

    async def set_timer(self, exercise: str, seconds: float) -> None:
        """Run a timer for an exercise; 0 seconds stop it."""
        ends = self._wall() + seconds
        self._timer = {"exercise": exercise, "ends": ends} if seconds else None
        await self._store.write("timer", "timer", self._timer)
        self._wake()

    async def paste(self, name: str, results: list[dict[str, Any]]) -> None:
        """Take the results of somebody who is not connected: the seat that was pasted as this name."""
        pasted = (each for each, seat in self._seats.items() if seat.get("pasted") == name)
        number = next(pasted, None)
        if number is None:
            number, _ = await self.take(name)
            self._seats[number]["pasted"] = name
        for result in results:
            await self.note(number, result)

    def newer(self, version: int) -> dict[str, Any]:
        """Return what the board shows: the seats changed since a version, and the sums over all."""
        return {
            "version": self._version,
            "now": self._wall(),
            "timer": self._timer,
            "seats": [
                {"seat": number, **{name: seat[name] for name in ("name", "here", "hand", "done")},
                 "since": self._last(seat)}
                for number, seat in self._seats.items()
                if self._versions[number] > version
            ],
            "diagnoses": self.diagnoses(),
        }  # fmt: skip

    def diagnoses(self) -> list[dict[str, Any]]:
        """Return what the room is stuck on, most frequent first, with how many tried that exercise."""
        stuck: Counter[tuple[str, str]] = Counter()
        tried: Counter[str] = Counter()
        for seat in self._seats.values():
            for exercise, done in seat["done"].items():
                tried[exercise] += 1
                if not done["passed"] and done["diagnosis"]:
                    stuck[exercise, done["diagnosis"]] += 1
        return [
            {"exercise": exercise, "diagnosis": name, "count": count, "of": tried[exercise]}
            for (exercise, name), count in sorted(
                stuck.items(), key=lambda each: (-each[1], each[0])
            )
        ]

    async def change_from(self, version: int) -> None:
        """Wait until there is something newer than a version."""
        while self._version <= version:
            await self._changed.wait()

    async def _keep(self, number: int) -> None:
        await self._store.write("seat", str(number), self._seats[number])
        self._versions[number] = self._version + 1
        self._wake()

    def _wake(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()


def new_code() -> str:
    """Return a join code: one of 8e11, to be read aloud."""
    letters = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it if somebody else has it."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
