"""A folder becomes passages with ids that stay, whatever is in it."""

import codecs
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.rag.loading import load_folder
from course_lib.rag.passages import Slugs, pieces, sections, slug
from course_lib.rag.questions import read_questions

CORPUS = Path(__file__).resolve().parents[2] / "course_lib" / "service" / "corpus"
prose = st.text(st.sampled_from("ab é.\n #`-"), max_size=400)


def write(folder, files):
    """Write texts or bytes to files, by their names."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def ids(folder, **settings):
    """The ids of what is loaded."""
    return [document.id for document in load_folder(folder, **settings)]


def test_markdown_is_cut_at_headings(tmp_path):
    """Each section is a document with its heading, its file and the headings above."""
    text = "Before.\n\n# Top `x` #\n\nOne\ntwo.\n\n## In {#own}\n\nThree.\n\n## By\n\nFour.\n\n# Next\n"
    write(tmp_path, {"a.md": text})
    documents = load_folder(tmp_path)
    assert [(each.id, each.page_content, each.metadata) for each in documents] == [
        ("a.md#before", "Before.", {"source": "a.md", "title": "a", "topic": ""}),
        ("a.md#top-x", "Top x\n\nOne\ntwo.", {"source": "a.md", "title": "Top x", "topic": ""}),
        ("a.md#own", "In\n\nThree.", {"source": "a.md", "title": "In", "topic": "Top x"}),
        ("a.md#by", "By\n\nFour.", {"source": "a.md", "title": "By", "topic": "Top x"}),
    ]


def test_what_looks_like_a_heading_in_code_is_code(tmp_path):
    """Fences of either kind, closed by one as long, or never."""
    code = "# A\n\n````sh\n# no\n```\n# no\n````\n\n# B\n\n~~~\n# no\n"
    write(tmp_path, {"a.md": code, "b.txt": "# no heading here"})
    assert ids(tmp_path) == ["a.md#a", "a.md#b", "b.txt#no-heading-here"]
    assert load_folder(tmp_path)[1].page_content == "B\n\n~~~\n# no"


def test_text_is_cut_at_paragraphs(tmp_path):
    """As many as fit are one passage, named by its first words."""
    paragraphs = [f"Number {n} " + "word " * 20 for n in range(6)]
    write(tmp_path, {"notes.txt": "\n \n".join(paragraphs)})
    found = load_folder(tmp_path, max_chars=250)
    assert [each.id for each in found] == [
        f"notes.txt#number-{n}-word-word-word-word" for n in (0, 2, 4)
    ]
    assert found[0].page_content == f"{paragraphs[0].rstrip()}\n\n{paragraphs[1].rstrip()}"


def test_long_sections_are_cut_with_their_heading(tmp_path):
    """Each piece has the heading before it, and an id of its own."""
    write(tmp_path, {"a.md": "# Title\n\n" + "\n\n".join(f"{n} " + "x" * 90 for n in range(4))})
    found = load_folder(tmp_path, max_chars=200)
    assert [each.id for each in found] == ["a.md#title", "a.md#title-2"]
    assert all(each.page_content.startswith("Title\n\n") for each in found)


def test_an_id_stays_while_its_heading_does(tmp_path):
    """What is added before and after changes no other id; equal headings are numbered."""
    write(tmp_path, {"a.md": "# A\n\nx\n\n# B\n\ny\n\n# B\n\nz"})
    before = ids(tmp_path)
    write(
        tmp_path,
        {"a.md": "# New\n\nn\n\n# A\n\nchanged\n\n# B\n\ny\n\n# B\n\nz", "b.md": "# A\n\nb"},
    )
    assert before == ["a.md#a", "a.md#b", "a.md#b-2"]
    assert set(before) < set(ids(tmp_path))


def test_folders_below_are_read_in_the_order_of_names(tmp_path):
    """Paths are relative and have forward slashes; other suffixes are left alone."""
    write(tmp_path, {"b.md": "b", "a/z.md": "z", "a/c.txt": "c", "a/b/d.MD": "d", "x.py": "no"})
    assert ids(tmp_path) == ["a/b/d.MD#d", "a/c.txt#c", "a/z.md#z", "b.md#b"]
    assert ids(tmp_path, suffixes=(".py",)) == ["x.py#no"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    """Names that begin with a dot."""
    write(tmp_path, {"a.md": "a"})
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "b.md").write_text("b")
    (tmp_path / ".c.md").write_text("c")
    assert ids(tmp_path) == ["a.md#a"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_not_followed(tmp_path):
    """A loop ends, what is inside is read once, and what is outside stays outside."""
    write(tmp_path, {"in/a.md": "a", "out/secret.md": "secret"})
    folder = tmp_path / "in"
    (folder / "loop").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    (folder / "b.md").symlink_to(folder / "a.md")
    (folder / "c.md").symlink_to(tmp_path / "out" / "secret.md")
    (folder / "gone.md").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.md")
    assert ids(folder) == ["a.md#a"]
    (tmp_path / "name").symlink_to(folder)
    assert ids(tmp_path / "name") == ["a.md#a"]


@pytest.mark.parametrize(
    "content",
    [
        "Größe".encode(),
        codecs.BOM_UTF8 + "Größe".encode(),
        "Größe".encode("utf-16"),
        codecs.BOM_UTF16_BE + "Größe".encode("utf-16-be"),
        "Größe".encode("cp1252"),
    ],
)
def test_common_encodings_are_read(tmp_path, content):
    """UTF-8 with and without mark, UTF-16, and Windows-1252."""
    write(tmp_path, {"a.txt": content})
    [document] = load_folder(tmp_path)
    assert (document.id, document.page_content) == ("a.txt#größe", "Größe")


def test_line_ends_of_all_systems_are_equal(tmp_path):
    """Windows, old Macs, Unix."""
    for number, end in enumerate(("\n", "\r\n", "\r")):
        write(tmp_path, {f"{number}.md": f"# A{end}{end}one{end}two{end}{end}# B{end}{end}x"})
    found = load_folder(tmp_path)
    assert [each.page_content for each in found] == ["A\n\none\ntwo", "B\n\nx"] * 3


def test_what_is_not_text_or_too_large_is_passed_over_with_a_warning(tmp_path, caplog):
    """The others are loaded."""
    write(tmp_path, {"a.md": "a", "b.md": b"\x7fELF\0\0", "c.md": "x" * 101})
    assert ids(tmp_path, max_bytes=100) == ["a.md#a"]
    assert "b.md is passed over: it is not text" in caplog.text
    assert "c.md is passed over: 101 bytes" in caplog.text


def test_headings_may_name_their_ids(tmp_path):
    """With `anchors` that id stands alone, and must be unique in the folder."""
    write(tmp_path, {"a.md": "# A\n\nx\n\n## B {#own-id}\n\ny"})
    assert ids(tmp_path, anchors=True) == ["a.md#a", "own-id"]
    write(tmp_path, {"b.md": "## B {#own-id}\n\ny"})
    with pytest.raises(ValueError, match="'own-id' is in a.md and in b.md"):
        load_folder(tmp_path, anchors=True)
    assert ids(tmp_path) == ["a.md#a", "a.md#own-id", "b.md#own-id"]


def test_the_handbook_is_loaded_with_the_ids_of_its_questions():
    """The corpus that comes with the course, by the loader for any folder."""
    known = set(ids(CORPUS, anchors=True))
    assert len(known) > 150
    for question in read_questions(CORPUS / "questions.toml"):
        assert known.issuperset(question.relevant)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"suffixes": ".md"}, "give a tuple"),
        ({"suffixes": ()}, "give a tuple"),
        ({"suffixes": ("md",)}, "'md': write it with its dot"),
        ({"max_chars": 0}, "max_chars=0"),
        ({"suffixes": (".rst",)}, "no passage in .*end in .rst"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, settings, message):
    """And a folder without passages is."""
    write(tmp_path, {"a.md": "a"})
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, **settings)


def test_a_file_is_no_folder(tmp_path):
    """The error is Python's own."""
    write(tmp_path, {"a.md": "a"})
    with pytest.raises(NotADirectoryError, match="a.md is no folder"):
        load_folder(tmp_path / "a.md")


@given(text=prose, limit=st.integers(1, 60))
def test_pieces_lose_nothing_and_keep_to_the_limit(text, limit):
    """All letters in order; none is longer than the limit or empty; the same each time."""
    found = pieces(text, limit)
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)
    assert all(0 < len(piece) <= limit for piece in found)
    assert pieces(text, limit) == found


@given(words=st.lists(st.text("abc", min_size=1, max_size=9), max_size=80))
def test_words_are_not_cut_where_they_fit(words):
    """A long paragraph is cut between its words."""
    found = pieces(" ".join(words), 25)
    assert " ".join(found).split() == words


@given(text=prose)
def test_sections_lose_nothing_but_headings(text):
    """Whatever the Markdown, every line that is no heading is in a section."""
    kept = "".join(section.text for section in sections(text))
    lines = [line for line in text.split("\n") if not re.match(r" {0,3}#{1,6}[ \t]", line)]
    for line in lines:
        assert line.strip() in kept


@given(names=st.lists(st.sampled_from(["a", "a-2", "a-3", "b"])))
def test_slugs_are_unique(names):
    """Also where a numbered name is somebody's own."""
    slugs = Slugs()
    given_out = [slugs.unique(name) for name in names]
    assert len(set(given_out)) == len(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("What is `C#`?", "what-is-c"), ("Größe_1 (ä)", "größe-1-ä"), ("?!", "section")],
)
def test_a_slug_keeps_letters_of_any_script(text, expected):
    """The rest becomes hyphens."""
    assert slug(text) == expected
