"""Who may ask the room, how often, and what a message may hold.

- **Host.** A foreign name may resolve to this machine (DNS rebinding), and its page would then have
  the room's origin: only the names and addresses that the room was given are answered.
- **Origin.** A page of another origin is refused wherever something is read or changed.
- **Codes.** Wrong codes cost patience: by address, and in all.
- **Rates.** Each seat has a rate of its own.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from course_lib.rate_limiting import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

__all__ = ["HEADERS", "Codes", "Rates", "Refused", "check_place", "name_in", "result_in"]

LONGEST_NAME: Final = 40
MOST: Final = 9_999
"""Attempts, hints and minutes that are believed."""

MOST_ADDRESSES: Final = 1_000
SLUG: Final = re.compile(r"[a-z0-9-]{0,60}")

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""What every answer carries."""


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that is refused.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def check_place(request: web.BaseRequest, hosts: Collection[str]) -> None:
    """Let a request through, or refuse it for where it comes from.

    Args:
        request: What was asked.
        hosts: Names and addresses that the room answers to, without ports.

    Raises:
        Refused: The host is none of the room's (421), or a page of another origin asks (403).
    """
    named = request.headers.getall("Host", [])
    if len(named) != 1 or _hostname(named[0]) not in hosts:
        raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "the room has another address")
    if not request.path.startswith("/api/"):
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", f"http://{named[0]}")
    if site not in {"same-origin", "none"} or origin != f"http://{named[0]}":
        raise Refused(HTTPStatus.FORBIDDEN, "a page of another origin may not use the room")


def _hostname(host: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.netloc == host and "@" not in host else ""


class Codes:
    """Compares join codes, and makes guessing slow.

    At one wrong code a second in all, half a day tries 5e-8 of all codes. A right code is not
    looked at either while its address has guessed too often.

    Args:
        code: The right one.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self._all = TokenBucket(1, 60)
        self._guesses: dict[str, TokenBucket] = {}

    def check(self, given: str, address: str) -> None:
        """Return if the code is right.

        Raises:
            Refused: It is wrong, or this address has guessed too often.
        """
        mine = self._guesses.get(address)
        if mine is not None and mine.statistics().tokens < 1:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong codes: wait a minute")
        if self._all.statistics().tokens < 1:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong codes in this room: wait")
        if hmac.compare_digest(_plain(given), _plain(self.code)):
            return
        if mine is None:
            if len(self._guesses) >= MOST_ADDRESSES:
                self._guesses.clear()  # the limit in all still holds
            mine = self._guesses[address] = TokenBucket(1 / 6, 10)
        mine.acquire(blocking=False)
        self._all.acquire(blocking=False)
        raise Refused(HTTPStatus.FORBIDDEN, "this is not the room's code: it stands on the board")


def _plain(code: str) -> bytes:
    return re.sub(r"[\s-]", "", code.lower()).encode(errors="replace")


class Rates:
    """A rate of its own for each seat, and where asked one for all of them.

    Args:
        rate: Requests a second of a seat.
        burst: Requests at once.
        total: Requests a second of all seats together.
    """

    def __init__(self, rate: float, burst: float, total: float | None = None) -> None:
        self._rate, self._burst = rate, burst
        self._seats: dict[int, TokenBucket] = {}
        self._total = None if total is None else TokenBucket(total, max(total, 1))

    def admit(self, seat: int) -> bool:
        """Whether a request of this seat may be answered now; it counts if so."""
        mine = self._seats.setdefault(seat, TokenBucket(self._rate, self._burst))
        if self._total is not None and self._total.statistics().tokens < 1:
            return False
        return mine.acquire(blocking=False) and (
            self._total is None or self._total.acquire(blocking=False)
        )


def name_in(message: dict[str, Any]) -> str:
    """Return the learner's name from a message: short, in one line, of visible letters.

    Raises:
        Refused: There is none.
    """
    name = message.get("name")
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise Refused(HTTPStatus.BAD_REQUEST, f'a name has 1 to {LONGEST_NAME} letters: name="Ada"')
    visible = (each for each in name if unicodedata.category(each)[0] != "C")
    name = " ".join("".join(visible).split())
    if not name:
        raise Refused(HTTPStatus.BAD_REQUEST, "the name is empty")
    return name


def result_in(message: dict[str, Any], exercises: Collection[str]) -> dict[str, Any]:
    """Return the result of a check from a message, and nothing else that stands there.

    Raises:
        Refused: A part is missing, of the wrong kind, or too large.
    """
    exercise, passed, name = (message.get(each) for each in ("exercise", "passed", "diagnosis"))
    counts = {each: message.get(each) for each in ("attempts", "hints", "minutes")}
    sound = (
        isinstance(exercise, str)
        and exercise in exercises
        and isinstance(passed, bool)
        and isinstance(name, str)
        and SLUG.fullmatch(name)
        and all(type(count) is int and 0 <= count <= MOST for count in counts.values())
    )
    if not sound:
        raise Refused(HTTPStatus.BAD_REQUEST, "this is no result of one of the course's exercises")
    return {"exercise": exercise, "passed": passed, "diagnosis": name, **counts}
