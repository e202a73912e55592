"""What goes to a provider and what comes back, for both clients: requests, and how answers are read.

Wire formats are OpenAI's for embeddings and chats, and the one common to rerank services. An answer
is read in one place, and is either what was asked for or an error of `course_lib.errors`.
"""

import base64
import json
import math
import zlib
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from sys import byteorder
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from course_lib.checks import require_whole
from course_lib.errors import (
    BadRequest,
    ServiceError,
    Unavailable,
    credentials_of,
    error_of_answer,
    excerpt,
    without_credentials,
)

__all__ = [
    "CODINGS",
    "LARGEST_ANSWER",
    "LONGEST_LINE",
    "Decoder",
    "Messages",
    "Request",
    "authorization",
    "chat_request",
    "checked_url",
    "embed_request",
    "good",
    "rerank_request",
    "search_request",
    "token",
]

T = TypeVar("T")

Messages = str | Sequence[Mapping[str, str]]
"""A prompt, or messages with `role` and `content`."""

LARGEST_ANSWER: Final = 64 * 2**20
"""Bytes of an answer's body, decompressed, at most: some ten thousand vectors, or the longest stream
that a model writes."""

LONGEST_LINE: Final = 2**20
"""Bytes of one event of a stream, at most."""

CODINGS: Final = "gzip, deflate"
"""`Accept-Encoding`: what `Decoder` undoes."""

_MISSHAPEN: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,  # pydantic's and json's among them
)
"""What reading an answer of another shape may raise."""


class _UnfitError(ValueError):
    """An answer has the right shape, and yet it cannot be one; the message says why."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request, and how its answer is read.

    Attributes:
        method: HTTP method.
        path: Path of the address.
        read: Makes the result of the answer's JSON value; raises where it is none.
        params: Parameters of the address.
        body: JSON, encoded; None for none.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    params: Mapping[str, str] | None = None
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the body."""
        return {} if self.body is None else {"Content-Type": "application/json"}

    def answer(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Collection[str] = (),
    ) -> T:
        """Return the result.

        Args:
            status: HTTP status of the answer.
            headers: Its headers.
            body: Its body, decompressed.
            secrets: What a message must not show, though the provider quotes it.

        Raises:
            ServiceError: The status is not 2xx, or the body is no answer to this request.
        """
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise Unavailable(
                f"{self} answered {status}: redirects are not followed, as they would carry what is "
                "asked elsewhere; give the client the address that answers"
            )
        if not good(status):
            raise error_of_answer(str(self), status, headers, body, secrets)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Unavailable(f"{self} answered {status} with a body that is not JSON") from None
        try:
            return self.read(value)
        except _MISSHAPEN as error:
            raise self._failure(status, headers, value, error, secrets) from None

    def _failure(
        self,
        status: int,
        headers: Mapping[str, str],
        value: Any,
        error: Exception,
        secrets: Collection[str],
    ) -> ServiceError:
        said = _error_inside(str(self), status, headers, value, secrets)
        if said is not None:
            return said
        reason = excerpt(str(error)) if isinstance(error, _UnfitError) else "its shape is another"
        return Unavailable(f"{self} answered {status} with what is no answer to it: {reason}")


class Decoder:
    """An answer's bytes as they come: decompressed, and no more of them than are taken.

    A few hundred kilobytes of zeros, compressed, are gigabytes. So they are decompressed here, so
    far as there is room.

    Args:
        request: What was asked, for messages.
        headers: Headers of the answer.
        most: Bytes that are taken.

    Raises:
        Unavailable: It is compressed in a way that was not asked for.
    """

    def __init__(
        self, request: Request[Any], headers: Mapping[str, str], most: int = LARGEST_ANSWER
    ) -> None:
        self._request, self._most, self._room = request, most, most
        coding = headers.get("Content-Encoding", "").strip().lower()
        if coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise Unavailable(f"{request} answered in an encoding that was not asked for")
        # With 32 added to the largest window it reads both forms' headers.
        self._inflate = None if coding in {"", "identity"} else zlib.decompressobj(32 + 15)

    def decode(self, piece: bytes) -> bytes:
        """Return what the next bytes stand for.

        Raises:
            Unavailable: They are too many, or not compressed as the answer said.
        """
        if self._inflate is not None:
            try:
                piece = self._inflate.decompress(piece, self._room + 1)
            except zlib.error:
                raise Unavailable(f"{self._request} answered with broken compression") from None
        self._room -= len(piece)
        if self._room < 0:
            raise Unavailable(f"{self._request} answered with more than {self._most} bytes")
        return piece


def checked_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises:
        TypeError: It is not a string.
        ValueError: It is no http address.
    """
    if not isinstance(url, str):
        raise TypeError(f"url={url!r} is not an address: pass one as a string, as provider.url is")
    if not _is_http(url):
        shown = without_credentials(url)
        raise ValueError(f"url={shown!r} is no http address: pass one like provider.url")
    return url.rstrip("/")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is refused where it is none
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def authorization(url: str) -> dict[str, str]:
    """Return the header that carries user and password of an address (RFC 7617), if it has any.

    Sent so, they are in no address that somebody might show.
    """
    credentials = credentials_of(url)
    if credentials is None:
        return {}
    sent = base64.b64encode(":".join(credentials).encode()).decode()
    return {"Authorization": f"Basic {sent}"}


def good(status: int) -> bool:
    """Whether an HTTP status is 2xx."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


# --- requests -------------------------------------------------------------------------------------


def search_request(query: str, k: int) -> Request[list[Document]]:
    """Return the request for passages that fit a query.

    Raises:
        TypeError: The query is not a string.
        BadRequest: It holds half a character, which no encoding can carry.
    """
    if not isinstance(query, str):
        raise TypeError(f"query={query!r} is not a string: pass what is looked for, in words")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"the query cannot be sent: {error}") from None
    return Request("GET", "/search", _documents, params={"q": query, "k": str(k)})


def rerank_request(
    query: str, documents: Sequence[Document], top_n: int | None
) -> Request[list[Document]]:
    """Return the request to put documents in order.

    Raises:
        TypeError: An argument is of another type.
        ValueError: `top_n` is no whole number, or below 1.
    """
    if not isinstance(query, str):
        raise TypeError(f"query={query!r} is not a string: pass the question, in words")
    for each in documents:
        if not isinstance(each, Document):
            raise TypeError(f"documents holds {each!r}: pass Documents, as search returns them")
    body: dict[str, Any] = {
        "query": query,
        "documents": [each.page_content for each in documents],
    }
    if top_n is not None:
        require_whole(top_n=top_n)
        body["top_n"] = top_n
    return _post("/rerank", body, partial(_ranked, documents=documents, most=top_n))


def embed_request(texts: Sequence[str], model: str) -> Request[list[list[float]]]:
    """Return the request for embeddings.

    Raises:
        TypeError: `texts` is one string, or holds something else.
    """
    if isinstance(texts, str) or not all(isinstance(each, str) for each in texts):
        raise TypeError(f"texts={texts!r}: pass a list of strings, also for one of them")
    body = {"model": model, "input": list(texts), "encoding_format": "base64"}
    return _post("/v1/embeddings", body, partial(_vectors, count=len(texts)))


def chat_request(
    messages: Messages, model: str, max_tokens: int | None, *, stream: bool = False
) -> Request[AIMessage]:
    """Return the request to continue a chat; the answer of a stream is read by `token`.

    Raises:
        TypeError: `messages` is neither a prompt nor messages.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not all(isinstance(each, Mapping) for each in messages):
        raise TypeError(
            f"messages={messages!r}: pass a prompt, or messages like "
            "{'role': 'user', 'content': 'Hello'}"
        )
    body: dict[str, Any] = {"model": model, "messages": list(map(dict, messages))}
    if max_tokens is not None:
        body["max_completion_tokens"] = max_tokens
    if stream:
        body["stream"] = True
    return _post("/v1/chat/completions", body, _message)


def _post(path: str, body: Any, read: Callable[[Any], T]) -> Request[T]:
    return Request("POST", path, read, body=json.dumps(body).encode())


# --- answers --------------------------------------------------------------------------------------


def _documents(answer: Any) -> list[Document]:
    """Return the passages in the answer of `/search`, best first."""
    return [
        Document(
            id=_text(found["id"]),
            page_content=_text(found["text"]),
            metadata={
                "title": _text(found["title"]),
                "topic": _text(found["topic"]),
                "score": _number(found["score"]),
            },
        )
        for found in _list(answer["results"])
    ]


def _ranked(answer: Any, documents: Sequence[Document], most: int | None) -> list[Document]:
    """Return documents in the order of an answer, best first, each with its new score.

    The documents that are passed stay as they are.
    """
    results = _list(answer["results"])
    most = min(len(documents), most or len(documents))
    if len(results) > most:
        raise _UnfitError(f"{len(results)} results, of which {most} were asked for")
    places = [_place(each["index"], len(documents)) for each in results]
    if len(set(places)) < len(places):
        raise _UnfitError("a document has two places")
    scores = [_number(each["relevance_score"]) for each in results]
    ordered = [documents[place] for place in places]
    return [
        Document(
            id=document.id,
            page_content=document.page_content,
            metadata={**document.metadata, "score": score},
        )
        for document, score in zip(ordered, scores, strict=True)
    ]


def _vectors(answer: Any, count: int) -> list[list[float]]:
    """Return the vectors in an answer with embeddings, in the order of the texts."""
    data = _list(answer["data"])
    found = {_place(each["index"], count): _floats(each["embedding"]) for each in data}
    if not len(data) == len(found) == count:
        raise _UnfitError(f"{len(data)} vectors, of {len(found)} texts; {count} were sent")
    if len(set(map(len, found.values()))) > 1:
        raise _UnfitError("vectors of several lengths")
    return [found[number] for number in range(count)]


def _floats(embedding: Any) -> list[float]:
    """Return a vector, packed or as a list (of a provider that knows no base64)."""
    if isinstance(embedding, str):
        packed = array("f", base64.b64decode(embedding, validate=True))
        if byteorder == "big":
            packed.byteswap()
        floats = packed.tolist()
    else:
        floats = array("d", _list(embedding)).tolist()
    if not floats or not math.isfinite(sum(floats)):  # a sum of finite numbers, or one that is not
        raise _UnfitError("a vector without numbers")
    return floats


def _message(answer: Any) -> AIMessage:
    """Return the message in the answer to a chat, with the tokens used where they are given."""
    choice = answer["choices"][0]
    content, model, end = (
        choice["message"]["content"],
        answer.get("model"),
        choice.get("finish_reason"),
    )
    return AIMessage(
        content="" if content is None else _text(content),
        usage_metadata=_usage(answer.get("usage")),
        response_metadata={
            "model_name": model if isinstance(model, str) else None,
            "finish_reason": end if isinstance(end, str) else None,
        },
    )


def _usage(used: Any) -> UsageMetadata | None:
    """Return the tokens used, None where they are not given, or in part: the text is an answer."""
    if not isinstance(used, dict):
        return None
    read, written = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
    if read is None or written is None:
        return None
    total = _count(used.get("total_tokens"))
    return UsageMetadata(
        input_tokens=read,
        output_tokens=written,
        total_tokens=read + written if total is None else total,
    )


def token(
    request: Request[Any], status: int, line: bytes, secrets: Collection[str] = ()
) -> str | None:
    """Return the text that a line of a streamed answer carries, "" if none.

    Args:
        request: What was asked, for messages.
        status: HTTP status of the answer.
        line: A line, with or without its end.
        secrets: What a message must not show, though the provider quotes it.

    Returns:
        The text; None at the end of the stream.

    Raises:
        ServiceError: The line is no event of a chat; an error that it tells has its own class.
    """
    field, _, data = line.strip().partition(b":")
    if field != b"data":  # a comment, or the empty line between events
        return ""
    if data.strip() == b"[DONE]":
        return None
    event: Any = None
    try:
        event = json.loads(data)
        choices = event["choices"]
        text = choices[0]["delta"].get("content") if choices else None
        return "" if text is None else _text(text)
    except _MISSHAPEN:
        said = _error_inside(str(request), status, {}, event, secrets)
    message = f"{request} answered with a stream that is not one of a chat"
    raise said or Unavailable(message) from None


def _error_inside(
    call: str, status: int, headers: Mapping[str, str], value: Any, secrets: Collection[str]
) -> ServiceError | None:
    """Return the error that an answer tells, though its status does not; None if it tells none.

    Gateways do that when the provider behind them failed; the status may then be its code.
    """
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not error:
        return None
    code = error.get("code")
    if isinstance(code, int) and HTTPStatus.BAD_REQUEST <= code < 600:  # noqa: PLR2004
        status = code
    return error_of_answer(call, status, headers, value, secrets)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(value)
    return float(value)


def _count(value: Any) -> int | None:
    """Return a whole number, not below 0; None for whatever else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


def _place(value: Any, count: int) -> int:
    """Return the position of one of so many."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise _UnfitError("an index that nothing has that was sent")
    return value
