"""Calls that nobody watches: without LangChain's bookkeeping where no handler would see any of it.

A `RunnableLambda` spends some twenty times as long on callbacks, runs and tasks as it takes to find
out that there is no callback. So what is wrapped here asks first, by LangChain's public functions.
"""

from __future__ import annotations

import inspect
from contextvars import copy_context
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    patch_config,
    var_child_runnable_config,
)
from langchain_core.runnables.utils import accepts_config, accepts_run_manager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from langchain_core.runnables import RunnableConfig

__all__ = [
    "ainvoke_of",
    "as_call",
    "call_unwatched",
    "is_coroutine_function",
    "short_way",
    "unwatched",
]

T = TypeVar("T")


def unwatched(config: RunnableConfig | None) -> RunnableConfig | None:
    """Return what a call hands on to those that it makes, if nobody watches it; otherwise None.

    Somebody watches where there is a handler: in the config, inherited from the call around this
    one, set for a context, or switched on for the process (tracing, debugging). Where something is
    configured (`configurable`), the call goes LangChain's way as well.

    Args:
        config: The call's own; what it inherits is added, as LangChain does.

    Returns:
        A config of its own with tags, metadata and limits, for `call_unwatched`.
    """
    full = ensure_config(config)
    if full["configurable"]:
        return None
    manager = get_async_callback_manager_for_config(full)
    if manager.handlers or manager.inheritable_handlers:
        return None
    full["callbacks"] = manager
    for name in ("run_name", "run_id"):  # they are this call's alone
        full.pop(name, None)  # type: ignore[misc]
    return full


def as_call(
    runnable: Runnable[Any, T] | Callable[[Any], Awaitable[T]],
    config: RunnableConfig | None = None,
    *,
    name: str = "runnable",
) -> Callable[[Any], Awaitable[T]]:
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
    return partial(ainvoke_of(runnable), config=config)


def ainvoke_of(runnable: Runnable[Any, T]) -> Callable[..., Awaitable[T]]:
    """Return what is awaited in place of `runnable.ainvoke`: the same, faster where it may be.

    Args:
        runnable: Any; only a plain `RunnableLambda` of a coroutine function gains by it.
    """
    plain = type(runnable) is RunnableLambda
    short = short_way(getattr(runnable, "afunc", None)) if plain else None
    if short is None:
        return runnable.ainvoke

    async def ainvoke(given: Any, config: RunnableConfig | None = None, **kwargs: Any) -> T:
        inherited = unwatched(config)
        if inherited is None:
            return await runnable.ainvoke(given, config, **kwargs)
        return await short(given, inherited, kwargs)  # type: ignore[no-any-return]

    return ainvoke


def short_way(afunc: Any) -> Callable[[Any, RunnableConfig, dict[str, Any]], Awaitable[Any]] | None:
    """Return how a lambda's function is called where nobody watches, or None if it cannot be.

    It cannot where the function asks for its config or its run, or is no coroutine function. A
    Runnable that it returns is called in its turn, as LangChain has it.

    Args:
        afunc: The function.
    """
    if not is_coroutine_function(afunc) or accepts_config(afunc) or accepts_run_manager(afunc):
        return None

    async def answer(given: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
        answered = await afunc(given, **kwargs)
        if not isinstance(answered, Runnable):
            return answered
        left = config["recursion_limit"] - 1
        if left < 0:
            raise RecursionError(f"recursion limit reached: {afunc} returns Runnables without end")
        return await answered.ainvoke(given, patch_config(config, recursion_limit=left))

    def call(given: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Awaitable[Any]:
        return call_unwatched(config, answer(given, config, kwargs))

    return call


def is_coroutine_function(function: Any) -> bool:
    """Return whether calling it gives a coroutine: a function, or an object with such a `__call__`."""
    call = getattr(function, "__call__", None)  # noqa: B004 - the question is what it returns
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


async def call_unwatched(config: RunnableConfig, call: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine as LangChain does, but for the task, the run and its events.

    It runs in a copy of the caller's context: what it calls inherits the config, and context
    variables that it sets stay its own.

    Args:
        config: What `unwatched` returned.
        call: What is awaited; it has not begun.
    """
    context = copy_context()
    context.run(var_child_runnable_config.set, config)
    return await _within(context, call)


@coroutine
def _within(context: Context, call: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run each step of a coroutine in a context; a task of its own would cost five times as much."""
    try:
        awaited = context.run(call.send, None)
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                context.run(call.close)
                raise
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
                awaited = context.run(call.throw, error)
            else:
                awaited = context.run(call.send, sent)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
