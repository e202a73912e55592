"""The live page: what it shows, and to whom."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from course_lib.lab import live
from course_lib.lab.leftovers import find_leftovers
from course_lib.lab.live import FRONT_ENDS, _pages


@pytest.fixture
def page(provider):
    return live(provider)


def ask(page, path, **headers):
    """(status, headers, the first line) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    try:
        return answer.status, dict(answer.headers), answer.readline()
    finally:
        answer.close()
        connection.close()


def key(page):
    return {"Authorization": f"Bearer {urlsplit(page.url).fragment}"}


def test_it_tells_what_the_provider_saw(page, provider):
    """As the provider's ledger has it, with the time on its clock."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(provider.url).port)
    connection.request("GET", "/search?q=loop")
    connection.getresponse().read()
    connection.close()
    status, _, line = ask(page, "/api/live", **key(page))
    told = json.loads(line.removeprefix(b"data: "))
    [call] = told["ledger"]["calls"]
    assert (status, call[4], told["ledger"]["answered"]) == (200, 200, 1)
    assert told["now"] >= call[3]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_it_tells_nobody_else(page, headers, status):
    """No wrong token, foreign page or foreign host."""
    own = {} if "Authorization" in headers or not headers else key(page)
    assert ask(page, "/api/live", **own, **headers)[0] == status


@pytest.mark.parametrize("path", ["/", "/../live.py", "/page/live.html", "//etc/passwd"])
def test_no_path_leads_to_a_file(page, path):
    """There are three texts."""
    assert ask(page, path)[0] == 404


def test_it_may_be_framed_by_this_machine_only(page):
    """And runs no foreign script."""
    policy = ask(page, "/live")[1]["Content-Security-Policy"]
    assert "frame-ancestors http://127.0.0.1:* http://localhost:*" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_where_nobody_looks_it_is_a_line_of_text(provider, monkeypatch):
    """Under nbval, and stored: a frame would lead to a page that has ended."""
    for name in FRONT_ENDS:
        monkeypatch.delenv(name, raising=False)
    before = dict(_pages)
    assert live(provider)._repr_html_() is None
    assert repr(live(provider)) == "live page of the provider"
    assert _pages == before


def test_a_provider_has_one_page(page, provider, monkeypatch):
    """A cell may be run twice; a notebook that shows it leaves nothing behind."""
    monkeypatch.setenv("JPY_SESSION_NAME", "my/01.ipynb")
    assert live(provider).url == page.url
    assert "<iframe" in page._repr_html_()
    assert not [each for each in find_leftovers() if "live" in each.text]
