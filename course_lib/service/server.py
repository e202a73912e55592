"""The HTTP server below the application: connections with a number, errors always in JSON."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from itertools import count
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from course_lib.service.wire import error_answer

__all__ = ["Connection", "Endpoint", "Handler", "connection_number", "make_server"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Endpoint = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]

LONGEST_LINE: Final = 2**15
"""Bytes of a request's first line: a query of the greatest length, percent-encoded, fits."""

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One client's connection. Its number tells the ledger which requests shared it."""

    __slots__ = ("number",)

    def __init__(self, manager: web.Server, *, number: int, **options: Any) -> None:
        super().__init__(manager, **options)
        self.number = number

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or what went wrong here, with a reason and no traceback."""
        if isinstance(exc, HttpProcessingError):
            first_line = (message or "").partition("\n")[0]
            message = f"this is not valid HTTP: {first_line}"
        else:
            log.error("error in %s %s", request.method, request.rel_url, exc_info=exc)
            message = "the service itself failed: see its standard error"
        response = error_answer(status, message)
        response.force_close()
        return response


def connection_number(request: web.BaseRequest) -> int:
    """Return the number of the connection that carries a request."""
    return cast("Connection", request.protocol).number


class _Server(web.Server):
    """Makes numbered connections.

    A client that leaves cancels its request, which frees the slot: a real provider would notice a
    closed stream as well.
    """

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._numbers = count(1)

    def __call__(self) -> Connection:
        return Connection(
            self,
            number=next(self._numbers),
            loop=self._loop,
            access_log=None,
            max_line_size=LONGEST_LINE,
        )


def make_server(handler: Handler) -> web.Server:
    """Return a server, not yet listening, that gives every request to `handler`."""
    return _Server(handler)
