"""Answers as learners give them: right ones pass, wrong ones are told what is wrong with them.

Those of a notebook stand in a module of their own, by the exercise's number: `RIGHT`, functions in
whatever style; `WRONG`, tables as `wrong_answers` reads them; and, where a class is asked for, `STUBS`.
"""

import inspect

import answers_async_batch
import answers_batching
import answers_caching
import answers_monitoring
import answers_rag
import answers_rate_limiting
import pytest
from exercise_support import card, wrong_answers

from course_lib.lab.exercises import EXERCISES

ANSWERS = (
    answers_async_batch,
    answers_rate_limiting,
    answers_batching,
    answers_caching,
    answers_monitoring,
    answers_rag,
)


def of_all(table):
    """A table of each module, merged."""
    return {
        number: answers
        for module in ANSWERS
        for number, answers in getattr(module, table, {}).items()
    }


RIGHT, STUBS, WRONG = of_all("RIGHT"), of_all("STUBS"), wrong_answers(of_all("WRONG"))


def unwritten(*arguments):
    raise NotImplementedError


async def unwritten_too(*arguments):
    raise NotImplementedError


def stub_of(number):
    """The function as a notebook leaves it to be written: asynchronous if a right one is."""
    first = RIGHT[number][0]
    if inspect.isclass(first):
        return STUBS[number]
    return unwritten_too if inspect.iscoroutinefunction(first) else unwritten


@pytest.mark.parametrize(
    ("number", "function"),
    [
        pytest.param(number, function, id=f"{number}-{function.__name__}")
        for number, functions in RIGHT.items()
        for function in functions
    ],
)
def test_a_right_answer_passes(number, function):
    """In whatever style it is written."""
    result = card(number, function)
    assert result.passed, result


@pytest.mark.parametrize(
    ("number", "function", "diagnosis"),
    [
        pytest.param(number, *wrong, id=f"{number}-{name}")
        for number, rows in WRONG.items()
        for name, wrong in rows.items()
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(number, function, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card(number, function)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis


@pytest.mark.parametrize("number", EXERCISES)
def test_at_least_three_mistakes_have_diagnoses_of_their_own(number):
    """A learner is told more than that it is wrong."""
    assert len({card(number, wrong.function).diagnosis for wrong in WRONG[number].values()}) >= 3


@pytest.mark.parametrize("number", ["4.1", "4.2", "4.3"])
def test_what_the_table_tells_apart_has_a_diagnosis_of_its_own(number):
    """There are at least as many texts as phrases."""
    rows = WRONG[number].values()
    diagnoses = {card(number, wrong.function).diagnosis for wrong in rows}
    assert len(diagnoses) >= len({wrong.diagnosis for wrong in rows})


@pytest.mark.parametrize("number", EXERCISES)
def test_a_stub_is_not_attempted_yet(number):
    """And is no error, whatever the grader catches on its way."""
    assert card(number, stub_of(number)).verdict == "not attempted yet"


def test_every_exercise_has_answers_of_each_kind():
    """And every answer an exercise; no diagnosis is left open."""
    assert RIGHT.keys() == WRONG.keys() == EXERCISES.keys()
    assert STUBS.keys() <= EXERCISES.keys()
    assert all(RIGHT.values())
    assert all(wrong.diagnosis for rows in WRONG.values() for wrong in rows.values())
