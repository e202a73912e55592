"""Notebooks 4 to 6: each sentence of a specification is graded, whatever the style."""

import pytest
from exercise_support import card
from right_answers_4_to_6 import RIGHT
from wrong_answers_4_to_6 import WRONG


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        pytest.param(number, answer, id=f"{number}-{answer.__name__}")
        for number, answers in RIGHT.items()
        for answer in answers
    ],
)
def test_a_right_answer_passes_however_it_is_built(number, answer):
    """Gather or callbacks, a class or a closure, by hand or with the library."""
    result = card(number, answer)
    assert result.passed, result


@pytest.mark.parametrize(
    ("number", "answer", "diagnosis"),
    [
        pytest.param(number, *pair, id=f"{number}-{pair[0].__name__}")
        for number, answers in WRONG.items()
        for pair in answers.items()
    ],
)
def test_an_answer_that_breaks_one_sentence_is_told_which(number, answer, diagnosis):
    """And no cross stands beside the figure that was wanted."""
    result = card(number, answer)
    assert result.verdict == "not yet"
    assert diagnosis in result.diagnosis, result
    assert not [line for line in result.lines if not line.good and line.got == line.wanted]
