"""Results of stages, kept and fetched once for all who ask at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from course_lib.caching import stable_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from course_lib.caching import AsyncCache

__all__ = ["ABSENT", "Kept"]

Result = TypeVar("Result")
ABSENT: Final = object()
"""What is not kept."""


class Kept:
    """A cache as the stages use it.

    Args:
        cache: Where results are kept.
        stages: Which stages' results are.
        scope: What tells this provider and corpus from others in the same cache.
    """

    def __init__(self, cache: AsyncCache, stages: Collection[str], scope: str) -> None:
        self._cache = cache
        self._stages = frozenset(stages)
        self._scope = scope

    async def fetch(
        self, stage: str, parts: tuple[Any, ...], compute: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Return a stage's result: the one kept, the one on its way, or a new one.

        Args:
            stage: The stage.
            parts: All that the result depends on, besides provider and corpus.
            compute: Fetches it. It goes on when this caller is cancelled and others wait.
        """
        if stage not in self._stages:
            return await compute()
        return cast("Result", await self._cache.get_or_compute(self._key(stage, parts), compute))

    async def look(self, stage: str, parts: tuple[Any, ...]) -> Any:
        """Return a stage's result if it is kept, and `ABSENT` otherwise."""
        if stage not in self._stages:
            return ABSENT
        return await self._cache.get(self._key(stage, parts), ABSENT)

    async def has(self, stage: str, parts: tuple[Any, ...]) -> bool:
        """Return whether a stage's result is kept."""
        return await self.look(stage, parts) is not ABSENT

    async def keep(self, stage: str, parts: tuple[Any, ...], result: Any) -> None:
        """Keep a result that came another way, such as piece by piece."""
        if stage in self._stages:
            await self._cache.set(self._key(stage, parts), result)

    def _key(self, stage: str, parts: tuple[Any, ...]) -> str:
        return stable_key(self._scope, *parts, namespace=f"rag/{stage}")
