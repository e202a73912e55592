"""A provider in virtual time, for exact grading: each query takes the time it is given."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.simulation import simulate
from course_lib.service import NO_ANSWER, Call, Recorder

__all__ = ["PATIENCE", "Run", "VirtualService", "run_virtually"]

PATIENCE = 5.0
"""Seconds of real time that a learner's function may take: a busy loop ends with a diagnosis."""


class VirtualService:
    """Answers searches after given times on the running loop's clock, and keeps a ledger.

    Args:
        latencies: Seconds that each query takes, by its position in `queries`.
        failing: Positions of the queries that fail, at the end of their time.
        hanging: Positions of the queries that are never answered.
        refusing: How often a query, by its position, is refused (429) before it is answered.
        retry_after: Seconds that a refusal asks the caller to wait.
    """

    def __init__(
        self,
        latencies: Sequence[float],
        *,
        failing: Collection[int] = (),
        hanging: Collection[int] = (),
        refusing: Mapping[int, int] | None = None,
        retry_after: float = 1.0,
    ) -> None:
        self.queries = [f"question {number}" for number in range(len(latencies))]
        self._recorder = Recorder(lambda: asyncio.get_running_loop().time())
        self._latencies = dict(zip(self.queries, latencies, strict=True))
        self._failing = {self.queries[number] for number in failing}
        self._hanging = {self.queries[number] for number in hanging}
        self._refusals = {self.queries[at]: times for at, times in (refusing or {}).items()}
        self._retry_after = retry_after

    async def search(self, query: str) -> str:
        """Return the answer to `query` after its time.

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
        await asyncio.sleep(self._latencies[query])

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that have ended, oldest first."""
        return self._recorder.ledger().calls

    @property
    def peak_in_flight(self) -> int:
        """Calls under way at once, at most; refused ones do not count."""
        return self._recorder.ledger().peak_in_flight

    def answer(self, query: str) -> str:
        """What `search` returns for a query that succeeds."""
        return f"answer to {query}"

    @property
    def answers(self) -> list[str]:
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


def run_virtually(program: Callable[[], Awaitable[Any]]) -> Run:
    """Run the program in virtual time, and count the tasks that outlive it."""

    async def main() -> tuple[Any, float, int]:
        value = program()
        if inspect.isawaitable(value):
            value = await value
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return value, asyncio.get_running_loop().time(), len(others)

    return Run(*simulate(main, patience=PATIENCE).value)
