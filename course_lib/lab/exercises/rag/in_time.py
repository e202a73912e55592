"""Exercise 6.4: an answer in time, with what can be left out left out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from course_lib.errors import Unavailable
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import cause_of
from course_lib.lab.exercises.rag.stand_in import Step, StepCalls
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_in_time"]

InTime = Callable[[Mapping[str, Step], Mapping[str, float], float, str], Awaitable[Any]]

BUDGET, OPTIONAL = 1.0, {"rerank": 0.3}
QUESTION = "question"
WHOLE, WITHOUT = "chat(rerank(search(question)))", "chat(search(question))"


async def grade_in_time(in_time: InTime) -> Grading:
    """All in time; rerank late; rerank failing; search slow; chat late; chat failing; cancelled."""
    grading = Grading()
    result = _run(in_time)
    _observe(
        grading, "all in time", result, (WHOLE, [], None, 0.4),
        "nothing was late: every stage counts, each given what the one before returned",
    )  # fmt: skip
    result = _run(in_time, rerank=5.0)
    _observe(
        grading, "rerank takes 5 s", result, (WITHOUT, ["rerank"], None, 0.6),
        "an optional stage that takes longer than its seconds is left out: the next one gets what it "
        'would have got, and its name stands in "skipped"',
    )  # fmt: skip
    result = _run(in_time, failing="rerank")
    _observe(
        grading, "rerank fails", result, (WITHOUT, ["rerank"], None, 0.4),
        "an optional stage that fails is left out like one that is late: the answer is worse, and "
        "there",
    )  # fmt: skip
    _grade_budget(grading, in_time)
    _grade_leaving(grading, in_time)
    return grading


def _grade_budget(grading: Grading, in_time: InTime) -> None:
    result = _run(in_time, search=0.8, rerank=5.0)
    _observe(
        grading, "search takes 0.8 s, rerank 5 s", result, (None, None, "rerank", BUDGET),
        "the whole has `budget` seconds, what has passed included: at its end the answer is failed "
        "in the stage that it was in",
    )  # fmt: skip
    result = _run(in_time, chat=5.0)
    _observe(
        grading, "chat takes 5 s", result, (None, [], "chat", BUDGET),
        'when the budget ends, the answer is failed: the stage in "failed", a TimeoutError in "error"',
    )  # fmt: skip
    late = isinstance(result.get("error"), TimeoutError)
    grading.observe(
        "its error", type(result.get("error")).__name__, "TimeoutError", late,
        'the budget ended: a TimeoutError stands in "error"',
    )  # fmt: skip
    result = _run(in_time, failing="chat")
    _observe(
        grading, "chat fails", result, (None, [], "chat", 0.4),
        "only what is optional can be left out: another stage that fails is a failed answer",
    )  # fmt: skip


def _grade_leaving(grading: Grading, in_time: InTime) -> None:
    stages = _stages()

    async def leave() -> bool:
        task = asyncio.ensure_future(in_time(stages, OPTIONAL, BUDGET, QUESTION))
        await asyncio.sleep(0.15)  # in the optional stage
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    cancelled = run_virtually(leave).value
    grading.observe(
        "when its caller is cancelled", "it ends" if cancelled else "it goes on", "it ends", cancelled,
        "a cancellation is taken for a stage that is late: catch `Exception`, which it is not",
    )  # fmt: skip


def _stages(
    search: float = 0.1, rerank: float = 0.1, chat: float = 0.2, failing: str = ""
) -> dict[str, StepCalls]:
    seconds = {"search": search, "rerank": rerank, "chat": chat}
    items = dict.fromkeys(["search(question)", "rerank(search(question))"], 9)
    return {
        name: StepCalls(name, taken, failing=items if name == failing else None)
        for name, taken in seconds.items()
    }


def _run(in_time: InTime, **stages: Any) -> dict[str, Any]:
    """What the learner's function returns, and when."""

    async def main() -> dict[str, Any]:
        try:
            result = await in_time(_stages(**stages), OPTIONAL, BUDGET, QUESTION)
        except Exception as error:
            if not isinstance(cause_of(error), Unavailable | TimeoutError):
                raise
            result = {"failed": "raised", "error": cause_of(error)}
        result = dict(result) if isinstance(result, Mapping) else {"answer": result}
        return result | {"when": round(asyncio.get_running_loop().time(), 6)}

    value: dict[str, Any] = run_virtually(main).value
    return value


def _observe(
    grading: Grading,
    what: str,
    result: Mapping[str, Any],
    wanted: tuple[str | None, list[str] | None, str | None, float],
    mistake: str,
) -> None:
    """One situation: the answer, what was skipped (None: whatever), what failed, and when."""
    answer, skipped, failed, when = wanted
    got = (result.get("answer"), result.get("skipped"), result.get("failed"), result["when"])
    good = got[0] == answer and got[2] == failed and got[3] == when
    good = good and (skipped is None or list(got[1] or []) == skipped)
    grading.observe(what, _said(*got), _said(*wanted), good, mistake)


def _said(answer: Any, skipped: Any, failed: Any, seconds: float) -> str:
    outcome = f"{failed} failed" if failed else f"{answer}"
    left = f", without {', '.join(skipped)}" if skipped and not failed else ""
    return f"{outcome}{left}, {seconds:g} s"
