"""The verbs of all exercises."""

import asyncio
import json

import pytest

from course_lib.lab import exercise
from course_lib.lab.exercises import EXERCISES, Exercise
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.offers import OFFERS, Offer
from course_lib.lab.exercises.solution import solution_of


async def grade(function):
    grading = Grading()
    got = function(1)
    grading.observe("doubles", got, 2, got == 2, "multiply by two")
    grading.observe("again", got, 2, got == 2, "a later mistake")
    return grading


def check(function):
    async def main():
        return await Exercise("9.9", "double it", ("number",), grade, ("one", "two")).check(
            function
        )

    return asyncio.run(main())


def test_a_right_answer_passes():
    """The card has a tick and no diagnosis."""
    card = check(lambda number: number * 2)
    assert card.passed
    assert card.diagnosis == ""
    assert repr(card).startswith("✔ Exercise 9.9 · double it: passed")


def test_the_first_mistake_is_the_diagnosis():
    """One thing at a time."""
    card = check(lambda number: number)
    assert card.verdict == "not yet"
    assert card.diagnosis == "multiply by two"
    assert "1 (wanted: 2)" in repr(card)
    assert "multiply by two" in card._repr_html_()


def check_with_input(function, *given):
    """A check of the mended program, and of an input that shows the fault."""

    async def both(function, breaks):
        grading = await grade(function)
        grading.observe("input", breaks, 3, breaks == 3, "look at what comes out")
        return grading

    asked = Exercise("9.9", "what is wrong", ("number",), both, ("one",), wrong_here=True)
    return asyncio.run(asked.check(function, *given))


def test_where_a_faulty_program_is_given_its_breaking_input_is_graded_too():
    """Both have to be right."""

    def double(number):
        return number * 2

    assert check_with_input(double, 3).passed
    assert check_with_input(double, 4).diagnosis == "look at what comes out"
    assert check_with_input(double).verdict == "not yet"
    assert check_with_input(lambda number: number, 3).diagnosis == "multiply by two"


def test_an_exercise_knows_whether_it_was_solved():
    """So that a closing checklist claims nothing that was not done."""

    async def main():
        asked = Exercise("9.8", "double it", ("number",), grade, ("one",))
        yield asked.solved
        await asked.check(lambda number: number)
        yield asked.solved
        await asked.check(lambda number: number * 2)
        yield asked.solved

    async def collect():
        return [each async for each in main()]

    assert asyncio.run(collect()) == [False, False, True]


def test_a_stub_is_not_attempted_yet_and_no_error():
    """A notebook runs from top to bottom before anything is solved."""

    def stub(number):
        raise NotImplementedError

    assert check(stub).verdict == "not attempted yet"


def test_what_the_function_raises_is_said_with_its_line():
    """In place of a traceback through the grader."""

    def wrong(number):
        return {}[number]

    card = check(wrong)
    assert card.diagnosis == "it raised KeyError: 1, in the line `return {}[number]`"


def test_the_result_of_a_call_in_place_of_the_function_is_refused():
    """And the coroutine is closed, so that no warning follows."""

    async def solution(number):
        return number

    assert "pass the function itself" in check(solution(1)).diagnosis


def test_what_is_no_function_is_refused():
    """With the call to write."""
    assert "is not a function" in check(42).diagnosis


def test_other_parameters_than_those_asked_for_are_named():
    """Before anything runs."""
    assert "called with (number)" in check(lambda: 1).diagnosis


def test_text_of_a_mistake_is_not_taken_for_html():
    """A diagnosis with `<` shows as it is."""

    def wrong(number):
        raise ValueError("<b>")

    assert "&lt;b&gt;" in check(wrong)._repr_html_()


def test_hints_come_one_by_one_and_then_point_to_the_solution():
    """And from the start again."""
    asked = Exercise("9.9", "x", (), grade, ("one", "two"))
    shown = [repr(asked.hint()) for _ in range(4)]
    assert "Hint 1 of 2.** one" in shown[0]
    assert "Hint 2 of 2.** two" in shown[1]
    assert "solution()" in shown[2]
    assert shown[3] == shown[0]


def test_an_unknown_exercise_is_named_with_those_there_are():
    """A typing mistake shows at once."""
    with pytest.raises(LookupError, match=r"there are 1\.1"):
        exercise("1.11")


@pytest.mark.parametrize("each", EXERCISES.values(), ids=EXERCISES)
def test_every_exercise_has_up_to_three_hints(each):
    """From a nudge to nearly the answer."""
    assert 1 <= len(each.hints) <= 3


def test_every_exercise_offers_other_ways_and_says_what_its_check_cannot_see():
    """One way or two, each with a trade-off; a new exercise brings its own."""
    missing = EXERCISES.keys() - OFFERS.keys()
    assert not missing, "a new exercise brings an entry in course_lib/lab/exercises/offers.py"
    for number, offer in OFFERS.items():
        assert 1 <= len(offer.ways) <= 2, number
        assert all("; " in way or ", " in way for way in offer.ways), (
            f"{number}: what does it cost?"
        )
        assert offer.unseen.endswith("."), number


def test_what_is_offered_stands_on_a_card_that_is_passed_alone():
    """As text and as HTML, with code as code."""
    offer = Offer(("`gather` is shorter; it lets others run on.",), "how much memory it takes.")
    grading = Grading()
    grading.observe("doubles", 2, 2, True, "multiply by two")
    passed = grading.card("title", offer)
    assert "Another way: `gather` is shorter; it lets others run on." in repr(passed)
    assert "This check cannot see how much memory it takes." in repr(passed)
    assert "<code>gather</code>" in passed._repr_html_()
    grading.observe("again", 3, 2, False, "a later mistake")
    assert "Another way" not in repr(grading.card("title", offer))


def test_a_solution_is_the_executed_cell_with_its_card(tmp_path):
    """Read from the solved notebook."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "text"},
        {"cell_type": "code", "metadata": {"exercise": "3.2"}, "source": ["def f():\n", "    ..."]},
        {
            "cell_type": "code",
            "metadata": {"tags": ["check"]},
            "source": "check",
            "outputs": [{"data": {"text/plain": ["✔ passed"]}}],
        },
    ]
    (tmp_path / "03_batching.ipynb").write_text(json.dumps({"cells": cells}))
    found = solution_of("3.2", tmp_path)
    assert (found.code, found.result) == ("def f():\n    ...", "✔ passed")
    assert "```python\ndef f():" in found._repr_markdown_()


def test_without_the_solved_notebook_the_solution_says_where_it_is_looked_for(tmp_path):
    """A package copied out of the course has none."""
    with pytest.raises(LookupError, match="from a clone of the course"):
        solution_of("3.2", tmp_path)
