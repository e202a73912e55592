"""An asynchronous client of the provider: one session for its life."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from course_lib.async_batch import wire
from course_lib.async_batch.wire import Decoder, Messages, Request, checked_url, good
from course_lib.checks import require_positive, require_whole
from course_lib.errors import (
    ServiceError,
    TimedOut,
    Unavailable,
    excerpt,
    secrets_of,
    without_credentials,
)

__all__ = ["ServiceClient"]

T = TypeVar("T")

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
    alive breaks: behind the back of whoever limits, counts or times calls. That is switched off, and
    so are redirects, which would carry what is asked to somebody else.

    Args:
        url: Address of the provider, such as `provider.url`. A user and a password in it are sent
            with each call, and shown nowhere.
        max_connections: Connections open at once, so also calls in flight at once.
        timeout: Seconds for one call, from the moment it has its connection slot. Of a stream they
            are those to its first piece, and from each piece to the next.

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
        self._base = without_credentials(self.url)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        return (
            f"<{type(self).__name__} {self._base} {state}, max_connections={self.max_connections}>"
        )

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError("this client is open already: share it, do not open it twice")
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.max_connections)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.max_connections),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            headers={"Accept-Encoding": wire.CODINGS, **wire.authorization(self.url)},
            auto_decompress=False,  # it knows no bound
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
        return await self._answer(wire.search_request(query, k))

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
            ValueError: `top_n` is no whole number, or below 1.
        """
        request = wire.rerank_request(query, documents, top_n)
        return await self._answer(request) if documents else []

    async def embed(self, texts: Sequence[str], *, model: str = "default") -> list[list[float]]:
        """Return the vector of each text, in their order.

        Args:
            texts: Any number of them, in one request. Without any, no call is made.
            model: Name of the model, for a provider that has several.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: `texts` is one string, or holds something else.
        """
        request = wire.embed_request(texts, model)
        return await self._answer(request) if texts else []

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
        return await self._answer(wire.chat_request(messages, model, max_tokens))

    async def stream_chat(
        self, messages: Messages, *, max_tokens: int | None = None, model: str = "default"
    ) -> AsyncGenerator[str, None]:
        """Yield the answer to a prompt piece by piece, as it is written.

        Who stops early closes it, `async with contextlib.aclosing(...)`: then the provider stops
        writing, and the connection is free. Arguments and errors as for `chat`.

        Raises:
            Unavailable: The stream broke off before its end, too.
        """
        request = wire.chat_request(messages, model, max_tokens, stream=True)
        async with self._response(request, timeout=_UNLIMITED) as response:
            if not good(response.status):
                async with asyncio.timeout(self.timeout):
                    said = await _body(request, response)
                request.answer(response.status, response.headers, said, self._secrets)
            async with aclosing(_lines(request, response)) as lines:
                while True:
                    async with asyncio.timeout(self.timeout):
                        text = await self._next_text(request, response.status, lines)
                    if text is None:
                        return
                    yield text

    async def _next_text(
        self, request: Request[Any], status: int, lines: AsyncIterator[bytes]
    ) -> str | None:
        """Return the next piece of a streamed answer, None at its end.

        Raises:
            ServiceError: It tells an error, or broke off.
        """
        async for line in lines:
            text = wire.token(request, status, line, self._secrets)
            if text != "":
                return text
        raise Unavailable(f"{request} broke off before the end of its answer")

    async def _answer(self, request: Request[T]) -> T:
        async with self._response(request) as response:
            body = await _body(request, response)
        return request.answer(response.status, response.headers, body, self._secrets)

    @asynccontextmanager
    async def _response(
        self, request: Request[Any], **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call; whatever goes wrong until its answer is read is an error of the tree."""
        session = self._open_session()
        async with self._slots:
            try:
                async with asyncio.timeout(self.timeout):
                    response = await session.request(
                        request.method,
                        self._base + request.path,
                        params=request.params,
                        data=request.body,
                        headers=request.headers,
                        allow_redirects=False,
                        **options,
                    )
                async with response:
                    yield response
            except ServiceError:
                raise
            except TimeoutError as error:
                raise TimedOut(f"{request} gave no answer within {self.timeout:g} s") from error
            except (aiohttp.ClientError, OSError, EOFError, ValueError) as error:
                reason = excerpt(str(error), self._secrets) or type(error).__name__
                raise Unavailable(f"{request} failed: {reason}") from None  # it holds the request

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


async def _body(request: Request[Any], response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer, so far as it has a bound.

    Raises:
        Unavailable: It is larger, or not compressed as it says.
    """
    decoder = Decoder(request, response.headers)
    return b"".join([decoder.decode(piece) async for piece in response.content.iter_any()])


async def _lines(
    request: Request[Any], response: aiohttp.ClientResponse
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a stream, and what stands after the last of them.

    Raises:
        Unavailable: One of them or all together are too long.
    """
    decoder, rest = Decoder(request, response.headers), b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + decoder.decode(piece)).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > wire.LONGEST_LINE:
            raise Unavailable(f"{request} answered with an event of more than {len(rest)} bytes")
    yield rest


async def _sent_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request, and have a connection that breaks be an error that aiohttp does not retry."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error
