"""An asynchronous client of the provider: one session for its life."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from course_lib.async_batch import wire
from course_lib.async_batch.wire import (
    Messages,
    checked_url,
    documents,
    good,
    payload,
    search_params,
)
from course_lib.checks import require_positive, require_whole
from course_lib.errors import TimedOut, Unavailable, excerpt, secrets_of, without_credentials

__all__ = ["ServiceClient"]

CHAT = "/v1/chat/completions"

_UNLIMITED = aiohttp.ClientTimeout(total=None)


class ServiceClient:
    """Calls the provider over one `aiohttp` session, opened and closed by `async with`.

    One session keeps its connections alive between calls; a session for each call opens a new
    connection, and with TLS shakes hands, every time.

        async with ServiceClient(provider.url) as client:
            documents = await client.search("What does Little's law say?")

    A call beyond `max_connections` waits for a free connection *before* its time starts to run:
    aiohttp's own `total` timeout includes that wait, so that in a large batch calls time out that
    were never sent. To bound the wait as well, put `asyncio.timeout` round the call.

    A call is one request. aiohttp by itself sends a GET once more when a connection that was kept
    alive breaks: behind the back of whoever limits, counts or times calls. That is switched off.

    Args:
        url: Address of the provider, such as `provider.url`.
        max_connections: Connections open at once, so also calls in flight at once.
        timeout: Seconds for one call, from the moment it has its connection slot. Of a stream they are
            those to its first piece, and from each piece to the next.

    Raises:
        ValueError: An argument is out of range, or `url` is no http address.
    """

    def __init__(self, url: str, *, max_connections: int = 100, timeout: float = 30.0) -> None:
        require_whole(max_connections=max_connections)
        require_positive(timeout=timeout)
        self.url = checked_url(url)
        self.max_connections = max_connections
        self.timeout = timeout
        self._secrets = secrets_of(self.url)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        url = without_credentials(self.url)
        return f"<{type(self).__name__} {url} {state}, max_connections={self.max_connections}>"

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError("this client is open already: share it, do not open it twice")
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.max_connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.max_connections),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            middlewares=(_sent_once,),
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
        call = self._answer("GET", "/search", params=search_params(query, k))
        return documents(await call)

    async def rerank(
        self, query: str, documents: Sequence[Document], *, top_n: int | None = None
    ) -> list[Document]:
        """Return documents in the order in which they fit `query`, best first.

        Args:
            query: What they are to answer.
            documents: What `search` returned, say; they stay as they are. Without any, no call is
                made.
            top_n: Documents wanted back, at most; None for all.

        Returns:
            Copies with the new `score` in their metadata.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: An argument is of another type.
            ValueError: `top_n` is below 1.
        """
        body = wire.rerank_body(query, documents, top_n)
        if not documents:
            return []
        return wire.ranked(await self._answer("POST", "/rerank", json=body), documents)

    async def embed(self, texts: Sequence[str], *, model: str = "default") -> list[list[float]]:
        """Return the vector of each text, in their order.

        Args:
            texts: Any number of them, in one request. Without any, no call is made.
            model: Name of the model, for a provider that has several.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: `texts` is one string, or holds something else.
        """
        body = wire.embed_body(texts, model)
        if not texts:
            return []
        return wire.vectors(await self._answer("POST", "/v1/embeddings", json=body))

    async def chat(
        self, messages: Messages, *, max_tokens: int | None = None, model: str = "default"
    ) -> AIMessage:
        """Return the answer to a prompt, or to messages with `role` and `content`.

        Args:
            messages: What is asked.
            max_tokens: Tokens of the answer, at most; None for the provider's own limit.
            model: Name of the model, for a provider that has several.

        Returns:
            The message, with the tokens used in `usage_metadata`.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: `messages` is neither a prompt nor messages.
        """
        body = wire.chat_body(messages, model, max_tokens)
        return wire.reply(await self._answer("POST", CHAT, json=body))

    async def stream_chat(
        self, messages: Messages, *, max_tokens: int | None = None, model: str = "default"
    ) -> AsyncGenerator[str, None]:
        """Yield the answer to a prompt piece by piece, as it is written.

        Who stops early closes it, `async with contextlib.aclosing(...)`: then the provider stops
        writing, and the connection is free. Arguments and errors as for `chat`.

        Raises:
            Unavailable: The stream broke off before its end, too.
        """
        call = f"POST {CHAT}"
        body = wire.chat_body(messages, model, max_tokens, stream=True)
        async with self._response("POST", CHAT, json=body, timeout=_UNLIMITED) as response:
            if not good(response.status):
                async with asyncio.timeout(self.timeout):
                    said = await response.read()
                payload(call, response.status, response.headers, said, self._secrets)
            while True:
                async with asyncio.timeout(self.timeout):
                    text = await _next_text(call, response)
                if text is None:
                    return
                yield text

    async def _answer(self, method: str, path: str, **options: Any) -> Any:
        async with self._response(method, path, **options) as response:
            body = await response.read()
        call = f"{method} {path}"
        return payload(call, response.status, response.headers, body, self._secrets)

    @asynccontextmanager
    async def _response(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call; whatever goes wrong until its answer is read is an error of the tree."""
        session = self._open_session()
        call = f"{method} {path}"
        async with self._slots:
            try:
                async with asyncio.timeout(self.timeout):
                    response = await session.request(method, self.url + path, **options)
                async with response:
                    yield response
            except TimeoutError as error:
                raise TimedOut(f"{call} gave no answer within {self.timeout:g} s") from error
            except aiohttp.ClientError as error:
                reason = excerpt(str(error), self._secrets) or type(error).__name__
                raise Unavailable(f"{call} failed: {reason}") from None  # it holds the request

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


async def _next_text(call: str, response: aiohttp.ClientResponse) -> str | None:
    """Return the next piece of a streamed answer, None at its end.

    Raises:
        Unavailable: It broke off.
    """
    async for line in response.content:
        text = wire.token(call, line)
        if text != "":
            return text
    raise Unavailable(f"{call} broke off before the end of its answer")


async def _sent_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request, and have a connection that breaks be an error that aiohttp does not retry."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error
