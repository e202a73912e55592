"""Reading a provider's answer: documents from a good one, a typed error from any other."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from langchain_core.documents import Document

from course_lib.errors import BadRequest, Unavailable, error_of_answer

__all__ = ["checked_url", "documents", "good", "payload", "search_params"]


def checked_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises:
        TypeError: It is not a string.
        ValueError: It is no http address.
    """
    if not isinstance(url, str):
        raise TypeError(f"url={url!r} is not an address: pass one as a string, as provider.url is")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"url={url!r} is no http address: pass one like provider.url")
    return url.rstrip("/")


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


def payload(call: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Return the JSON value of an answer.

    Args:
        call: What was asked, for messages: method and path.
        status: HTTP status of the answer.
        headers: Its headers.
        body: Its body, as received.

    Raises:
        ServiceError: The status is not 2xx, or the body is not JSON.
    """
    if not good(status):
        raise error_of_answer(call, status, headers, body)
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
