"""The same client for synchronous code: the slow side of the comparison, and a correct one."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import requests
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from requests.adapters import HTTPAdapter

from course_lib.async_batch import wire
from course_lib.async_batch.wire import (
    Messages,
    checked_url,
    documents,
    payload,
    search_params,
)
from course_lib.checks import require_positive, require_whole
from course_lib.errors import TimedOut, Unavailable, secrets_of, without_credentials

__all__ = ["SyncServiceClient"]


class SyncServiceClient:
    """Calls the provider over one `requests.Session`; each call blocks its thread.

    Used from several threads by LangChain's executor; the session's connection pool is
    thread-safe, and nothing else of the session changes after it is made.

    Args:
        url: Address of the provider, such as `provider.url`.
        max_connections: Connections kept open; more threads than that wait for one.
        timeout: Seconds to wait for the connection, and again for each piece of the answer.

    Raises:
        ValueError: An argument is out of range, or `url` is no http address.
    """

    def __init__(self, url: str, *, max_connections: int = 100, timeout: float = 30.0) -> None:
        require_whole(max_connections=max_connections)
        require_positive(timeout=timeout)
        self.url = checked_url(url)
        self.timeout = timeout
        self._secrets = secrets_of(self.url)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy set for the web must not see calls to loopback
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_connections, pool_block=True)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {without_credentials(self.url)}>"

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
        return documents(self._answer("GET", "/search", params=search_params(query, k)))

    def rerank(
        self, query: str, documents: Sequence[Document], *, top_n: int | None = None
    ) -> list[Document]:
        """Return documents in the order in which they fit `query`; see `ServiceClient.rerank`."""
        body = wire.rerank_body(query, documents, top_n)
        if not documents:
            return []
        return wire.ranked(self._answer("POST", "/rerank", json=body), documents)

    def embed(self, texts: Sequence[str], *, model: str = "default") -> list[list[float]]:
        """Return the vector of each text, in their order; see `ServiceClient.embed`."""
        body = wire.embed_body(texts, model)
        if not texts:
            return []
        return wire.vectors(self._answer("POST", "/v1/embeddings", json=body))

    def chat(
        self, messages: Messages, *, max_tokens: int | None = None, model: str = "default"
    ) -> AIMessage:
        """Return the answer to a prompt or to messages; see `ServiceClient.chat`."""
        body = wire.chat_body(messages, model, max_tokens)
        return wire.reply(self._answer("POST", "/v1/chat/completions", json=body))

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        call = f"{method} {path}"
        try:
            response = self._session.request(
                method, self.url + path, timeout=self.timeout, **options
            )
        except requests.Timeout as error:
            raise TimedOut(f"{call} gave no answer within {self.timeout:g} s") from error
        except requests.RequestException as error:
            raise Unavailable(f"{call} failed: {_reason(error)}") from error
        return payload(
            call, response.status_code, response.headers, response.content, self._secrets
        )


def _reason(error: requests.RequestException) -> str:
    """The cause beneath urllib3's layers, in one line."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rpartition(": ")[2] or type(error).__name__
