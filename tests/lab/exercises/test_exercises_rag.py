"""Notebook 6: what a load shows, and the budgets it is held to."""

import pytest

from course_lib import service
from course_lib.lab import VirtualProvider, simulate
from course_lib.lab.exercises.rag import Budgets, accept, before_and_after


def load(ask, questions=("a", "b", "c", "d"), **options):
    """The figures of a load in virtual time on a provider that takes a tenth of a second."""

    async def main():
        provider = VirtualProvider(latency=service.Latency.constant(0.1))
        return await accept(
            lambda question: ask(provider, question),
            questions,
            right=lambda question, answer: answer == f"answer to {question}",
            ledger=provider.ledger,
            **options,
        )

    return simulate(main).value


async def search(provider, question):
    return await provider.search(question)


async def search_or_raise(provider, question):
    answer = await provider.search(question)
    if question == "b":
        raise ValueError(answer)
    return "something else" if question == "c" else answer


def test_a_load_is_counted_and_timed():
    """All at once, by a rate, and a few at a time: what waits for its turn takes longer."""
    at_once, by_rate, in_turn = load(search), load(search, rate=20), load(search, limit=1)
    assert (at_once.asked, at_once.right, at_once.calls) == (4, 4, 4)
    assert at_once.seconds == pytest.approx(0.1)
    assert at_once.throughput == pytest.approx(40)
    assert by_rate.seconds == pytest.approx(0.25)
    assert by_rate.p95 == pytest.approx(0.1)
    assert (in_turn.p50, in_turn.p99) == pytest.approx((0.2, 0.4))


def test_what_raises_or_never_ends_is_a_wrong_answer():
    """And the load goes on."""
    figures = load(search_or_raise)
    assert (figures.right, figures.raised) == (2, 1)
    assert load(search, patience=0.05).raised == 4


def test_a_load_of_nothing_is_refused():
    """There would be nothing to divide by."""
    with pytest.raises(ValueError, match="ask at least one"):
        load(search, questions=())


GENEROUS = {"p95": 1, "throughput": 1, "calls": 1, "tokens": 1, "right": 0.5}


@pytest.mark.parametrize(
    ("budget", "value", "advice"),
    [
        ("p95", 0.05, "wait too long"),
        ("throughput", 41, "one after another, or twice"),
        ("calls", 0.9, "called too often"),
        ("right", 1, "missing or wrong"),
    ],
)
def test_a_budget_that_is_not_kept_is_named(budget, value, advice):
    """And those that are kept are ticked."""
    figures = load(search_or_raise if budget == "right" else search)
    assert figures.card(Budgets(**GENEROUS)).passed
    card = figures.card(Budgets(**GENEROUS | {budget: value}))
    assert [line.good for line in card.lines].count(False) == 1
    assert advice in card.diagnosis


@pytest.mark.parametrize("wrong", [{"p95": 0}, {"tokens": -1}, {"right": 1.1}])
def test_budgets_nobody_can_keep_are_refused(wrong):
    """Where they are written."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Budgets(**GENEROUS | wrong)


def test_two_runs_stand_side_by_side():
    """For a question each, with the factor between them."""
    text = repr(before_and_after(load(search, limit=1), load(search)))
    assert ["throughput", "10.0/s", "40.0/s", "4.0x"] in [
        line.split() for line in text.splitlines()
    ]
    assert "right answers" in text
