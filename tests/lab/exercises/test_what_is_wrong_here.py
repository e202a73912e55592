"""Where an exercise gives a faulty program, the grader runs the one that the notebook shows."""

import ast
import asyncio
import inspect
import itertools
import json
from pathlib import Path

import pytest
from exercise_support import card

from course_lib.lab.exercises import EXERCISES
from course_lib.lab.exercises.async_batch.by_question import by_question
from course_lib.lab.exercises.batching.embedded import embed_all
from course_lib.lab.exercises.caching.remember import remember
from course_lib.lab.exercises.monitoring.merged_p99 import dashboard
from course_lib.lab.exercises.rag.remembered import remembered_by_spelling
from course_lib.lab.exercises.rate_limiting.let_in import let_in

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"


def shown(notebook, name):
    """The function of this name, as a cell of the notebook defines it."""
    cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    [source] = [each for each in sources if f"def {name}(" in each]
    tree = compile(source, notebook, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    [definition] = [each for each in tree.body if getattr(each, "name", "") == name]
    space = {"asyncio": asyncio, "itertools": itertools}
    exec(ast.unparse(definition), space)  # noqa: S102 - the course's own
    return space[name]


async def search(question):
    if question in {"", "bad"}:
        raise ValueError(question)
    return f"answer to {question}"


@pytest.mark.parametrize("questions", [[], ["a", "b"], ["", "a"], ["a", "bad", "b", "", "c"]])
def test_the_answers_go_to_the_same_wrong_questions(questions):
    """1.4, in the notebook and in the grader."""
    ours = asyncio.run(by_question(search, questions))
    assert asyncio.run(shown("01_async_batch.ipynb", "by_question")(search, questions)) == ours


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_same_requests_are_let_in(limit):
    """2.4, in the notebook and in the grader."""
    times = [0, 0.9, 0.9, 0.9, 1.0, 1.0, 1.1, 1.5, 3.0, 3.0, 3.99, 4.0]
    assert shown("02_rate_limiting.ipynb", "let_in")(times, limit) == let_in(times, limit)


@pytest.mark.parametrize("texts", [[], ["a", "b", "c", "d"], ["a", "", "b", "", "c"], [""]])
def test_the_same_texts_are_lost(texts):
    """3.4, in the notebook and in the grader."""

    async def embed(batch):
        return [len(text) for text in batch]

    theirs = shown("03_batching.ipynb", "embed_all")
    ours = asyncio.run(embed_all(embed, texts, 3))
    assert asyncio.run(theirs(embed, texts, 3)) == ours


def test_the_same_questions_get_somebody_elses_results():
    """4.4, in the notebook and in the grader."""
    questions = [("a", "b:c"), ("a:b", "c"), ("a", "b", ("new",)), ("a", "b:('new',)"), ("a", "b")]

    async def found(user, query, filters):
        return user, query, filters

    async def asked(make):
        ask = make(found)
        return [await ask(*question) for question in questions]

    theirs = shown("04_caching.ipynb", "remember")
    assert asyncio.run(asked(theirs)) == asyncio.run(asked(remember))


@pytest.mark.parametrize("number", [n for n, each in EXERCISES.items() if each.wrong_here])
def test_a_mended_program_without_an_input_is_asked_for_it(number):
    """And the input alone is not attempted yet: the stub has nothing to check."""
    exercise = EXERCISES[number]

    def unwritten(*arguments):
        raise NotImplementedError

    assert card(number, unwritten).verdict == "not attempted yet"
    assert "function, input" in repr(exercise)
    assert "breaks" in inspect.signature(exercise.grade).parameters


@pytest.mark.parametrize(
    "histograms", [[{0.1: 1}], [{0.01: 9_800}, {1.0: 200}], [{1.0: 3, 0.1: 99}, {0.2: 1, 9.0: 0}]]
)
@pytest.mark.parametrize("q", [0.5, 0.99])
def test_the_same_percentiles_are_averaged(histograms, q):
    """5.2, in the notebook and in the grader."""
    assert shown("05_monitoring.ipynb", "dashboard")(histograms, q) == dashboard(histograms, q)


def test_the_same_questions_share_a_key():
    """6.3, in the notebook and in the grader."""
    items = ["US", "us", " us ", "u s", ["US"], ["us"], {"a": 1}, "{'a': 1}", 1, "1", None]

    async def results(make):
        async def call(item):
            return repr(item)

        ask = make(call, 60)
        return [await ask(item) for item in items]

    theirs = shown("06_rag_capstone.ipynb", "remembered_by_spelling")
    assert asyncio.run(results(theirs)) == asyncio.run(results(remembered_by_spelling))
