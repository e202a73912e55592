"""Secrets in what others say: taken out however they are written, and before anything is cut."""

import html
import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from course_lib.async_batch import ServiceClient
from course_lib.errors import (
    error_of_answer,
    excerpt,
    secrets_of,
    service_error_of,
    without_credentials,
    without_secrets,
)

KEY = "SK-PROJ/Q+Z=É😀"
LOWER = st.text("abcdefghij ", max_size=300)


@st.composite
def spellings(draw, key=KEY):
    """A key as somebody may write it: each letter in a way of its own, the whole perhaps in JSON."""
    written = "".join(draw(st.sampled_from(ways(letter))) for letter in key)
    for _ in range(draw(st.integers(0, 2))):
        written = json.dumps(written, ensure_ascii=draw(st.booleans()))[1:-1]
    return written


def ways(letter):
    """All ways to write a letter."""
    escaped = "".join(
        f"\\u{int.from_bytes(unit):04x}" for unit in pairs(letter.encode("utf-16-be"))
    )
    return [
        letter,
        f"\\{letter}",
        escaped,
        escaped.upper().replace("U", "u"),
        quote(letter, safe=""),
        html.escape(letter),
        f"&#{ord(letter)};",
        f"&#x{ord(letter):X};",
    ]


def pairs(encoded):
    return [encoded[i : i + 2] for i in range(0, len(encoded), 2)]


@given(before=LOWER, written=spellings(), after=LOWER)
@example(before="", written=KEY.replace("/", "\\/"), after="")
def test_a_secret_is_taken_out_however_it_is_written(before, written, after):
    """Escaped as in JSON, addresses, HTML, or in several ways at once; the rest stays."""
    assert without_secrets(f"{before}{written}{after}", [KEY]) == f"{before}***{after}"


@given(before=LOWER, written=spellings(), after=LOWER, code=st.sampled_from([401, 429, 500]))
def test_no_piece_of_a_secret_is_left_where_a_reason_is_cut(before, written, after, code):
    """It is taken out first, wherever in the reason it stands, and however the body spells it."""
    for said in (f'{{"error": {{"message": "{before}{KEY}{after}"}}}}', json_of(before, written)):
        shown = str(error_of_answer("GET /", code, {}, said, [KEY])).removeprefix("GET / answered")
        assert not set(shown) & set("SKPROJQZ/+=É😀")


def test_a_clients_own_error_is_quoted_without_secrets():
    """Also where no answer came, and the client has words of its own for that."""
    error = httpx.ConnectError(f"no way to {KEY}")
    assert (
        str(service_error_of(error, secrets=[KEY])) == "the provider gave no answer: no way to ***"
    )


def json_of(before, written):
    return json.dumps({"error": {"message": f"{before}{written}"}})


@given(inside=st.text(max_size=12), again=st.integers(0, 3))
def test_any_secret_is_found_as_json_writes_it(inside, again):
    """Also with quotes, backslashes, control characters and half characters in it."""
    written = secret = f"k{inside}k"
    for _ in range(again):
        written = json.dumps(written)
    assert without_secrets(written, [secret]).strip('\\"') == "***"


def test_the_longer_of_two_secrets_is_taken_out_first():
    """The rest of it would be left otherwise; no secret is one of no letters."""
    assert without_secrets("abcd ab", ["ab", "", "abcd"]) == "*** ***"


@pytest.mark.parametrize("text", ["\\" * 200_000, KEY[:-1] * 20_000, "&#0" * 60_000])
def test_a_long_text_is_looked_through_once(text):
    """No text makes the search go back again and again: this would take minutes."""
    assert without_secrets(text, [KEY]) == text
    assert without_secrets(text, ["\\" * 20 + "a"]) == text


def test_others_words_are_cut():
    """An error page does not fill the screen."""
    assert len(excerpt("x" * 5000)) == 200


def test_an_address_is_shown_without_user_and_password():
    """Whatever else stands in it, stays."""
    url = "https://us%40er:p%2Fw@host:8080/api/v1?a=b#c"
    assert without_credentials(url) == "https://host:8080/api/v1?a=b#c"
    assert without_credentials("http://[::1]:80") == "http://[::1]:80"
    assert secrets_of(url) == ("p%2Fw", "p/w", "dXNAZXI6cC93")
    assert secrets_of("http://key@host") == ("key", "key", "a2V5Og==")
    assert secrets_of("http://host") == ()
    assert "key" not in repr(secrets_of("http://key@host"))


@pytest.mark.parametrize(
    "url", ["user:hu/sh@host", "http://user:hu/sh@host", "http://[user:hush@host", "hush@", "@"]
)
def test_what_is_no_address_shows_no_password(url):
    """Though nobody knows where in it the password stands."""
    assert "sh" not in without_credentials(url)
    with pytest.raises(ValueError, match="is no http address") as refused:
        ServiceClient(url)
    assert "sh" not in str(refused.value).removeprefix("url=").partition("is no")[0]
