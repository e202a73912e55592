"""Exercise 6.5: the whole pipeline, within its budgets."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from course_lib import service
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.rag.acceptance import (
    ADVICE,
    Ask,
    Budgets,
    Figures,
    accept,
    observe_budgets,
)
from course_lib.lab.exercises.rag.stand_in import Step
from course_lib.lab.exercises.virtual import EFFORT, run_virtually
from course_lib.lab.virtual_provider import VirtualProvider

__all__ = ["BUDGETS", "bad_day", "grade_pipeline"]

Build = Callable[[Step, Step, Step], Ask]

ASKED, DISTINCT, RATE = 300, 60, 150.0
BUDGETS = Budgets(p95=2.5, throughput=70, calls=0.8, tokens=20, right=0.95)
REJECTED = 12
"""Calls that may be refused: a few, until all know."""
WORSE = (
    "too many answers are made from a passage that is not the best: rerank before the chat, with "
    "seconds enough for a call that does not hang"
)
PATIENCE = 10.0
"""Seconds after which a question is given up."""


def questions() -> list[str]:
    """Three hundred questions of sixty, in the shares that Zipf's law gives them."""
    weights = [1 / rank for rank in range(1, DISTINCT + 1)]
    numbers = random.Random(6).choices(range(DISTINCT), weights, k=ASKED)  # noqa: S311 - a load
    return [f"question {number}" for number in numbers]


def _provider() -> VirtualProvider:
    """Search is quick; one rerank in thirty hangs; one chat in twenty fails, and it has a limit."""
    return VirtualProvider(
        endpoints={
            "/search": service.Behaviour(latency=service.Latency.constant(0.01)),
            "/rerank": service.Behaviour(
                latency=service.Latency.constant(0.03),
                capacity=service.Capacity(4),
                faults=service.Faults(hang=1 / 30, seed=3),
            ),
            "/v1/chat/completions": service.Behaviour(
                latency=service.Latency.constant(0),
                generation=service.Generation(first_token=0.1, tokens_per_second=200),
                capacity=service.Capacity(8, queue=4),
                rate_limit=service.RateLimit(rate=30, burst=15),
                faults=service.Faults(error=0.05, seed=4),
            ),
        }
    )


def _steps(provider: VirtualProvider) -> tuple[Step, Step, Step]:
    """The three stages, each given what the one before returned: question and passages."""

    async def search(question: str) -> Any:
        return question, ["something else", await provider.search(question)]

    async def rerank(found: Any) -> Any:
        question, passages = found
        return question, await provider.rerank(question, passages)

    async def chat(found: Any) -> str:
        question, passages = found
        return await provider.chat(f"{question}: {passages[0]}")

    return search, rerank, chat


def _right(question: str, result: Any) -> bool:
    """It was made from the best passage, which stands first only after a rerank."""
    return bool(_of(result, "answer") == f"reply to {question}: answer to {question}")


def _of(result: Any, key: str) -> Any:
    return result.get(key) if isinstance(result, Mapping) else None


def _run(build: Build) -> tuple[Figures, Counter[str]]:
    """The figures, and what failed how often."""
    provider, failures = _provider(), Counter[str]()

    def right(question: str, result: Any) -> bool:
        if _of(result, "failed") is not None:
            failures[f"{_of(result, 'failed')}, {type(_of(result, 'error')).__name__}"] += 1
        return _right(question, result)

    async def main() -> Figures:
        ask = build(*_steps(provider))
        return await accept(
            ask, questions(), right=right, ledger=provider.ledger, rate=RATE, patience=PATIENCE
        )

    return run_virtually(main, effort=4 * EFFORT).value, failures  # a second on a free machine


def bad_day(build: Build) -> Figures:
    """Return what a pipeline does on the provider's bad day, in virtual time: exercise 6.5's load.

    Args:
        build: Makes the pipeline out of search, rerank and chat, as `my_rag` does.

    Raises:
        NotImplementedError: It is not written yet.
    """
    return _run(build)[0]


async def grade_pipeline(build: Build) -> Grading:
    """Three hundred questions, a hundred and fifty a second, of a provider that fails and hangs."""
    grading = Grading()
    figures, failures = _run(build)
    grading.observe(
        "errors raised, or no end", figures.raised, 0, figures.raised == 0,
        "a question that fails raises, or waits for ever: it is to be a result, as in 6.4, that "
        "says what failed",
    )  # fmt: skip
    grading.observe(
        "calls refused (429)", figures.rejected, f"at most {REJECTED}", figures.rejected <= REJECTED,
        "the provider refuses call after call: let in as many at once as it takes (it does not say: "
        "try), and answer what was asked before without it",
    )  # fmt: skip
    lost = failures.total()
    grading.observe(
        "failed answers", lost, 0, lost == 0, _why_lost(failures)
    )  # fmt: skip
    observe_budgets(grading, figures, BUDGETS, ADVICE | {"right": WORSE})
    return grading


def _why_lost(failures: Counter[str]) -> str:
    """What most of the failures have in common, and what to do about it."""
    [(most, _)] = failures.most_common(1) or [("", 0)]
    stage, _, kind = most.partition(", ")
    advice = {
        "Unavailable": "it passes when the call is made again: put a gate with attempts before it",
        "RateLimited": "too many calls at once: fewer slots, more attempts, and a cache outside",
        "TimeoutError": "it hangs, or waits in line: what is optional gets seconds of its own, and "
        "what was asked before is not asked again",
    }.get(kind, "look at the error of a failed result")
    return f"most failed in {stage} with {kind}: {advice}"
