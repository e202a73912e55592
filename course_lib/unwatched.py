"""Calls that nobody watches: without LangChain's bookkeeping where no handler would see any of it.

A `RunnableLambda` spends some twenty times as long on callbacks, runs and tasks as it takes to find
out that there is no callback. So what is wrapped here asks first, by LangChain's public functions.
"""

from __future__ import annotations

from contextvars import copy_context
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    var_child_runnable_config,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from contextvars import Context

    from langchain_core.runnables import RunnableConfig

__all__ = ["call_unwatched", "unwatched"]

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
