"""Notebook 4: what its diagnoses promise beside naming the mistake."""

import answers_caching
import pytest
from exercise_support import card, wrong_answers

WRONG = wrong_answers(answers_caching.WRONG)


@pytest.mark.parametrize("number", WRONG)
def test_what_the_table_tells_apart_has_a_diagnosis_of_its_own(number):
    """There are at least as many texts as phrases."""
    rows = WRONG[number].values()
    diagnoses = {card(number, wrong.function).diagnosis for wrong in rows}
    assert len(diagnoses) >= len({wrong.diagnosis for wrong in rows})
