"""The endpoints with a model behind them: embeddings, rerank, chat."""

import reprlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from course_lib.service import model_replies as replies
from course_lib.service.engine import Admitted, Engine
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.encoders import Encoder
from course_lib.service.knowledge.model import ModelError
from course_lib.service.knowledge.reader import parse_prompt, read
from course_lib.service.model_requests import (
    chat_request,
    embedding_request,
    rerank_request,
)
from course_lib.service.server import Endpoint, connection_number
from course_lib.service.streams import Stream
from course_lib.service.wire import LONGEST_QUERY, Problem, answer, json_answer, told, unfit

__all__ = ["ModelEndpoints"]

EVENTS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
}


class ModelEndpoints:
    """Answers with vectors, orders and sentences, as the engine lets it.

    Args:
        engine: What requests to the provider go through.
        embedder: The model; loaded by the first request that needs it.
    """

    def __init__(self, engine: Engine, embedder: Embedder) -> None:
        self.engine = engine
        self.embedder = embedder

    def routes(self) -> dict[str, dict[str, Endpoint]]:
        """Return endpoints by path and method."""
        return {
            "/rerank": {"POST": self.rerank},
            "/v1/embeddings": {"POST": self.embeddings},
            "/v1/chat/completions": {"POST": self.chat},
            "/v1/models": {"GET": self.models},
            "/v1/models/{id}": {"GET": self.model},
        }

    async def embeddings(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """`POST /v1/embeddings`: a vector for each text."""
        asked, encoder = embedding_request(body), await self._model()
        if asked.dimensions not in {None, encoder.dimensions}:
            message = f"dimensions={asked.dimensions}: {encoder.name} has {encoder.dimensions}"
            raise unfit("dimensions", message)
        query = "\n".join(asked.texts)[:LONGEST_QUERY]
        async with self.engine.admit(
            request.path, query, connection_number(request), tokens=asked.tokens
        ) as admitted:
            vectors = await self.embedder.embed(asked.texts)
            admitted.spend(asked.tokens)
            return json_answer(await replies.embeddings(asked, encoder.name, vectors))

    async def rerank(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """`POST /rerank`: documents in the order of their likeness to a query.

        The second stage of a cascade: likeness is the cosine of two vectors made apart, by a model
        that is better than the search that found the documents. A cross-encoder, which reads both
        texts together, would be better still.
        """
        asked, encoder = rerank_request(body), await self._model()
        query = asked.query[:LONGEST_QUERY]
        async with self.engine.admit(request.path, query, connection_number(request)) as admitted:
            vectors = await self.embedder.embed([asked.query, *asked.documents])
            admitted.spend(asked.tokens)
            likeness = vectors[1:] @ vectors[0]
            return answer(replies.ranking(likeness, asked.top_n, encoder.name, asked.tokens))

    async def chat(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """`POST /v1/chat/completions`: sentences from the passages in the prompt, see `reader`.

        Written at the speed of the behaviour's `generation`, whole or as a stream of events. It
        ends when the client leaves.
        """
        asked = chat_request(body)
        task = parse_prompt(asked.messages)
        await self._model()
        async with self.engine.admit(
            request.path,
            task.question[:LONGEST_QUERY],
            connection_number(request),
            tokens=asked.tokens + asked.most,
        ) as admitted:
            admitted.spend(asked.tokens)
            with admitted.streams.stream() as stream:  # reading is part of the time to first token
                completion = replies.Completion(asked, await read(task, self.embedder))
                if asked.stream:
                    headers = {**EVENTS, **told(self.engine.allowances(request.path))}
                    response = web.StreamResponse(headers=headers)
                    await _write(request, response, completion, stream, admitted)
                    return response
                await stream.until(max(1, len(completion.tokens)))
                admitted.spend(asked.tokens + len(completion.tokens))
                return answer(completion.whole())

    async def models(self, request: web.BaseRequest, _: bytes) -> web.Response:
        """`GET /v1/models`: the names that answers carry, and what is behind them."""
        listed = await self._models()
        async with self.engine.admit(request.path, "", connection_number(request)):
            return answer({"object": "list", "data": listed})

    async def model(self, request: web.BaseRequest, _: bytes) -> web.Response:
        """`GET /v1/models/{id}`: one of them."""
        name = request.path.removeprefix("/v1/models/")
        listed = {each["id"]: each for each in await self._models()}
        if name not in listed:
            raise Problem(
                HTTPStatus.NOT_FOUND,
                f"there is no model {reprlib.repr(name)}: there is {', '.join(listed)}",
                param="model",
                code="model_not_found",
            )
        async with self.engine.admit("/v1/models", name, connection_number(request)):
            return answer(listed[name])

    async def _models(self) -> list[dict[str, Any]]:
        try:
            return replies.models(await self.embedder.model(), "")
        except ModelError as error:
            return replies.models(None, str(error))

    async def _model(self) -> Encoder:
        """Return the model, loaded before the request takes up a slot and its time."""
        try:
            return await self.embedder.model()
        except ModelError as error:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, str(error), code="model_unavailable"
            ) from error


async def _write(
    request: web.BaseRequest,
    response: web.StreamResponse,
    completion: replies.Completion,
    stream: Stream,
    admitted: Admitted,
) -> None:
    """Send tokens as they come; several in one event where the loop was late."""
    prompt, total = completion.asked.tokens, len(completion.tokens)
    written = min(total, await stream.until(1))
    await response.prepare(request)
    await response.write(completion.piece(0, written))
    while written < total:
        admitted.spend(prompt + written)
        start, written = written, min(total, await stream.until(written + 1))
        await response.write(completion.piece(start, written))
    admitted.spend(prompt + written)
    await response.write_eof(completion.end())
