"""The stand-in for a language model: what it makes of a prompt."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.service.knowledge.corpus import load_passages, load_questions
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.reader import (
    IGNORANCE,
    PromptPassage,
    Task,
    parse_prompt,
    read,
)
from course_lib.service.knowledge.tokens import count_tokens, pieces

ONE, TWO = (
    PromptPassage("one", "First text."),
    PromptPassage("asyncio.Queue.get", "Second\n\ntext."),
)
PASSAGES = "[one] First text.\n\n[asyncio.Queue.get] Second\n\ntext.\n\n"


def answers(*tasks):
    """Return the answers to tasks."""

    async def main():
        embedder = Embedder()
        return [await read(task, embedder) for task in tasks]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "messages",
    [
        [("user", f"Answer from these.\n\n{PASSAGES}Question: What is it?")],
        [("user", f"Answer from these.\n\n{PASSAGES}question: What is it?\nAnswer:\n")],
        [("user", f"{PASSAGES}What is it?")],
        [("system", f"Use these.\n{PASSAGES}"), ("user", "What is it?")],
        [("system", PASSAGES), ("user", "Old?"), ("assistant", "Yes."), ("user", "What is it?")],
        [("user", PASSAGES), ("user", "Question: Question: What is it?")],
    ],
)
def test_question_and_passages_are_found(messages):
    """However they are spread over the messages."""
    task = parse_prompt(messages)
    assert task.question.removeprefix("Question: ") == "What is it?"
    if task.sources[1].text != TWO.text:  # without a mark, the question ends the last passage
        assert task.sources[1].text.startswith(TWO.text)
    assert task.sources[0] == ONE


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("What is it?", "What is it?"),
        ("Please say\n\nwhat it is.", "Please say\n\nwhat it is."),
        ("[x]\nno passage", "[x]\nno passage"),
        ("see [one] in line", "see [one] in line"),
        ("Question: what?\n \nanswer: \n", "what?"),
        ("Question: what?\nanswer: this", "what?\nanswer: this"),
        ("Question: what does Answer: mean", "what does Answer: mean"),
        ("- [ ] to do", "- [ ] to do"),
        ("", ""),
    ],
)
def test_a_prompt_without_passages_is_a_question(text, question):
    """Brackets within a line, or round nothing, make no passage."""
    assert parse_prompt([("user", text)]) == Task(question, ())


@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text())))
def test_any_prompt_can_be_read(messages):
    """Nothing that anybody writes is an error."""
    parse_prompt(messages)


def test_without_passages_it_says_that_it_does_not_know():
    """It makes nothing up; nor from a passage on another subject, an empty one, or no question."""
    soup = PromptPassage("soup", "Chop the tomatoes and boil them. Add salt.")
    assert (
        answers(
            Task("What does Little's law say?", ()),
            Task("What does Little's law say?", (soup, PromptPassage("empty", ""))),
            Task("", (soup,)),
        )
        == [IGNORANCE] * 3
    )


@pytest.mark.parametrize(
    "question", ["What is the capital of France?", "How do I bake bread?", "When was Mozart born?"]
)
def test_of_what_no_passage_is_about_it_says_that_it_does_not_know(question):
    """Even with the whole handbook before it."""
    sources = tuple(PromptPassage(passage.id, passage.text) for passage in load_passages())
    assert answers(Task(question, sources)) == [IGNORANCE]


def test_it_quotes_two_sentences_of_the_best_passage_with_its_id():
    """In their order, the passage's words, the same each time."""
    law = PromptPassage(
        "law",
        "This is old. Little's law says that L equals lambda times W. Cats sleep a lot. "
        "It holds for any stable system with arrivals and waiting.",
    )
    task = Task(
        "What does Little's law say about stable systems?", (PromptPassage("a", "Cats."), law)
    )
    first, second = answers(task, task)
    assert first == second
    assert first == (
        "Little's law says that L equals lambda times W. "
        "It holds for any stable system with arrivals and waiting. [law]"
    )


def test_equal_passages_are_told_apart_by_their_order():
    """The first one is cited."""
    texts = [PromptPassage(name, "A token bucket holds tokens.") for name in ("x", "y")]
    assert answers(Task("What does a token bucket hold?", tuple(texts)))[0].endswith("[x]")


def test_most_questions_are_answered_from_the_right_passage():
    """With the right passage among five, nine in ten answers cite it and hold what is asked for."""
    passages = {passage.id: passage for passage in load_passages()}
    others = [passages[name] for name in ("aiohttp-connector-limits", "chunk-size", "token-bucket")]
    questions = load_questions(passages.values())[::3]
    tasks = [
        Task(q.text, tuple(PromptPassage(p.id, p.text) for p in (*others, passages[q.passages[0]])))
        for q in questions
    ]
    cited = [
        answer.rpartition("[")[2].rstrip("]") in question.passages
        for question, answer in zip(questions, answers(*tasks), strict=True)
    ]
    assert sum(cited) >= 0.85 * len(cited)


@given(st.text())
def test_tokens_put_together_are_the_text(text):
    """Up to the spaces at its end."""
    assert "".join(pieces(text)) == text.rstrip()
    assert count_tokens(text) == len(pieces(text))


def test_words_and_marks_are_tokens():
    """As the documentation of the counts says."""
    assert pieces("Don't stop: it's 3.5 s.") == [
        "Don", "'", "t", " stop", ":", " it", "'", "s", " 3", ".", "5", " s", ".",
    ]  # fmt: skip
