"""Connections: a client that has only ended its sending is told from one that has left."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest
from provider_in_process import in_process

from course_lib.service import Behaviour, Capacity, Latency
from course_lib.service import server as module

SEARCH = b"GET /search?q=queue HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = Behaviour(Latency.constant(0.05))


@pytest.fixture
def local():
    """A provider in this process."""
    with in_process() as provider:
        yield provider
        assert provider.said == []


@pytest.fixture
def impatient(monkeypatch):
    """Ask a client that has ended its sending at once whether it is there, and again and again."""
    monkeypatch.setattr(module, "SOON", 0)
    monkeypatch.setattr(module, "GRACE", 0.001)


@pytest.mark.parametrize("seconds", [None, 0.1])
def test_a_client_that_closes_its_sending_side_gets_its_answer(provider, seconds):
    """Right behind its request, as `nc` does; then the connection ends."""
    provider.configure(latency=seconds and Latency.constant(seconds))
    parts = urlsplit(provider.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(SEARCH)
        client.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, b"queue" in response.read()) == (200, True)
        assert client.recv(1) == b""
    assert [call.status for call in provider.ledger().calls] == [200]


def test_a_slow_answer_comes_behind_what_every_client_skips(local, impatient):
    """`100 Continue`, which asks whether the client is there; the answer itself is the same."""
    local.app.engine.behaviour = SLOW
    *asked, head, body = local.run(local.answer(SEARCH)).split(b"\r\n\r\n")
    assert set(asked) == {b"HTTP/1.1 100 Continue"}
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"A queue holds" in body


def test_an_old_client_is_sent_nothing_but_its_answer(local, impatient):
    """HTTP/1.0 knows no `100 Continue`."""
    local.app.engine.behaviour = SLOW
    answer = local.run(local.answer(b"GET /search?q=queue HTTP/1.0\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.0 200 OK")


def test_each_of_several_requests_gets_its_answer(local):
    """Sent at once, and then nothing more."""
    local.app.engine.behaviour = SLOW
    assert local.run(local.answer(SEARCH * 3)).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET /sea",
        b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{}",
        b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
    ],
)
def test_half_a_request_has_no_answer(local, half):
    """Its connection is closed, and nobody waits for the rest."""
    assert local.run(local.answer(half)) == b""


@pytest.mark.parametrize("early", [True, False])
def test_a_client_that_leaves_frees_its_place_however_soon(local, impatient, early):
    """Its request is cancelled and recorded; the next one has the slot."""
    engine = local.app.engine
    engine.behaviour = Behaviour(Latency.constant(3600), capacity=Capacity(1))

    async def main():
        _, writer = await local.connect()
        writer.write(SEARCH)
        await local.until(lambda: early or engine.recorder.in_flight)
        writer.close()
        await writer.wait_closed()
        await local.until(lambda: engine.ledger().dropped)
        engine.behaviour = Behaviour(Latency.constant(0), capacity=Capacity(1))
        return await local.answer(SEARCH)

    assert local.run(main()).startswith(b"HTTP/1.1 200 OK")
