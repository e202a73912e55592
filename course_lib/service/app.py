"""The application: which request goes where, and what it is answered."""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from course_lib.service.behaviour import ENDPOINTS
from course_lib.service.engine import STATUSES, Dropped, Engine, Failed, Rejected, TooLarge
from course_lib.service.guard import Unwelcome, check, endpoint_of
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.lexical import LexicalIndex
from course_lib.service.ledger import KEPT_CALLS
from course_lib.service.metrics import exposition
from course_lib.service.model_endpoints import ModelEndpoints
from course_lib.service.server import CONTINUE, Endpoint, connection_number, make_server
from course_lib.service.wire import (
    LARGEST_BODY,
    LONGEST_QUERY,
    Problem,
    answer,
    error_answer,
    json_answer,
    json_list,
    json_object,
    rejection,
    search_request,
    told,
    whole_number,
)

__all__ = ["App"]

BLANK: Final = 204

CODES: Final = {Failed: None, TooLarge: "request_too_large"}
"""What a program can tell these errors by, beside their status."""

CALLS_AT_ONCE: Final = 200
"""Calls of a ledger written before others get their turn at the loop: half a millisecond of work."""


class App:
    """Answers requests out of an index and from a model, as the engine lets it.

    Args:
        engine: What requests to the provider go through.
        index: What `/search` looks in.
        embedder: What `/rerank`, `/v1/embeddings` and `/v1/chat/completions` compute with.
    """

    def __init__(self, engine: Engine, index: LexicalIndex, embedder: Embedder) -> None:
        self.engine = engine
        self.index = index
        self.routes: dict[str, dict[str, Endpoint]] = {
            # The provider's own: each goes through `self.engine.admit`.
            "/search": {"GET": self.search},
            **ModelEndpoints(engine, embedder).routes(),
            # About the process: free of behaviour and ledger.
            "/health": {"GET": self.health},
            "/metrics": {"GET": self.metrics},
            "/admin/behaviour": {"GET": self.behaviour, "PUT": self.set_behaviour},
            "/admin/ledger": {"GET": self.ledger, "DELETE": self.reset},
        }

    def server(self) -> web.Server:
        """Return a server of this application, not yet listening."""
        return make_server(self.handle)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is, in JSON."""
        response = await self._respond(request)
        if not response.prepared:  # a stream has told it already
            endpoint = endpoint_of(request.path)
            limited = endpoint in ENDPOINTS
            response.headers.update(told(self.engine.allowances(endpoint) if limited else {}))
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            check(request)
            endpoint = self._endpoint(request.method, request.path)
            body = await _body(request) if request.can_read_body else b""
            return await endpoint(request, body)
        except Unwelcome as problem:
            return problem.answer()
        except Problem as problem:
            self._refuse(request, problem)
            return problem.answer()
        except Rejected as rejected:
            return rejection(str(rejected), rejected.retry_after)
        except (Failed, TooLarge) as failed:
            return error_answer(STATUSES[type(failed)], str(failed), code=CODES[type(failed)])
        except (Dropped, ConnectionError):  # cut it, or the client has, in the middle of its answer
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # goes nowhere: the connection is cut

    def _endpoint(self, method: str, path: str) -> Endpoint:
        """Return what answers; `HEAD` is answered as `GET`, and the body stays here."""
        one_model = endpoint_of(path) != path
        methods = self.routes.get("/v1/models/{id}" if one_model else path)
        if methods is None:
            paths = ", ".join(self.routes)
            message = f"there is no {path[:80]!r}: there is {paths}"
            raise Problem(HTTPStatus.NOT_FOUND, message, code="unknown_path")
        known = methods | ({"HEAD": methods["GET"]} if "GET" in methods else {})
        if method not in known:
            allowed = ", ".join(known)
            raise Problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{path[:80]} takes {allowed}, not {method[:80]}",
                code="method_not_allowed",
                headers={"Allow": allowed},
            )
        return known[method]

    def _refuse(self, request: web.BaseRequest, problem: Problem) -> None:
        """Take down what was refused for what it says: it was seen, and costs no limit."""
        endpoint = endpoint_of(request.path)
        if endpoint in ENDPOINTS:
            query = request.query.get("q", "")[:LONGEST_QUERY].encode(errors="replace").decode()
            number = connection_number(request)
            self.engine.refuse(endpoint, query, problem.status, number)

    async def search(self, request: web.BaseRequest, _: bytes) -> web.Response:
        """`GET /search?q=&k=`: the passages that share words with the query, best first."""
        query, k = search_request(request.query)
        async with self.engine.admit("/search", query, connection_number(request)):
            found = self.index.search(query, k)
            results = [
                {
                    "id": passage.id,
                    "title": passage.title,
                    "topic": passage.topic,
                    "text": passage.text,
                    "score": round(score, 4),
                }
                for passage, score in found
            ]
            return answer({"query": query, "results": results})

    async def health(self, _: web.BaseRequest, __: bytes) -> web.Response:
        """`GET /health`: it listens, and has read its passages."""
        return answer({"status": "ok", "passages": len(self.index.passages)})

    async def metrics(self, _: web.BaseRequest, __: bytes) -> web.Response:
        """`GET /metrics`: the ledger's counts as Prometheus text."""
        text, content_type = await exposition(self.engine.recorder)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def behaviour(self, _: web.BaseRequest, __: bytes) -> web.Response:
        """`GET /admin/behaviour`: what it does now."""
        return answer(self.engine.behaviour.to_dict())

    async def set_behaviour(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """`PUT /admin/behaviour?path=`: change the parts that the body names, null is off.

        With a path, for that endpoint alone.
        """
        path = request.query.get("path")
        try:
            self.engine.behaviour = self.engine.behaviour.changed(json_object(body), path=path)
        except (ValueError, RecursionError) as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error), code="invalid_value") from None
        return answer(self.engine.behaviour.to_dict())

    async def ledger(self, request: web.BaseRequest, _: bytes) -> web.Response:
        """`GET /admin/ledger?last=`: what it saw, with the last calls."""
        last = whole_number(request.query, "last", default=KEPT_CALLS, least=0, most=KEPT_CALLS)
        seen = self.engine.ledger(last=last)
        calls = await json_list(seen.rows(), CALLS_AT_ONCE)
        counts = replace(seen, calls=()).to_dict()
        del counts["calls"]
        return json_answer(b'{"calls": ' + calls + b", " + json.dumps(counts).encode()[1:])

    async def reset(self, _: web.BaseRequest, __: bytes) -> web.Response:
        """`DELETE /admin/ledger`: begin a new ledger, restart all draws."""
        self.engine.reset()
        return web.Response(status=BLANK)


async def _body(request: web.BaseRequest) -> bytes:
    """Read the whole body, for every endpoint alike.

    Raises:
        Problem: It is larger than 1 MiB (413) or breaks off (400).
    """
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is too large: at most {LARGEST_BODY} bytes",
        code="body_too_large",
    )
    if (request.content_length or 0) > LARGEST_BODY:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue":  # curl, with a large body
        await request.writer.write(CONTINUE)
    try:
        return await request.read()  # counts what comes in, and gives up at 1 MiB
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except web.RequestPayloadError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"the body is broken: {error}", code="broken_body"
        ) from None
