"""The acceptance harness: a load, what it cost, and budgets that it has to keep."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.lab.exercises.card import Grading, ScoreCard
from course_lib.service import Ledger
from course_lib.table import Table

__all__ = ["ADVICE", "Budgets", "Figures", "accept", "before_and_after", "observe_budgets"]

Ask = Callable[[str], Awaitable[Any]]
EPSILON = 1e-9
"""What rounding may cost, of any figure."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a pipeline may cost, and what it has to do for that.

    Attributes:
        p95: Seconds within which 95 % of the questions are answered, from when they were asked.
        throughput: Questions a second, at least.
        calls: Calls that the provider sees for each question, at most, refused ones included.
        tokens: Tokens for each question, at most.
        right: Share of right answers, at least; 0 to 1.

    Raises:
        ValueError: A number is out of range.
    """

    p95: float
    throughput: float
    calls: float
    tokens: float
    right: float

    def __post_init__(self) -> None:
        for name in ("p95", "throughput", "calls", "tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: a budget is above 0")
        if not 0 <= self.right <= 1:
            raise ValueError(f"right={self.right!r}: a share is from 0 to 1")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a pipeline did under a load.

    Attributes:
        asked: Questions.
        right: Right answers.
        raised: Questions for which the pipeline raised an error.
        p50: Median seconds to an answer, from when it was asked.
        p95: 95th percentile of them.
        p99: 99th percentile of them.
        seconds: From the first question to the last answer.
        calls: Calls that the provider saw, refused ones included.
        rejected: Calls that it refused with 429.
        tokens: Tokens that it counted.
    """

    asked: int
    right: int
    raised: int
    p50: float
    p95: float
    p99: float
    seconds: float
    calls: int
    rejected: int
    tokens: int

    @property
    def throughput(self) -> float:
        """Questions a second."""
        return self.asked / self.seconds

    def card(self, budgets: Budgets, title: str = "Acceptance") -> ScoreCard:
        """Return these figures beside the budgets, with a tick for each that is kept."""
        grading = Grading()
        observe_budgets(grading, self, budgets)
        return grading.card(title)


async def accept(
    ask: Ask,
    questions: Sequence[str],
    *,
    right: Callable[[str, Any], bool],
    ledger: Callable[[], Ledger],
    rate: float | None = None,
    limit: int | None = None,
    patience: float = 30.0,
) -> Figures:
    """Ask all questions, and return what came of it, by the running loop's clock.

    Args:
        ask: The pipeline: a coroutine function of one question. What it raises is a wrong answer.
        questions: At least one.
        right: Whether an answer to a question is right.
        ledger: Returns what the provider has seen; it should begin empty.
        rate: Questions asked a second, whether or not earlier ones are answered; None for all at
            once.
        limit: Questions under way at once, at most; those behind wait, and their time counts.
        patience: Seconds after which a question that is under way is given up.

    Raises:
        ValueError: There is no question.
        NotImplementedError: The pipeline is not written yet.
    """
    if not questions:
        raise ValueError("no questions: ask at least one")
    clock = asyncio.get_running_loop().time
    slots = asyncio.Semaphore(limit or len(questions))
    start = clock()

    async def one(number: int, question: str) -> tuple[float, Any]:
        planned = start + (number / rate if rate else 0.0)
        await asyncio.sleep(planned - clock())
        async with slots:
            answer = await _answer(ask, question, patience)
        return clock() - planned, answer

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*pair)) for pair in enumerate(questions)]
    seconds = clock() - start
    durations, answers = zip(*(task.result() for task in tasks), strict=True)
    good = [
        not isinstance(answer, Exception) and right(question, answer)
        for question, answer in zip(questions, answers, strict=True)
    ]
    return _figures(sorted(durations), good, answers, seconds, ledger())


async def _answer(ask: Ask, question: str, patience: float) -> Any:
    """What a pipeline answers, or the error that it raises."""
    try:
        async with asyncio.timeout(patience):
            return await ask(question)
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - a wrong answer, and counted
        return error


def _figures(
    durations: list[float],
    good: list[bool],
    answers: Sequence[Any],
    seconds: float,
    ledger: Ledger,
) -> Figures:
    def quantile(share: float) -> float:
        return durations[max(0, min(len(durations) - 1, round(share * len(durations)) - 1))]

    return Figures(
        asked=len(durations),
        right=sum(good),
        raised=sum(isinstance(answer, Exception) for answer in answers),
        p50=quantile(0.5),
        p95=quantile(0.95),
        p99=quantile(0.99),
        seconds=max(seconds, EPSILON),
        calls=ledger.requests,
        rejected=ledger.rejected,
        tokens=ledger.tokens,
    )


ADVICE: dict[str, str] = {
    "right": "answers are missing or wrong: look at what failed, and at which stage",
    "p95": "the slowest wait too long: leave out what is late, and let no slot stand empty",
    "throughput": "the whole takes too long: what is done one after another, or twice?",
    "calls": "the provider is called too often: answer what was asked before without it, and do not "
    "knock while it sends everybody away",
    "tokens": "too many tokens: an answer that is kept costs none",
}
"""What to look at when a budget is not kept."""


def observe_budgets(
    grading: Grading, figures: Figures, budgets: Budgets, advice: Mapping[str, str] | None = None
) -> None:
    """Add a line for each budget.

    Args:
        grading: Where the lines go.
        figures: What a pipeline did.
        budgets: What it may cost.
        advice: By the names of the budgets, what to say of one that is not kept.
    """
    advice = ADVICE if advice is None else advice
    share = figures.right / figures.asked
    calls, tokens = figures.calls / figures.asked, figures.tokens / figures.asked
    grading.observe(
        "right answers", f"{figures.right} of {figures.asked}", f"at least {budgets.right:.0%}",
        share >= budgets.right - EPSILON, advice["right"],
    )  # fmt: skip
    grading.observe(
        "p95", f"{figures.p95:.2f} s", f"at most {budgets.p95:g} s",
        figures.p95 <= budgets.p95 + EPSILON, advice["p95"],
    )  # fmt: skip
    grading.observe(
        "throughput", f"{figures.throughput:.0f}/s", f"at least {budgets.throughput:g}/s",
        figures.throughput >= budgets.throughput - EPSILON, advice["throughput"],
    )  # fmt: skip
    grading.observe(
        "calls a question", f"{calls:.2f}", f"at most {budgets.calls:g}",
        calls <= budgets.calls + EPSILON, advice["calls"],
    )  # fmt: skip
    grading.observe(
        "tokens a question", _tokens(tokens), f"at most {budgets.tokens:g}",
        tokens <= budgets.tokens + EPSILON, advice["tokens"],
    )  # fmt: skip


def before_and_after(before: Figures, after: Figures) -> Table:
    """Return two runs side by side, for a question each, so that runs of different length compare."""
    rows = [
        [
            "throughput",
            f"{before.throughput:.1f}/s",
            f"{after.throughput:.1f}/s",
            f"{after.throughput / before.throughput:.1f}x",
        ],
        ["p50", f"{before.p50:.3f} s", f"{after.p50:.3f} s", _times(after.p50, before.p50)],
        ["p95", f"{before.p95:.3f} s", f"{after.p95:.3f} s", _times(after.p95, before.p95)],
        _row("calls a question", before, after, "calls", "{:.2f}".format),
        _row("tokens a question", before, after, "tokens", _tokens),
        [
            "right answers",
            f"{before.right} of {before.asked}",
            f"{after.right} of {after.asked}",
            "",
        ],
    ]
    return Table(["", "before", "after", "factor"], rows)


def _row(
    name: str, before: Figures, after: Figures, field: str, said: Callable[[float], str]
) -> list[str]:
    values = [getattr(each, field) / each.asked for each in (before, after)]
    return [name, *map(said, values), _times(values[1], values[0])]


def _tokens(mean: float) -> str:
    """Two digits: another machine's vectors may bring in another passage."""
    return f"{float(f'{mean:.2g}'):,.0f}"


def _times(after: float, before: float) -> str:
    return f"{after / before:.2f}x" if before else ""
