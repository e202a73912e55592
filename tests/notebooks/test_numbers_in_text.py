"""Text states no measured number that no cell above it has produced.

The rule: in a text cell, each number with a unit (ns, µs, ms, s, min, hours; kB, MB, MiB, GB;
`/s` or "calls per second"; %; x or "times") must also stand, as the same quantity, in the stored
output of an earlier cell: 0.1 s and 100 ms are the same, 0.1 s and 0.103 s are not. In "10 to 20
times" both numbers are looked for. Rates are compared whatever is counted. Numbers in words
("twice") and numbers without a unit are free. What is literally code is free as well: code blocks
and inline code; so are the targets of links and HTML tags. Free, too, are the minutes in the
section "What you'll need", and the line "*On the 90-minute path.*".
"""

import re
from decimal import Decimal

import pytest
from notebook_support import LEARNER, SOLVED, code, each, markdown, notebook, read, shown, stream

SECONDS = {
    "ns": "1e-9", "us": "1e-6", "\u00b5s": "1e-6", "\u03bcs": "1e-6", "ms": "1e-3",
    "millisecond": "1e-3", "s": "1", "sec": "1", "second": "1", "min": "60", "minute": "60",
    "h": "3600", "hour": "3600",
}  # fmt: skip
BYTES = {
    "kB": "1e3", "KB": "1e3", "MB": "1e6", "GB": "1e9",
    "KiB": "1024", "MiB": "1048576", "GiB": "1073741824",
}  # fmt: skip
UNITS = (
    {unit: ("time", Decimal(factor)) for unit, factor in SECONDS.items()}
    | {unit: ("memory", Decimal(factor)) for unit, factor in BYTES.items()}
    | {"%": ("share", Decimal(1)), "percent": ("share", Decimal(1)), "rate": ("rate", Decimal(1))}
    | dict.fromkeys(["x", "\u00d7", "times"], ("ratio", Decimal(1)))
)
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
RATE = r"[A-Za-z]*/(?:second|sec|s)|rps|[a-z]+ (?:per|a) second"
NAMES = "|".join(sorted(map(re.escape, set(UNITS) - {"rate"}), key=len, reverse=True))
BETWEEN = r"(?: ?(?:-|\u2013|\u2026|\.\.\.?|/|to|and|or) ?)"
QUANTITY = re.compile(
    rf"(?<![\w.])(?:({NUMBER}){BETWEEN})?({NUMBER})[ \u00a0\u202f-]?(?:({RATE})|({NAMES})s?)(?!\w)"
)
FREE = re.compile(
    r"^ *(```|~~~).*?^ *\1 *$|(`+).+?\2|(?<=\])\([^)]*\)|https?://\S+|<!--.*?-->|</?[a-z][^>]*>"
    r"|\*On the 90-minute path\.\*",
    re.MULTILINE | re.DOTALL,
)
NEED = re.compile(r"^(#+) +What you['\u2019]ll need.*?(?=^#|\Z)", re.MULTILINE | re.DOTALL)


def quantities(text):
    """(dimension, value in its base unit, how it is written) of each number with a unit."""
    for match in QUANTITY.finditer(text):
        first, second, rate, unit = match.groups()
        dimension, factor = UNITS["rate" if rate else unit]
        for number in filter(None, (first, second)):
            yield dimension, Decimal(number.replace(",", "")) * factor, match.group()


def output_text(cell):
    """All that a cell's stored outputs say, HTML without its tags."""
    for output in cell.get("outputs", []):
        yield output.get("text", "") + output.get("evalue", "")
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield re.sub(r"<[^>]*>", " ", value) if kind == "text/html" else value


def number_problems(nb):
    """Numbers in the text that no earlier output holds, one line each."""
    computed = set()
    for position, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            computed |= {q[:2] for text in output_text(cell) for q in quantities(text)}
            continue
        text = NEED.sub(lambda need: re.sub(r"\d+ ?min", "", need.group()), cell.source)
        for dimension, value, written in quantities(FREE.sub(" ", text)):
            if (dimension, value) not in computed:
                yield f"cell {position}: no earlier output holds {written!r}"


@each(LEARNER + SOLVED)
def test_every_number_was_computed_above(path):
    """No hand-typed timing can outlive the code that it describes."""
    assert list(number_problems(read(path))) == []


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        ("took 0.1 s", "It took 100 ms."),
        ("took 100.0 ms", "It took 0.1 s, or 0.1 seconds."),
        ("1,200 calls/s", "It made 1200 requests per second, 1,200/s."),
        ("7.9x", "That is 7.9 times as fast (7.9\u00d7)."),
        ("10x and 20x", "That is 10 to 20 times, 10\u201320\u00d7."),
        ("95 %", "95% of the calls"),
        ("2 MiB", "2048 KiB"),
        ("", "Write `sleep(0.1)  # 0.1 s` or\n\n```python\nsleep(3)  # 3 s\n```\n"),
        ("", "[a page](https://example.org/3s-or-10x) <img alt='3 s'>"),
        ("", "Twice as fast, with 50 calls on 4 threads of Python 3.11, p99, HTTP 429."),
        ("", "## What you'll need\n| | |\n| --- | --- |\n| Time | 45 minutes |\n\n## Next"),
    ],
)
def test_numbers_that_were_computed_or_are_free_pass(printed, text):
    """The same quantity in another unit is the same; code and links are free."""
    nb = notebook(code("f()", stream(printed)), markdown(text))
    assert list(number_problems(nb)) == []


@pytest.mark.parametrize(
    "text",
    [
        "3 s", "3s", "0.103 s", "5 \u00b5s", "5 us", "12 ns", "250 ms", "a 200-ms call", "45 minutes",
        "2 hours", "12 MB", "1 GiB", "300/s", "300 req/s", "300 calls per second", "300 calls a second",
        "40 %", "40%", "40 percent", "8x", "8\u00d7", "150 times faster", "10 to 7.9 times", "**8x**",
        "## What you'll need\n3 seconds", "## What you'll need\nx\n\n## Next\n20 minutes",
        "[8x faster](x.md)", "1e-3 s",
    ],
)  # fmt: skip
def test_a_number_that_nothing_computed_is_found(text):
    """Each unit is seen, in each way to write it."""
    nb = notebook(code("f()", stream("0.1 s, 7.9x, 7 %, 2 MB, 9 calls/s")), markdown(text))
    assert list(number_problems(nb))


def test_a_number_computed_below_is_found():
    """The reader has not seen it yet."""
    nb = notebook(markdown("It takes 0.1 s."), code("f()", stream("0.1 s")))
    assert list(number_problems(nb)) == ["cell 0: no earlier output holds '0.1 s'"]


def test_numbers_shown_in_a_table_count():
    """HTML and text of displayed results are outputs like any other."""
    nb = notebook(code("f()", shown(html="<td>0.1 s</td>", text="7.9x")), markdown("0.1 s, 7.9x"))
    assert list(number_problems(nb)) == []
