"""Answers of the endpoints with a model, in the shapes that existing clients read.

Nothing in them depends on the time or on earlier requests: the same question has the same answer,
down to its id.
"""

import base64
import hashlib
import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from course_lib.service.knowledge.encoders import Encoder
from course_lib.service.knowledge.tokens import pieces
from course_lib.service.model_requests import ChatRequest, EmbeddingRequest
from course_lib.service.wire import json_list

__all__ = ["CHAT_MODEL", "DONE", "Completion", "embeddings", "event", "models", "ranking"]

CHAT_MODEL: Final = "stand-in-reader"
"""Name of the chat model: it stands in for a language model, and says so."""

DONE: Final = b"data: [DONE]\n\n"
"""What ends a stream of events."""


def event(data: Any) -> bytes:
    """Return JSON as one event of a stream (Server-Sent Events)."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


AT_ONCE: Final = 16
"""Vectors written before others get their turn at the loop: 4 ms of work."""


async def embeddings(asked: EmbeddingRequest, model: str, vectors: NDArray[np.float32]) -> bytes:
    """Return vectors as `/v1/embeddings` gives them; of many, a few at a time."""
    packed = map(_base64, vectors) if asked.base64 else (vector.tolist() for vector in vectors)
    data = (
        {"object": "embedding", "index": index, "embedding": embedding}
        for index, embedding in enumerate(packed)
    )
    listed = await json_list(data, AT_ONCE)
    rest = json.dumps({"model": model, "usage": _usage(asked.tokens)}).encode()
    return b'{"object": "list", "data": ' + listed + b", " + rest[1:]


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def ranking(likeness: NDArray[np.float32], top_n: int, model: str, tokens: int) -> dict[str, Any]:
    """Return documents in order of their likeness, as `/rerank` gives them; equals by position."""
    order = np.argsort(-likeness, kind="stable")[:top_n].tolist()
    results = [
        {"index": number, "relevance_score": round(float(likeness[number]), 6)} for number in order
    ]
    return {"model": f"cascade-{model}", "results": results, "usage": _usage(tokens)}


def models(encoder: Encoder | None, reason: str) -> list[dict[str, Any]]:
    """Return the models that `/v1/models` lists.

    Args:
        encoder: The embedding model, if there is one.
        reason: Why there is none.
    """
    listed = [_model(CHAT_MODEL, "Quotes sentences from the passages in the prompt: no LLM.")]
    if encoder is None:
        listed = [_model(each["id"], f"Not available: {reason}") for each in listed]
    else:
        why = f" It stands in: {encoder.stands_in}" if encoder.stands_in else ""
        listed.append(_model(encoder.name, f"Embeddings, {encoder.dimensions} dimensions.{why}"))
        cascade = "The embedding model's cosine, to reorder what a cheap search found."
        listed.append(_model(f"cascade-{encoder.name}", f"{cascade} No cross-encoder."))
    return listed


def _model(name: str, description: str) -> dict[str, Any]:
    fixed = {"object": "model", "created": 0, "owned_by": "course_lib"}
    return {"id": name, **fixed, "description": description}


def _usage(prompt: int, completion: int | None = None) -> dict[str, int]:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + (completion or 0)}
    return usage if completion is None else usage | {"completion_tokens": completion}


class Completion:
    """The answer to a chat, whole or in pieces.

    Args:
        asked: The request.
        text: The answer, all of it; it is cut where the request says.
    """

    def __init__(self, asked: ChatRequest, text: str) -> None:
        ends = [text.find(stop) for stop in asked.stops if stop in text]
        tokens = pieces(text[: min(ends, default=None)])
        self.tokens = tokens[: asked.most]
        self.asked = asked
        self._end = "stop" if len(tokens) <= asked.most else "length"
        digest = hashlib.sha256(repr(asked.messages).encode(errors="replace")).hexdigest()
        self._id = f"chatcmpl-{digest[:24]}"

    def whole(self) -> dict[str, Any]:
        """Return the answer in one piece."""
        message = {"role": "assistant", "content": "".join(self.tokens), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self._end, "logprobs": None}
        return self._frame("chat.completion", [choice]) | {"usage": self._used()}

    def piece(self, start: int, stop: int) -> bytes:
        """Return the event that carries some tokens."""
        delta = {"content": "".join(self.tokens[start:stop])}
        return self._chunk(delta if start else {"role": "assistant", **delta, "refusal": None})

    def end(self) -> bytes:
        """Return the events that end the stream."""
        events = [self._chunk({}, self._end)]
        if self.asked.usage:
            events.append(event(self._frame("chat.completion.chunk", []) | {"usage": self._used()}))
        return b"".join([*events, DONE])

    def _chunk(self, delta: dict[str, Any], end: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
        usage = {"usage": None} if self.asked.usage else {}  # it comes in an event of its own
        return event(self._frame("chat.completion.chunk", [choice]) | usage)

    def _frame(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        fixed = {"id": self._id, "object": kind, "created": 0, "model": CHAT_MODEL}
        return {**fixed, "choices": choices}

    def _used(self) -> dict[str, int]:
        return _usage(self.asked.tokens, len(self.tokens))
