"""Errors of other people's clients, understood by what they carry."""

import json
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import aiohttp
import httpx
import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from course_lib.errors import (
    BadRequest,
    RateLimited,
    ServiceError,
    TimedOut,
    Unavailable,
    error_of_answer,
    rate_limit_of,
    retry_after_of,
    service_error_of,
)

ADDRESS = "http://127.0.0.1:1/v1/chat/completions"
HEADERS = {"Retry-After": "7"}


def body_of(code=None):
    """What a provider says of an error."""
    return {"error": {"message": "slow down", "code": code}}


def of_openai(status, code=None):
    """The error of the openai package for an answer, as its client makes it."""
    client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1:1/v1")
    request = httpx.Request("POST", ADDRESS)
    response = httpx.Response(status, headers=HEADERS, json=body_of(code), request=request)
    return client._make_status_error_from_response(response)


def of_anthropic(status, code=None):
    """An error of the same shape: the whole body stands on it."""
    error = type("APIStatusError", (Exception,), {"__module__": "anthropic"})("no")
    error.status_code, error.body = status, body_of(code)
    error.response = SimpleNamespace(status_code=status, headers=HEADERS)
    return error


def of_httpx(status, code=None):
    """What `raise_for_status` of httpx raises."""
    request = httpx.Request("POST", ADDRESS)
    response = httpx.Response(status, headers=HEADERS, json=body_of(code), request=request)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


def of_requests(status, code=None):
    """What `raise_for_status` of requests raises."""
    response = requests.Response()
    response.status_code, response._content = status, json.dumps(body_of(code)).encode()
    response.headers.update(HEADERS)
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()
    return caught.value


def of_aiohttp(status, code=None):
    """What `raise_for_status` of aiohttp raises; the body is not on it."""
    info = aiohttp.RequestInfo(URL(ADDRESS), "POST", CIMultiDict(), URL(ADDRESS))
    headers = CIMultiDict(HEADERS)
    return aiohttp.ClientResponseError(info, (), status=status, message="slow", headers=headers)


CLIENTS = [of_openai, of_anthropic, of_httpx, of_requests, of_aiohttp]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, BadRequest),
        (408, Unavailable),
        (422, BadRequest),
        (425, Unavailable),
        (429, RateLimited),
        (500, Unavailable),
        (529, Unavailable),
    ],
)
def test_each_clients_error_is_known_by_its_status(client, status, kind):
    """Whichever client made it, and without any of them being imported."""
    known = service_error_of(client(status))
    assert type(known) is kind
    assert f"answered {status}" in str(known)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_rate_limit_says_when_to_come_back(client):
    """The answer's headers are read, whatever class they are of."""
    assert rate_limit_of(client(429)).retry_after == 7
    assert rate_limit_of(client(503)) is None


@pytest.mark.parametrize("client", [of_openai, of_anthropic, of_httpx, of_requests])
def test_an_empty_account_is_no_rate_limit(client):
    """By its code: to wait does not help; the same words under another code do not count."""
    assert type(service_error_of(client(429, "insufficient_quota"))) is BadRequest
    assert type(service_error_of(client(429, "rate_limit_exceeded"))) is RateLimited
    words = {"error": {"message": "insufficient_quota", "code": None}}
    assert type(error_of_answer("GET /", 429, {}, words)) is RateLimited


def test_the_reason_and_the_call_are_told():
    """As the package's own clients tell them."""
    known = service_error_of(of_openai(400), "POST /v1/chat/completions")
    assert str(known) == "POST /v1/chat/completions answered 400: slow down"
    assert str(service_error_of(of_httpx(500))) == "the provider answered 500: slow down"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (openai.APITimeoutError(httpx.Request("POST", ADDRESS)), TimedOut),
        (openai.APIConnectionError(request=httpx.Request("POST", ADDRESS)), Unavailable),
        (httpx.ReadTimeout("late"), TimedOut),
        (httpx.RemoteProtocolError("broke off"), Unavailable),
        (requests.ConnectTimeout(), TimedOut),
        (requests.ConnectionError(), Unavailable),
        (aiohttp.ServerTimeoutError(), TimedOut),
        (aiohttp.ServerDisconnectedError(), Unavailable),
    ],
)
def test_where_no_answer_came_it_is_known_by_its_name(error, kind):
    """A connection that broke may be tried again, and so may a call that took too long."""
    assert type(service_error_of(error)) is kind


def test_a_stream_that_fails_with_an_empty_account_is_none_either():
    """An event in a stream has no status, but a code."""
    body = {"code": "insufficient_quota", "message": "no"}
    error = openai.APIError("no", httpx.Request("POST", ADDRESS), body=body)
    assert type(service_error_of(error)) is BadRequest


def test_errors_of_the_tree_are_themselves():
    """Nothing is made anew."""
    for error in (RateLimited("429", retry_after=3), TimedOut("late"), ServiceError("no")):
        assert service_error_of(error) is error


class Odd(Exception):  # noqa: N818 - no error of a client
    """An error that carries what it is told to."""

    def __init__(self, **carried):
        super().__init__("odd")
        self.__dict__.update(carried)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyboardInterrupt(),
        Odd(status_code="429"),
        Odd(status_code=200),
        Odd(status_code=None, response=None, status="exhausted"),
        Odd(status=True),
        Odd(status_code=99999),
    ],
)
def test_other_errors_are_not_understood(error):
    """A status is a number from 300 to 599, and no client's name is guessed."""
    assert service_error_of(error) is None
    assert rate_limit_of(error) is None


class Unread:
    """A streamed response whose body nobody has read."""

    status_code = 429
    headers = None

    @property
    def content(self):
        raise RuntimeError("not read")


def test_what_is_missing_or_broken_hides_no_status():
    """No headers, no body, a body that is no JSON, or one that is still to be read."""
    for response in (
        Unread(),
        SimpleNamespace(status_code=429),
        SimpleNamespace(status_code=429, headers={}, content=b"<html>"),
        SimpleNamespace(status_code=429, headers={}, content=b"[" * 10**5),
    ):
        assert rate_limit_of(Odd(response=response)).retry_after == 0


class Broken(Exception):  # noqa: N818 - no error of a client
    """An error of which nothing can be read: each attribute fails, and its words do."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __str__(self):
        raise RuntimeError


def test_an_error_that_cannot_be_read_is_not_understood_and_raises_nothing():
    """Whatever reads it goes on: a retry, a gate, a monitor."""
    assert service_error_of(Broken()) is None
    dumb = type("APIError", (Broken,), {"__module__": "openai"})()
    assert str(service_error_of(dumb)) == "the provider gave no answer: APIError"
    assert rate_limit_of(Odd(status_code=429, headers=7)).retry_after == 0


VALUES = st.one_of(
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(lambda date: format_datetime(date.replace(tzinfo=UTC), usegmt=True)),
)


@given(VALUES, VALUES)
def test_no_header_is_an_error_or_less_than_nothing(first, second):
    """Whatever a server sends: a number of seconds comes out, perhaps infinitely many."""
    for headers in ({"retry-after-ms": first, "Retry-After": second}, {"RETRY-AFTER": second}):
        seconds = retry_after_of(headers)
        assert seconds >= 0
        assert not math.isnan(seconds)


def test_a_date_is_counted_from_now():
    """A past one is now."""
    ahead, past = (datetime.now(UTC) + timedelta(seconds=each) for each in (60, -60))
    assert 0 < retry_after_of({"retry-after": format_datetime(ahead, usegmt=True)}) <= 60
    assert retry_after_of({"retry-after": format_datetime(past, usegmt=True)}) == 0
