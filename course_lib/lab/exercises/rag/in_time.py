"""Exercise 6.4: an answer in time, with what can be left out left out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from course_lib.errors import BadRequest, Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.rag.stand_in import EMPTY, Returning, Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_in_time"]

InTime = Callable[[Mapping[str, Step], Mapping[str, float], float, str], Awaitable[Any]]

BUDGET, OPTIONAL = 1.0, {"rerank": 0.3}
QUESTION, MOMENT = "question", 0.01
WHOLE, WITHOUT = "chat(rerank(search(question)))", "chat(search(question))"


async def grade_in_time(in_time: InTime) -> Grading:
    """All in time; what is optional late or failing; the budget; empty results; cancelled."""
    grading = Grading()
    result = _run(in_time, _stages(rerank=0.25))
    _observe(
        grading, "all in time", result, (WHOLE, [], None, 0.55),
        "nothing was late: every stage counts, each given what the one before returned",
    )  # fmt: skip
    result = _run(in_time, _stages(rerank=5.0))
    _observe(
        grading, "rerank takes 5 s", result, (WITHOUT, ["rerank"], None, 0.6),
        "an optional stage that takes longer than its seconds is left out: the next one gets what it "
        'would have got, and its name stands in "skipped"',
    )  # fmt: skip
    _observe_end(grading, "the late rerank", result)
    result = _run(in_time, _stages(failing="rerank"))
    _observe(
        grading, "rerank fails", result, (WITHOUT, ["rerank"], None, 0.4),
        "an optional stage that fails is left out like one that is late: the answer is worse, and "
        "there",
    )  # fmt: skip
    _grade_two_optional(grading, in_time)
    _grade_budget(grading, in_time)
    _grade_empties(grading, in_time)
    _grade_leaving(grading, in_time)
    return grading


def _observe_end(grading: Grading, what: str, result: Mapping[str, Any]) -> None:
    ends = not result["inside"]
    grading.observe(
        f"{what} itself", "ends" if ends else "goes on", "ends", ends,
        "a stage that is late goes on in the background, for nobody: cancel it "
        "(`asyncio.timeout_at` does)",
    )  # fmt: skip


def _grade_two_optional(grading: Grading, in_time: InTime) -> None:
    stages = {
        "rewrite": StepCalls("rewrite", senseless=["question"]),
        **_stages(rerank=5.0),
        "check": StepCalls("check"),
    }
    result = _run(in_time, stages, {"rewrite": 0.2, **OPTIONAL, "check": 0.2})
    _observe(
        grading, "rewrite fails at once, rerank takes 5 s", result,
        (f"check({WITHOUT})", ["rewrite", "rerank"], None, 0.8),
        'several stages may be left out, also the first one, whatever their error: "skipped" is a '
        "list of their names, in order",
    )  # fmt: skip


def _grade_budget(grading: Grading, in_time: InTime) -> None:
    result = _run(in_time, _stages(search=0.8, rerank=5.0))
    _observe(
        grading, "search takes 0.8 s, rerank 5 s", result, (None, None, "rerank", BUDGET),
        "the whole has `budget` seconds, what has passed included: at its end the answer is failed "
        "in the stage that it was in",
    )  # fmt: skip
    result = _run(in_time, _stages(chat=5.0))
    _observe(
        grading, "chat takes 5 s", result, (None, [], "chat", BUDGET),
        'when the budget ends, the answer is failed: the stage in "failed", a TimeoutError in "error"',
    )  # fmt: skip
    _observe_error(
        grading, result, TimeoutError, 'the budget ended: a TimeoutError stands in "error"'
    )
    _observe_end(grading, "the late chat", result)
    result = _run(in_time, _stages(rerank=5.0, chat=5.0))
    _observe(
        grading, "rerank takes 5 s, chat 5 s", result, (None, ["rerank"], "chat", BUDGET),
        'a failed answer has the list under "skipped", too: what was left out before it failed',
    )  # fmt: skip
    result = _run(in_time, _stages(failing="chat"))
    _observe(
        grading, "chat fails", result, (None, [], "chat", 0.4),
        "only what is optional can be left out: another stage that fails is a failed answer",
    )  # fmt: skip
    _observe_error(
        grading, result, Unavailable, 'the error that the stage raised stands in "error", itself'
    )


def _observe_error(
    grading: Grading, result: Mapping[str, Any], wanted: type[Exception], mistake: str
) -> None:
    error = result.get("error")
    grading.observe(
        "its error", type(error).__name__, wanted.__name__, isinstance(error, wanted), mistake
    )


def _grade_empties(grading: Grading, in_time: InTime) -> None:
    """A stage that returns something empty: the next one gets just that, and so does the caller."""
    passed = answered = 0
    for value in EMPTY:
        for optional in ({}, OPTIONAL):
            result = _run(in_time, _stages() | {"rerank": Returning(value)}, optional)
            passed += _seen(result) == (f"chat({value})", [], None)
        got = _seen(_run(in_time, _stages() | {"chat": Returning(value)}))
        answered += got == (value, [], None) and type(got[0]) is type(value)
    grading.observe(
        "empty results of a stage that reach the next", passed, 2 * len(EMPTY),
        passed == 2 * len(EMPTY), EMPTY_RESULT,
    )  # fmt: skip
    grading.observe(
        "empty results of the last stage that are answers", answered, len(EMPTY),
        answered == len(EMPTY), EMPTY_RESULT,
    )  # fmt: skip


EMPTY_RESULT = (
    'an empty result (`""`, `[]`, `0`, `None`) is a result: the next stage gets it as it is, and '
    "it is neither failed nor left out. Do not ask whether it is true"
)


def _grade_leaving(grading: Grading, in_time: InTime) -> None:
    stages = _stages()

    async def leave() -> tuple[bool, int]:
        task = asyncio.ensure_future(in_time(stages, OPTIONAL, BUDGET, QUESTION))
        await asyncio.sleep(0.15)  # in the optional stage
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(MOMENT)
        return task.cancelled(), sum(each.inside for each in stages.values())

    cancelled, inside = run_virtually(leave).value
    grading.observe(
        "when its caller is cancelled", "it ends" if cancelled else "it goes on", "it ends", cancelled,
        "a cancellation is taken for a stage that is late: catch `Exception`, which it is not",
    )  # fmt: skip
    _observe_end(grading, "the stage then,", {"inside": inside})


def _stages(
    search: float = 0.1, rerank: float = 0.1, chat: float = 0.2, failing: str = ""
) -> dict[str, StepCalls]:
    seconds = {"search": search, "rerank": rerank, "chat": chat}
    items = dict.fromkeys(["search(question)", "rerank(search(question))"], 9)
    return {
        name: StepCalls(name, taken, failing=items if name == failing else None)
        for name, taken in seconds.items()
    }


def _run(
    in_time: InTime, stages: Mapping[str, StepCalls], optional: Mapping[str, float] = OPTIONAL
) -> dict[str, Any]:
    """What the learner's function returns, when, and how many calls go on afterwards."""

    async def main() -> dict[str, Any]:
        try:
            result = await in_time(dict(stages), dict(optional), BUDGET, QUESTION)
        except Exception as error:
            if not isinstance(cause_of(error), Unavailable | BadRequest | TimeoutError):
                raise
            result = {"failed": "raised", "error": cause_of(error)}
        when = round(asyncio.get_running_loop().time(), 6)
        await asyncio.sleep(MOMENT)
        result = dict(result) if isinstance(result, Mapping) else {"answer": result}
        return result | {"when": when, "inside": sum(each.inside for each in stages.values())}

    value: dict[str, Any] = run_virtually(main).value
    return value


def _seen(result: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    skipped = result.get("skipped")
    skipped = list(skipped) if isinstance(skipped, list | tuple) else skipped or []
    return result.get("answer"), skipped, result.get("failed")


def _observe(
    grading: Grading,
    what: str,
    result: Mapping[str, Any],
    wanted: tuple[str | None, list[str] | None, str | None, float],
    mistake: str,
) -> None:
    """One situation: the answer, what was skipped (None: whatever), what failed, and when."""
    got = (*_seen(result), result["when"])
    if wanted[1] is None:
        got = (got[0], None, *got[2:])
    grading.observe(what, _said(*got), _said(*wanted), got == wanted, _why(got, wanted) or mistake)


def _why(got: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    """What is wrong where all else is right; "" if more is."""
    differs = [one != other for one, other in zip(got, wanted, strict=True)]
    if differs == [True, False, False, False] and wanted[2]:
        return 'what a stage before the failure found is no answer: None stands under "answer"'
    more = isinstance(got[1], list) and len(got[1]) > len(wanted[1] or [])
    if differs == [False, True, False, False] and more:
        return (
            '"skipped" holds what was left out for other questions, or was not left out: make a new '
            "list in each call"
        )
    return ""


def _said(answer: Any, skipped: Any, failed: Any, seconds: float) -> str:
    outcome = f"{failed} failed" if failed else f"{answer}"
    partial = f", with the answer {answer}" if failed and answer is not None else ""
    names = ", ".join(map(str, skipped)) if isinstance(skipped, list) else repr(skipped or "")
    return f"{outcome}{partial}{f', without {names}' if skipped else ''}, {seconds:g} s"
