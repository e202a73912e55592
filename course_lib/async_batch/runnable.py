"""A coroutine function as a LangChain Runnable that is honest about its sync side."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableLambda

__all__ = ["as_runnable"]

Input = TypeVar("Input")
Output = TypeVar("Output")


def as_runnable(
    afunc: Callable[[Input], Awaitable[Output]],
    *,
    func: Callable[[Input], Output] | None = None,
    name: str | None = None,
) -> Runnable[Input, Output]:
    """Return `RunnableLambda(func, afunc=afunc)` whose sync side is real, or refuses.

    LangChain wants a `func` beside `afunc`. A placeholder such as `lambda x: x` makes `.invoke`
    and `.batch` hand the question back as if it were the answer.

    Args:
        afunc: Coroutine function of one argument, used by `ainvoke`, `abatch` and `astream`.
        func: The same work without an event loop, used by `invoke`, `batch` and `stream`.
            Without it these raise a `TypeError` that says what to call.
        name: Name shown in callbacks and traces; by default the function's own.

    Raises:
        TypeError: `afunc` is no coroutine function, or `func` is one.
    """
    if not _is_coroutine_function(afunc):
        raise TypeError(
            f"afunc={afunc!r} is not `async def`: pass a coroutine function; a sync one is `func`"
        )
    if func is not None and _is_coroutine_function(func):
        raise TypeError(f"func={func!r} is `async def`: pass it as `afunc`, or leave `func` out")
    name = name or str(getattr(afunc, "__name__", type(afunc).__name__))
    return RunnableLambda(func or partial(_refuse, name), afunc=afunc, name=name)


def _refuse(name: str, _: Any) -> Any:
    raise TypeError(
        f"{name} has no sync implementation: `await runnable.ainvoke(...)` or `abatch`, "
        "or `run_sync(runnable.ainvoke(...))` from sync code"
    )


def _is_coroutine_function(func: object) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - the question is what calling it returns
    )
