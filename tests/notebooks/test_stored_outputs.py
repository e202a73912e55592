"""What the stored outputs of every notebook show, and what they do not give away."""

import re
import socket
import sys
from pathlib import Path

import pytest
from notebook_support import (
    LEARNER,
    ROOT,
    SOLVED,
    code,
    each,
    error,
    notebook,
    read,
    shown,
    stream,
    tags,
)

DONE, UNTOUCHED = "✔", "not attempted yet"
SHORTEST_ALTERNATIVE = 20  # characters


def texts(output):
    """All text of one output: what it prints, shows, or says of an error."""
    yield output.get("text", "")
    yield from (value for value in output.get("data", {}).values() if isinstance(value, str))
    yield from (output.get("evalue", ""), *output.get("traceback", []))


def error_problems(nb):
    """Cells that raise without a `raises-exception` tag, or have the tag and do not raise."""
    for number, cell in enumerate(nb.cells):
        raised = any(output.output_type == "error" for output in cell.get("outputs", []))
        if raised != ("raises-exception" in tags(cell)):
            yield f"cell {number} {'raises' if raised else 'is said to raise and does not'}"


def private_text():
    """Patterns of what belongs to the machine that built the notebooks."""
    host = socket.gethostname()
    named = set() if host.isalpha() else {host}  # such as `laptop`, which may stand in any text
    own = [re.escape(text) for text in {str(Path.home()), str(ROOT), sys.prefix} | named]
    general = [r"/home/\w", r"/Users/\w", r"[A-Z]:\\\\?Users", r"site-packages"]
    return re.compile("|".join([*(rf"(?<![\w/]){text}(?!\w)" for text in own), *general]))


def private_problems(nb):
    """Outputs that name this machine's folders or host, or show a traceback unannounced."""
    private = private_text()
    for number, cell in enumerate(nb.cells):
        text = "\n".join(t for output in cell.get("outputs", []) for t in texts(output))
        if found := private.search(text):
            yield f"cell {number} gives away {found.group()!r}"
        if "Traceback" in text and "raises-exception" not in tags(cell):
            yield f"cell {number} shows a traceback"


def picture_problems(nb):
    """Pictures without a text that says what they show; a `repr` in angle brackets is none."""
    for number, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain", "").strip()
            if "image/png" in output.get("data", {}) and (
                len(text) < SHORTEST_ALTERNATIVE or re.fullmatch(r"<.*>", text)
            ):
                yield f"cell {number} shows a picture without a text alternative: {text!r}"


def check_problems(nb, wanted):
    """Check cells whose output does not say `wanted`."""
    for number, cell in enumerate(nb.cells):
        said = "\n".join(t for output in cell.get("outputs", []) for t in texts(output))
        if "check" in tags(cell) and wanted not in said:
            yield f"cell {number} does not say {wanted!r}"


@each(LEARNER + SOLVED)
def test_errors_are_those_announced(path):
    """A cell raises if, and only if, it is tagged so."""
    assert list(error_problems(read(path))) == []


@each(LEARNER + SOLVED)
def test_outputs_give_away_nothing_of_the_machine(path):
    """No home directory, no installation folder, no host, no stray traceback."""
    assert list(private_problems(read(path))) == []


@each(LEARNER + SOLVED)
def test_every_picture_has_a_text_alternative(path):
    """Who cannot see a plot can read what it shows."""
    assert list(picture_problems(read(path))) == []


@each(SOLVED)
def test_solutions_pass_their_checks(path):
    """The stored output of each check in the solved notebook is a tick."""
    assert list(check_problems(read(path), DONE)) == []


@each(LEARNER)
def test_stubs_are_not_attempted(path):
    """The stored output of each check in the learner's notebook says so, and is no error."""
    assert list(check_problems(read(path), UNTOUCHED)) == []


ALTERNATIVE = "Bars: sequential 5.0 s, abatch 0.5 s."


@pytest.mark.parametrize(
    "cell",
    [
        code("1"),
        code("1 / 0", error(), tags=["raises-exception"]),
        code("p", shown(png="AA", text=ALTERNATIVE)),
        code("p", stream("see /etc/hosts and course_lib/errors.py")),
        code("check", stream("✔ 1.1\n"), tags=["check"]),
    ],
)
def test_sound_outputs_have_no_problems(cell):
    """The rules can be kept."""
    nb = notebook(cell)
    rules = (error_problems, private_problems, picture_problems)
    assert [problem for rule in rules for problem in rule(nb)] == []
    assert list(check_problems(nb, DONE)) == []


@pytest.mark.parametrize(
    ("rule", "cell"),
    [
        (error_problems, code("1 / 0", error())),
        (error_problems, code("1", tags=["raises-exception"])),
        (private_problems, code("p", stream(f"{Path.home()}/x"))),
        (private_problems, code("p", stream(f"in {ROOT}"))),
        (private_problems, code("p", shown(html=f"<b>{sys.prefix}/bin</b>"))),
        (private_problems, code("p", stream("/home/ada/x"))),
        (private_problems, code("p", shown(text="C:\\Users\\Ada"))),
        (private_problems, code("p", stream("lib/site-packages/a.py", "stderr"))),
        (private_problems, code("p", stream("Traceback (most recent call last)", "stderr"))),
        (private_problems, code("p", error(evalue="/Users/ada"), tags=["raises-exception"])),
        (picture_problems, code("p", shown(png="AA"))),
        (picture_problems, code("p", shown(png="AA", text="a plot"))),
        (picture_problems, code("p", shown(png="AA", text="<Figure size 640x480 with 1 Axes>"))),
    ],
)
def test_a_wrong_output_is_found(rule, cell):
    """Each rule fails on an output that breaks it."""
    assert list(rule(notebook(code("1"), cell)))


def test_a_check_without_its_verdict_is_found():
    """A check cell must say how it went, in words or with a tick."""
    nb = notebook(code("check", stream("not attempted yet"), tags=["check"]))
    assert list(check_problems(nb, UNTOUCHED)) == []
    assert list(check_problems(nb, DONE))
    assert list(check_problems(notebook(code("check", tags=["check"])), UNTOUCHED))
