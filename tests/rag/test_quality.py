"""Quality is what its definitions say, in small cases counted by hand and in all others."""

import asyncio
import math
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from course_lib.lab import simulate
from course_lib.rag import quality
from course_lib.rag.questions import Question, read_questions

CORPUS = Path(__file__).resolve().parents[2] / "course_lib" / "service" / "corpus"
ids = st.text("abcdefgh", min_size=1, max_size=1)
rankings = st.lists(ids, unique=True)
sets = st.sets(ids, min_size=1)


@pytest.mark.parametrize(
    ("found", "relevant", "expected"),
    [
        ("abc", "a", (1, 1, 1)),
        ("abc", "b", (1, 1 / 2, 1 / math.log2(3))),
        ("abc", "x", (0, 0, 0)),
        ("", "x", (0, 0, 0)),
        (
            "abcdefg",
            "fb",
            (1 / 2, 1 / 2, (1 / math.log2(3) + 1 / math.log2(7)) / (1 + 1 / math.log2(3))),
        ),
        ("aab", "ab", (1, 1, 1)),
        ("xa", "ab", (1 / 2, 1 / 2, (1 / math.log2(3)) / (1 + 1 / math.log2(3)))),
    ],
)
def test_small_cases_are_as_counted_by_hand(found, relevant, expected):
    """Recall@5, reciprocal rank and nDCG@10 of a ranking."""
    got = (
        quality.recall(found, list(relevant), 5),
        quality.reciprocal_rank(found, list(relevant)),
        quality.ndcg(found, list(relevant)),
    )
    assert got == pytest.approx(expected)


@given(found=rankings, relevant=sets, k=st.integers(1, 12))
def test_figures_follow_their_definitions(found, relevant, k):
    """Against a computation that goes rank by rank, and the best of all orders."""
    hits = [name in relevant for name in found[:k]]
    assert quality.recall(found, relevant, k) == pytest.approx(sum(hits) / len(relevant))
    gain = sum(math.log(2) / math.log(place + 2) for place, hit in enumerate(hits) if hit)
    ideal = sorted([True] * len(relevant) + [False] * 20, reverse=True)[:k]
    best = sum(math.log(2) / math.log(place + 2) for place, hit in enumerate(ideal) if hit)
    assert quality.ndcg(found, relevant, k) == pytest.approx(gain / best)
    first = [1 / (place + 1) for place, name in enumerate(found) if name in relevant]
    assert quality.reciprocal_rank(found, relevant) == max(first, default=0)


@given(found=rankings, relevant=sets, k=st.integers(1, 12))
def test_figures_are_shares_and_perfect_for_the_perfect_order(found, relevant, k):
    """Between 0 and 1; relevant ones first are as good as can be."""
    assert 0 <= quality.ndcg(found, relevant, k) <= 1 + 1e-12
    order = [*sorted(relevant), *(name for name in found if name not in relevant)]
    assert quality.ndcg(order, relevant, k) == pytest.approx(1)
    assert quality.reciprocal_rank(order, relevant) == 1


@given(found=st.lists(ids), relevant=sets, k=st.integers(1, 12))
def test_an_id_that_comes_again_counts_once(found, relevant, k):
    """Two pieces of one passage are one result."""
    once = list(dict.fromkeys(found))
    for figure in (quality.recall, quality.ndcg):
        assert figure(found, relevant, k) == figure(once, relevant, k)
    assert quality.reciprocal_rank(found, relevant) == quality.reciprocal_rank(once, relevant)


@pytest.mark.parametrize(
    "call",
    [
        lambda: quality.recall("a", ["a"], 0),
        lambda: quality.ndcg("a", ["a"], 0),
        lambda: quality.recall("a", [], 5),
        lambda: quality.reciprocal_rank("a", "a"),
        lambda: quality.retrieval_quality([], []),
        lambda: quality.retrieval_quality([["a"]], [Question("?", ("a",))] * 2),
        lambda: quality.answer_quality([], []),
    ],
)
def test_what_cannot_be_measured_is_refused(call):
    """No questions, no relevant passages, no results to look at."""
    with pytest.raises(ValueError, match="give|look at"):
        call()


def test_evaluation_asks_every_question_once():
    """The figures are means over the questions, whatever order the answers come in."""
    questions = [Question("1", ("a",)), Question("2", ("b", "c")), Question("3", ("x",))]
    asked = []

    async def search(text):
        asked.append(text)
        await asyncio.sleep(4 - int(text))
        return [Document("", id=name) for name in {"1": "abc", "2": "dbc", "3": "def"}[text]]

    retriever = RunnableLambda(lambda _: None, afunc=search)
    got = simulate(lambda: quality.evaluate(retriever, questions, k=2, limit=2)).value
    assert sorted(asked) == ["1", "2", "3"]
    second = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert got.questions == 3
    assert (got.k, got.recall, got.mrr, got.ndcg) == pytest.approx(
        (2, (1 + 1 / 2 + 0) / 3, (1 + 1 / 2 + 0) / 3, (1 + second + 0) / 3)
    )
    with pytest.raises(FrozenInstanceError):
        got.recall = 1


def test_evaluation_raises_what_a_search_raises():
    """A failed search is no bad result."""

    async def search(text):
        raise LookupError(text)

    retriever = RunnableLambda(lambda _: None, afunc=search)
    with pytest.raises(LookupError):
        simulate(lambda: quality.evaluate(retriever, [Question("1", ("a",))]))


def test_a_document_without_id_cannot_be_measured():
    """The message shows the document."""

    async def search(_):
        return [Document("some text")]

    retriever = RunnableLambda(lambda _: None, afunc=search)
    with pytest.raises(ValueError, match="without id was found .'some text'"):
        simulate(lambda: quality.evaluate(retriever, [Question("1", ("a",))]))


QUESTION = Question("?", ("little-law", "a b.md#c"), ("at most `limit` at once", "other"))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It runs AT MOST limit\nat once, always.", True),
        ("**At most** `limit` at once.", True),
        ("An other one.", True),
        ("It runs at most one.", False),
        ("", False),
        (None, False),
    ],
)
def test_an_answer_is_right_if_it_contains_a_phrase(answer, right):
    """Case, line breaks and Markdown make no difference."""
    assert quality.answers_rightly(answer, QUESTION) is right


@pytest.mark.parametrize(
    ("answer", "ids", "right"),
    [
        ("So it is [little-law].", ("little-law",), True),
        ("[little-law] and [a b.md#c], [little-law]", ("little-law", "a b.md#c"), True),
        ("[little-law][a b.md#c]", ("little-law", "a b.md#c"), True),
        ("[little-law] and [other]", ("little-law", "other"), False),
        ("x[0] and [a link](http://localhost) [little-law]", ("little-law",), True),
        ("No citation.", (), False),
        (None, (), False),
    ],
)
def test_citations_are_right_if_all_answer_the_question(answer, ids, right):
    """At least one citation, and none that is wrong; indices and links are no citations."""
    assert quality.cited(answer) == ids
    assert quality.cites_rightly(answer, QUESTION) is right


def test_brackets_of_quoted_code_are_no_citations_where_the_ids_are_known():
    """Only a name that there is counts; without a list of them, all brackets do."""
    answer = "Take sorted(x)[:n], or median([1, 3]) [relevant-id] [another]"
    known = {"relevant-id", "another"}
    question = Question("q", ("relevant-id", "another"))
    assert quality.cited(answer, known) == ("relevant-id", "another")
    assert quality.cites_rightly(answer, question, known)
    assert not quality.cites_rightly(answer, question)
    assert not quality.cites_rightly(answer, Question("q", ("another",)), known)
    assert not quality.cites_rightly("sorted(x)[:n]", question, known)


def test_accuracies_are_shares():
    """Answers are judged where one is known, citations everywhere."""
    questions = [
        Question("1", ("a",), ("yes",)),
        Question("2", ("b",), ("no",)),
        Question("3", ("c",)),
    ]
    answers = ["Yes [a]", None, "perhaps [c]"]
    assert quality.answer_quality(answers, questions) == quality.AnswerQuality(3, 1 / 2, 2 / 3)
    assert quality.answer_quality(["x"], questions[2:]).answer_accuracy is None


def test_questions_are_read_from_toml(tmp_path):
    """Texts, passages, kinds, and answers as one phrase or several."""
    file = tmp_path / "questions.toml"
    file.write_text(
        '[[question]]\ntext = "Ü?"\npassages = ["a", "b"]\nkind = "lexical"\nanswer = "x"\n'
        '[[question]]\ntext = "2?"\npassages = ["c"]\nanswer = ["y", "z"]\nlevel = 3\n',
        encoding="utf-8",
    )
    assert read_questions(file) == (
        Question("Ü?", ("a", "b"), ("x",), "lexical"),
        Question("2?", ("c",), ("y", "z")),
    )


def test_the_handbooks_questions_can_be_read():
    """The question set that comes with the course has this format."""
    questions = read_questions(CORPUS / "questions.toml")
    assert len(questions) > 30
    assert {question.kind for question in questions} == {"lexical", "paraphrase"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no"),
        ('[[question]]\ntext = "?"', "'\\?' needs 'passages'"),
        ('[[question]]\npassages = ["a"]', "needs 'text'"),
        ('[[question]]\ntext = "?"\npassages = []', "at least one passage"),
        ('[[question]]\ntext = "?"\npassages = ["a", "a"]', "named twice"),
        ('[[question]]\ntext = " "\npassages = ["a"]', "without text"),
        ('[[question]]\ntext = "?"\npassages = "a"', "'a' is not a list"),
        ('[[question]]\ntext = "?"\npassages = [1]', "1 is not a string"),
        ("no toml", "Expected"),
    ],
)
def test_a_question_that_lacks_something_is_refused(tmp_path, content, message):
    """The message names the question and what is wrong with it."""
    file = tmp_path / "questions.toml"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_questions(file)
