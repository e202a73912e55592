"""An asynchronous client of the provider: one session for its life."""

import asyncio
from types import TracebackType
from typing import Any, Self

import aiohttp
from langchain_core.documents import Document

from course_lib.async_batch.wire import (
    checked_url,
    documents,
    payload,
    require_positive,
    search_params,
)
from course_lib.errors import TimedOut, Unavailable

__all__ = ["ServiceClient"]


class ServiceClient:
    """Calls the provider over one `aiohttp` session, opened and closed by `async with`.

    One session keeps its connections alive between calls; a session for each call opens a new
    connection, and with TLS shakes hands, every time.

        async with ServiceClient(provider.url) as client:
            documents = await client.search("What does Little's law say?")

    A call beyond `max_connections` waits for a free connection *before* its time starts to run:
    aiohttp's own `total` timeout includes that wait, so that in a large batch calls time out that
    were never sent. To bound the wait as well, put `asyncio.timeout` round the call.

    aiohttp sends a GET once more by itself when a connection that was kept alive turns out closed;
    nothing else is retried here.

    Args:
        url: Address of the provider, such as `provider.url`.
        max_connections: Connections open at once, so also calls in flight at once.
        timeout: Seconds for one call, from the moment it has its connection slot.

    Raises:
        ValueError: An argument is out of range, or `url` is no http address.
    """

    def __init__(self, url: str, *, max_connections: int = 100, timeout: float = 30.0) -> None:
        require_positive(max_connections=max_connections, timeout=timeout)
        self.url = checked_url(url)
        self.max_connections = max_connections
        self.timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        return f"<{type(self).__name__} {self.url} {state}, max_connections={self.max_connections}>"

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError("this client is open already: share it, do not open it twice")
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.max_connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.max_connections),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def search(self, query: str, *, k: int = 5) -> list[Document]:
        """Return the `k` passages that fit `query` best, best first.

        Args:
            query: What is looked for, in plain words; any characters, they are encoded here.
            k: Passages asked for; fewer come back where fewer share a word with the query.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: `query` is not a string.
            RuntimeError: The client is not open, or was opened in another event loop.
        """
        return documents(await self._get("/search", search_params(query, k)))

    async def _get(self, path: str, params: dict[str, str]) -> Any:
        session = self._open_session()
        call = f"GET {path}"
        async with self._slots:
            try:
                async with session.get(self.url + path, params=params) as response:
                    body = await response.read()
            except TimeoutError as error:
                raise TimedOut(f"{call} gave no answer within {self.timeout:g} s") from error
            except aiohttp.ClientError as error:
                raise Unavailable(f"{call} failed: {error or type(error).__name__}") from error
        return payload(call, response.status, response.headers, body)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError(
                "this client is not open: use it inside `async with ServiceClient(url) as client:`"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client was opened in another event loop: open one client in each loop"
            )
        return self._session
