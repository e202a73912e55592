"""Who may ask: what a page in a browser sends is told apart from what a program sends."""

import json
import socket
from urllib.parse import urlsplit

import pytest

from course_lib.service import RateLimit

BEHAVIOUR = b'{"faults": {"error": 1}}'
CHAT = b'{"messages": [{"role": "user", "content": "Hello?"}]}'


def send(provider, request, *headers, body=b"", version="1.1"):
    """Send a request with just these headers; return the answer's status and JSON."""
    parts = urlsplit(provider.url)
    lines = [f"{request} HTTP/{version}", f"Content-Length: {len(body)}", "Connection: close"]
    head = "\r\n".join([*lines, *headers, "", ""]).format(here=parts.netloc, port=parts.port)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(head.encode("latin-1") + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    is_json = b"application/json" in head and text
    return int(head.split()[1]), json.loads(text) if is_json else text


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1:{port}/evil.example",
        "127.0.0.1:port",
        "127.1",
        "",
        "[::1",
        "127.0.0.1, evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/search?q=queue", "/admin/behaviour", "/health"])
def test_a_name_that_somebody_may_have_pointed_here_is_refused(provider, host, path):
    """A page behind such a name could read what is answered; nothing of it is kept."""
    status, answer = send(provider, f"GET {path}", f"Host: {host}")
    assert (status, answer["error"]["code"]) == (421, "foreign_host")
    assert provider.ledger().requests == 0


@pytest.mark.parametrize(
    "host",
    ["{here}", "localhost:{port}", "LOCALHOST", "127.0.0.1:9", "[::1]:{port}", "10.0.0.7:80"],
)
def test_names_that_nobody_else_can_have_are_answered(provider, host):
    """Whatever the port: it may be forwarded."""
    assert send(provider, "GET /search?q=queue", f"Host: {host}")[0] == 200


def test_a_request_names_its_host_once(provider):
    """None or two are 400 (RFC 9112, section 3.2); before HTTP/1.1 there was no such header."""
    assert send(provider, "GET /health")[0] == 400
    assert send(provider, "GET /health", "Host: {here}", "Host: {here}")[0] == 400
    assert send(provider, "GET /health", version="1.0")[0] == 200


FOREIGN = [
    ["Origin: http://evil.example"],
    ["Origin: https://{here}"],
    ["Origin: null"],
    ["Origin: http://127.0.0.1:8888", "Sec-Fetch-Site: same-site"],
    ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"],
    ["Referer: http://evil.example/page"],
    ["Referer: http://{here}.evil.example/"],
]


@pytest.mark.parametrize("headers", FOREIGN, ids="; ".join)
@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("GET /search?q=queue", b""),
        ("HEAD /v1/models", b""),
        ("GET /v1/models/stand-in-reader", b""),
        ("POST /v1/chat/completions", CHAT),
        ("PUT /admin/behaviour", BEHAVIOUR),
        ("DELETE /admin/ledger", b""),
        ("OPTIONS /v1/chat/completions", b""),
        ("OPTIONS /admin/behaviour", b""),
    ],
)
def test_a_page_of_another_origin_changes_nothing(provider, headers, request_line, body):
    """Neither the behaviour nor the ledger nor a limit, also with requests it cannot read."""
    provider.configure(rate_limit=RateLimit(0.001, 1))
    before = provider.behaviour
    assert send(provider, request_line, "Host: {here}", *headers, body=body)[0] == 403
    assert provider.behaviour == before
    assert provider.ledger().requests == 0
    assert send(provider, "GET /search?q=queue", "Host: {here}")[0] == 200
    assert provider.ledger().requests == 1


def test_a_refused_page_is_told_why_and_gets_no_leave(provider):
    """The reason is in OpenAI's shape; no header lets the page read it."""
    parts = urlsplit(provider.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(
            b"OPTIONS /rerank HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b'"code": "foreign_origin"' in answer
    assert b"access-control" not in answer.lower()


@pytest.mark.parametrize(
    "headers",
    [
        ["Origin: http://{here}", "Sec-Fetch-Site: same-origin"],
        ["Sec-Fetch-Site: none"],
        ["Referer: http://{here}/metrics"],
    ],
)
def test_a_page_of_its_own_may_ask(provider, headers):
    """And so may an address that somebody typed in."""
    assert send(provider, "GET /search?q=queue", "Host: {here}", *headers)[0] == 200


@pytest.mark.parametrize("path", ["/health", "/metrics", "/admin/ledger?last=0"])
def test_a_page_may_show_what_is_told_of_the_process(provider, path):
    """In a frame, say: its browser lets it read nothing."""
    headers = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: iframe"]
    assert send(provider, f"GET {path}", "Host: {here}", *headers)[0] == 200
