"""Notebook 3: right answers pass, and typical wrong ones are told what is wrong."""

import pytest
from answers_batching import RIGHT, WRONG
from exercise_support import card


@pytest.mark.parametrize(
    ("number", "function"), [(number, each) for number, all_ in RIGHT.items() for each in all_]
)
def test_a_right_answer_passes_batching(number, function):
    """In whatever style it is written."""
    result = card(number, function)
    assert result.passed, result


@pytest.mark.parametrize(
    ("number", "function", "diagnosis"),
    [(number, *pair) for number, all_ in WRONG.items() for pair in all_.items()],
)
def test_a_wrong_answer_is_told_what_is_wrong_batching(number, function, diagnosis):
    """The mistake is named, and nothing is raised."""
    result = card(number, function)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis
