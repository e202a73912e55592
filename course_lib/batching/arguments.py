"""What `amap` and the batchers take: several inputs, and something to call for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableLambda

from course_lib.unwatched import ainvoke_of, is_coroutine_function

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

__all__ = ["as_call", "refuse_single_input"]

Input = TypeVar("Input")
Output = TypeVar("Output")


def refuse_single_input(inputs: object) -> None:
    """Raise a `TypeError` for what can be iterated over, but is one input: a text, a mapping."""
    if isinstance(inputs, str | bytes | Mapping):
        raise TypeError(f"inputs={inputs!r} is one input, not several: put it into a list")


def as_call(
    runnable: Runnable[Input, Output] | Callable[[Input], Awaitable[Output]],
    config: RunnableConfig | None = None,
    *,
    name: str = "runnable",
) -> Callable[[Input], Awaitable[Output]]:
    """Return what is awaited for one item.

    A coroutine function is called as it is, since LangChain's bookkeeping costs far more than a
    call. With a `config`, which asks for that bookkeeping, it becomes a Runnable.

    Args:
        runnable: Any Runnable, or a coroutine function of one argument.
        config: Callbacks, tags and so on, passed on with each item.
        name: What the argument is called where it was given.

    Raises:
        TypeError: It is neither.
        ValueError: The config has a `run_id`.
    """
    if not isinstance(runnable, Runnable):
        if not is_coroutine_function(runnable):
            raise TypeError(
                f"{name}={runnable!r} is neither a Runnable nor `async def`: pass a coroutine "
                "function, `functools.partial` of one, or `RunnableLambda(function)`, which runs "
                "a sync function in a thread"
            )
        if config is None:
            return runnable
        runnable = RunnableLambda(runnable)
    if config is not None and config.get("run_id") is not None:
        raise ValueError("config has a run_id, which names a single run: leave it out")
    return cast(
        "Callable[[Input], Awaitable[Output]]", partial(ainvoke_of(runnable), config=config)
    )
