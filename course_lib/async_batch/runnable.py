"""A coroutine function as a LangChain Runnable that is honest about its sync side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import Runnable, RunnableLambda

from course_lib.unwatched import is_coroutine_function, short_way, unwatched

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
    if not is_coroutine_function(afunc):
        raise TypeError(
            f"afunc={afunc!r} is not `async def`: pass a coroutine function; a sync one is `func`"
        )
    if func is not None and is_coroutine_function(func):
        raise TypeError(f"func={func!r} is `async def`: pass it as `afunc`, or leave `func` out")
    name = name or str(getattr(afunc, "__name__", type(afunc).__name__))
    if func is None:
        return _AsyncLambda(afunc, name=name)
    return _AsyncLambda(func, afunc=afunc, name=name)


class _AsyncLambda(RunnableLambda[Input, Output]):
    """A `RunnableLambda` of a coroutine function, which takes the short way where it may."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short = short_way(self.afunc)

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        inherited = unwatched(config) if self._short else None
        if self._short is None or inherited is None:
            return await super().ainvoke(input, config, **kwargs)
        return await self._short(input, inherited, kwargs)  # type: ignore[no-any-return]

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
