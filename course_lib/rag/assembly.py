"""A pipeline's parts: how they are put together, opened and closed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from langchain_core.runnables import Runnable

from course_lib.async_batch import ServiceClient
from course_lib.errors import Secrets, secrets_of, without_credentials, without_secrets
from course_lib.rag.budget import Pace
from course_lib.rag.chat import LeanChat, ModelChat, open_chat_openai
from course_lib.rag.query import Parts
from course_lib.rag.settings import STAGES, RagSettings, without_version
from course_lib.rag.stages import AnswerWriter, Kept, Retrieval, Stage
from course_lib.rate_limiting import Gate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from course_lib.caching import AsyncCache
    from course_lib.monitoring import PerformanceMonitor
    from course_lib.rag.chat import Chat
    from course_lib.rag.matrix import MatrixVectorStore

__all__ = ["Assembly", "gates_by_stage", "places", "require_names"]

_CONCURRENCY: Final = 32
_CONNECTIONS: Final = 1_000
"""Connections that may be open, at the least: gates are the limit, and may grow."""


class Assembly:
    """Puts a pipeline's parts together, in one event loop at a time; arguments as `RagPipeline`'s.

    Attributes:
        client: The provider's client.
    """

    def __init__(
        self,
        provider: str | Any,
        *,
        store: MatrixVectorStore | None,
        settings: RagSettings,
        chat: str | Runnable[Any, Any],
        gates: Mapping[str, Gate],
        cache: AsyncCache,
        corpus: str | None,
        monitor: PerformanceMonitor | None,
        key: SecretStr | None,
    ) -> None:
        self._own = isinstance(provider, str)
        self._settings, self._gates, self._key = settings, gates, key
        self.client = self._made(provider) if isinstance(provider, str) else provider
        _check_chat(chat, self.client)
        self._store, self._chat, self._monitor = store, chat, monitor
        url = str(getattr(self.client, "url", ""))
        self._secrets = Secrets([*secrets_of(url), *([key.get_secret_value()] if key else [])])
        scope = f"{without_credentials(url)}|{corpus or ''}"
        self._kept = Kept(cache, settings.cached, scope)
        self._parts: Parts | None = None
        self._stack = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"{self.client!r} {'closed' if self._parts is None else 'open'}"

    async def open(self) -> None:
        """Open client, chat model and batcher.

        Raises:
            RuntimeError: They are open.
        """
        if self._parts is not None:
            raise RuntimeError("this pipeline is open already: share it, do not open it twice")
        async with AsyncExitStack() as stack:  # closes what is open if the rest fails
            if self._own:
                await stack.enter_async_context(self.client)
            parts = self._put_together(await self._open_chat(stack))
            await stack.enter_async_context(parts.retrieval.batcher)
            self._stack = stack.pop_all()
        self._loop, self._parts = asyncio.get_running_loop(), parts

    async def close(self, *raised: Any) -> None:
        """Close what was opened, the last first; arguments as for `__aexit__`."""
        self._parts = None
        await self._stack.__aexit__(*raised)

    def parts(self) -> Parts:
        """Return the parts.

        Raises:
            RuntimeError: They are not open, or were opened in another event loop.
        """
        if self._parts is None:
            raise RuntimeError(
                "this pipeline is not open: use it inside `async with RagPipeline(...) as pipeline:`"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this pipeline was opened in another event loop: open one in each loop"
            )
        return self._parts

    def _made(self, url: str) -> KeyedClient:
        """Return a client with a connection for each slot, so that no call waits behind its gate."""
        return KeyedClient(
            without_version(url),
            self._key,
            max_connections=max(_CONNECTIONS, places(self._gates)),
            timeout=self._settings.timeout,
        )

    async def _open_chat(self, stack: AsyncExitStack) -> Chat:
        if isinstance(self._chat, Runnable):
            return ModelChat(self._chat, self._secrets)
        if self._chat == "lean":
            return LeanChat(self.client, self._settings.model)
        return await stack.enter_async_context(
            open_chat_openai(self.client.url, self._secrets, self._settings, self._key)
        )

    def _put_together(self, chat: Chat) -> Parts:
        settings, client, kept = self._settings, self.client, self._kept
        stages = {name: self._stage(name, gate) for name, gate in self._gates.items()}
        return Parts(
            settings,
            Retrieval(client, self._store, settings, stages, kept),
            AnswerWriter(chat, settings.model, stages["generate"], kept),
            Pace(),
            partial(without_secrets, secrets=self._secrets),
        )

    def _stage(self, name: str, gate: Gate) -> Stage:
        attempts, timeout = self._settings.attempts, self._settings.timeout
        return Stage(name, gate, attempts=attempts, timeout=timeout, monitor=self._monitor)


class KeyedClient(ServiceClient):
    """A `ServiceClient` that sends a key with each call, and shows it nowhere.

    A provider that does not like a key may quote it: it is taken out of errors.

    Args:
        url: Address of the provider, without "/v1".
        key: Its key; None if it wants none.
        max_connections: Connections open at once.
        timeout: Seconds for one call.

    Raises:
        ValueError: `url` has a user, and there is a key.
    """

    def __init__(
        self, url: str, key: SecretStr | None, *, max_connections: int, timeout: float
    ) -> None:
        super().__init__(url, max_connections=max_connections, timeout=timeout)
        self._key = key
        if key is not None:
            if self._secrets:
                raise ValueError(
                    "the provider's address has a user, and there is a key: leave one of them out, "
                    "since both are sent in the same header"
                )
            self._secrets = Secrets([key.get_secret_value()])

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._key is not None and self._session is not None:
            self._session.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return self


def gates_by_stage(given: Mapping[str, Gate] | None) -> dict[str, Gate]:
    """Return a gate for each stage: the one given, or one of its own.

    Raises:
        ValueError: A stage has another name.
    """
    given = given or {}
    if unknown := sorted(set(given) - set(STAGES)):
        raise ValueError(f"gates={unknown[0]!r}: there is no such stage among {', '.join(STAGES)}")
    return {stage: given.get(stage) or Gate(concurrency=_CONCURRENCY) for stage in STAGES}


def places(gates: Mapping[str, Gate]) -> int:
    """Return how many calls may be under way in all stages together."""
    return sum(gate.concurrency for gate in set(gates.values()))


def require_names(store: Any, corpus: str | None, chat: Any, settings: RagSettings) -> None:
    """Refuse what others could not be told from in a cache that is shared with them.

    Raises:
        ValueError: Passages, or a chat model, have no name.
    """
    if store is not None and corpus is None:
        raise ValueError(
            "a cache is given beside a store: say which passages these are, with `corpus=` and a "
            "name that changes when they do"
        )
    if isinstance(chat, Runnable) and settings.model == RagSettings().model:
        raise ValueError(
            "a cache is given beside a chat model of your own: say which it is, with "
            "`settings=RagSettings(model=...)`"
        )


def _check_chat(chat: Any, client: Any) -> None:
    if isinstance(chat, Runnable) or chat == "lean":
        return
    if chat != "openai":
        raise TypeError(f"chat={chat!r:.80}: give 'openai', 'lean', or a chat model")
    if not isinstance(getattr(client, "url", None), str):
        raise TypeError(f"{client!r:.80} has no `url` to open a ChatOpenAI on: give `chat='lean'`")
