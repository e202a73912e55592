"""A coroutine function as a LangChain Runnable that is honest about its sync side."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import accepts_config, accepts_run_manager

from course_lib.unwatched import call_unwatched, unwatched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from langchain_core.runnables import RunnableConfig

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

    Types, schemas and `as_tool` are those of the function. Where nobody watches (no callbacks, no
    tracing, nothing configured), `ainvoke` awaits it without LangChain's bookkeeping, in the
    caller's task; see `course_lib.unwatched`.

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
    if func is None:
        return _AsyncLambda(afunc, name=name)
    return _AsyncLambda(func, afunc=afunc, name=name)


class _AsyncLambda(RunnableLambda[Input, Output]):
    """A `RunnableLambda` of a coroutine function, which takes the short way where it may."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asks = accepts_config(self.afunc) or accepts_run_manager(self.afunc)

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        inherited = None if self._asks else unwatched(config)
        if inherited is None:
            return await super().ainvoke(input, config, **kwargs)
        return await call_unwatched(inherited, self._answer(input, inherited, kwargs))

    async def _answer(self, given: Input, config: RunnableConfig, kwargs: dict[str, Any]) -> Output:
        """Call the function; a Runnable that it returns is called likewise, as LangChain has it."""
        answer = await cast("Any", self.afunc)(given, **kwargs)
        if not isinstance(answer, Runnable):
            return answer  # type: ignore[no-any-return]
        left = config["recursion_limit"] - 1
        if left < 0:
            raise RecursionError(f"recursion limit reached: {self} returns Runnables without end")
        return await answer.ainvoke(given, patch_config(config, recursion_limit=left))  # type: ignore[no-any-return]

    def invoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        self._require_sync()
        return super().invoke(input, config, **kwargs)

    def transform(
        self,
        input: Iterator[Input],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        self._require_sync()
        return super().transform(input, config, **kwargs)

    def _require_sync(self) -> None:
        if not hasattr(self, "func"):
            raise TypeError(
                f"{self.name} has no sync implementation: `await runnable.ainvoke(...)` or "
                "`abatch`, or `run_sync(runnable.ainvoke(...))` from sync code"
            )


def _is_coroutine_function(func: object) -> bool:
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - the question is what calling it returns
    )
