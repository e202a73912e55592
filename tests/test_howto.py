"""The how-to pages: their programs run, and print what the pages say."""

import re
import subprocess
import sys

import pytest
from howto_pages import FOLDER, PAGES, ROOT, blocks, found_from, links

INDEX = FOLDER / "README.md"
TASKS = [page for page in PAGES if page != INDEX]
MOST_LINES = 30
NEEDS = {
    "ask-your-own-documents": ["faiss"],
    "share-a-cache": ["redis"],
    "share-a-limit": ["redis", "distributed"],
}

each_page = pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)


def program_of(page):
    """The one program of a page."""
    [program] = blocks(page, "python")
    return program


@each_page
def test_a_page_prints_what_it_says(page, tmp_path, monkeypatch, capsys, provider):
    """Its program runs as it stands, in an empty folder."""
    for name in NEEDS.get(page.stem, ()):
        pytest.importorskip(name, reason="it is in the extra `scale`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_BASE_URL", f"{provider.url}/v1")
    monkeypatch.setenv("COURSE_API_KEY", "key")
    exec(compile(program_of(page), page.name, "exec"), {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out == "".join(blocks(page, "text"))


@each_page
def test_a_page_is_one_short_task(page):
    """A title, a program of at most thirty lines, its output, and where to read more."""
    text, program = page.read_text("utf-8"), program_of(page)
    assert re.match(r"# [A-Z]", text)
    assert not re.search(r"^##+ [A-Z]", text, re.MULTILINE), "two tasks: make two pages"
    assert len([line for line in program.splitlines() if line.strip()]) <= MOST_LINES
    assert len(blocks(page, "text")) == 1
    assert re.search(r"^More: \[", text, re.MULTILINE)


@each_page
def test_a_program_is_formatted(page):
    """Like all other code."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--check",
        "--stdin-filename",
        "tests/x.py",
        "-",
    ]
    result = subprocess.run(command, cwd=ROOT, input=program_of(page), text=True, check=False)
    assert result.returncode == 0


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """In the README, too."""
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_is_found_from_the_readme():
    """Under its own title."""
    assert set(PAGES) == found_from(ROOT / "README.md", FOLDER)
    listed = dict(re.findall(r"^- \[(.+)\]\((.+)\)$", INDEX.read_text("utf-8"), re.MULTILINE))
    titles = {
        page.read_text("utf-8").partition("\n")[0].removeprefix("# "): page.name for page in TASKS
    }
    assert listed == titles
