"""What two runs of a notebook may differ in, by the sanitizers alone."""

import re

import pytest
from nbval.plugin import get_sanitize_patterns
from notebook_support import ROOT

PATTERNS = get_sanitize_patterns((ROOT / "tests/notebooks/sanitize.cfg").read_text("ascii"))
MAY_DIFFER = [
    ("took 0.5 s", "took 12.345 s"),
    ("took 950 ms, then 3 µs", "took 1.2 s, then 800 ns"),
    ("p50/p99 12/40 ms", "p50/p99 9.5/110 ms"),
    ("0.9 to 1.1 s", "0.95\u20131.0 s"),
    ("3e-05 s each", "0.0001 seconds each"),
    ("1 min", "59 s"),
    ("8,500 requests/s", "912.5 requests/s"),
    ("300 req/s", "4,100 req/s"),
    ("12 calls per second", "9 calls per second"),
    ("7.9x as fast", "11x as fast"),
    ("7.9\u00d7 as fast", "12.1\u00d7 as fast"),
    ("7.9 times as fast", "12.1 times as fast"),
    ("50 calls, 4 threads: 13 waves", "50 calls, 32 threads: 2 waves"),
    ("timed out, on this machine: 214 against 0", "timed out, on this machine: 9 against 3"),
    ("12 MB", "1,200 KiB"),
    ("http://127.0.0.1:43125/search", "http://127.0.0.1:8001/search"),
    ("port 43125", "port 8001"),
    ("pid 1234", "pid 7"),
    ("Provider(pid=1234)", "Provider(pid=99)"),
    ("<object at 0x7f00deadbeef>", "<object at 0x7fff00000000>"),
    ("File /tmp/tmpab12/x.json", "File /var/folders/zz/T/y.json"),
    ("File /tmp/ipykernel_12/34.py:1", "File /tmp/ipykernel_99/7.py:1"),
    ("at 2024-01-31 10:20:30.5", "at 2025-12-01T01:02:03Z"),
    ("at 10:20:30", "at 01:02:03.25"),
    ("[00:05<00:10, 12.3it/s]", "[00:01<?, ?it/s]"),
    ("variant   seconds\n--------------\nfast  0.5 s  ok", "variant  seconds\n---------\nfast 12.25 s ok"),
    ("│ 0.5 s │\n├───────┤", "│ 12.25 s │\n├─────────┤"),
    ("fast ███ 0.5 s", "fast ██████ 1.0 s"),
    ("fast 0.5 s   \nslow", "fast 12.25 s\nslow"),
]  # fmt: skip
MUST_NOT_DIFFER = [
    ("50 requests", "51 requests"),
    ("peak 16", "peak 8"),
    ("called 3 times", "called 4 times"),
    ("3 %", "4 %"),
    ("took 0.5 s", "took long"),
    ("0.5 s, 1 error", "0.5 s, 2 errors"),
    ("status 429", "status 500"),
    ("[1, 2, 3]", "[1, 3, 2]"),
    ("<Figure size 700x360>", "<Figure size 700x400>"),
    ("7.9x", "7.9 s"),
    ("p50", "p99"),
    ("one line", "one\nline"),
    ("a - b", "a b"),
    ("✔ 1.1", "✘ 1.1"),
]


def sanitized(text):
    """The text as nbval compares it."""
    for regex, replacement in PATTERNS:
        text = re.sub(regex, replacement, text)
    return text


@pytest.mark.parametrize(("stored", "new"), MAY_DIFFER)
def test_measured_text_is_not_compared(stored, new):
    """What a machine measures or happens to assign is the same text after sanitizing."""
    assert sanitized(stored) == sanitized(new)


@pytest.mark.parametrize(("stored", "new"), MUST_NOT_DIFFER)
def test_everything_else_is_compared(stored, new):
    """Counts, percentages, order and words stay what they are."""
    assert sanitized(stored) != sanitized(new)


def test_nbval_reads_every_sanitizer():
    """Each section holds one pair that nbval's own parser finds."""
    sections = re.findall(r"^\[", (ROOT / "tests/notebooks/sanitize.cfg").read_text(), re.MULTILINE)
    assert len(PATTERNS) == len(sections)
