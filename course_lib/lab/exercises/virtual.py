"""A provider in virtual time, for exact grading: each query takes the time it is given."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.simulation import simulate
from course_lib.lab.virtual_loop import VirtualLoop
from course_lib.service import NO_ANSWER, Call, Recorder

__all__ = [
    "EFFORT",
    "PATIENCE",
    "Run",
    "VirtualService",
    "left_running",
    "run_virtually",
    "virtually",
]

PATIENCE = 5.0
"""Seconds of real time that a learner's function may wait for a real provider."""

EFFORT, BLOCKED = 5.0, 10.0
"""Seconds of the processor, and of real time, that a learner's function may take in virtual time: a
busy loop is named soon, on a busy machine as well, and so is a call that blocks. What it imports for
the first time counts, too: a client of a provider takes two seconds of the processor."""


STEPS = 100_000
"""Callbacks that may run without time moving, before a function is told that it polls."""

_ROUNDS_TO_END = 5  # of the loop: a task that was cancelled ends within as many

T = TypeVar("T")


class VirtualService:
    """Answers searches after given times on the running loop's clock, and keeps a ledger.

    Args:
        latencies: Seconds that each query takes, by its position in `queries`.
        failing: Positions of the queries that fail, at the end of their time.
        hanging: Positions of the queries that are never answered.
        refusing: How often a query, by its position, is refused (429) before it is answered.
        retry_after: Seconds that a refusal asks the caller to wait.
        answers: What is answered to a query, by its position, where that is no text of its own.
    """

    def __init__(
        self,
        latencies: Sequence[float],
        *,
        failing: Collection[int] = (),
        hanging: Collection[int] = (),
        refusing: Mapping[int, int] | None = None,
        retry_after: float = 1.0,
        answers: Mapping[int, Any] | None = None,
    ) -> None:
        self.queries = [f"question {number}" for number in range(len(latencies))]
        self._recorder = Recorder(lambda: asyncio.get_running_loop().time())
        self._latencies = dict(zip(self.queries, latencies, strict=True))
        self._failing = {self.queries[number] for number in failing}
        self._hanging = {self.queries[number] for number in hanging}
        self._refusals = {self.queries[at]: times for at, times in (refusing or {}).items()}
        self._retry_after = retry_after
        self._answers = {self.queries[at]: each for at, each in (answers or {}).items()}

    async def search(self, query: str) -> Any:
        """Return the answer to `query` after its time; without a time, at once.

        Raises:
            RateLimited: The query is to be refused once more.
            Unavailable: The query is one of the failing ones.
        """
        visit = self._recorder.arrive("/search", query, connection=0)
        status: int = NO_ANSWER
        try:
            if self._refusals.get(query, 0) > 0:
                self._refusals[query] -= 1
                status = HTTPStatus.TOO_MANY_REQUESTS
                raise RateLimited("too many requests", retry_after=self._retry_after)
            visit.accept()
            await self._work(query)
            status = HTTPStatus.OK
            if query in self._failing:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise Unavailable(f"no answer to {query!r}")
            return self.answer(query)
        finally:
            visit.leave(status)

    async def _work(self, query: str) -> None:
        if query in self._hanging:
            await asyncio.get_running_loop().create_future()
        if self._latencies[query]:
            await asyncio.sleep(self._latencies[query])

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that have ended, oldest first."""
        return self._recorder.ledger().calls

    @property
    def peak_in_flight(self) -> int:
        """Calls under way at once, at most; refused ones do not count."""
        return self._recorder.ledger().peak_in_flight

    def answer(self, query: str) -> Any:
        """What `search` returns for a query that succeeds."""
        return self._answers.get(query, f"answer to {query}")

    @property
    def answers(self) -> list[Any]:
        """The right answers, in the order of the queries."""
        return [self.answer(query) for query in self.queries]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a learner's function did in virtual time.

    Attributes:
        value: What it returned.
        seconds: When it returned.
        left_running: Tasks that outlived it.
    """

    value: Any
    seconds: float
    left_running: int


def run_virtually(
    program: Callable[[], Awaitable[Any]], *, lateness: float = 0.0, effort: float = EFFORT
) -> Run:
    """Run the program in virtual time, and count the tasks that outlive it.

    Args:
        program: A function without arguments that returns an awaitable.
        lateness: Seconds by which each timer is late.
        effort: Seconds of the processor that it may take.
    """

    async def main() -> tuple[Any, float, int]:
        value = program()
        if inspect.isawaitable(value):
            value = await value
        seconds = asyncio.get_running_loop().time()
        return value, seconds, await left_running()

    return Run(*virtually(main, lateness=lateness, effort=effort))


def virtually(
    program: Callable[[], Awaitable[T]], *, lateness: float = 0.0, effort: float = EFFORT
) -> T:
    """Return what the program returns, run in virtual time within an exercise's bounds."""

    async def main() -> T:
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop):
            loop.most_still = STEPS
        value = program()
        return await value if inspect.isawaitable(value) else cast("T", value)

    return simulate(
        main, patience=BLOCKED * effort / EFFORT, effort=effort, lateness=lateness
    ).value


async def left_running() -> int:
    """Count the other tasks, those left out that have been cancelled and are about to end."""
    for _ in range(_ROUNDS_TO_END):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks() - {asyncio.current_task()})
