"""A learner's side of the room: one seat, and the few things that are said from it.

The standard library only, and a connection of its own for each call: a call that is cut off leaves
nothing half read, and proxies in the environment are not asked.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = ["RoomError", "Seat"]

PATIENCE: Final = 3.0
"""Seconds for a call, connecting and answering each."""

LONGEST_ANSWER: Final = 65_536
"""Bytes of an answer that are read."""


class RoomError(Exception):
    """The room cannot be reached, or has refused; the message says why."""


class Address(str):
    """An address with a key in it, as user and password; where it is shown, the key is not."""

    __slots__ = ()

    def __repr__(self) -> str:
        parts = urlsplit(self)
        return repr(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))


class Seat:
    """A place in the room.

    Args:
        url: The room's address, such as "http://192.168.1.20:8900".
        number: The seat's.
        token: What proves that one sits there; it is shown nowhere.
        provider: Path of the room's provider; "" if it has none.

    Attributes:
        provider: Its address, with this seat's key in it; "" if there is none.
    """

    def __init__(self, url: str, number: int, token: str, provider: str) -> None:
        self.url, self.number, self.token = url, number, token
        parts = urlsplit(url)
        with_key = parts._replace(netloc=f"seat:{quote(token)}@{parts.netloc}", path=provider)
        self.provider = Address(urlunsplit(with_key) if provider else "")

    def __repr__(self) -> str:
        return f"<Seat {self.number} at {self.url}>"

    @classmethod
    def take(cls, url: str, code: str, name: str, token: str = "") -> Self:
        """Join the room.

        Args:
            url: The room's address.
            code: The join code that the instructor shows.
            name: How the board calls the learner.
            token: That of a seat taken before, to have it again.

        Raises:
            RoomError: The room cannot be reached, or refuses.
        """
        url = url.rstrip("/")
        answer = _call(url, "/api/join", {"code": code, "name": name, "token": token})
        return cls(url, answer["seat"], answer["token"], answer["provider"])

    def say(self, what: str, **fields: Any) -> Any:
        """Send one message: "result", "hand" or "leave".

        Raises:
            RoomError: The room cannot be reached, or refuses.
        """
        return _call(self.url, f"/api/{what}", fields, self.token)


def _call(url: str, path: str, fields: dict[str, Any], token: str = "") -> Any:
    connection = _connection(url)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", path, json.dumps(fields).encode(), headers)
        response = connection.getresponse()
        answer = json.loads(response.read(LONGEST_ANSWER))
    except (OSError, HTTPException, ValueError) as error:
        raise RoomError(f"no answer from {url}: {error}") from error
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise RoomError(str(answer.get("error", response.status)))
    return answer


def _connection(url: str) -> HTTPConnection:
    try:
        parts = urlsplit(url)
        kinds = {"http": HTTPConnection, "https": HTTPSConnection}
        made: HTTPConnection = kinds[parts.scheme](
            parts.hostname or "", parts.port, timeout=PATIENCE
        )
    except (ValueError, KeyError, HTTPException):
        raise RoomError(
            f"{url!r} is no address of a room: it begins with http:// and stands on the board"
        ) from None
    return made
