"""What a provider can answer when it does not answer.

    ServiceError
    ├── RateLimited    429: too many requests; `retry_after` says when to come back
    ├── Unavailable    5xx, 408, 425, refused or broken connection: trying again may help
    ├── BadRequest     other 4xx, and 429 of an empty account: trying again will not help
    └── TimedOut       no answer within the time allowed (also a `TimeoutError`)

Clients raise these and nothing else, so that callers need not know which HTTP library is beneath.
Messages name the method, the path and the status; never a header, so never a key. Where others' words
are quoted in them, secrets are taken out first.

Other people's clients raise errors of their own. `service_error_of` says which of these one of them
is, by what it carries: no client is imported for that.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "BadRequest",
    "RateLimited",
    "Secrets",
    "ServiceError",
    "TimedOut",
    "Unavailable",
    "credentials_of",
    "error_of_answer",
    "excerpt",
    "rate_limit_of",
    "retry_after_of",
    "secrets_of",
    "service_error_of",
    "without_credentials",
    "without_secrets",
]

LONGEST_REASON: Final = 200
"""Characters of a provider's own words that are worth showing in an error."""

_EMPTY_ACCOUNT: Final = "insufficient_quota"
"""The code (not the words) by which a 429 says that waiting does not help."""

_TRANSIENT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""Statuses below 500 after which trying again may help (RFC 9110, RFC 8470)."""


class ServiceError(Exception):
    """A call to the provider failed; the subclass says how."""


class RateLimited(ServiceError):  # noqa: N818
    """The provider refused the call because of its rate limit (429).

    Attributes:
        status_code: 429, as errors of other clients carry it.
        retry_after: Seconds to wait before the next attempt; 0.0 if the provider did not say.
    """

    status_code: Final = 429

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ServiceError):  # noqa: N818 - the names of the tree are the vocabulary of the field
    """The provider failed (5xx), or the connection to it did; trying again may help."""


class BadRequest(ServiceError):  # noqa: N818
    """The provider will not answer this request as it stands (4xx); trying again will not help."""


class TimedOut(ServiceError, TimeoutError):  # noqa: N818
    """No answer came within the time allowed for one attempt."""


def error_of_answer(
    call: str,
    status: int,
    headers: Mapping[str, str],
    body: Any,
    secrets: Collection[str] = (),
) -> ServiceError:
    """Return the error that an HTTP answer means whose status is not 2xx.

    Args:
        call: What was asked, for the message: method and path.
        status: HTTP status of the answer.
        headers: Its headers.
        body: Its body, as received or parsed; `error.message` and `error.code` in it are read.
        secrets: What the message must not show, though the answer does.
    """
    details = _details(body)
    reason = excerpt(str(details.get("message", "no reason given")), secrets)
    message = f"{call} answered {status}: {reason}"
    if details.get("code") == _EMPTY_ACCOUNT:
        return BadRequest(message)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(message, retry_after=retry_after_of(headers))
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(message) if status in _TRANSIENT else BadRequest(message)
    return Unavailable(message)


def retry_after_of(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait that headers ask for: finite or not, never below 0.

    That is `retry-after-ms` where it is given (exact), else `Retry-After` in seconds or as a date
    (RFC 9110); 0.0 where there is neither, or nothing that can be read.
    """
    given = {str(name).lower(): value for name, value in headers.items()}
    try:
        return max(0.0, float(given["retry-after-ms"]) / 1000)
    except (KeyError, TypeError, ValueError):
        pass
    told = given.get("retry-after", "")
    try:
        return max(0.0, float(told))
    except (TypeError, ValueError):
        return _seconds_until(told)


def service_error_of(
    error: BaseException, call: str = "the provider", secrets: Collection[str] = ()
) -> ServiceError | None:
    """Return the error of the tree that this one is, or that says the same; None for any other.

    Understood are errors that carry the status of an answer as `status_code` (openai, anthropic),
    on their `response` (httpx, requests) or as `status` (aiohttp), with the answer's headers, and
    those by which these clients say that no answer came.

    Args:
        error: What was raised, by whichever client.
        call: What was asked, for the message.
        secrets: What the message must not show, though the client's own error does.
    """
    if isinstance(error, ServiceError):
        return error
    response = _carried(error, "response")
    status = _status(error, response)
    if status is None:
        return _unanswered(error, call, secrets)
    headers = _carried(response, "headers") or _carried(error, "headers")
    body = _carried(error, "body") or _content(response)
    return error_of_answer(call, status, _mapping(headers), body, secrets)


def rate_limit_of(error: BaseException) -> RateLimited | None:
    """Return the rate limit that this error is, or says in a client's own way; None for any other."""
    known = service_error_of(error)
    return known if isinstance(known, RateLimited) else None


def _details(body: Any) -> Mapping[str, Any]:
    """Return what a provider says of an error: `{"error": {...}}`, or what stands in it."""
    if isinstance(body, (bytes, str)):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {}
    if isinstance(body, dict):
        body = body.get("error", body)
    return body if isinstance(body, dict) else {}


def _carried(carrier: Any, name: str) -> Any:
    """Return an attribute of anybody's error: None where there is none, or where reading it fails."""
    try:
        return getattr(carrier, name, None)
    except Exception:  # noqa: BLE001 - a property of somebody else's
        return None


def _mapping(headers: Any) -> Mapping[str, str]:
    """Return headers, none if they are something else: raw ones are pairs, an old mock has any."""
    try:
        return dict(headers or {})
    except (TypeError, ValueError):
        return {}


def _status(error: BaseException, response: Any) -> int | None:
    carried = (
        _carried(error, "status_code"),
        _carried(response, "status_code"),
        _carried(error, "status"),
        _carried(response, "status"),
    )
    for status in carried:
        if isinstance(status, int) and HTTPStatus.MULTIPLE_CHOICES <= status < 600:  # noqa: PLR2004
            return int(status)
    return None


def _content(response: Any) -> bytes:
    """Return an answer's body, as far as it is there."""
    content = _carried(response, "content")  # which fails for a stream that nobody has read
    return content if isinstance(content, bytes) else b""


_NO_ANSWER: Final[Mapping[tuple[str, str], type[ServiceError]]] = {
    ("openai", "APITimeoutError"): TimedOut,
    ("openai", "APIError"): Unavailable,
    ("anthropic", "APITimeoutError"): TimedOut,
    ("anthropic", "APIError"): Unavailable,
    ("httpx", "TimeoutException"): TimedOut,
    ("httpx", "RequestError"): Unavailable,
    ("httpx2", "TimeoutException"): TimedOut,
    ("httpx2", "RequestError"): Unavailable,
    ("requests", "ConnectTimeout"): TimedOut,  # which is a connection error, too
    ("requests", "Timeout"): TimedOut,
    ("requests", "ConnectionError"): Unavailable,
    ("requests", "ChunkedEncodingError"): Unavailable,
    ("aiohttp", "ServerTimeoutError"): TimedOut,
    ("aiohttp", "ClientConnectionError"): Unavailable,
    ("aiohttp", "ClientPayloadError"): Unavailable,
}
"""Errors of clients to which no answer came: their package, and the name of the class."""


def _unanswered(error: BaseException, call: str, secrets: Collection[str]) -> ServiceError | None:
    for kind in type(error).__mro__:
        known = _NO_ANSWER.get((kind.__module__.partition(".")[0], kind.__name__))
        if known is not None:
            if _details(_carried(error, "body")).get("code") == _EMPTY_ACCOUNT:
                known = BadRequest
            reason = excerpt(_said(error), secrets) or type(error).__name__
            return known(f"{call} gave no answer: {reason}")
    return None


def _said(error: BaseException) -> str:
    """Return an error's own words: none where it cannot tell them."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - anybody's `__str__`
        return ""


def _seconds_until(date: Any) -> float:
    from datetime import UTC, datetime  # noqa: PLC0415 - with the next
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - many modules, seldom needed

    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError, AttributeError):
        return 0.0


# --- secrets in others' words ------------------------------------------------------------------------

_HIDDEN: Final = "***"
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_ESCAPES: Final = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


class Secrets(tuple[str, ...]):
    """Texts that nobody may see, nor in how what holds them looks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secrets({_HIDDEN})"


def excerpt(text: str, secrets: Collection[str] = ()) -> str:
    """Return so much of others' words as is worth showing, without secrets.

    They are taken out before it is cut: of one that is cut in two nobody would see what it was.
    """
    return without_secrets(text, secrets)[:LONGEST_REASON]


def without_secrets(text: str, secrets: Collection[str]) -> str:
    r"""Return a text with stars in place of secrets, however their letters are written in it.

    Also as they are escaped in JSON (`\/`, `\u002f`), and in JSON within JSON, in Python (`\x2f`), in
    addresses (`%2F`) and in HTML (`&#x2F;`).

    Args:
        text: Somebody else's words.
        secrets: What to take out; the longest first, should one be part of another.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = _spellings(secret).sub(_HIDDEN, text)
    return text


def secrets_of(url: str) -> Secrets:
    """Return what of an address nobody may see, as it is written and as it is sent.

    That is its password, or where it has none its user, which is then a key.
    """
    credentials = credentials_of(url)
    if credentials is None:
        return Secrets()
    parts, (user, password) = urlsplit(url), credentials
    sent = b64encode(f"{user}:{password}".encode()).decode()
    return Secrets((parts.password or parts.username or "", password or user, sent))


def credentials_of(url: str) -> tuple[str, str] | None:
    """Return user and password of an address, as they are sent; None if it has none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.username is None and parts.password is None:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def without_credentials(url: str) -> str:
    """Return an address without user and password, for everything that is shown or kept.

    Of one that is none, and perhaps holds a password that should have been quoted, no more is
    returned than what stands behind the last "@".
    """
    try:
        parts = urlsplit(url)
        if not parts.netloc:
            return url.rpartition("@")[2]
        _ = parts.port  # which is refused where it is none
    except ValueError:
        return url.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@lru_cache(maxsize=32)
def _spellings(secret: str) -> re.Pattern[str]:
    """Return a pattern of all ways to write a secret."""
    return re.compile("".join(map(_spelling, re.findall(r"\\+|[^\\]", secret))))


def _spelling(letters: str) -> str:
    """Return a pattern of the ways to write a letter, or a run of backslashes.

    JSON within JSON doubles backslashes each time. Eight of them are looked at, no more: else a text
    of nothing but backslashes would be looked through for each of them. For the same reason no text
    is to be matched in two ways, but where one begins like another. An escape may lack its own
    backslashes, which those of a letter before it have taken.
    """
    letter = letters[0]
    units = letter.encode("utf-16-be", "surrogatepass")
    utf_16 = r"\\{0,8}+".join(f"u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
    utf_8 = "".join(f"%{byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))
    code = ord(letter)
    escaped = rf"\\{{0,8}}+(?:{utf_16}|x{code:02x}|u{code:08x})|{utf_8}|&#(?:0*{code}|x0*{code:x});"
    if letter == "\\":
        doubled = "|".join(rf"\\{{{len(letters) * times}}}" for times in (8, 4, 2, 1))
        return rf"(?:(?i:{escaped}){{{len(letters)}}}|{doubled})"
    ways = [rf"(?i:{escaped})", rf"\\{{0,8}}+{re.escape(letter)}"]
    if letter in _ESCAPES:
        ways.append(rf"\\{{0,8}}+{_ESCAPES[letter]}")
    if letter in _ENTITIES:
        ways.append(_ENTITIES[letter])
    return f"(?:{'|'.join(ways)})"
