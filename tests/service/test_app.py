"""What comes over the wire: real requests to a real provider."""

import asyncio
import http.client
import json
import re
import socket
import threading
from types import SimpleNamespace
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError
from provider_in_process import in_process

from course_lib.service import Capacity, Faults, Latency, Ledger, RateLimit
from course_lib.service.app import CALLS_AT_ONCE
from course_lib.service.guard import endpoint_of
from course_lib.service.server import Connection
from course_lib.service.wire import LARGEST_BODY, LONGEST_QUERY, Problem, search_request

NESTED = '{"endpoints": {"/search": ' * 400 + "1" + "}}" * 400


def connect(provider):
    """Open a connection; not yet connected."""
    return http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=60)


def ask(provider, target, method="GET", body=None):
    """Make one request and return status, headers and JSON."""
    connection = connect(provider)
    connection.request(method, target, body)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, response.headers, json.loads(text) if text else None


def search(provider, query, **fields):
    """Search and return status and JSON."""
    status, _, data = ask(provider, "/search?" + urlencode({"q": query, **fields}))
    return status, data


def raw(provider, data):
    """Send bytes and return all that comes back until the connection is closed."""
    parts = urlsplit(provider.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


def hold(provider, target="/search?q=queue"):
    """Send a request and leave it unanswered."""
    parts = urlsplit(provider.url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def test_a_query_that_no_text_holds_is_refused():
    """A parser may let bytes through that are no UTF-8: no answer could repeat them."""
    with pytest.raises(Problem, match="no UTF-8"):
        search_request({"q": "\udcff"})


def test_a_search_finds_passages(provider):
    """Each result carries all fields, best first, as many as asked for."""
    status, data = search(provider, "token bucket", k=3)
    assert status == 200
    assert data["query"] == "token bucket"
    assert [set(result) for result in data["results"]] == [
        {"id", "title", "topic", "text", "score"}
    ] * 3
    scores = [result["score"] for result in data["results"]]
    assert scores == sorted(scores, reverse=True)
    assert "token bucket" in data["results"][0]["text"].lower()


def test_a_query_without_a_known_word_finds_nothing(provider):
    """An empty list is an answer."""
    assert search(provider, "xyzzy") == (200, {"query": "xyzzy", "results": []})


def test_any_characters_may_be_searched_for(provider):
    """The longest query in the widest characters comes back whole, and stands in the ledger."""
    query = "\N{SNOWMAN}\N{GRINNING FACE}&=+%\x00\"'<" * (LONGEST_QUERY // 10)
    assert search(provider, query)[1]["query"] == query
    assert provider.ledger().calls[0].query == query


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/search", "q is missing or empty"),
        ("/search?q=", "q is missing or empty"),
        ("/search?q=%20+", "q is missing or empty"),
        ("/search?q=a&k=five", "k='five'"),
        ("/search?q=a&k=", "k=''"),
        ("/search?q=a&k=0", "k='0': a whole number from 1 to 100"),
        ("/search?q=a&k=101", "k='101'"),
        ("/search?q=a&k=-1", "k='-1'"),
        ("/search?q=a&k=1.0", "k='1.0'"),
        ("/search?q=a&k=" + "9" * 5000, "k='9999"),
        ("/search?q=a&k=" + quote("²"), "k='²'"),
        ("/search?q=" + "a" * (LONGEST_QUERY + 1), "q has 2001 characters: at most 2000"),
        ("/admin/ledger?last=x", "last='x'"),
    ],
)
def test_a_bad_request_is_answered_400_with_a_reason(provider, target, reason):
    """The reason names the field and what it may be."""
    status, headers, data = ask(provider, target)
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert data["error"]["type"] == "invalid_request_error"
    assert reason in data["error"]["message"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "3", "\xff", "[" * 100_000, '{"latency": 1}', NESTED]
)
def test_a_bad_behaviour_is_refused(provider, body):
    """Whatever is sent, the answer is 400 in JSON, and nothing changes."""
    before = provider.behaviour
    status, _, data = ask(provider, "/admin/behaviour", "PUT", body.encode("latin-1"))
    assert status == 400
    assert data["error"]["message"]
    assert provider.behaviour == before


def test_a_bad_request_stands_in_the_ledger(provider):
    """It was seen; it cost no latency and was never in flight."""
    search(provider, "")
    seen = provider.ledger()
    assert [call.status for call in seen.calls] == [400]
    assert seen.peak_in_flight == 0


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/v1/embeddings", b"", 405),
        ("DELETE", "/search?q=queue", b"", 405),
        ("GET", "/v1/models/gpt-9", b"", 404),
        ("POST", "/v1/embeddings", b" " * (LARGEST_BODY + 1), 413),
        ("POST", "/rerank", b"{", 400),
    ],
)
def test_whatever_is_wrong_with_a_request_to_an_endpoint_it_stands_in_the_ledger(
    provider, method, target, body, status
):
    """So that the client's count and the provider's agree; other paths are nobody's endpoint."""
    ask(provider, "/nowhere")
    assert ask(provider, target, method, body)[0] == status
    seen = provider.ledger()
    assert [(call.path, call.status) for call in seen.calls] == [
        (endpoint_of(target.split("?")[0]), status)
    ]


def test_the_ledger_keeps_no_more_of_a_refused_query_than_of_another(provider):
    """A hundred thousand of them in full would fill the memory."""
    assert search(provider, "a" * 30_000)[0] == 400
    assert len(provider.ledger().calls[0].query) == LONGEST_QUERY


@pytest.mark.parametrize(
    "target",
    [
        *("/search?q=queue", "/search", "/v1/models", "/v1/models/stand-in-reader", "/health"),
        *("/metrics", "/admin/behaviour", "/admin/ledger?last=0"),
    ],
)
def test_head_is_get_without_the_body(provider, target):
    """The same status and headers; at an endpoint it counts as a call, too."""
    answers = []
    for method in ("GET", "HEAD"):
        connection = connect(provider)
        connection.request(method, target)
        response = connection.getresponse()
        drawn = {"date", "x-request-id"}
        headers = {k.lower(): v for k, v in response.getheaders() if k.lower() not in drawn}
        answers.append((response.status, headers, response.read()))
        connection.close()
    (status, headers, body), head = answers
    assert head == (status, headers, b"")
    assert body
    assert len(provider.ledger().calls) in {0, 2}


def test_each_answer_has_an_id_of_its_own(provider):
    """Good ones, refusals and what is no HTTP: a log can name them."""
    found = [
        ask(provider, t)[1]["x-request-id"] for t in ("/search?q=a", "/search", "/x", "/health")
    ]
    found.append(raw(provider, b"hello\r\n\r\n").decode().partition("x-request-id: ")[2][:36])
    assert all(re.fullmatch("req_[0-9a-f]{32}", each) for each in found)
    assert len(set(found)) == 5


def test_limits_are_told_with_each_answer(provider):
    """What there is, what is left, and the seconds until all of it is back; only of endpoints."""
    assert not any("ratelimit" in name for name in ask(provider, "/search?q=a")[1])
    provider.configure(rate_limit=RateLimit(rate=0.5, burst=2))
    for left, status in ((1, 200), (0, 200), (0, 429)):
        got, headers, _ = ask(provider, "/search?q=a")
        assert got == status
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == str(left)
        assert 0 < float(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 4
    assert not any("ratelimit" in name for name in ask(provider, "/health")[1])


@pytest.mark.parametrize(
    ("request_line", "body", "param", "code"),
    [
        ("GET /search", b"", "q", "invalid_value"),
        ("GET /search?q=a&k=0", b"", "k", "invalid_value"),
        ("GET /nowhere", b"", None, "unknown_path"),
        ("DELETE /health", b"", None, "method_not_allowed"),
        ("POST /rerank", b"{", None, "invalid_json"),
        ("POST /rerank", b"[]", None, "invalid_json"),
        ("POST /rerank", b"{}", "query", "invalid_value"),
        ("PUT /admin/behaviour", b'{"capacity": 8}', None, "invalid_value"),
        ("PUT /admin/behaviour", b" " * (LARGEST_BODY + 1), None, "body_too_large"),
    ],
)
def test_an_error_names_its_field_and_a_code(provider, request_line, body, param, code):
    """So that a program need not read the message."""
    method, target = request_line.split()
    error = ask(provider, target, method, body)[2]["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)


@pytest.fixture
def local():
    """A provider in this process."""
    with in_process() as provider:
        yield provider


def test_a_ledger_of_ten_thousand_calls_holds_up_nobody(local):
    """It is written a few calls at a time, and everybody has a turn in between."""
    recorder = local.app.engine.recorder

    async def main():
        for number in range(10_000):
            recorder.arrive("/search", f"question {number}", number).leave(200)
        asked = SimpleNamespace(query={})
        reading = asyncio.create_task(local.app.ledger(asked, b""))
        for _ in range(10_000 // CALLS_AT_ONCE):
            await asyncio.sleep(0)  # a turn for whoever else has something to do
        assert not reading.done()
        return await reading

    ledger = local.run(main())
    seen = Ledger.from_dict(json.loads(ledger.body))
    assert len(seen.calls) == 10_000
    assert (seen.requests, seen.calls[0].query) == (10_000, "question 0")


def test_an_unknown_path_is_404_and_says_what_there_is(provider):
    """The reason lists the paths."""
    status, _, data = ask(provider, "/serach?q=a")
    assert status == 404
    assert "/search" in data["error"]["message"]


def test_a_wrong_method_is_405_and_says_which_are_right(provider):
    """The `Allow` header names them (RFC 9110, section 15.5.6)."""
    status, headers, data = ask(provider, "/admin/behaviour", "POST", b"{}")
    assert (status, headers["Allow"]) == (405, "GET, PUT, HEAD")
    assert data["error"]["message"] == "/admin/behaviour takes GET, PUT, HEAD, not POST"


@pytest.mark.parametrize("target", ["/search?q=a", "/admin/behaviour"])
def test_a_large_body_is_refused(provider, target):
    """More than 1 MiB is answered 413, before it is read."""
    status, _, data = ask(
        provider, target, "PUT" if "admin" in target else "GET", b" " * (LARGEST_BODY + 1)
    )
    assert status == 413
    assert "at most 1048576 bytes" in data["error"]["message"]


def test_a_large_body_without_a_length_is_refused(provider):
    """Chunks are counted as they come."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = b"PUT /admin/behaviour HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = raw(provider, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(provider):
    """As curl does with a large one: `Expect: 100-continue` (RFC 9110, section 10.1.1)."""
    parts = urlsplit(provider.url)
    head = "POST /rerank HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(f"{head}2\r\n\r\n".encode())
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert client.recv(12) == b"HTTP/1.1 400"
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
        client.sendall(f"{head}{LARGEST_BODY + 1}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_body_that_is_not_wanted_is_ignored(provider):
    """A search with a small body is a search."""
    assert ask(provider, "/search?q=queue", "GET", b"hello")[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /search?q=" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_in_json(provider, data):
    """A reason, no HTML, no traceback; the provider goes on."""
    head, _, body = raw(provider, data).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"application/json" in head
    assert json.loads(body)["error"]["message"].startswith("this is not valid HTTP")
    assert search(provider, "queue")[0] == 200


def test_an_error_of_the_parser_without_a_reason_is_answered_all_the_same():
    """The parser's messages are not ours: an empty one is none to fail over."""
    response = Connection.handle_error(None, None, 400, HttpProcessingError(code=400), "")
    assert json.loads(response.body)["error"]["message"] == "this is not valid HTTP: "


def test_a_broken_body_is_answered_400(provider):
    """A body that is not compressed as it says is the client's mistake."""
    head = b"PUT /admin/behaviour HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
    answer = raw(provider, head + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer


def test_the_rate_limit_says_when_to_come_back(provider):
    """`Retry-After` in whole seconds, rounded up; `retry-after-ms` exact."""
    provider.configure(rate_limit=RateLimit(rate=0.4, burst=1))
    assert search(provider, "queue")[0] == 200
    status, headers, data = ask(provider, "/search?q=queue")
    assert (status, data["error"]["type"]) == (429, "rate_limit_error")
    assert int(headers["Retry-After"]) >= float(headers["retry-after-ms"]) / 1000 > 0
    assert int(headers["Retry-After"]) <= 3
    assert provider.ledger().rejected == 1


def test_a_failure_is_a_500_in_json(provider):
    """The reason has no traceback."""
    provider.configure(faults=Faults(error=1))
    status, data = search(provider, "queue")
    assert (status, data["error"]["type"]) == (500, "server_error")
    assert provider.ledger().errors == 1


def test_a_drop_cuts_the_connection(provider):
    """Nothing comes back, and the ledger knows."""
    provider.configure(faults=Faults(drop=1))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        search(provider, "queue")
    assert [call.status for call in provider.ledger().calls] == [0]


def test_a_hang_ends_when_the_client_leaves(provider, eventually):
    """It is never answered; it is recorded with status 0 once the client is gone."""
    provider.configure(faults=Faults(hang=1))
    client = hold(provider)
    eventually(lambda: provider.ledger().peak_working == 1)
    assert provider.ledger().calls == ()
    client.close()
    eventually(lambda: provider.ledger().dropped == 1)


@pytest.mark.parametrize("waits_for", ["latency", "slot"])
def test_a_client_that_leaves_frees_its_place(provider, eventually, waits_for):
    """Whether it waits for its answer or in the queue, it is cancelled, recorded, and gone."""
    provider.configure(latency=Latency.constant(3600), capacity=Capacity(1))
    clients = [hold(provider)]
    eventually(lambda: provider.ledger().peak_in_flight == 1)
    clients.append(hold(provider))
    eventually(lambda: provider.ledger().peak_in_flight == 2)
    first, second = clients if waits_for == "latency" else reversed(clients)
    first.close()
    eventually(lambda: provider.ledger().dropped == 1)
    second.close()
    eventually(lambda: provider.ledger().dropped == 2)
    provider.configure(latency=None)
    assert search(provider, "queue")[0] == 200


def test_a_change_takes_effect_while_it_runs(provider, eventually):
    """A request that hangs stays so; the next one is answered; more capacity moves the queue."""
    provider.configure(faults=Faults(hang=1), capacity=Capacity(1))
    stuck = hold(provider)
    eventually(lambda: provider.ledger().peak_working == 1)
    provider.configure(faults=None)
    queued = hold(provider)
    eventually(lambda: provider.ledger().peak_in_flight == 2)
    provider.configure(capacity=Capacity(2))
    assert queued.recv(12) == b"HTTP/1.1 200"
    stuck.close()
    queued.close()


def test_connections_are_counted_by_requests_they_carry(provider):
    """Three searches on one connection and one on another; the handle's own do not count."""
    kept = connect(provider)
    for _ in range(3):
        kept.request("GET", "/search?q=queue")
        kept.getresponse().read()
    kept.close()
    search(provider, "queue")
    seen = provider.ledger()
    assert (seen.requests, seen.connections) == (4, 2)
    assert len({call.connection for call in seen.calls[:3]}) == 1


def test_the_ledger_keeps_the_clock_of_this_machine(provider):
    """Start and end lie between two looks at the monotonic clock here."""
    loop = asyncio.new_event_loop()
    before = loop.time()
    search(provider, "queue")
    after = loop.time()
    loop.close()
    (call,) = provider.ledger().calls
    assert before <= call.start <= call.end <= after


def test_the_same_question_has_the_same_answer(provider):
    """Scores included, in whatever order questions come."""
    assert search(provider, "cache stampede") == search(provider, "cache stampede")


def test_health_and_metrics_are_free_of_behaviour(provider):
    """They answer when nothing else does, and stand in no ledger."""
    provider.configure(faults=Faults(hang=1), rate_limit=RateLimit(0.001, 1))
    assert ask(provider, "/health")[2]["status"] == "ok"
    connection = connect(provider)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'provider_requests_total{outcome="answered"} 0.0' in text
    assert provider.ledger().requests == 0


def test_metrics_follow_the_ledger(provider):
    """Outcomes, connections and time are those of the ledger."""
    search(provider, "queue")
    connection = connect(provider)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    assert 'provider_requests_total{outcome="answered"} 1.0' in lines
    assert "provider_connections_total 1.0" in lines
    assert "provider_request_seconds_count 1.0" in lines
    assert "provider_in_flight 0.0" in lines


def test_a_thousand_connections_at_once(provider, eventually):
    """All are let in, worked on at once, and cleared away when their client leaves."""
    allow_files(2500)
    provider.configure(faults=Faults(hang=1))
    target = provider.url + "/search?q=queue"

    async def crowd():
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            tasks = [asyncio.create_task(session.get(target)) for _ in range(1000)]
            full = threading.Event()
            await asyncio.to_thread(
                lambda: (eventually(lambda: provider.ledger().peak_working == 1000), full.set())
            )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return full.is_set()

    assert asyncio.run(crowd())
    eventually(lambda: provider.ledger().dropped == 1000)
    assert provider.ledger().connections == 1000


def allow_files(wanted):
    """Raise this process's own limit; the provider sees to its own."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
