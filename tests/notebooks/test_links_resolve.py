"""Every link of a notebook leads somewhere, inside JupyterLab as on the web.

A link is relative to the notebook's folder and stays inside the repository, or it is http(s).
Headings are linked as JupyterLab names them: `#What-you'll-do`, blanks replaced by dashes.
"""

import re
from urllib.parse import unquote

import pytest
from notebook_support import LEARNER, NOTEBOOKS, ROOT, SOLVED, each, markdown, notebook, read

INLINE = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^\s)>]+)")
DEFINED = re.compile(r"^()\[[^\]^]+\]: *(\S+)", re.MULTILINE)
TAG = re.compile(r"""<(img|a)\b[^>]*?(?:src|href)=["']([^"']+)""", re.IGNORECASE)
CODE = re.compile(r"^ *(```|~~~).*?^ *\1 *$|(`+).+?\2", re.MULTILINE | re.DOTALL)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def links(text):
    """(is an image, target) of each link in Markdown."""
    text = CODE.sub("`code`", text)
    for pattern in (INLINE, DEFINED, TAG):
        for mark, target in pattern.findall(text):
            yield mark in {"!", "img", "IMG"}, target


def anchors(path):
    """The names that the headings of a notebook or Markdown file can be linked by."""
    if path.suffix == ".ipynb":
        return heading_anchors(read(path))
    titles = re.findall(r"^#+ +(.+?) *#*$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def heading_anchors(nb):
    """The anchors that JupyterLab gives a notebook's headings."""
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    titles = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE)
    return {re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", t).replace(" ", "-") for t in titles}


def link_problems(nb, folder):
    """Links that lead nowhere from `folder`, one line each."""
    for cell in nb.cells:
        found = links(cell.source) if cell.cell_type == "markdown" else ()
        for image, target in found:
            if problem := target_problem(image, target, nb, folder):
                yield f"{target}: {problem}"


def target_problem(image, target, nb, folder):
    """What is wrong with one target, None if nothing is."""
    if SCHEME.match(target):
        allowed = target.startswith(("https://", "http://")) and not image
        return None if allowed else "an image from elsewhere, or a scheme that is not http"
    path, _, anchor = unquote(target).partition("#")
    if path.startswith(("/", "\\", "~")):
        return "an absolute path"
    file = (folder / path).resolve() if path else None
    if file and not (file.exists() and file.is_relative_to(ROOT)):
        return "no such file in this repository"
    known = heading_anchors(nb) if file is None else anchors(file) if anchor else set()
    return "no such heading" if anchor and anchor not in known else None


@each(LEARNER + SOLVED)
def test_links_lead_somewhere(path):
    """From the learner's folder and from that of the solutions."""
    assert list(link_problems(read(path), path.parent)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[x](../course_lib/errors.py)",
        "[`x`](../LICENSE) and [y](https://example.org/a#b)",
        "# A heading's name\n[x](#A-heading's-name)",
        "# With `code`\n[x](#With-code)",
        "`[x](nowhere.md)`\n\n```\n[x](nowhere.md)\n```",
    ],
)
def test_sound_links_have_no_problems(text):
    """Files, headings and pages can be linked; code is not looked at."""
    assert list(link_problems(notebook(markdown(text)), NOTEBOOKS)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](nowhere.ipynb)", "no such file"),
        ("[x][a]\n\n[a]: nowhere.md", "no such file"),
        ('<a href="nowhere.md">x</a>', "no such file"),
        ("[x](../../elsewhere.md)", "no such file"),
        ("![x](picture.png)", "no such file"),
        ("[x](../../../../etc/passwd)", "no such file"),
        ("[x](/etc/passwd)", "absolute"),
        ("[x](file:///etc/passwd)", "scheme"),
        ("[x](#Nothing)", "no such heading"),
        ("# Some Heading\n[x](#some-heading)", "no such heading"),
        ("[x](../course_lib/errors.py#L10)", "no such heading"),
        ("![x](https://example.org/x.png)", "image from elsewhere"),
        ('<img src="https://example.org/x.png">', "image from elsewhere"),
    ],
)
def test_a_dead_link_is_found(text, problem):
    """Each kind of dead or foreign link is reported."""
    found = list(link_problems(notebook(markdown(text)), NOTEBOOKS))
    assert any(problem in line for line in found)
