"""A Runnable in front of which a cache stands."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import aclosing, closing, nullcontext, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list

from course_lib.caching.cache import AsyncCache
from course_lib.caching.keys import KeyMaker, chosen

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Collection,
        Generator,
        Iterator,
        Sequence,
    )

    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel

__all__ = ["Cached", "cached"]

Input = TypeVar("Input")
Output = TypeVar("Output")
_ABSENT: Final = object()
_STREAM: Final = "#stream"  # no JSON ends like that
_numbers: Final = count(1)
_numbered: Final[dict[int, tuple[weakref.ref[Any], str]]] = {}


def cached(
    runnable: Runnable[Input, Output],
    cache: AsyncCache,
    *,
    key: Callable[[Input], Any] | None = None,
    namespace: str | None = None,
    ignore: Collection[str] = (),
) -> Cached[Input, Output]:
    """Return a Runnable that asks the cache before it asks the one given.

        search = cached(search, AsyncCache(ttl=60, maxsize=1_000), namespace="search")
        await search.abatch(questions)

    It behaves as the one given, but faster: `invoke`, `batch`, `stream` and their asynchronous
    forms, with the same config. A hit runs nothing, so that callbacks see only the misses. `abatch`
    answers hits without a task, computes duplicates once, and asks for the misses one by one, as
    many at once as `max_concurrency` says: batches of others can hand out what belongs to another
    item, or an interruption, in the place of an answer. A stream is kept as its pieces, and given
    again piece by piece.

    Args:
        runnable: What is asked on a miss.
        cache: Where answers are kept; several Runnables may share it.
        key: Returns what of an input the answer depends on: a str, JSON values, Documents or
            messages; by default the input itself.
        namespace: Whose answers these are. By default those of this very object, and of this
            `key`: wrapped again, it finds them. Where there is a store, say it: what is kept there
            outlives the objects of this process.
        ignore: Fields of a config's "configurable" that answers do not depend on, such as
            `["thread_id"]`. All others belong to the key, so that nobody gets what another
            tenant's configuration found, but for those whose names begin with `__`.

    Raises:
        ValueError: There is a store, and no namespace.
        TypeError: `runnable` is no Runnable, `cache` no AsyncCache, or `ignore` no collection.
    """
    if not isinstance(runnable, Runnable):
        raise TypeError(
            f"runnable={runnable!r:.80} is no Runnable: make one of a function with "
            "`RunnableLambda(...)`, or use `cache.get_or_compute`"
        )
    if not isinstance(cache, AsyncCache):
        raise TypeError(f"cache={cache!r:.80}: pass an AsyncCache(ttl=..., maxsize=...)")
    if namespace is None:
        if cache.has_store:
            raise ValueError(
                "this cache has a store, where answers outlive this process: say whose they are, "
                'as in `cached(..., namespace="search")`, with a name of its own for each Runnable'
            )
        numbers = [_number(thing) for thing in (runnable, key) if thing is not None]
        namespace = "/".join([runnable.get_name(), *numbers])
    return Cached(runnable, cache, key, namespace, ignore)


class Cached(Runnable[Input, Output]):
    """What `cached` returns.

    Args:
        bound: What is asked on a miss.
        cache: Where answers are kept.
        key: Returns what of an input the answer depends on, or None for all.
        namespace: What tells these keys from others in the cache.
        ignore: Configurable fields that answers do not depend on.
    """

    def __init__(
        self,
        bound: Runnable[Input, Output],
        cache: AsyncCache,
        key: Callable[[Input], Any] | None,
        namespace: str,
        ignore: Collection[str],
    ) -> None:
        self.bound = bound
        self.cache = cache
        self.namespace = namespace
        maker = KeyMaker(namespace, key, ignore)
        self._key, self._keys = maker.key, maker.keys

    def __repr__(self) -> str:
        return f"cached({self.bound!r}, namespace={self.namespace!r})"

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the one asked on a miss."""
        return self.bound.get_name(suffix, name=name)

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 - LangChain's name
        """As the one asked on a miss says."""
        return self.bound.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802 - LangChain's name
        """As the one asked on a miss says."""
        return self.bound.OutputType

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """As the one asked on a miss says."""
        return self.bound.config_specs

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return what the one asked on a miss says."""
        return self.bound.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return what the one asked on a miss says."""
        return self.bound.get_output_schema(config)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return what the one asked on a miss says."""
        return self.bound.get_graph(config)

    def key_of(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> str:  # noqa: A002 - LangChain's name
        """Return the key of an input, as `cache.invalidate` wants it.

        The arguments beside the input are part of it, and so are the configurable fields of the
        config, but for those that are ignored. The ids of messages are not.

        Raises:
            TypeError: No key can be made of it; the message says of what, and what to do.
            ValueError: The same, of what contains itself or is no finite number.
        """
        return self._key(input, config, kwargs)

    async def invalidate(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> None:
        """Forget the answer to an input, whether it was streamed or not.

        What is being computed meanwhile is not kept; a stream that is under way is, at its end.
        """
        key = self.key_of(input, config, **kwargs)
        await self.cache.invalidate(key)
        await self.cache.invalidate(key + _STREAM)

    async def ainvoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Return the answer; see `AsyncCache.get_or_compute`."""
        key = self._key(input, config, kwargs)
        return await self.cache.get_or_compute(
            key, lambda: self.bound.ainvoke(input, config, **kwargs)
        )

    def invoke(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Output:
        """Return the answer; see `AsyncCache.get_or_compute_sync`."""
        key = self._key(input, config, kwargs)
        return self.cache.get_or_compute_sync(
            key, lambda: self.bound.invoke(input, config, **kwargs)
        )

    async def abatch(
        self,
        inputs: list[Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Output]:
        """Return the answers, in the order of the inputs; see `AsyncCache.get_or_compute_many`.

        If one fails, the others are computed and kept all the same. Then the first error is raised,
        or with `return_exceptions` all are returned in their places.

        Raises:
            TypeError: No key can be made of an input; with `return_exceptions` that is its error.
            ValueError: The same, of what contains itself or is no finite number.
        """
        try:
            keys = self._keys(inputs, config, kwargs)
        except (TypeError, ValueError):
            if not return_exceptions:
                raise
            return await super().abatch(inputs, config, return_exceptions=True, **kwargs)

        async def compute(missing: list[str]) -> Sequence[Any]:
            some, configs = chosen(missing, keys, inputs, config)
            return await self._ask_each(some, get_config_list(configs, len(some)), kwargs)

        return await self.cache.get_or_compute_many(
            keys, compute, return_exceptions=return_exceptions
        )

    def batch(
        self,
        inputs: list[Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Output]:
        """Do as `abatch`, from synchronous code."""
        try:
            keys = self._keys(inputs, config, kwargs)
        except (TypeError, ValueError):
            if not return_exceptions:
                raise
            return super().batch(inputs, config, return_exceptions=True, **kwargs)

        def compute(missing: list[str]) -> Sequence[Any]:
            some, configs = chosen(missing, keys, inputs, config)
            each_by_itself = Runnable.batch  # LangChain's own, whatever `bound` makes of it
            return each_by_itself(self.bound, some, configs, return_exceptions=True, **kwargs)

        return self.cache.get_or_compute_many_sync(
            keys, compute, return_exceptions=return_exceptions
        )

    async def astream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> AsyncIterator[Output]:
        """Yield the pieces of the answer; on a miss as they come, and kept if it comes to its end.

        Each caller who misses has a stream of their own, which is closed with this one.
        """
        key = self._key(input, config, kwargs)
        pieces = await self.cache.get(key + _STREAM, _ABSENT)
        if pieces is _ABSENT:
            pieces = []
            stream = self.bound.astream(input, config, **kwargs)
            async with aclosing(cast("AsyncGenerator[Output, None]", stream)):
                async for piece in stream:
                    pieces.append(piece)
                    yield piece
            await self.cache.set(key + _STREAM, pieces)
            return
        for piece in pieces:
            yield piece

    def stream(
        self,
        input: Input,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Output]:
        """Do as `astream`, from synchronous code."""
        key = self._key(input, config, kwargs)
        pieces = self.cache.get_sync(key + _STREAM, _ABSENT)
        if pieces is _ABSENT:
            pieces = []
            stream = self.bound.stream(input, config, **kwargs)
            with closing(cast("Generator[Output, None, None]", stream)):
                for piece in stream:
                    pieces.append(piece)
                    yield piece
            self.cache.set_sync(key + _STREAM, pieces)
            return
        yield from pieces

    async def _ask_each(
        self, inputs: list[Input], configs: list[RunnableConfig], kwargs: dict[str, Any]
    ) -> list[Any]:
        """Return what becomes of each: an answer, or what was raised in its place."""
        limit = configs[0].get("max_concurrency")
        room = asyncio.Semaphore(limit) if limit else nullcontext()

        async def ask(one: Input, config: RunnableConfig) -> Output:
            async with room:
                return await self.bound.ainvoke(one, config, **kwargs)

        return await asyncio.gather(*map(ask, inputs, configs), return_exceptions=True)


def _number(thing: Any) -> str:
    """Return the number of an object, which no other gets, also when it is gone."""
    reference, number = _numbered.get(id(thing), (None, ""))
    if reference is None or reference() is not thing:
        number = str(next(_numbers))
        with suppress(TypeError):  # what cannot be referred to weakly has a new one each time
            _numbered[id(thing)] = weakref.ref(thing, partial(_forget, id(thing))), number
    return number


def _forget(identity: int, reference: weakref.ref[Any]) -> None:
    """Forget an object that is gone, unless another has taken its place."""
    if _numbered.get(identity, (None, ""))[0] is reference:
        del _numbered[identity]
