"""Whatever is sent: never a 500, never a word on standard error."""

import json
import math
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_in_process import AT_ONCE, in_process

from course_lib.lab.simulation import Deadlock, TimeLimit, simulate
from course_lib.service import Behaviour
from course_lib.service.engine import Dropped, Engine, Failed, Rejected, TooLarge
from course_lib.service.guard import endpoint_of

CHAT = "/v1/chat/completions"
NUMBERS = st.one_of(
    st.sampled_from([1, 2, 1.0, 0.5, 1 + 2**-52, 1e-9, 10**9]),
    st.sampled_from([0, -0.0, -1, 5e-324, 1e-300, 1e-10]),
    st.sampled_from([1e10, 1e308, 2**63, 2**64, 10**400, -(10**400)]),
    st.integers(),
    st.floats(),
    st.booleans(),
)
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["", " ", "\ud800", "\0", "a" * 3000]
)
JSON = st.recursive(
    st.none() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def an_object(*names, **values):
    """Make JSON objects of these fields, of some of them, and of others now and then."""
    fields = {**dict.fromkeys(names, JSON), **values}
    some = st.fixed_dictionaries({}, optional=fields)
    more = st.builds(dict.__or__, some, st.dictionaries(TEXTS, JSON, max_size=1))
    return st.fixed_dictionaries(fields) | some | more


LATENCY = an_object(
    kind=st.sampled_from(["constant", "lognormal", "heavy_tail"]) | JSON,
    p50=NUMBERS,
    p99=NUMBERS,
    seed=NUMBERS,
)
RATE_LIMIT = an_object(rate=NUMBERS, burst=NUMBERS)
TOKEN_LIMIT = an_object(tokens_per_minute=NUMBERS)
PARTS = {
    "latency": LATENCY | JSON,
    "rate_limit": RATE_LIMIT | JSON,
    "capacity": an_object(slots=NUMBERS, queue=NUMBERS) | JSON,
    "faults": an_object(error=NUMBERS, drop=NUMBERS, hang=NUMBERS, seed=NUMBERS) | JSON,
    "token_limit": TOKEN_LIMIT | JSON,
    "generation": an_object(
        first_token=NUMBERS, tokens_per_second=NUMBERS, gain=NUMBERS, batch=NUMBERS
    )
    | JSON,
}
PATHS = st.sampled_from(["/search", "/rerank", CHAT, "/v1/models", "/nowhere"]) | TEXTS
BEHAVIOURS = an_object(
    **PARTS, endpoints=st.dictionaries(PATHS, an_object(**PARTS) | JSON, max_size=2) | JSON
)
MESSAGES = st.lists(
    an_object(role=st.sampled_from(["user", "system", "tool"]) | JSON, content=JSON), max_size=3
)
BODIES = {
    "/rerank": an_object("query", "documents", top_n=NUMBERS | JSON),
    "/v1/embeddings": an_object("input", "encoding_format", dimensions=NUMBERS | JSON),
    CHAT: an_object(
        *("stream", "stream_options", "n", "stop", "tools", "tool_choice", "response_format"),
        *("logprobs", "top_logprobs", "modalities", "model", "temperature"),
        messages=MESSAGES | JSON,
        max_tokens=NUMBERS | JSON,
        max_completion_tokens=NUMBERS | JSON,
    ),
    "/admin/behaviour": BEHAVIOURS,
}


@pytest.fixture(scope="module")
def shared():
    """One provider in this process."""
    with in_process() as provider:
        yield provider


@pytest.fixture
def ask(shared, capfd):
    """Send bytes; the status comes back, None if the connection was closed without a word."""

    def send(data):
        shared.app.engine.behaviour = AT_ONCE
        return status_of(shared.run(shared.answer(data)))

    shared.said.clear()
    yield send
    assert shared.said == []
    assert capfd.readouterr().err == ""


def status_of(answer):
    """Read the highest status of what came back; of an error in JSON, the four fields as well."""
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", answer)]
    body = answer.rpartition(b"\r\n\r\n")[2]
    if max(statuses, default=0) >= 400 and body and len(statuses) == 1:
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    return max(statuses, default=None)


def post(path, body, method="POST"):
    """Write a request with a body."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize("path", BODIES)
def test_no_body_breaks_an_endpoint(ask, path):
    """Fields of every kind, numbers of every size: an answer, or 400 with a reason."""
    method = "PUT" if path.startswith("/admin") else "POST"

    @given(BODIES[path])
    def send(data):
        assert ask(post(path, json.dumps(data).encode(), method)) in {200, 400}

    send()


@pytest.mark.parametrize("path", BODIES)
def test_no_bytes_break_an_endpoint(ask, path):
    """Half of a JSON text, or what is none at all."""
    method = "PUT" if path.startswith("/admin") else "POST"

    @given(BODIES[path].map(json.dumps), st.integers(0, 200), st.binary(max_size=20))
    def send(text, cut, more):
        assert ask(post(path, text.encode()[:cut] + more, method)) in {200, 400}

    send()


def test_no_number_in_a_body_is_too_long(ask):
    """Beyond the digits that Python reads, too."""
    for path, field in [(CHAT, "max_tokens"), ("/rerank", "top_n"), ("/v1/embeddings", "input")]:
        for digits in (400, 5_000, 100_000):
            body = b'{"messages": [], "query": "a", "documents": ["a"], "%b": %b}'
            assert ask(post(path, body % (field.encode(), b"9" * digits))) == 400
    for number in (b"9" * 400, b"9" * 5_000, b"5e-324", b"1e999", b"-1", b"NaN"):
        body = b'{"rate_limit": {"rate": %b, "burst": 1}}' % number
        assert ask(post("/admin/behaviour", body, "PUT")) == 400


TARGETS = st.builds(
    bytes.__add__,
    st.sampled_from(
        [b"/search?q=", b"/search?q=a&k=", b"/admin/ledger?last=", b"/v1/models/", b"/"]
    ),
    st.binary(max_size=30).map(lambda raw: raw.translate(None, b" \r\n")),
)
NAMES = st.sampled_from(
    [
        "Host",
        "Origin",
        "Referer",
        "Sec-Fetch-Site",
        "Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Expect",
        "Accept",
        "Cookie",
        "Connection",
        "Upgrade",
        "Range",
    ]
)
VALUES = st.sampled_from(
    [
        "localhost",
        "0",
        "-1",
        "5e-324",
        "gzip",
        "deflate",
        "br",
        "zstd",
        "chunked",
        "100-continue",
        "close",
        "keep-alive",
        "Upgrade",
        "websocket",
        "h2c",
        "text/event-stream",
        "same-origin",
        "cross-site",
        "http://[",
        "bytes=0-",
    ]
)
VALUES |= st.sampled_from(["", "9" * 400])
VALUES |= st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20)


def test_no_head_breaks_the_provider(ask):
    """Targets, methods and headers of every kind: an answer, a refusal, or a closed connection."""

    @given(
        st.sampled_from(
            [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"X"]
        ),
        TARGETS,
        st.lists(st.tuples(NAMES, VALUES), max_size=4),
        st.binary(max_size=20),
    )
    def send(method, target, headers, body):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
        status = ask(
            method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n" + body
        )
        assert status is None or 100 <= status < 500

    send()


def test_no_bytes_at_all_break_the_provider(ask):
    """What is no HTTP is answered 400."""

    @given(st.binary(min_size=1, max_size=200))
    def send(data):
        assert ask(data + b"\r\n\r\n") in {None, 400}

    send()


LIMITED = st.fixed_dictionaries(
    {"rate_limit": st.fixed_dictionaries({"rate": NUMBERS, "burst": st.integers(1, 2)})},
    optional={
        "token_limit": st.sampled_from([207, 10**9, 10**400]).map(
            lambda most: {"tokens_per_minute": most}
        )
    },
)


def test_whatever_limits_it_takes_it_can_tell(shared, ask):
    """A limit is refused, or it is kept and told in the headers of each answer."""

    @given(LIMITED)
    def send(limits):
        accepted = ask(post("/admin/behaviour", json.dumps(limits).encode(), "PUT"))
        assert accepted in {200, 400}
        body = b'{"messages": [{"role": "user", "content": "Hello?"}]}'
        for _ in range(3):
            answer = shared.run(shared.answer(post(CHAT, body)))
            assert status_of(answer) in {200, 400, 429}
            told = dict(
                line.split(": ", 1) for line in answer.decode().lower().splitlines() if ": " in line
            )
            figures = [value for name, value in told.items() if name.startswith("x-ratelimit")]
            assert all(0 <= float(figure.removesuffix("s")) < math.inf for figure in figures)

    send()


@given(an_object(**PARTS), st.sampled_from([1, 200, 8_392]))
def test_whatever_behaviour_it_takes_it_can_show(parts, tokens):
    """In virtual time: what passes the checks never overflows, whatever it adds up to."""
    try:
        behaviour = Behaviour.from_dict(parts)
    except ValueError:
        return
    engine = Engine(behaviour)

    async def main():
        for _ in range(3):
            try:
                async with engine.admit(CHAT, "", tokens=tokens) as admitted:
                    with admitted.streams.stream() as stream:
                        await stream.until(min(tokens, 200))
                    admitted.spend(1)
            except (Rejected, TooLarge, Failed, Dropped):
                pass
            engine.allowances(CHAT)
        json.dumps(engine.ledger().to_dict())

    try:
        simulate(main, limit=sys.float_info.max)
    except (Deadlock, TimeLimit):  # it hangs, as asked
        assert behaviour.faults
        assert behaviour.faults.hang > 0


def test_a_path_below_the_models_is_theirs():
    """However many parts the name of a model has."""
    assert endpoint_of("/v1/models/meta/llama") == "/v1/models"
    assert endpoint_of("/v1/modelsX") == "/v1/modelsX"
