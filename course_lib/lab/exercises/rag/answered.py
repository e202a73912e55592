"""Exercise 6.1: an answer, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.rag.stand_in import EMPTY, Returning, Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_answered"]

Answered = Callable[[Mapping[str, Step], str], Awaitable[Any]]

QUESTIONS = [f"question {number}" for number in range(8)]
SECONDS = {question: 0.1 + 0.1 * (number % 3) for number, question in enumerate(QUESTIONS)}
BAD = 3
NAMES = ("search", "rerank", "chat")


def _stages() -> dict[str, StepCalls]:
    failing = {f"search({QUESTIONS[BAD]})": 99}
    return {
        "search": StepCalls("search", SECONDS),
        "rerank": StepCalls("rerank", 0.2, failing=failing),
        "chat": StepCalls("chat", 0.4),
    }


async def grade_answered(answered: Answered) -> Grading:
    """Eight questions at once, one of which no reranker answers; then one whose caller leaves."""
    grading, stages = Grading(), _stages()
    try:
        results = run_virtually(lambda: _together(answered, stages)).value
    except Exception as error:
        if not isinstance(cause_of(error), Unavailable):
            raise
        grading.observe(
            "a failed stage", "raised", "in the result", False,
            "one failed question takes all the others with it: catch the error in `answered`, and "
            "return what failed and why",
        )  # fmt: skip
        return grading
    _grade_answers(grading, results, stages)
    _grade_failure(grading, results)
    _grade_seconds(grading, results)
    _grade_each_failure(grading, answered)
    _grade_empties(grading, answered)
    cancelled = run_virtually(lambda: _leaving(answered)).value
    grading.observe(
        "when its caller is cancelled", "it ends" if cancelled else "it goes on", "it ends",
        cancelled,
        "a cancellation is taken for a failed stage: catch `Exception`, which does not include it",
    )  # fmt: skip
    return grading


async def _together(answered: Answered, stages: Mapping[str, Step]) -> list[Any]:
    return await asyncio.gather(*(answered(stages, question) for question in QUESTIONS))


async def _leaving(answered: Answered) -> bool:
    task = asyncio.ensure_future(answered(_stages(), QUESTIONS[0]))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


def _one(answered: Answered, stages: Mapping[str, Step]) -> Any:
    return run_virtually(lambda: answered(dict(stages), "question")).value


def _grade_each_failure(grading: Grading, answered: Answered) -> None:
    """Each stage fails in turn, under other names."""
    named, items = 0, ("question", "plan(question)", "find(plan(question))")
    stages = ("plan", "find", "write")
    for name in stages:
        steps = {each: StepCalls(each, failing=dict.fromkeys(items, 9)) if each == name else
                 StepCalls(each) for each in stages}  # fmt: skip
        result = _one(answered, steps)
        named += _of(result, "failed") == name and isinstance(_of(result, "error"), Unavailable)
    grading.observe(
        f"failures named, of {', '.join(stages)}", named, len(stages), named == len(stages),
        "any stage may fail, the first and the last, too, and it may have any name: take it from "
        "`stages`",
    )  # fmt: skip


def _grade_empties(grading: Grading, answered: Answered) -> None:
    """A stage that returns something empty: the next one gets just that, and so does the caller."""
    passed = returned = 0
    for value in EMPTY:
        steps = {"search": Returning(value), "chat": StepCalls("chat")}
        result = _one(answered, steps)
        passed += _of(result, "answer") == f"chat({value})" and _of(result, "failed") is None
        result = _one(answered, {"search": StepCalls("search"), "chat": Returning(value)})
        got = _of(result, "answer")
        same = got == value and type(got) is type(value)
        returned += same and _of(result, "failed") is None
    for what, count in (("reach the next stage", passed), ("are the answer", returned)):
        grading.observe(
            f"empty results that {what}", count, len(EMPTY), count == len(EMPTY),
            'an empty result (`""`, `[]`, `0`, `None`) is a result, and no failure: the next stage '
            "gets it as it is. Do not ask whether it is true",
        )  # fmt: skip


def _of(result: Any, key: str) -> Any:
    return result.get(key) if isinstance(result, Mapping) else None


def _grade_answers(grading: Grading, results: list[Any], stages: Mapping[str, StepCalls]) -> None:
    good = [n for n in range(len(QUESTIONS)) if n != BAD]
    right = [
        n for n in good if _of(results[n], "answer") == f"chat(rerank(search({QUESTIONS[n]})))"
    ]
    grading.observe(
        "answers", len(right), len(good), right == good,
        'put the last stage\'s result under "answer": the first stage gets the question, each other '
        "one what the stage before it returned",
    )  # fmt: skip
    calls = sum(each.made.total() for each in stages.values())
    grading.observe(
        "calls", calls, 3 * len(good) + 2, calls == 3 * len(good) + 2,
        "a stage is called again, or after one before it has failed: once each, and stop at a failure",
    )  # fmt: skip


def _grade_failure(grading: Grading, results: list[Any]) -> None:
    bad = results[BAD]
    where, why = _of(bad, "failed"), _of(bad, "error")
    grading.observe(
        "stage that failed", where, "rerank", where == "rerank",
        'put the name of the stage that failed under "failed": who is to mend it must know where',
    )  # fmt: skip
    grading.observe(
        "its error", type(why).__name__, "Unavailable", isinstance(why, Unavailable),
        'put the exception itself under "error": it says why',
    )  # fmt: skip
    clean = [_of(each, "failed") is None and _of(each, "error") is None for each in results]
    grading.observe(
        "failures", clean.count(False), 1, clean.count(False) == 1,
        'an answer that is there has None under "failed" and "error"',
    )  # fmt: skip
    nothing = _of(bad, "answer")
    grading.observe(
        "answer of the failed one", nothing, None, nothing is None,
        'what a stage before the failure found is no answer: None under "answer"',
    )  # fmt: skip


def _grade_seconds(grading: Grading, results: list[Any]) -> None:
    times = [_rounded(_of(each, "seconds")) for each in results]
    wanted = [
        {"search": round(SECONDS[question], 6), "rerank": 0.2}
        | ({} if number == BAD else {"chat": 0.4})
        for number, question in enumerate(QUESTIONS)
    ]
    own = sum(got == want for got, want in zip(times, wanted, strict=True))
    grading.observe(
        "results with their own seconds", own, len(QUESTIONS), own == len(QUESTIONS),
        _why_seconds(times, wanted),
    )  # fmt: skip


def _rounded(seconds: Any) -> Any:
    """The seconds by stage; a stage that was not reached may stand there with None, or 0."""
    if not isinstance(seconds, Mapping):
        return None
    numbers = {name: value for name, value in seconds.items() if value not in (None, 0)}
    if not all(isinstance(value, int | float) for value in numbers.values()):
        return None
    return {name: round(value, 6) for name, value in numbers.items()}


def _why_seconds(times: list[Any], wanted: list[dict[str, float]]) -> str:
    if all(times) and times[0] == times[-1]:
        return (
            "all questions share one record of their times, and overwrite each other's: make a new "
            "dict in each call"
        )
    if times[BAD] != wanted[BAD] and all(
        times[n] == wanted[n] for n in range(len(times)) if n != BAD
    ):
        return "the failed stage took time, too: note its seconds in a `finally`"
    return (
        'under "seconds": by the name of the stage, what it took for this question, by `now()` (no '
        "other clock tells the time that passes here)"
    )
