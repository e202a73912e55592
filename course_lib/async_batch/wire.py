"""Reading a provider's answer: documents from a good one, a typed error from any other."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from langchain_core.documents import Document

from course_lib.errors import BadRequest, RateLimited, ServiceError, Unavailable

__all__ = ["checked_url", "documents", "payload", "require_positive"]

LONGEST_REASON = 200
"""Characters of a provider's own words that are worth showing in an error."""


def checked_url(url: str) -> str:
    """Return `url` without a trailing slash.

    Raises:
        ValueError: It is no http address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"url={url!r} is no http address: pass one like provider.url")
    return url.rstrip("/")


def require_positive(*, max_connections: int, timeout: float) -> None:
    """Refuse limits under which no call could ever be answered.

    Raises:
        ValueError: `max_connections` is below 1, or `timeout` (seconds) is not above 0.
    """
    if max_connections < 1:
        raise ValueError(f"max_connections={max_connections} lets no call through: at least 1")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout} leaves no time for an answer: seconds above 0")


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
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise _failure(call, status, headers, body)
    try:
        return json.loads(body)
    except ValueError:
        raise Unavailable(f"{call} answered {status} with a body that is not JSON") from None


def _failure(call: str, status: int, headers: Mapping[str, str], body: bytes) -> ServiceError:
    message = f"{call} answered {status}: {_reason(body)}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(message, retry_after=_retry_after(headers))
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(message)
    return Unavailable(message)


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


def _reason(body: bytes) -> str:
    try:
        reason = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
    return reason[:LONGEST_REASON]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait: `retry-after-ms` where it is given (exact), else `Retry-After` (RFC 9110)."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    given = headers.get("Retry-After", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
