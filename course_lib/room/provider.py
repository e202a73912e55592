"""One provider for the whole room: each learner's key is their seat's token.

The room stands before the course's provider as a gateway does: it knows who asks, holds each seat
to a rate of its own, hands the rest on, and takes down who asked when and what came back. The limit
for all together is the provider's: so many requests worked on at once, so many waiting.

A client that gives up is given up here, too: its connection to the provider is cut, and the slot
is free. What was worked on by then is lost, and that is how goodput falls in a storm.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections import Counter, deque
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from course_lib import service
from course_lib.monitoring import Histogram
from course_lib.room.guard import HEADERS, Rates, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ABANDONED", "CAPACITY", "PATH", "Calls", "Gateway", "start_provider", "token_in"]

PATH: Final = "/api/provider"
"""What stands before the provider's own paths."""

METHODS: Final = {
    "/search": "GET",
    "/rerank": "POST",
    "/v1/embeddings": "POST",
    "/v1/chat/completions": "POST",
    "/v1/models": "GET",
}
"""What a seat may ask: nothing that changes the provider's behaviour."""

PASSED_ON: Final = ("Content-Type", "Content-Encoding", "Retry-After", "retry-after-ms")
"""Headers of an answer that are the seat's business."""

LATENCY: Final = 0.05
CAPACITY: Final = service.Capacity(slots=8, queue=320)
"""Eight at once, 50 ms each: 160 answers a second, and 2 s of waiting at most."""

SEAT_RATE: Final = 20.0
SEAT_BURST: Final = 40
LARGEST_BODY: Final = 2**20
ABANDONED: Final = 0
"""Status of a call whose caller gave up."""

TICK: Final = 0.25
"""Seconds between two frames for those who watch."""

SPAN: Final = 2.0
"""Seconds that a frame's figures are of."""

MOST_ROWS: Final = 300
"""Calls drawn of one frame; the figures count all."""

Row = tuple[int, float, float, int]
"""Seat, start, end and HTTP status of a call."""


def start_provider() -> service.Provider:
    """Start the provider that a room shares.

    Raises:
        RuntimeError: It did not start.
    """
    return service.start(latency=service.Latency.constant(LATENCY), capacity=CAPACITY)


class Calls:
    """What was asked lately, and one frame of it for all who watch.

    A frame is made once, however many watch, and none while nobody does: watching costs the
    provider next to nothing.

    Args:
        timer: Returns seconds, by default the running loop's clock.
    """

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer or (lambda: asyncio.get_running_loop().time())
        self._recent: deque[Row] = deque()
        self._open: dict[int, tuple[int, float]] = {}
        self._numbers = 0
        self._sent = -math.inf
        self._frame = b""
        self._next = asyncio.Event()
        self._watchers = 0
        self._ticker: asyncio.Task[None] | None = None
        self.frames = 0

    def begin(self, seat: int) -> int:
        """Note that a seat asks; return the call's number."""
        self._numbers += 1
        self._open[self._numbers] = seat, self._timer()
        return self._numbers

    def end(self, number: int, status: int) -> None:
        """Note what came back, or `ABANDONED`."""
        now = self._timer()
        seat, start = self._open.pop(number)
        self._recent.append((seat, start, now, status))
        self._drop(now)

    def _drop(self, now: float) -> None:
        while self._recent and self._recent[0][2] < now - SPAN:
            self._recent.popleft()

    def figures(self) -> dict[str, Any]:
        """Return what the last two seconds were: rates a second, p95 in seconds, who waits."""
        self._drop(self._timer())
        counts = Counter(_kind(row[3]) for row in self._recent)
        times = Histogram()
        for _, start, end, status in self._recent:
            if _kind(status) == "answered":
                times.record(end - start)
        rates = {
            kind: counts[kind] / SPAN for kind in ("answered", "refused", "abandoned", "failed")
        }
        return {
            **rates,
            "p95": times.quantile(0.95) if times.count else None,
            "queue": max(0, len(self._open) - CAPACITY.slots),
            "bound": CAPACITY.slots / LATENCY,
        }  # fmt: skip

    def frame(self) -> bytes:
        """Return the next frame: the calls that ended since the last one, those open, the figures."""
        now = self._timer()
        ended = [row for row in self._recent if row[2] > self._sent]
        self._sent = now
        self.frames += 1
        told = {
            "now": round(now, 3),
            "ended": [_rounded(row) for row in _spread(ended)],
            "open": [_rounded((*row, now, 1)) for row in _spread(list(self._open.values()))],
            **self.figures(),
        }
        return f"event: calls\ndata: {json.dumps(told)}\n\n".encode()

    async def watch(self, response: web.StreamResponse) -> None:
        """Write frames to one who watches, until they leave."""
        self._watchers += 1
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        try:
            while True:
                await self._next.wait()
                await response.write(self._frame)
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._ticker.cancel()
                self._ticker = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._frame = self.frame()
            self._next.set()
            self._next = asyncio.Event()


class Gateway:
    """Hands a seat's requests on to the provider.

    Args:
        url: The provider's address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._rates = Rates(SEAT_RATE, SEAT_BURST)
        self.calls = Calls()
        # No bound of its own: the provider's queue is what is met.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._session.close()

    async def answer(self, request: web.Request, seat: int) -> web.StreamResponse:
        """Answer one request of a seat.

        Raises:
            Refused: The provider has no such path (404), or does not answer (502).
        """
        path = request.path.removeprefix(PATH)
        if METHODS.get(path) != request.method:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is {', '.join(METHODS)}")
        number, status = self.calls.begin(seat), ABANDONED
        try:
            if self._rates.admit(seat):
                response = await self._hand_on(request, path)
            else:
                response = _too_much()
            status = response.status
        except aiohttp.ClientError as error:
            status = HTTPStatus.BAD_GATEWAY
            raise Refused(status, "the room's provider does not answer") from error
        finally:
            self.calls.end(number, status)
        return response

    async def _hand_on(self, request: web.Request, path: str) -> web.StreamResponse:
        body = await request.clone(client_max_size=LARGEST_BODY).read()
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with self._session.request(
            request.method, f"{self._url}{path}", params=request.query, data=body or None, headers=headers
        ) as answer:  # fmt: skip
            kept = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
            if answer.content_type != "text/event-stream":
                return web.Response(
                    status=answer.status, body=await answer.read(), headers={**HEADERS, **kept}
                )
            stream = web.StreamResponse(status=answer.status, headers={**HEADERS, **kept})
            await stream.prepare(request)
            async for piece in answer.content.iter_any():
                await stream.write(piece)
            await stream.write_eof()
            return stream


def token_in(authorization: str) -> str:
    """Return the token from an `Authorization` header: a bearer's, or a password (any user)."""
    kind, _, given = authorization.partition(" ")
    if kind != "Basic":
        return given if kind == "Bearer" else ""
    with suppress(binascii.Error, UnicodeDecodeError):
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    return ""


def _too_much() -> web.Response:
    said = {"error": {"message": f"more than {SEAT_RATE:.0f} requests a second from this seat"}}
    headers = {**HEADERS, "Retry-After": "1", "retry-after-ms": f"{1000 / SEAT_RATE:.0f}"}
    return web.json_response(said, status=HTTPStatus.TOO_MANY_REQUESTS, headers=headers)


def _kind(status: int) -> str:
    if status == ABANDONED:
        return "abandoned"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "refused"
    return "answered" if status < HTTPStatus.MULTIPLE_CHOICES else "failed"


def _spread(rows: list[Any]) -> list[Any]:
    """Return at most `MOST_ROWS` of them, from begin to end."""
    return rows[:: math.ceil(len(rows) / MOST_ROWS)] if rows else []


def _rounded(row: Row) -> list[float]:
    return [row[0], round(row[1], 3), round(row[2], 3), row[3]]
