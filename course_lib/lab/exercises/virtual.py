"""A provider in virtual time, for exact grading: each query takes the time it is given."""

import asyncio
from collections.abc import Collection, Sequence
from http import HTTPStatus

from course_lib.errors import Unavailable
from course_lib.service import Call

__all__ = ["VirtualService"]


class VirtualService:
    """Answers searches after given times on the running loop's clock, and keeps its own books.

    Args:
        latencies: Seconds that each query takes, by its position in `queries`.
        failing: Positions of the queries that fail, at the end of their time.
        hanging: Positions of the queries that are never answered.
    """

    def __init__(
        self,
        latencies: Sequence[float],
        *,
        failing: Collection[int] = (),
        hanging: Collection[int] = (),
    ) -> None:
        self.queries = [f"question {number}" for number in range(len(latencies))]
        self.calls: list[Call] = []
        self.in_flight = 0
        self.peak_in_flight = 0
        self._latencies = dict(zip(self.queries, latencies, strict=True))
        self._failing = {self.queries[number] for number in failing}
        self._hanging = {self.queries[number] for number in hanging}

    async def search(self, query: str) -> str:
        """Return the answer to `query` after its time.

        Raises:
            Unavailable: The query is one of the failing ones.
        """
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

    def answer(self, query: str) -> str:
        """What `search` returns for a query that succeeds."""
        return f"answer to {query}"

    @property
    def answers(self) -> list[str]:
        """The right answers, in the order of the queries."""
        return [self.answer(query) for query in self.queries]
