"""A client for providers that want a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from course_lib.async_batch import ServiceClient

if TYPE_CHECKING:
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
        if key is not None:
            self._secrets = (*self._secrets, key.get_secret_value())

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._key is not None and self._session is not None:
            self._session.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return self


def without_key(text: str, key: SecretStr | None) -> str:
    """Return a text with the key taken out, should somebody have put it there."""
    return text if key is None else text.replace(key.get_secret_value(), HIDDEN)
