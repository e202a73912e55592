"""Notebook 1: what its checks promise beside a right diagnosis."""

import time

from answers_async_batch import outcomes
from exercise_support import card


def test_the_same_answer_gets_the_same_card_every_time():
    """Virtual time: the figures on the card are exact."""
    assert repr(card("1.3", outcomes)) == repr(card.__wrapped__("1.3", outcomes))
    assert "0.9 s" in repr(card("1.3", outcomes))


def test_an_endless_loop_is_ended_and_named():
    """A busy loop in the learner's function does not hang the notebook for good."""

    async def busy(search, read, questions):
        end = time.monotonic() + 300  # bounded, should the guard fail
        while time.monotonic() < end:
            pass

    assert card("1.1", busy).verdict == "not yet"
