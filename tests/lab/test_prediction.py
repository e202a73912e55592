"""The learner's guess."""

import pytest

from course_lib.lab import predict, predictions


def test_a_guess_is_shown_beside_the_result():
    """With how far it is off, as a factor."""
    guess = predict("seconds for 50 calls", 0.1)
    assert repr(guess) == "seconds for 50 calls: you say 0.1 s"
    assert repr(guess.reveal(0.9)) == "seconds for 50 calls: you say 0.1 s; it is 0.9 s, 9.0x off"


def test_no_guess_is_no_error():
    """The cell runs, says what to write, and the result is shown all the same."""
    guess = predict("q", ...)
    assert "write a number in place of `...`" in repr(guess)
    assert "it is 2 s" in repr(guess.reveal(2.0))
    assert guess.factor is None


@pytest.mark.parametrize("wrong", ["5", None, True, [1]])
def test_a_guess_that_is_not_a_number_is_refused(wrong):
    """With the unit to write it in."""
    with pytest.raises(TypeError, match="write one in s"):
        predict("q", wrong)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, -0.5])
def test_a_guess_that_no_result_could_be_is_told(wrong):
    """At once, before anything is measured."""
    with pytest.raises(ValueError, match="is no result: write a finite number, 0 or above"):
        predict("q", wrong)


@pytest.mark.parametrize(("guess", "said"), [(4, "right"), (4.1, "1.025x off"), (2, "2.0x off")])
def test_an_exact_guess_is_right(guess, said):
    """And a close one is not called so."""
    assert repr(predict("q", guess).reveal(4)).endswith(f"it is 4 s, {said}")


@pytest.mark.parametrize(("guess", "actual", "factor"), [(0, 0, 1), (0, 1, None), (2, 1, 2)])
def test_a_guess_of_nothing_has_a_factor_too(guess, actual, factor):
    """No division by zero."""
    assert predict("q", guess).reveal(actual).factor == factor


def test_asking_again_replaces_the_guess():
    """A cell may run twice; the closing table has each question once."""
    predict("asked twice", 1.0)
    predict("asked twice", 2.0).reveal(4.0)
    rows = [row for row in predictions().rows if row[0] == "asked twice"]
    assert rows == [["asked twice", "2 s", "4 s", "2.0x"]]
