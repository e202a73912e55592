"""The same client for synchronous code: the slow side of the comparison, and a correct one."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import requests
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TooSlow

from course_lib.async_batch import wire
from course_lib.async_batch.wire import Decoder, Messages, Request, checked_url
from course_lib.checks import require_positive, require_whole
from course_lib.errors import (
    ServiceError,
    TimedOut,
    Unavailable,
    excerpt,
    secrets_of,
    without_credentials,
)

__all__ = ["SyncServiceClient"]

T = TypeVar("T")

AT_ONCE: Final = 2**16
"""Bytes of an answer that are read at once."""


class SyncServiceClient:
    """Calls the provider over one `requests.Session`; each call blocks its thread.

    Used from several threads by LangChain's executor; the session's connection pool is
    thread-safe, and nothing else of the session changes after it is made.

    A call is one request: redirects are not followed.

    Args:
        url: Address of the provider, such as `provider.url`. A user and a password in it are sent
            with each call, and shown nowhere.
        max_connections: Connections kept open; more threads than that wait for one.
        timeout: Seconds to wait for the connection, again for the beginning of the answer, and for
            all of its body.

    Raises:
        ValueError: An argument is out of range, or `url` is no http address.
    """

    def __init__(self, url: str, *, max_connections: int = 100, timeout: float = 30.0) -> None:
        require_whole(max_connections=max_connections)
        require_positive(timeout=timeout)
        self.url = checked_url(url)
        self.timeout = timeout
        self._secrets = secrets_of(self.url)
        self._base = without_credentials(self.url)
        self._session = _Session()
        self._session.trust_env = False  # a proxy set for the web must not see calls to loopback
        self._session.headers["Accept-Encoding"] = wire.CODINGS
        self._session.headers.update(wire.authorization(self.url))
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_connections, pool_block=True)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open; a later call opens new ones."""
        self._session.close()

    def search(self, query: str, *, k: int = 5) -> list[Document]:
        """Return the `k` passages that fit `query` best, best first.

        Args:
            query: What is looked for, in plain words; any characters, they are encoded here.
            k: Passages asked for; fewer come back where fewer share a word with the query.

        Raises:
            ServiceError: The provider did not answer; the subclass says how.
            TypeError: `query` is not a string.
        """
        return self._answer(wire.search_request(query, k))

    def rerank(
        self, query: str, documents: Sequence[Document], *, top_n: int | None = None
    ) -> list[Document]:
        """Return documents in the order in which they fit `query`; see `ServiceClient.rerank`."""
        request = wire.rerank_request(query, documents, top_n)
        return self._answer(request) if documents else []

    def embed(self, texts: Sequence[str], *, model: str = "default") -> list[list[float]]:
        """Return the vector of each text, in their order; see `ServiceClient.embed`."""
        request = wire.embed_request(texts, model)
        return self._answer(request) if texts else []

    def chat(
        self, messages: Messages, *, max_tokens: int | None = None, model: str = "default"
    ) -> AIMessage:
        """Return the answer to a prompt or to messages; see `ServiceClient.chat`."""
        return self._answer(wire.chat_request(messages, model, max_tokens))

    def _answer(self, request: Request[T]) -> T:
        with self._response(request) as response:
            body = self._body(request, response)
        return request.answer(response.status_code, response.headers, body, self._secrets)

    @contextmanager
    def _response(self, request: Request[Any]) -> Iterator[requests.Response]:
        """Make a call; whatever goes wrong until its answer is read is an error of the tree."""
        try:
            with self._session.request(
                request.method,
                self._base + request.path,
                params=request.params,
                data=request.body,
                headers=request.headers,
                timeout=self.timeout,
                stream=True,
            ) as response:
                yield response
        except ServiceError:
            raise
        except (requests.Timeout, TooSlow, TimeoutError) as error:
            raise TimedOut(f"{request} gave no answer within {self.timeout:g} s") from error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            reason = excerpt(_reason(error), self._secrets)
            raise Unavailable(f"{request} failed: {reason}") from None  # it holds the request

    def _body(self, request: Request[Any], response: requests.Response) -> bytes:
        """Return the body of an answer, so far as it has a bound.

        Raises:
            TimeoutError: It took too long, all in all.
            Unavailable: It is larger, or not compressed as it says.
        """
        decoder, end = Decoder(request, response.headers), time.monotonic() + self.timeout
        pieces = []
        while piece := response.raw.read1(AT_ONCE, decode_content=False):
            pieces.append(decoder.decode(piece))
            if time.monotonic() > end:
                raise TimeoutError
        return b"".join(pieces)


class _Session(requests.Session):
    """A session that follows no redirect, and reads no answer to see where it might lead."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: there is none."""


def _reason(error: Exception) -> str:
    """The cause beneath urllib3's layers, in one line."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rpartition(": ")[2] or type(error).__name__
