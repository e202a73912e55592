"""The provider's admin endpoints, called with nothing but the standard library."""

import json
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Admin", "Unreachable"]

PATIENCE: Final = 30.0
"""Seconds for one call; it takes milliseconds unless the provider is up to its neck in work."""


class Unreachable(Exception):  # noqa: N818 - Provider says what it means
    """The provider did not answer."""


class Admin:
    """Sends one request over a connection of its own each time.

    So it may be shared by threads, and a call that is interrupted leaves nothing half read. The
    standard library's client pays no heed to proxies in the environment.

    Args:
        url: Address of the provider.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port

    def call(self, method: str, path: str, data: Any = None) -> Any:
        """Send a request and return the JSON value of the answer; None if it has no body.

        Raises:
            ValueError: The provider refused the request; the message is its reason.
            Unreachable: It did not answer.
        """
        body = None if data is None else json.dumps(data).encode()
        connection = HTTPConnection(self._host, self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        value: Any = json.loads(answer) if answer else None
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ValueError(value["error"]["message"])
        return value
