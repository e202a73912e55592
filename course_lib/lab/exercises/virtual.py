"""A provider in virtual time, for exact grading: each query takes the time it is given."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from course_lib.errors import RateLimited, Unavailable
from course_lib.lab.clock import simulate
from course_lib.service import Call

__all__ = ["PATIENCE", "Run", "VirtualService", "run_virtually"]

PATIENCE = 5.0
"""Seconds of real time that a learner's function may take: a busy loop ends with a diagnosis."""


class VirtualService:
    """Answers searches after given times on the running loop's clock, and keeps its own books.

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
        self.calls: list[Call] = []
        self.in_flight = 0
        self.peak_in_flight = 0
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
        if self._refusals.get(query, 0) > 0:
            self._refuse(query)
        loop = asyncio.get_running_loop()
        start, status = loop.time(), 0
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            if query in self._hanging:
                await loop.create_future()
            await asyncio.sleep(self._latencies[query])
            status = HTTPStatus.OK
            if query in self._failing:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise Unavailable(f"no answer to {query!r}")
            return self.answer(query)
        finally:
            self.in_flight -= 1
            self.calls.append(Call("/search", query, start, loop.time(), int(status), 0))

    def _refuse(self, query: str) -> None:
        now = asyncio.get_running_loop().time()
        self._refusals[query] -= 1
        self.calls.append(Call("/search", query, now, now, int(HTTPStatus.TOO_MANY_REQUESTS), 0))
        raise RateLimited("too many requests", retry_after=self._retry_after)

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
