"""What goes over the wire: JSON answers, errors in the shape of OpenAI's, checked requests."""

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any, Final, TypeGuard
from uuid import uuid4

from aiohttp import web

from course_lib.service.limits import Allowance

__all__ = [
    "LARGEST_BODY",
    "LONGEST_QUERY",
    "Problem",
    "answer",
    "error_answer",
    "is_unicode",
    "json_answer",
    "json_list",
    "json_object",
    "rejection",
    "search_request",
    "told",
    "unfit",
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
        param: The field that does not fit, or None.
        code: What a program can tell it by, or None.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param, self.code = param, code
        self.headers = headers

    def answer(self) -> web.Response:
        """Return what the request is answered."""
        return error_answer(
            self.status, str(self), param=self.param, code=self.code, headers=self.headers
        )


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
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an error in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""
    error = {"message": message, "type": _error_type(status), "param": param, "code": code}
    return answer({"error": error}, status=status, headers=headers)


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
    return error_answer(
        HTTPStatus.TOO_MANY_REQUESTS, message, code="rate_limit_exceeded", headers=headers
    )


def told(allowances: Mapping[str, Allowance]) -> dict[str, str]:
    """Return the headers of every answer, as OpenAI sends them.

    Args:
        allowances: What is left of each limit, by what it counts.

    Returns:
        `x-request-id`, new each time, and the three `x-ratelimit-...` of each limit.
    """
    headers = {"x-request-id": f"req_{uuid4().hex}"}
    for what, allowance in allowances.items():
        headers[f"x-ratelimit-limit-{what}"] = str(allowance.most)
        headers[f"x-ratelimit-remaining-{what}"] = str(allowance.left)
        headers[f"x-ratelimit-reset-{what}"] = f"{allowance.seconds:.3f}s"
    return headers


async def json_list(items: Iterable[Any], at_once: int) -> bytes:
    """Return a JSON array, written a few items at a time, with a turn for others in between.

    Thousands of items are tenths of a second of work: in one piece it would hold up every other
    answer, and in a thread as well, as `json` keeps the GIL.
    """
    written, rest = [], iter(items)
    while piece := list(islice(rest, at_once)):
        written.append(json.dumps(piece, ensure_ascii=False)[1:-1].encode())
        await asyncio.sleep(0)
    return b"[" + b", ".join(written) + b"]"


def search_request(fields: Mapping[str, str]) -> tuple[str, int]:
    """Return `q` and `k` of a search, checked.

    Raises:
        Problem: `q` is missing, empty or too long, or `k` is out of range.
    """
    query = fields.get("q", "")
    if not query.strip():
        raise unfit("q", "q is missing or empty: say what to look for")
    if len(query) > LONGEST_QUERY:
        raise unfit("q", f"q has {len(query)} characters: at most {LONGEST_QUERY}")
    if not is_unicode(query):
        raise unfit("q", "q holds what is no UTF-8: encode it, and then percent-encode the bytes")
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
    raise unfit(name, f"{name}={text[:20]!r}: a whole number from {least} to {most}")


def is_unicode(value: Any) -> TypeGuard[str]:
    """Whether it is a string that UTF-8 can carry: JSON and addresses can hold half a character."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def unfit(param: str, message: str, *, code: str = "invalid_value") -> Problem:
    """Return the problem of a field that does not fit."""
    return Problem(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        Problem: It is not JSON, or not an object.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):  # too deep a nesting is not a mistake of ours
        raise Problem(
            HTTPStatus.BAD_REQUEST, "the body is not JSON: send an object", code="invalid_json"
        ) from None
    if not isinstance(data, dict):
        message = "the body is JSON, but no object: send an object"
        raise Problem(HTTPStatus.BAD_REQUEST, message, code="invalid_json")
    return data
