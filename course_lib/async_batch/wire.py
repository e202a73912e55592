"""What goes to a provider and what comes back: bodies of requests, and what answers are read as.

Wire formats are OpenAI's for embeddings and chats, and the one common to rerank services.
"""

import base64
import json
from array import array
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from itertools import starmap
from sys import byteorder
from typing import Any
from urllib.parse import urlsplit

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from course_lib.errors import BadRequest, Unavailable, error_of_answer, without_credentials

__all__ = [
    "Messages",
    "chat_body",
    "checked_url",
    "documents",
    "embed_body",
    "good",
    "payload",
    "ranked",
    "reply",
    "rerank_body",
    "search_params",
    "token",
    "vectors",
]

Messages = str | Sequence[Mapping[str, str]]
"""A prompt, or messages with `role` and `content`."""


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


def search_params(query: str, k: int) -> dict[str, str]:
    """Return the parameters of a search.

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
    return {"q": query, "k": str(k)}


def payload(
    call: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str] = (),
) -> Any:
    """Return the JSON value of an answer.

    Args:
        call: What was asked, for messages: method and path.
        status: HTTP status of the answer.
        headers: Its headers.
        body: Its body, as received.
        secrets: What a message must not show, though the provider quotes it.

    Raises:
        ServiceError: The status is not 2xx, or the body is not JSON.
    """
    if not good(status):
        raise error_of_answer(call, status, headers, body, secrets)
    try:
        return json.loads(body)
    except ValueError:
        raise Unavailable(f"{call} answered {status} with a body that is not JSON") from None


def good(status: int) -> bool:
    """Whether an HTTP status is 2xx."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def documents(answer: Any) -> list[Document]:
    """Return the passages in the answer of `/search`, best first."""
    return [
        Document(
            id=found["id"],
            page_content=found["text"],
            metadata={key: found[key] for key in ("title", "topic", "score")},
        )
        for found in answer["results"]
    ]


def embed_body(texts: Sequence[str], model: str) -> dict[str, Any]:
    """Return the body of a request for embeddings.

    Raises:
        TypeError: `texts` is one string, or holds something else.
    """
    return {"model": model, "input": _texts("texts", texts), "encoding_format": "base64"}


def rerank_body(query: str, documents: Sequence[Document], top_n: int | None) -> dict[str, Any]:
    """Return the body of a request to put documents in order.

    Raises:
        TypeError: An argument is of another type.
        ValueError: `top_n` is below 1.
    """
    if not isinstance(query, str):
        raise TypeError(f"query={query!r} is not a string: pass the question, in words")
    if top_n is not None and top_n < 1:
        raise ValueError(f"top_n={top_n} leaves no document: at least 1, or None for all")
    for each in documents:
        if not isinstance(each, Document):
            raise TypeError(f"documents holds {each!r}: pass Documents, as search returns them")
    body = {"query": query, "documents": [each.page_content for each in documents]}
    return body if top_n is None else {**body, "top_n": top_n}


def chat_body(
    messages: Messages, model: str, max_tokens: int | None, *, stream: bool = False
) -> dict[str, Any]:
    """Return the body of a request to continue a chat.

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
    return {**body, "stream": True} if stream else body


def _texts(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(each, str) for each in texts):
        raise TypeError(f"{name}={texts!r}: pass a list of strings, also for one of them")
    return list(texts)


def vectors(answer: Any) -> list[list[float]]:
    """Return the vectors in an answer with embeddings, in the order of the texts."""
    data = sorted(answer["data"], key=lambda each: int(each["index"]))
    return [_floats(each["embedding"]) for each in data]


def _floats(embedding: str | list[float]) -> list[float]:
    if not isinstance(embedding, str):  # a provider that knows no base64
        return embedding
    floats = array("f", base64.b64decode(embedding))
    if byteorder == "big":
        floats.byteswap()
    return floats.tolist()


def ranked(answer: Any, documents: Sequence[Document]) -> list[Document]:
    """Return documents in the order of an answer, best first, each with its new score.

    The documents that are passed stay as they are.
    """
    scores = ((each["index"], float(each["relevance_score"])) for each in answer["results"])

    def scored(number: int, score: float) -> Document:
        document = documents[number]
        metadata = {**document.metadata, "score": score}
        return Document(id=document.id, page_content=document.page_content, metadata=metadata)

    return list(starmap(scored, scores))


def reply(answer: Any) -> AIMessage:
    """Return the message in the answer to a chat, with the tokens used where they are given."""
    choice = answer["choices"][0]
    used = answer.get("usage")
    usage = used and UsageMetadata(
        input_tokens=used["prompt_tokens"],
        output_tokens=used["completion_tokens"],
        total_tokens=used["total_tokens"],
    )
    facts = {"model_name": answer.get("model"), "finish_reason": choice.get("finish_reason")}
    content = choice["message"]["content"] or ""
    return AIMessage(content=content, usage_metadata=usage or None, response_metadata=facts)


def token(call: str, line: bytes) -> str | None:
    """Return the text that a line of a streamed answer carries, "" if none.

    Args:
        call: What was asked, for messages: method and path.
        line: A line, with its end.

    Returns:
        The text; None at the end of the stream.

    Raises:
        Unavailable: The line is no event of a chat.
    """
    field, _, value = line.strip().partition(b":")
    if field != b"data":  # a comment, or the empty line between events
        return ""
    if value.strip() == b"[DONE]":
        return None
    try:
        choices = json.loads(value)["choices"]
        return str(choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise Unavailable(f"{call} answered with a stream that is not one of a chat") from None
