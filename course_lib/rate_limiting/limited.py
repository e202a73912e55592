"""A Runnable behind a gate: every call passes it, and what was rejected is tried again."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig

from course_lib.rate_limiting.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel

    from course_lib.rate_limiting.gate import Gate, Slot

__all__ = ["Limited", "limited"]

Input = TypeVar("Input")
Output = TypeVar("Output")


def limited(
    runnable: Runnable[Input, Output],
    gate: Gate,
    *,
    attempts: int = 5,
    retry_on: tuple[type[Exception], ...] = (),
    weight: float | Callable[[Input], float] = 1,
    priority: float | Callable[[Input], float] = 0,
    backoff: float = 0.1,
    jitter: float = 0.1,
    seed: int | None = None,
    name: str | None = None,
) -> Limited[Input, Output]:
    """Return a Runnable that calls this one through a gate.

        search = limited(as_runnable(client.search), gate, name="search")
        chain = search | rerank

    - Every call waits for its slot: `ainvoke`, each item of `abatch`, each stream (which holds its
      slot until it ends or is closed), and the same from threads: `invoke`, `batch`, `stream`.
    - A call that raises `RateLimited` leaves the gate, which cools *everybody* down for its
      `retry_after` and counts it under `name`; then it is tried again, at its old place in line.
      It holds no slot meanwhile. Without a `retry_after` it waits by itself, longer each time.
    - Other errors are raised at once, unless `retry_on` names them: then it waits likewise.
    - A stream is tried again only while nothing of it has come: what was said stays said.

    The Runnable sees the caller's config, callbacks included, and is what appears in traces: this
    wrapper adds no run of its own. A second attempt is tagged `retry:attempt:2`.

    A synchronous call blocks its thread while it waits. Where that thread runs an event loop, it
    waits for the rate, but is refused rather than wait for others to leave, who may need the loop.

    Args:
        runnable: What calls the provider.
        gate: Shared by everything that calls the same provider.
        attempts: How often a call is made at most, the first time included.
        retry_on: Errors beside `RateLimited` after which a call is made again.
        weight: Tokens of a call, or a function of its input that returns them.
        priority: Priority of a call, or a function of its input that returns it.
        backoff: Seconds of the first wait where the provider does not say how long; doubled each
            time, drawn evenly between 0 and that ("full jitter": Brooker, "Exponential backoff and
            jitter", AWS Architecture Blog, 2015).
        jitter: A cool-down is longer by a random share up to this, so that several processes do
            not come back in the same moment.
        seed: Makes the draws the same each time.
        name: What the step is called; by default as the Runnable.

    Raises:
        TypeError: `runnable` is none.
        ValueError: A number is out of range; for what a function returns, when the call is made.
    """
    if not isinstance(runnable, Runnable):
        raise TypeError(f"{runnable!r} is no Runnable: wrap it, as in `as_runnable(client.search)`")
    gate.slot(
        weight=1 if callable(weight) else weight, priority=0 if callable(priority) else priority
    )  # raises at once what each call would raise
    retry = Retry(attempts=attempts, retry_on=retry_on, backoff=backoff, jitter=jitter, seed=seed)
    return Limited(runnable, gate, retry, weight=weight, priority=priority, name=name)


class Limited(Runnable[Input, Output]):
    """A Runnable behind a gate, made by `limited`.

    What LangChain builds on `invoke`, `ainvoke`, `stream` and `astream` (batches, `transform`,
    events) therefore passes the gate as well.

    Attributes:
        bound: The Runnable that is called.
        gate: The gate that is passed.
    """

    name: str

    def __init__(
        self,
        bound: Runnable[Input, Output],
        gate: Gate,
        retry: Retry,
        *,
        weight: float | Callable[[Input], float],
        priority: float | Callable[[Input], float],
        name: str | None,
    ) -> None:
        self.bound = bound
        self.gate = gate
        self.name = name or bound.get_name()
        self._retry = retry
        self._weight = weight
        self._priority = priority

    def __repr__(self) -> str:
        return f"limited({self.bound!r}, {self.gate!r})"

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 - LangChain's name
        """The Runnable's own."""
        return self.bound.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802 - LangChain's name
        """The Runnable's own."""
        return self.bound.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the Runnable's own."""
        return self.bound.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the Runnable's own."""
        return self.bound.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The Runnable's own."""
        return self.bound.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the Runnable's own."""
        return self.bound.get_graph(config)

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Call the Runnable, as soon and as often as it takes; see `limited`."""
        retry, attempt, slot = self._retry, 1, self._slot(input)
        while True:
            try:
                async with slot:
                    return await self.bound.ainvoke(input, retry.config(config, attempt), **kwargs)
            except retry.errors as error:
                if attempt == retry.attempts:
                    raise
                seconds = retry.after(error, attempt, self.gate)
            await asyncio.sleep(seconds)
            attempt, slot = attempt + 1, slot.again()

    def invoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Call the Runnable, as soon and as often as it takes; see `limited`."""
        retry, attempt, slot = self._retry, 1, self._slot(input)
        while True:
            try:
                with slot:
                    return self.bound.invoke(input, retry.config(config, attempt), **kwargs)
            except retry.errors as error:
                if attempt == retry.attempts:
                    raise
                seconds = retry.after(error, attempt, self.gate)
            time.sleep(seconds)
            attempt, slot = attempt + 1, slot.again()

    async def astream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> AsyncIterator[Output]:
        """Stream from the Runnable, with a slot held until the stream ends or is closed."""
        retry, attempt, slot, begun = self._retry, 1, self._slot(input), False
        while True:
            try:
                async with slot:
                    stream = self.bound.astream(input, retry.config(config, attempt), **kwargs)
                    async with aclosing(cast("AsyncGenerator[Output, None]", stream)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
            except retry.errors as error:
                if begun or attempt == retry.attempts:
                    raise
                seconds = retry.after(error, attempt, self.gate)
            else:
                return
            await asyncio.sleep(seconds)
            attempt, slot = attempt + 1, slot.again()

    def stream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Output]:
        """Stream from the Runnable, with a slot held until the stream ends or is closed."""
        retry, attempt, slot, begun = self._retry, 1, self._slot(input), False
        while True:
            try:
                with slot:
                    stream = self.bound.stream(input, retry.config(config, attempt), **kwargs)
                    with closing(cast("Generator[Output, None, None]", stream)) as chunks:
                        for chunk in chunks:
                            begun = True
                            yield chunk
            except retry.errors as error:
                if begun or attempt == retry.attempts:
                    raise
                seconds = retry.after(error, attempt, self.gate)
            else:
                return
            time.sleep(seconds)
            attempt, slot = attempt + 1, slot.again()

    def _slot(self, value: Input) -> Slot:
        weight = self._weight(value) if callable(self._weight) else self._weight
        priority = self._priority(value) if callable(self._priority) else self._priority
        return self.gate.slot(weight=weight, priority=priority, step=self.name)
