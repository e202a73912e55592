"""Notebook 4: what its diagnoses promise beside naming the mistake."""

import pytest
from answers_caching import WRONG
from exercise_support import card


@pytest.mark.parametrize("number", WRONG)
def test_what_the_table_tells_apart_has_a_diagnosis_of_its_own(number):
    """There are at least as many texts as phrases."""
    diagnoses = {card(number, function).diagnosis for function in WRONG[number]}
    assert len(diagnoses) >= len(set(WRONG[number].values()))
