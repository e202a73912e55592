"""The room's HTTP server: what learners say, and the board that shows it.

Its pages are four texts, read at the start: no path leads to a file.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from contextlib import suppress
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from course_lib.lab import read_line
from course_lib.lab.exercises import EXERCISES
from course_lib.room.guard import (
    HEADERS,
    Codes,
    Rates,
    Refused,
    check_place,
    name_in,
    result_in,
)
from course_lib.room.provider import PATH, token_in
from course_lib.room.register import Full, Register, new_code
from course_lib.room.sentences import questions, sentences

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from course_lib.room.provider import Gateway

__all__ = ["Room"]

LONGEST_BODY: Final = 8_192
"""Bytes: a pasted line with all exercises fits."""

MOST_WATCHERS: Final = 40
PAUSE: Final = 0.2
"""Seconds between two updates of a board."""

SIGN_OF_LIFE: Final = 5.0
"""Seconds of silence after which a board is told that the room is there."""

LONGEST_TIMER: Final = 4 * 3600
PAGES: Final = {
    "/board": ("board.html", "text/html"),
    "/board.js": ("board.js", "text/javascript"),
    "/storm.js": ("storm.js", "text/javascript"),
    "/board.css": ("board.css", "text/css"),
}
log = logging.getLogger(__name__)


class Room:
    """The application.

    Args:
        register: What the room knows.
        hosts: Names and addresses that it answers to.
        title: What the board calls itself.
        gateway: The way to the provider that the room shares; without it, there is none.
    """

    def __init__(
        self,
        register: Register,
        hosts: Collection[str],
        title: str = "",
        gateway: Gateway | None = None,
    ) -> None:
        self.register, self.gateway = register, gateway
        self._hosts, self._title = frozenset(hosts), title
        self._rates = Rates(rate=2, burst=30)
        self._sentences, self._questions = sentences(), questions()
        self._watchers = 0
        folder = resources.files("course_lib.room") / "page"
        self._texts = {
            path: ((folder / name).read_text("utf-8"), kind) for path, (name, kind) in PAGES.items()
        }
        self.code = self.key = ""

    async def application(self) -> web.Application:
        """Return the application, once its secrets are there."""
        self.code = await self.register.secret("code", new_code)
        self.key = await self.register.secret("key", lambda: secrets.token_urlsafe(24))
        self._codes = Codes(self.code)
        app = web.Application(client_max_size=LONGEST_BODY, middlewares=[self._guarded])
        for path in PAGES:
            app.router.add_get(path, self._page)
        app.router.add_get("/", self._welcome)
        app.router.add_get("/api/watch", self._watch)
        app.router.add_get("/api/calls", self._watch_calls)
        app.router.add_route("*", f"{PATH}/{{path:.*}}", self._provider)
        for name, handler in {
            "join": self._join, "result": self._result, "hand": self._hand, "leave": self._leave,
            "timer": self._timer, "paste": self._paste,
        }.items():  # fmt: skip
            app.router.add_post(f"/api/{name}", handler)
        return app

    @web.middleware
    async def _guarded(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            check_place(request, self._hosts)
            return await handler(request)
        except Refused as refused:
            return _answer({"error": str(refused)}, refused.status)
        except Full as full:
            return _answer({"error": str(full)}, HTTPStatus.SERVICE_UNAVAILABLE)
        except web.HTTPException as error:
            return _answer({"error": error.reason}, HTTPStatus(error.status))

    async def _welcome(self, _: web.Request) -> web.StreamResponse:
        raise Refused(
            HTTPStatus.NOT_FOUND,
            'a room of the course: join it from a notebook, lab.join("http://…", code, name="…")',
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        text, kind = self._texts[request.path]
        return web.Response(text=text, content_type=kind, headers=HEADERS)

    # --- what learners say ---------------------------------------------------------------------

    async def _join(self, request: web.Request) -> web.StreamResponse:
        message = await _message(request)
        self._codes.check(str(message.get("code", "")), request.remote or "")
        number, token = await self.register.take(name_in(message), str(message.get("token", "")))
        return _answer({"seat": number, "token": token, "provider": PATH if self.gateway else ""})

    async def _result(self, request: web.Request) -> web.StreamResponse:
        seat = self._seat(request)
        await self.register.note(seat, result_in(await _message(request), EXERCISES))
        return _answer({})

    async def _hand(self, request: web.Request) -> web.StreamResponse:
        seat = self._seat(request)
        await self.register.set_hand(seat, up=(await _message(request)).get("up") is True)
        return _answer({})

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        await self.register.leave(self._seat(request))
        return _answer({})

    async def _provider(self, request: web.Request) -> web.StreamResponse:
        """Hand a request on to the provider that the room shares."""
        if self.gateway is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this room has no provider")
        return await self.gateway.answer(request, self._known(request))

    def _known(self, request: web.Request) -> int:
        seat = self.register.seat_of(token_in(request.headers.get("Authorization", "")))
        if seat is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "the room does not know this seat: join again")
        return seat

    def _seat(self, request: web.Request) -> int:
        seat = self._known(request)
        if not self._rates.admit(seat):
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "too much from this seat: wait a little")
        return seat

    # --- what the instructor's board asks ------------------------------------------------------

    def _check_key(self, request: web.Request) -> None:
        given = _bearer(request).encode(errors="replace")
        if not hmac.compare_digest(given, self.key.encode()):
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "open the board by the address that the room printed"
            )

    async def _timer(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        message = await _message(request)
        exercise, seconds = message.get("exercise"), message.get("seconds")
        if exercise not in EXERCISES or type(seconds) is not int:
            raise Refused(HTTPStatus.BAD_REQUEST, "a timer has an exercise and whole seconds")
        await self.register.set_timer(exercise, max(0, min(seconds, LONGEST_TIMER)))
        return _answer({})

    async def _paste(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        try:
            name, results = read_line(str((await _message(request)).get("line", "")))
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        sound = [result_in(result, EXERCISES) for result in results]
        await self.register.paste(name_in({"name": name}), sound)
        return _answer({})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """Send what the board shows: all of it first, then what is new."""
        return await self._stream(request, self._tell)

    async def _watch_calls(self, request: web.Request) -> web.StreamResponse:
        """Send what the provider is asked, while it happens."""
        if self.gateway is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this room has no provider")
        return await self._stream(request, self.gateway.calls.watch)

    async def _stream(
        self, request: web.Request, tell: Callable[[web.StreamResponse], Awaitable[None]]
    ) -> web.StreamResponse:
        self._check_key(request)
        if self._watchers >= MOST_WATCHERS:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many boards are open")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        self._watchers += 1
        try:
            await response.prepare(request)
            await tell(response)
        except ConnectionError:
            pass  # the board was closed
        finally:
            self._watchers -= 1
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        version = -1
        await _event(response, "room", self._facts())
        while True:
            state = self.register.newer(version)
            version = state["version"]
            await _event(response, "change", state)
            await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN_OF_LIFE):
                    await self.register.change_from(version)

    def _facts(self) -> dict[str, Any]:
        """Return what stays the same as long as the room runs."""
        exercises = [{"id": each.id, "title": each.title} for each in EXERCISES.values()]
        facts = {"exercises": exercises, "sentences": self._sentences, "title": self._title}
        return {**facts, "questions": self._questions, "code": self.code}


async def _event(response: web.StreamResponse, kind: str, data: dict[str, Any]) -> None:
    await response.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())


async def _message(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that a request carries.

    Raises:
        Refused: It is none.
    """
    if request.content_type != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the room takes application/json")
    try:
        message = json.loads(await request.read())
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "the room takes a JSON object")
    return message


def _bearer(request: web.Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _answer(data: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.json_response(data, status=status, headers=HEADERS)
