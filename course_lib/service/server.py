"""The HTTP server below the application: connections with a number, errors always in JSON."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import count
from socket import SO_ERROR, SOL_SOCKET
from typing import Any, Final, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from course_lib.service.wire import error_answer, told

__all__ = ["Connection", "Endpoint", "Handler", "connection_number", "make_server"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Endpoint = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]

LONGEST_LINE: Final = 2**15
"""Bytes of a request's first line: a query of the greatest length, percent-encoded, fits."""

SOON: Final = 0.01
"""Seconds after its request within which a client that only ends its sending does so."""

GRACE: Final = 0.5
"""Seconds that such a client has for an answer before it is asked whether it is still there."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What every client skips, asked for or not (RFC 9110, section 15.2)."""

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One client's connection. Its number tells the ledger which requests shared it.

    A client may end its sending and wait for its answer (`nc` does). One that has left looks the
    same from here, until something is sent to it: then its system says that nobody is there. So
    who ends its sending right after its request has some time for its answer, and is then sent a
    `100 Continue` now and again; anybody else at once. Who has left is cut off, which cancels its
    request and frees its slot.
    """

    __slots__ = ("_answering", "_ended", "_heard", "_unanswered", "number")

    def __init__(self, manager: web.Server, *, number: int, **options: Any) -> None:
        super().__init__(manager, **options)
        self.number = number
        self._answering: web.BaseRequest | None = None
        self._heard = 0.0
        self._unanswered = self._ended = False

    def data_received(self, data: bytes) -> None:
        """Note when something came that is to be answered."""
        if data:  # aiohttp calls this without any, too
            self._heard, self._unanswered = asyncio.get_running_loop().time(), True
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Keep the connection of a client that may wait for an answer; else it is closed."""
        loop = asyncio.get_running_loop()
        self._ended = True
        if self._unanswered:
            loop.call_later(GRACE if loop.time() < self._heard + SOON else 0, self._look)
        return self._unanswered

    @contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Answer a request for the length of a `with` block."""
        self._answering = request
        try:
            yield
        finally:
            self._answering, self._unanswered = None, False
            if self._ended:
                asyncio.get_running_loop().call_later(SOON, self._look)

    def _look(self) -> None:
        """See whether a client that has ended its sending still waits for its answer."""
        request, transport = self._answering, self.transport
        if transport is None:
            return
        if request is None or not request.content.is_eof():  # answered, or it broke off
            transport.close()
            return
        if request.version >= HttpVersion11 and not request.writer.output_size:
            transport.write(CONTINUE)
        if transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_ERROR):
            transport.abort()  # nobody is there
        else:
            asyncio.get_running_loop().call_later(GRACE, self._look)

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
        response = error_answer(status, message, headers=told({}))
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
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            with cast("Connection", request.protocol).answering(request):
                return await handler(request)

        super().__init__(answer, handler_cancellation=True)
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
