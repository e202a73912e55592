"""A client for providers that want a key."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from course_lib.async_batch import ServiceClient
from course_lib.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from pydantic import SecretStr

__all__ = ["HIDDEN", "KeyedClient", "without_key"]

HIDDEN: Final = "***"
"""What stands where a key stood."""


class KeyedClient(ServiceClient):
    """A `ServiceClient` that sends a key with each call, and shows it nowhere.

    A provider that does not like a key may quote it: it is taken out of errors.

    Args:
        url: Address of the provider, without "/v1".
        key: Its key; None if it wants none.
        max_connections: Connections open at once.
        timeout: Seconds for one call.
    """

    def __init__(
        self, url: str, key: SecretStr | None, *, max_connections: int, timeout: float
    ) -> None:
        super().__init__(url, max_connections=max_connections, timeout=timeout)
        self._key = key

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._key is not None and self._session is not None:
            self._session.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return self

    async def stream_chat(self, *args: Any, **options: Any) -> AsyncGenerator[str, None]:
        """Yield the answer to a prompt piece by piece; see `ServiceClient.stream_chat`."""
        with self._discreet():
            async with aclosing(super().stream_chat(*args, **options)) as texts:
                async for text in texts:
                    yield text

    async def _answer(self, method: str, path: str, **options: Any) -> Any:
        with self._discreet():
            return await super()._answer(method, path, **options)

    @contextmanager
    def _discreet(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            error.args = tuple(without_key(str(each), self._key) for each in error.args)
            raise


def without_key(text: str, key: SecretStr | None) -> str:
    """Return a text with the key taken out, should somebody have put it there."""
    return text if key is None else text.replace(key.get_secret_value(), HIDDEN)
