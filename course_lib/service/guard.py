"""Who may ask: programs on this machine, and the provider's own pages; no page of anybody else.

A page that a browser shows can send requests to 127.0.0.1, too. Two doors are shut on it:

- **Host.** A name of the attacker's own may resolve to 127.0.0.1 (DNS rebinding): for the browser
  that page then has the provider's origin, and may read its answers. Its requests still carry that
  name as their host, so only names that nobody else can have are answered.
- **Origin.** A page of another origin may send what it cannot read the answer of: that would change
  the behaviour, use up limits and stand in the ledger.
"""

import ipaddress
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from course_lib.service.behaviour import ENDPOINTS
from course_lib.service.wire import Problem

__all__ = ["Unwelcome", "check", "endpoint_of"]

READING: Final = frozenset({"GET", "HEAD"})

OWN_SITES: Final = frozenset({"same-origin", "none"})
"""What `Sec-Fetch-Site` says of requests of our own pages, and of an address typed in."""


class Unwelcome(Problem):
    """A request that is refused for where it comes from; nothing of it is kept."""


def endpoint_of(path: str) -> str:
    """Return the endpoint that a path belongs to: one model is asked for below `/v1/models`."""
    return "/v1/models" if path.startswith("/v1/models/") else path


def check(request: web.BaseRequest) -> None:
    """Let a request through, or refuse it for where it comes from.

    A page of another origin may show what is told of the process, such as `/metrics`: it changes
    nothing, stands in no ledger, and its browser keeps the answer from it.

    Raises:
        Unwelcome: The host is not ours (421), or a page of another origin asks (403).
    """
    host = _host(request)
    harmless = request.method in READING and endpoint_of(request.path) not in ENDPOINTS
    if not harmless and _from_elsewhere(request, host):
        raise Unwelcome(
            HTTPStatus.FORBIDDEN,
            "a page of another origin may not use this provider: call it from a program",
            code="foreign_origin",
        )


def _host(request: web.BaseRequest) -> str:
    """Return the host that is asked, "" for an old client that names none."""
    named = request.headers.getall("Host", [])
    if not named and request.version < HttpVersion11:
        return ""
    if len(named) != 1:  # RFC 9112, section 3.2
        message = f"a request names its `Host` once, this one {len(named)} times"
        raise Unwelcome(HTTPStatus.BAD_REQUEST, message, code="foreign_host")
    if not _is_ours(named[0]):
        raise Unwelcome(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this provider answers to localhost and to addresses in figures, such as 127.0.0.1: "
            "call it by the address that it gave you",
            code="foreign_host",
        )
    return named[0]


@lru_cache(maxsize=64)
def _is_ours(host: str) -> bool:
    """Whether a host is no name that somebody else could have resolve to this machine."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
        if parts.netloc != host or "@" in host:
            return False
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _from_elsewhere(request: web.BaseRequest, host: str) -> bool:
    """Whether a browser says that a page of another origin sent it; programs say nothing."""
    headers = request.headers
    if headers.get("Sec-Fetch-Site", "none") not in OWN_SITES:
        return True
    if "Origin" in headers:
        return headers["Origin"] != f"http://{host}"
    return "Referer" in headers and not headers["Referer"].startswith(f"http://{host}/")
