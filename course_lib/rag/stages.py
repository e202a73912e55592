"""A remote stage: each attempt behind a gate, in a limited time, taken down and tried again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.runnables import Runnable

from course_lib.errors import TimedOut, Unavailable
from course_lib.rate_limiting import limited
from course_lib.retry import within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from langchain_core.runnables import RunnableConfig

    from course_lib.monitoring import PerformanceMonitor
    from course_lib.rag.trace import Trace
    from course_lib.rate_limiting import Gate

__all__ = ["Stage"]

Result = TypeVar("Result")
_END: Final = object()


class Stage:
    """Calls one endpoint of a provider.

    A call waits at the gate, and then has `timeout` seconds. What was rejected (429), failed (5xx,
    a broken connection) or took too long is tried again, and holds no slot meanwhile; see `limited`.

    Args:
        name: Name of the stage, for traces, monitor and the gate's statistics.
        gate: What each attempt passes.
        attempts: Attempts at most.
        timeout: Seconds for one of them.
        monitor: Counts attempts under the name, with their wait at the gate; or None.
    """

    def __init__(
        self,
        name: str,
        gate: Gate,
        *,
        attempts: int,
        timeout: float,
        monitor: PerformanceMonitor | None,
    ) -> None:
        self.name = name
        self.gate = gate
        self._monitor = monitor
        attempt = _Attempt(name, timeout, monitor)
        self._limited = limited(
            attempt, gate, attempts=attempts, retry_on=(Unavailable, TimedOut), name=name
        )

    async def call(
        self,
        function: Callable[..., Awaitable[Result]],
        *arguments: Any,
        trace: Trace,
    ) -> Result:
        """Return what a coroutine function returns, called as often as it takes.

        Raises:
            ServiceError: The last attempt's.
        """
        return cast("Result", await self._limited.ainvoke(self._job(function, arguments, trace)))

    async def stream(
        self,
        function: Callable[..., AsyncGenerator[Result, None]],
        *arguments: Any,
        trace: Trace,
    ) -> AsyncGenerator[Result, None]:
        """Yield what a generator function yields; tried again only while nothing has come.

        The time for an attempt is that to its first piece, and from each piece to the next.

        Raises:
            ServiceError: The last attempt's.
        """
        stream = self._limited.astream(self._job(function, arguments, trace))
        async with aclosing(cast("AsyncGenerator[Result, None]", stream)) as pieces:
            async for piece in pieces:
                yield piece

    def _job(self, function: Callable[..., Any], arguments: tuple[Any, ...], trace: Trace) -> _Job:
        planned = None if self._monitor is None else self._monitor.now()
        return _Job(function, arguments, trace, planned)


@dataclass(slots=True, eq=False)
class _Job:
    """A call, for as many attempts as it takes.

    Attributes:
        function: What is called.
        arguments: With what.
        trace: The query that it is for.
        planned: When the next attempt would have started without a wait, on the monitor's clock.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    trace: Trace
    planned: float | None


class _Attempt(Runnable[_Job, Any]):
    """One attempt, as the Runnable that `limited` puts behind the gate."""

    name: str

    def __init__(self, name: str, timeout: float, monitor: PerformanceMonitor | None) -> None:
        self.name = name
        self._timeout = timeout
        self._monitor = monitor

    async def ainvoke(
        self,
        input: _Job,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - the pipeline's run is what is traced
        **_: Any,
    ) -> Any:
        with self._counted(input):
            return await within(self._timeout, input.function(*input.arguments), self.name)

    async def astream(
        self,
        input: _Job,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002 - the pipeline's run is what is traced
        **_: Any,
    ) -> AsyncIterator[Any]:
        with self._counted(input):
            async with aclosing(input.function(*input.arguments)) as pieces:
                while True:
                    piece = await within(self._timeout, anext(pieces, _END), self.name)
                    if piece is _END:
                        return
                    yield piece

    def invoke(self, input: _Job, config: RunnableConfig | None = None, **_: Any) -> Any:  # noqa: A002, ARG002 - LangChain's
        raise TypeError(f"{self.name} has no sync implementation: await it")

    @contextmanager
    def _counted(self, job: _Job) -> Iterator[None]:
        clock = asyncio.get_running_loop().time
        start, monitor = clock(), self._monitor
        measured = (
            nullcontext() if monitor is None else monitor.measure(self.name, planned=job.planned)
        )
        try:
            with measured:
                yield
        finally:
            job.trace.called(self.name, clock() - start)
            if monitor is not None:
                job.planned = monitor.now()
