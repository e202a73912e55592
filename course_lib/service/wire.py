"""What goes over the wire: JSON answers, errors in the shape of OpenAI's, checked requests."""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

__all__ = [
    "LARGEST_BODY",
    "LONGEST_QUERY",
    "Problem",
    "answer",
    "error_answer",
    "json_answer",
    "json_object",
    "rejection",
    "search_request",
    "whole_number",
]

LARGEST_BODY: Final = 2**20
"""Bytes of a request's body, at most: 1 MiB."""

LONGEST_QUERY: Final = 2_000
"""Characters of a search, at most."""

MOST_RESULTS: Final = 100
FEW_RESULTS: Final = 5
DIGITS: Final = 9
"""Of a number in an address: enough for any that is accepted, cheap to convert."""


class Problem(Exception):  # noqa: N818 - it is the request that has one
    """A request that is answered with a 4xx and a reason.

    Attributes:
        status: HTTP status.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: HTTPStatus, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def answer(
    data: Any, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return json_answer(json.dumps(data, ensure_ascii=False).encode(), status, headers)


def json_answer(
    body: bytes, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer whose JSON is there already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def error_answer(
    status: int, message: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error in OpenAI's shape: `{"error": {"type", "message"}}`."""
    return answer(
        {"error": {"type": _error_type(status), "message": message}}, status=status, headers=headers
    )


def _error_type(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def rejection(message: str, retry_after: float) -> web.Response:
    """Return a 429 that says when to come back.

    `Retry-After` is in whole seconds (RFC 9110, section 10.2.3), so rounded up; `retry-after-ms`
    is the exact time, rounded up to a microsecond.
    """
    headers = {
        "Retry-After": str(max(1, math.ceil(retry_after))),
        "retry-after-ms": f"{math.ceil(retry_after * 1e6) / 1e3:.3f}",
    }
    return error_answer(HTTPStatus.TOO_MANY_REQUESTS, message, headers=headers)


def search_request(fields: Mapping[str, str]) -> tuple[str, int]:
    """Return `q` and `k` of a search, checked.

    Raises:
        Problem: `q` is missing, empty or too long, or `k` is out of range.
    """
    query = fields.get("q", "")
    if not query.strip():
        raise Problem(HTTPStatus.BAD_REQUEST, "q is missing or empty: say what to look for")
    if len(query) > LONGEST_QUERY:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"q has {len(query)} characters: at most {LONGEST_QUERY}"
        )
    k = whole_number(fields, "k", default=FEW_RESULTS, least=1, most=MOST_RESULTS)
    return query, k


def whole_number(
    fields: Mapping[str, str], name: str, *, default: int, least: int, most: int
) -> int:
    """Return a field of the address as a whole number between `least` and `most`.

    Raises:
        Problem: It is none.
    """
    text = fields.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= DIGITS and least <= int(text) <= most:
        return int(text)
    raise Problem(
        HTTPStatus.BAD_REQUEST, f"{name}={text[:20]!r}: a whole number from {least} to {most}"
    )


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        Problem: It is not JSON, or not an object.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):  # too deep a nesting is not a mistake of ours
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not JSON: send an object") from None
    if not isinstance(data, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is JSON, but no object: send an object")
    return data
