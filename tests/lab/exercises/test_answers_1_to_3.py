"""More answers to notebooks 1 to 3: each way of being right, each way of being wrong."""

import pytest
from exercise_support import card
from right_answers_1_to_3 import RIGHT
from wrong_answers_1_to_3 import WRONG


def name_of(function):
    """A function's name, or that of an object's class."""
    return getattr(function, "__name__", type(function).__name__)


@pytest.mark.parametrize(
    ("number", "function"),
    [
        pytest.param(number, function, id=f"{number}-{name_of(function)}")
        for number, functions in RIGHT.items()
        for function in functions
    ],
)
def test_a_right_answer_passes_whatever_it_is_built_on(number, function):
    """What is graded is what it does."""
    result = card(number, function)
    assert result.passed, result


@pytest.mark.parametrize(
    ("number", "function", "diagnosis"),
    [
        pytest.param(number, *pair, id=f"{number}-{name_of(pair[0])}")
        for number, functions in WRONG.items()
        for pair in functions.items()
    ],
)
def test_an_answer_that_breaks_one_sentence_is_told_which(number, function, diagnosis):
    """It is refused, and the mistake is named."""
    result = card(number, function)
    assert result.verdict == "not yet", result
    assert diagnosis in result.diagnosis
