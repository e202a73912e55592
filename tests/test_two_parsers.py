"""The provider and the pipeline read the same texts alike, though neither may use the other's code.

The provider plays somebody else's system, so that `## Title {#id}` and `questions.toml` are parsed
twice. Whatever the provider's parser takes, the other one has to understand in the same way.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.rag import load_folder, read_questions
from course_lib.service.knowledge.corpus import CORPUS, load_passages, load_questions

TEXTS = {
    "one passage": "# Topic\n\n## Title {#id}\n\nText.\n",
    "several, and an introduction": "# Topic\n\nIntro.\n\n## A {#a}\n\nOne\ntwo.\n\n## B {#b-2}\nx",
    "blanks where none are needed": "\n#  Topic \n\n##   A title   {#a}  \n\n\n  x  \n\n\n\ny\n\n",
    "no blank before the id": "# T\n## `f(x)` and **more**{#f-x}\nx\n",
    "code, lists and tables": (
        "# T\n\n## A {#a}\n\n```python\n# a comment\nx = 1\n```\n\n- one\n- two\n\n| a | b |\n"
        "| - | - |\n\n1. first\n2. second\n\n    indented\n"
    ),
    "deeper headings and braces": "# T\n\n## A {b} {#a}\n\nx\n\n{#no-id} y\n\n#no heading\n",
    "letters of many scripts": "# Größe\n\n## Что {#a}\n\n東京 \u2019s größte\n",
    "headings in a block of code": (
        "```\n# No topic\n```\n# T\n\n## A {#a}\n\n```sh\n# no\n## B {#b}\n\n~~~\n## C {#c}\n\n```\n\n"
        "~~~~\n```\n~~~\n## D {#d}\n~~~~\n\n## E {#e}\n\ny\n"
    ),
    "a block of code without an end": "# T\n\n## A {#a}\n\n````\n```\n## B {#b}\n\nx\n",
    "code in a line": "# T\n\n## A {#a}\n\n```x``` is no block\n\n## B {#b}\n\ny\n",
    "blanks before a heading and marks behind it": (
        "# T #\n\n  ## A {#a} ##\n\nx\n\n    ## B {#b}\n\n## About C# {#c}\n\nz\n\n   ## D## {#d}\n\ny\n"
    ),
    "line ends of other systems": "# T\r\n\r\n## A {#a}\r\n\r\none\r\ntwo\r\n\r\n## B {#b}\r\n\r\nx\r\n",
}
QUESTIONS = """
[[question]]
text = "What is it?"
kind = "lexical"
passages = ["a", "b"]
answer = "one two"

[[question]]
text = 'And "that"?'
kind = "paraphrase"
passages = ["b"]
"""

words = st.lists(st.text("abcÄ.,", min_size=1, max_size=6), min_size=1, max_size=12).map(" ".join)
paragraphs = st.lists(words, min_size=1, max_size=4).map("\n\n".join)
identities = st.text("abc019-", min_size=1, max_size=8)
topics = st.tuples(words, st.lists(st.tuples(words, paragraphs), min_size=1, max_size=4))


def plain(text):
    """The words alone: one parser joins lines and keeps marks of code in titles."""
    return " ".join(text.replace("`", "").split())


def by_the_provider(folder):
    """(id, topic, title, text) of each passage, in order of the ids."""
    return [
        (each.id, plain(each.topic), plain(each.title), plain(each.text))
        for each in load_passages(folder)
    ]


def by_the_pipeline(folder):
    """The same of each document that has an id of its own; introductions have none."""
    found = [
        (each.id, plain(each.metadata["topic"]), title := plain(each.metadata["title"]),
         plain(each.page_content).removeprefix(f"{title} "))
        for each in load_folder(folder, suffixes=(".md",), max_chars=10**6, anchors=True)
        if not each.id.startswith(f"{each.metadata['source']}#")
    ]  # fmt: skip
    return sorted(found)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_cut_alike(tmp_path, text):
    """Into the same passages, with the same ids, titles, topics and words."""
    tmp_path.joinpath("t.md").write_bytes(text.encode())
    assert by_the_pipeline(tmp_path) == by_the_provider(tmp_path)


@given(files=st.lists(topics, min_size=1, max_size=3), ids=st.data())
def test_any_text_is_cut_alike(tmp_path_factory, files, ids):
    """Whatever titles, ids and paragraphs are made of."""
    folder, count = tmp_path_factory.mktemp("texts"), sum(len(each) for _, each in files)
    names = iter(ids.draw(st.lists(identities, min_size=count, max_size=count, unique=True)))
    for number, (topic, passages) in enumerate(files):
        cut = [f"## {title} {{#{next(names)}}}\n\n{text}\n" for title, text in passages]
        text = "\n".join([f"# {topic}\n", *cut])
        folder.joinpath(f"{number}.md").write_text(text, encoding="utf-8")
    assert by_the_pipeline(folder) == by_the_provider(folder)


def test_the_handbook_is_cut_alike():
    """All of what comes with the course."""
    assert by_the_pipeline(CORPUS) == by_the_provider(CORPUS)


def test_questions_are_read_alike(tmp_path):
    """Text, kind, passages and answer, of made-up ones and of those that come with the course."""
    tmp_path.joinpath("t.md").write_text("# T\n\n## A {#a}\n\none\ntwo\n\n## B {#b}\n\ntwo\n")
    tmp_path.joinpath("questions.toml").write_text(QUESTIONS)
    for folder in (tmp_path, CORPUS):
        theirs = load_questions(load_passages(folder), folder)
        ours = read_questions(folder / "questions.toml")
        assert [(each.text, each.kind, each.relevant, "".join(each.answers)) for each in ours] == [
            (each.text, each.kind, each.passages, each.answer) for each in theirs
        ]
