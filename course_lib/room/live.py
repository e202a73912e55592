"""The live page of one's own provider: who asks, who waits, who is refused, while it happens.

It is served from daemon threads of the kernel, on loopback and for whoever has its token. The
ledger is handed on as the provider wrote it, so that watching costs the kernel next to nothing.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

__all__ = ["LivePage"]

PAUSE: Final = 0.25
"""Seconds between two looks at the ledger."""

LAST_CALLS: Final = 600
PATIENCE: Final = 5.0
PAGES: Final = {
    "/live": ("live.html", "text/html"),
    "/live.js": ("live.js", "text/javascript"),
    "/live.css": ("live.css", "text/css"),
}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors http://127.0.0.1:* http://localhost:*"  # JupyterLab shows it in a frame
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class LivePage:
    """A page that shows one provider; it is there until this process ends, or `close`.

    Args:
        provider: The provider's address.

    Attributes:
        url: The page's address; its token stands behind the `#`.
    """

    def __init__(self, provider: str) -> None:
        self._server = _Server(provider)
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}/live#{self._server.token}"
        threading.Thread(target=self._server.serve_forever, name="live-page", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.closed = True
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Serves one provider's page."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, provider: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(provider)
        self.provider = (parts.hostname or "", parts.port)
        self.token = secrets.token_urlsafe(24)
        self.closed = False
        port = self.server_address[1]
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        folder = resources.files("course_lib.room") / "page"
        self.texts = {
            path: ((folder / name).read_bytes(), kind) for path, (name, kind) in PAGES.items()
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = PATIENCE
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Answer with a page, or with what happens; see `guard` for why host and origin count."""
        host = self.headers.get("Host", "")
        if host not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path in self.server.texts:
            text, kind = self.server.texts[self.path]
            self._begin(HTTPStatus.OK, kind)
            self.wfile.write(text)
        elif self.path != "/api/live":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not self._may():
            self._refuse(HTTPStatus.UNAUTHORIZED)
        else:
            self._begin(HTTPStatus.OK, "text/event-stream")
            self._tell()

    def _may(self) -> bool:
        given = self.headers.get("Authorization", "").encode(errors="replace")
        return hmac.compare_digest(given, f"Bearer {self.server.token}".encode())

    def _tell(self) -> None:
        """Send what the provider saw, until it ends or nobody looks."""
        try:
            while not self.server.closed:
                book = self._ledger()
                said = b'data: {"now": %.6f, "ledger": %s}\n\n' % (time.monotonic(), book)
                self.wfile.write(said)
                time.sleep(PAUSE)
        except (OSError, HTTPException):
            return

    def _ledger(self) -> bytes:
        connection = HTTPConnection(*self.server.provider, timeout=PATIENCE)
        try:
            connection.request("GET", f"/admin/ledger?last={LAST_CALLS}")
            return connection.getresponse().read()
        finally:
            connection.close()

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        self._begin(status, "text/plain")
        self.wfile.write(status.phrase.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing under the learner's cell."""
