"""Exercise 1.4: what is wrong here? Answers that are given to the wrong questions."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from course_lib.errors import BadRequest
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import VirtualService, run_virtually

__all__ = ["by_question", "grade_by_question"]

Search = Callable[[str], Awaitable[Any]]
ByQuestion = Callable[[Search, Sequence[str]], Awaitable[Any]]

LATENCIES = [0.2, 0.1, 0.4, 0.1, 0.3, 0.2] * 50
FAILING = {0, 3, 4, 17, 298, 299}
FALSE: dict[int, Any] = {1: None, 5: 0, 8: "", 9: []}
"""Answers by their position: what is false is an answer as well."""


async def by_question(search: Search, questions: Sequence[str]) -> dict[str, Any]:
    """Return what the notebook's faulty program returns."""
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    answers = [answer for answer in found if not isinstance(answer, Exception)]
    return dict(zip(questions, answers, strict=False))


async def grade_by_question(mended: ByQuestion, breaks: Any) -> Grading:
    """The learner's input through the faulty program and the mended one; then 300 questions."""
    service = VirtualService(LATENCIES, failing=FAILING, answers=FALSE)
    run = run_virtually(lambda: mended(service.search, service.queries))
    grading = Grading()
    _grade_input(grading, breaks)
    wanted = {
        query: service.answer(query)
        for number, query in enumerate(service.queries)
        if number not in FAILING
    }
    grading.observe(
        "300 questions, six fail", _kind(run.value, wanted), "each answer beside its own question",
        run.value == wanted, _wrong(run.value, wanted),
    )  # fmt: skip
    calls = [call.query for call in service.calls]
    grading.observe(
        "calls made", len(calls), len(LATENCIES), sorted(calls) == sorted(service.queries),
        "ask each question exactly once",
    )  # fmt: skip
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"{max(LATENCIES):g} s, the longest call",
        run.seconds <= max(LATENCIES), "all questions are asked at once, as before",
    )  # fmt: skip
    return grading


def _grade_input(grading: Grading, breaks: Any) -> None:
    texts = isinstance(breaks, list) and all(isinstance(each, str) for each in breaks)
    found = run_virtually(lambda: by_question(_search, breaks)).value if texts else {}
    lies = [f"{q!r}: {answer!r}" for q, answer in found.items() if answer != _answer(q)]
    grading.observe(
        "your questions, in the program above", lies[0] if lies else f"{len(found)} right",
        "a wrong answer", bool(lies), _harmless(texts=texts),
    )  # fmt: skip


def _harmless(*, texts: bool) -> str:
    if not texts:
        return "hand over a list of questions, each a text, that shows the fault"
    return (
        "the program above answers these questions rightly: one of them has to fail, and it "
        "matters where that one stands"
    )


def _answer(question: str) -> str:
    return f"answer to {question}"


async def _search(question: str) -> str:
    """Answer as the provider does: an empty question is refused."""
    await asyncio.sleep(0.1)
    if not question:
        raise BadRequest("q is missing or empty")
    return _answer(question)


def _kind(value: Any, wanted: dict[str, Any]) -> str:
    if value == wanted:
        return "each answer beside its own question"
    if isinstance(value, dict):
        return f"{sum(value.get(q, ...) == answer for q, answer in wanted.items())} of {len(wanted)} right"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong(value: Any, wanted: dict[str, Any]) -> str:
    if value is None:
        return "it returns None: is a `return` missing?"
    if not isinstance(value, dict):
        return (
            f"it returns a {type(value).__name__}: return a dict, from each question to its answer"
        )
    if any(isinstance(answer, BaseException) for answer in value.values()):
        return "an error stands where an answer belongs: leave out the questions that failed"
    if any(value.get(question, answer) != answer for question, answer in wanted.items()):
        return (
            "an answer stands beside a question that it does not belong to: after a failed call "
            "all answers move up by one. Keep each with its question, and sort out the failed ones then"
        )
    if len(value) > len(wanted):
        return "leave out the questions that failed"
    return 'answers are missing: `None`, `0`, `""` and `[]` are answers, too'
