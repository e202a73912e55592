"""Exercise 5.4: the step that blocks the loop, found in chains that really block it."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import PATIENCE

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["grade_blocking"]

Blocking = Callable[["Runnable[str, str]", list[str]], Awaitable[Any]]

QUESTIONS = ["first question", "second question", "third question"]


@dataclass(slots=True)
class Scene:
    """A chain of which a step blocks, and what it was asked.

    Attributes:
        name: What is special about it.
        waits: Seconds that a call of each step awaits.
        blocks: Seconds for which a call of a step holds the loop.
        asked: How often each question came to the first step.
        peak: Questions under way at once, at most.
    """

    name: str
    waits: Mapping[str, float]
    blocks: Mapping[str, float]
    asked: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    _inside: int = 0

    @property
    def guilty(self) -> str:
        """The step that holds the loop longest."""
        return max(self.blocks, key=self.blocks.__getitem__)

    def chain(self) -> "Runnable[str, str]":
        """Return the chain; the steps hand on what they get."""
        # LangChain takes longer to import than all of `lab`.
        from langchain_core.runnables import RunnableSequence  # noqa: PLC0415

        from course_lib.async_batch import as_runnable  # noqa: PLC0415

        steps = [as_runnable(self._step(name), name=name) for name in self.waits]
        return RunnableSequence(*steps)

    def _step(self, name: str) -> Callable[[str], Awaitable[str]]:
        first, last = list(self.waits)[0], list(self.waits)[-1]  # noqa: RUF015 - beside the last

        async def step(question: str) -> str:
            if name == first:
                self.asked[question] += 1
                self._inside += 1
                self.peak = max(self.peak, self._inside)
            await asyncio.sleep(self.waits[name])
            time.sleep(self.blocks.get(name, 0.0))  # noqa: ASYNC251 - what is to be found
            self._inside -= name == last
            return question

        return step


def _scenes() -> tuple[Scene, ...]:
    return (
        Scene("another step takes longer", {"fetch": 0.4, "parse": 0.0, "store": 0.0}, {"parse": 0.08}),
        Scene(
            "two of them block", {"split": 0.0, "rank": 0.01, "write": 0.02},
            {"split": 0.06, "rank": 0.13},
        ),
        Scene("the first one", {"load": 0.01, "search": 0.02, "answer": 0.4}, {"load": 0.08}),
    )  # fmt: skip


async def grade_blocking(blocking_step: Blocking) -> Grading:
    """Three chains in real time, in which a step holds the loop for a tenth of a second or so."""
    grading = Grading()
    for scene in _scenes():
        got = await _named(blocking_step, scene)
        counts = [scene.asked[question] for question in QUESTIONS]
        grading.observe(
            f"{scene.name}: calls of each question", ", ".join(map(str, counts)), "1, 1, 1",
            counts == [1, 1, 1], _wrong_calls(counts),
        )  # fmt: skip
        grading.observe(
            f"{scene.name}: at once", scene.peak, len(QUESTIONS), scene.peak == len(QUESTIONS),
            "one question after the other: ask all of them at once, so that one that blocks keeps the "
            "others back, as it does in production",
        )  # fmt: skip
        grading.observe(
            f"{scene.name}: it is", _text(got), scene.guilty, got == scene.guilty,
            _wrong_name(scene, got),
        )  # fmt: skip
    return grading


async def _named(blocking_step: Blocking, scene: Scene) -> Any:
    """Return the answer, or the end of an iterator that it met."""
    try:
        async with asyncio.timeout(2 * PATIENCE):
            return await blocking_step(scene.chain(), list(QUESTIONS))
    except RuntimeError as error:
        if isinstance(error.__cause__, StopIteration):
            return error.__cause__
        raise


def _wrong_calls(counts: list[int]) -> str:
    if 0 in counts:
        return "not all questions are asked: `await chain.ainvoke(question, config)` for each"
    return "a question is asked more than once: watch the same run that you ask about"


def _text(got: Any) -> str:
    if isinstance(got, StopIteration | None):
        return "nothing"
    return got if isinstance(got, str) else type(got).__name__


def _wrong_name(scene: Scene, got: Any) -> str:
    if isinstance(got, StopIteration | None):
        return (
            "no step is known: `LoopLag(monitor=monitor)` asks the monitor, and the monitor knows the "
            "steps by its callback, `{'callbacks': [monitor.callback]}`"
        )
    if got in scene.blocks:
        return f"{got!r} blocks, too, but for a shorter time: `lag.steps` has the worst first"
    if got in scene.waits:
        return (
            f"{got!r} waits for long, or is in line behind the step that blocks: the report's times do "
            "not tell the two apart, `LoopLag` does"
        )
    return "return the name of the step, as the keys of `lag.steps` have it"
