"""A Runnable behind a gate: every call passes it, and what was rejected is tried again."""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import aclosing, closing
from functools import reduce
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from course_lib.checks import require_number, require_positive
from course_lib.errors import RateLimited
from course_lib.retry import Backoff, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel

    from course_lib.rate_limiting.gate import Gate, Slot

__all__ = ["Limited", "limited"]

Input = TypeVar("Input")
Output = TypeVar("Output")

_LONGEST_BACKOFF: Final = 10.0


def limited(
    runnable: Runnable[Input, Output],
    gate: Gate,
    *,
    attempts: int = 5,
    retry_on: tuple[type[Exception], ...] = (),
    weight: float | Callable[[Input], float] = 1,
    priority: float | Callable[[Input], float] = 0,
    backoff: float = 0.1,
    longest_backoff: float | None = None,
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
      It holds no slot meanwhile. Without a `retry_after` it waits by itself, longer each time, up to
      a cap.
    - A `retry_after` beyond the gate's `longest_cool_down` is not waited for: the `RateLimited` is
      raised at once, and the caller decides. So is a 429 whose code says that the account is empty.
    - Other errors are raised at once, unless `retry_on` names them: then it waits likewise.
    - Errors of other clients (openai, anthropic, httpx, requests, aiohttp) count as those that say the
      same: a 429 of theirs as `RateLimited`, a 503 as `Unavailable`, and so on; see
      `course_lib.errors`. What is raised in the end is the client's own error.
    - A stream is tried again only while nothing of it has come: what was said stays said.

    The Runnable sees the caller's config, callbacks included, and is what appears in traces: this
    wrapper adds no run of its own. A second attempt is tagged `retry:attempt:2`.

    A chat model goes behind a gate as it is, or as part of a chain, and so do its `bind_tools` and
    `with_structured_output`:

        model = limited(ChatOpenAI(model="any", max_retries=0), gate)
        chain = prompt | model.with_structured_output(Answer)

    Give it `max_retries=0`: what it tries again by itself passes no gate. Who forgets is warned.

    A synchronous call blocks its thread while it waits. Where that thread runs an event loop, it
    waits for the rate, but is refused rather than wait for others to leave, who may need the loop.

    Args:
        runnable: What calls the provider.
        gate: Shared by everything that calls the same provider.
        attempts: How often a call is made at most, the first time included.
        retry_on: Errors beside `RateLimited` after which a call is made again.
        weight: Tokens of a call, or a function of its input that returns them.
        priority: Priority of a call, or a function of its input that returns it.
        backoff: Seconds of the first wait where the provider does not say how long, at most; the
            most is doubled each time, and a wait drawn evenly from 0 to that; see `Backoff`.
        longest_backoff: Seconds of any such wait, at most; by default 10, or `backoff` if that is
            more.
        jitter: A cool-down is longer by a random share up to this, so that several processes do
            not come back in the same moment.
        seed: Makes the draws the same each time.
        name: What the step is called; by default as the Runnable.

    Warns:
        UserWarning: A model in it tries again by itself.

    Raises:
        TypeError: `runnable` is none.
        ValueError: A number is out of range; for what a function returns, when the call is made.
    """
    if not isinstance(runnable, Runnable):
        raise TypeError(f"{runnable!r} is no Runnable: wrap it, as in `as_runnable(client.search)`")
    gate.slot(
        weight=1 if callable(weight) else weight, priority=0 if callable(priority) else priority
    )  # raises at once what each call would raise
    require_positive(backoff=backoff)
    longest = max(backoff, _LONGEST_BACKOFF) if longest_backoff is None else longest_backoff
    require_number(least=backoff, longest_backoff=longest)
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter={jitter!r}: give a share from 0 to 1")
    _warn_of_retries(runnable)
    pauses = Backoff(backoff, longest, seed)
    retry = Retry(
        attempts=attempts,
        on=(RateLimited, *retry_on),
        backoff=pauses,
        longest_wait=gate.longest_cool_down,
    )
    return Limited(
        runnable, gate, retry, weight=weight, priority=priority, jitter=jitter, name=name
    )


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
        jitter: float,
        name: str | None,
    ) -> None:
        self.bound = bound
        self.gate = gate
        self.name = name or bound.get_name()
        self._retry = retry
        self._weight = weight
        self._priority = priority
        self._jitter = jitter
        self._calls = count()

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

    def bind_tools(self, *args: Any, **kwargs: Any) -> Limited[Any, Any]:
        """Return the model with these tools, behind the same gate; see its own `bind_tools`.

        Raises:
            TypeError: There is none: this is no model.
        """
        return self._of_model("bind_tools", args, kwargs)

    def with_structured_output(self, *args: Any, **kwargs: Any) -> Limited[Any, Any]:
        """Return the model and a parser, behind the same gate; see `with_structured_output` of it.

        Raises:
            TypeError: There is none: this is no model.
        """
        return self._of_model("with_structured_output", args, kwargs)

    def _of_model(self, method: str, args: Any, kwargs: Any) -> Limited[Any, Any]:
        function = getattr(self.bound, method, None)
        if function is None:
            raise TypeError(
                f"{self.name} has no {method}: it is a {type(self.bound).__name__}, not a chat model. "
                f"Call it on the model, as in `limited(prompt | model.{method}(...), gate)`"
            )
        return Limited(
            function(*args, **kwargs),
            self.gate,
            self._retry,
            weight=self._weight,
            priority=self._priority,
            jitter=self._jitter,
            name=self.name,
        )

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Call the Runnable, as soon and as often as it takes; see `limited`."""
        attempts = self._attempts(input)
        while True:
            try:
                async with attempts.slot:
                    return await self.bound.ainvoke(input, attempts.config(config), **kwargs)
            except Exception as error:
                pause = attempts.failed(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    def invoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Call the Runnable, as soon and as often as it takes; see `limited`."""
        attempts = self._attempts(input)
        while True:
            try:
                with attempts.slot:
                    return self.bound.invoke(input, attempts.config(config), **kwargs)
            except Exception as error:
                pause = attempts.failed(error)
                if pause is None:
                    raise
            time.sleep(pause)

    async def astream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> AsyncIterator[Output]:
        """Stream from the Runnable, with a slot held until the stream ends or is closed."""
        attempts, begun = self._attempts(input), False
        while True:
            try:
                async with attempts.slot:
                    stream = self.bound.astream(input, attempts.config(config), **kwargs)
                    async with aclosing(cast("AsyncGenerator[Output, None]", stream)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
            except Exception as error:
                pause = None if begun else attempts.failed(error)
                if pause is None:
                    raise
            else:
                return
            await asyncio.sleep(pause)

    def stream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Output]:
        """Stream from the Runnable, with a slot held until the stream ends or is closed."""
        attempts, begun = self._attempts(input), False
        while True:
            try:
                with attempts.slot:
                    stream = self.bound.stream(input, attempts.config(config), **kwargs)
                    with closing(cast("Generator[Output, None, None]", stream)) as chunks:
                        for chunk in chunks:
                            begun = True
                            yield chunk
            except Exception as error:
                pause = None if begun else attempts.failed(error)
                if pause is None:
                    raise
            else:
                return
            time.sleep(pause)

    async def atransform(
        self,
        input: AsyncIterator[Input],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> AsyncIterator[Output]:
        """Stream as `astream` does, once the input is whole.

        So does LangChain's own, which leaves the stream open where this one is closed early.
        """
        pieces = [piece async for piece in input]
        if not pieces:
            return
        whole = reduce(_added, pieces)
        stream = cast("AsyncGenerator[Output, None]", self.astream(whole, config, **kwargs))
        async with aclosing(stream) as chunks:
            async for each in chunks:
                yield each

    def _attempts(self, value: Input) -> _Attempts:
        weight = self._weight(value) if callable(self._weight) else self._weight
        priority = self._priority(value) if callable(self._priority) else self._priority
        slot = self.gate.slot(weight=weight, priority=priority, step=self.name)
        return _Attempts(self.gate, slot, self._retry, self._jitter, next(self._calls))


class _Attempts:
    """The attempts of one call, one after another.

    Args:
        gate: What each of them passes.
        slot: The first one's place inside.
        retry: How often, after what, and how long after.
        jitter: Share by which a cool-down is longer, at most.
        call: Which call of the Runnable it is; what is drawn depends on that.

    Attributes:
        slot: The place inside of the attempt that comes next.
    """

    __slots__ = ("_call", "_gate", "_jitter", "_number", "_retry", "slot")

    def __init__(self, gate: Gate, slot: Slot, retry: Retry, jitter: float, call: int) -> None:
        self._gate = gate
        self._retry = retry
        self._jitter = jitter
        self._call = call
        self._number = 1
        self.slot = slot

    def config(self, given: RunnableConfig | None) -> RunnableConfig | None:
        """Return the config of an attempt: a second one is another run than the first, and tagged."""
        if self._number == 1:
            return given
        again = merge_configs(given, {"tags": [f"retry:attempt:{self._number}"]})
        again.pop("run_id", None)
        return again

    def failed(self, error: Exception) -> float | None:
        """Prepare another attempt, and return the seconds until it gets in line; None if there is none.

        If the provider said how long to wait, the gate has begun to cool down for that; it does so a
        little longer, and nobody waits by themselves.
        """
        if not self._retry.again(self._number, error):
            return None
        told = self._retry.told(error)
        number, self._number = self._number, self._number + 1
        self.slot = self.slot.again()
        if not told:
            return self._retry.backoff.seconds(self._call, number)
        draw = self._retry.backoff.draw(self._call, number)
        self._gate.cool_down(told * (1 + self._jitter * draw))
        return 0.0


def _added(whole: Any, piece: Any) -> Any:
    try:
        return whole + piece
    except TypeError:  # nothing that adds up: the last one counts
        return piece


def _warn_of_retries(runnable: Runnable[Any, Any]) -> None:
    """Warn of what tries again by itself, in whatever it is wrapped in."""
    left: list[Any] = [runnable]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (list, tuple)):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, Runnable):
            held = getattr(
                each, "__dict__", {}
            )  # a binding's attributes are also those of its model
            left += held.values()
            if retries := _retries_of(held):
                warnings.warn(
                    f"{type(each).__name__} makes up to {retries} further attempts of its own, which "
                    "pass no gate, no bucket and no cool-down, and are not counted: give it "
                    "max_retries=0, since `limited` tries again.",
                    stacklevel=3,
                )


def _retries_of(held: dict[str, Any]) -> int:
    """Return how often a model tries again by itself; where it leaves that to its client, ask that."""
    retries = held.get("max_retries", 0)
    if retries is None:
        retries = getattr(held.get("root_client"), "max_retries", 0)
    return retries if isinstance(retries, int) else 0
