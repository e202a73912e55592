"""The second tier of a cache in Redis: what one process has found, all find."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from langchain_core.stores import BaseStore

from course_lib.rag.scale_out.redis_link import CONNECTIONS, Linked, RedisLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    import redis

__all__ = ["RedisStore"]

Expiring = tuple[str, bytes, float | None]
Value = bytes | None
BINARY: Final = "surrogateescape"
FOR_EVER: Final = 1e10  # seconds: three centuries
KEYS: Final = 500  # in one command: a longer one would hold up the server's other clients


class RedisStore(Linked, BaseStore[str, bytes]):
    """Keeps values in Redis.

        store = RedisStore("redis://127.0.0.1:6379/0", "answers")
        cache = AsyncCache(ttl=3600, maxsize=1_000, store=store)

    Any number of processes, threads and event loops may use it at once. What expires is dropped by
    Redis itself. What does not stays until Redis has to make room: give the server a `maxmemory`
    and a policy. While Redis is away, or something else answers in its place, calls raise
    `Unavailable` within `timeout`, which an `AsyncCache` counts and takes as a miss.

    It holds what the cache gives it: whoever can read or write in that Redis can read or change
    answers. Values are bytes to it and are never run.

    Args:
        url_or_client: Address, or a `redis.Redis` client; see `RedisLink`.
        namespace: What the keys begin with there; `clear` of a cache deletes what is in it.
        timeout: Seconds for a call, connecting included.
        connections: Connections at most, and calls of coroutines at once; more wait their turn.

    Raises:
        ValueError: An argument is out of range.
        TypeError: Neither an address nor a synchronous client.
        ImportError: redis-py is not installed.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis,
        namespace: str,
        *,
        timeout: float = 1.0,
        connections: int = CONNECTIONS,
    ) -> None:
        if not namespace:
            raise ValueError("namespace='' would mix with other keys: name what is kept")
        self.namespace = namespace
        self._prefix = f"course:store:{namespace}:"
        self._link = RedisLink(url_or_client, timeout=timeout, connections=connections)

    def __repr__(self) -> str:
        return f"<RedisStore {self.namespace!r} at {self._link.address}>"

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys; None for what is not there or has expired.

        Raises:
            Unavailable: Redis did not answer.
        """
        return self._link.call(self._get, self._raw(keys))

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Do as `mget`, without holding up the event loop."""
        return await self._link.acall(self._get, self._raw(keys))

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values that do not expire, all or none.

        Raises:
            Unavailable: Redis did not do it.
        """
        self.mset_expiring([(key, value, None) for key, value in key_value_pairs])

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Do as `mset`, without holding up the event loop."""
        await self.amset_expiring([(key, value, None) for key, value in key_value_pairs])

    def mset_expiring(self, entries: Sequence[Expiring]) -> None:
        """Set values, all or none; the third part is seconds until one expires, or None.

        Raises:
            Unavailable: Redis did not do it.
            TypeError: A value is not bytes.
        """
        self._link.call(self._set, self._commands(entries))

    async def amset_expiring(self, entries: Sequence[Expiring]) -> None:
        """Do as `mset_expiring`, without holding up the event loop."""
        await self._link.acall(self._set, self._commands(entries))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete keys; those that are not there do not matter.

        Raises:
            Unavailable: Redis did not do it.
        """
        self._link.call(self._delete, self._raw(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Do as `mdelete`, without holding up the event loop."""
        await self._link.acall(self._delete, self._raw(keys))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys that are there, with this prefix if one is given, in no order.

        What is set or expires meanwhile may be among them or not.

        Raises:
            Unavailable: Redis did not answer.
        """
        pages = _Pages(self._prefix, prefix or "")
        while pages.cursor is not None:
            yield from self._link.call(pages.turn)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Do as `yield_keys`, without holding up the event loop."""
        pages = _Pages(self._prefix, prefix or "")
        while pages.cursor is not None:
            for key in await self._link.acall(pages.turn):
                yield key

    def _raw(self, keys: Iterable[str]) -> list[bytes]:
        return [_encoded(self._prefix + key) for key in keys]

    def _commands(self, entries: Sequence[Expiring]) -> list[tuple[bytes, bytes, int | None]]:
        """Return what is set, as Redis takes it: it would do the others if it refused one."""
        for key, value, _ in entries:
            if not isinstance(value, bytes | bytearray | memoryview):
                raise TypeError(f"the value of {key!r:.80} is {type(value).__name__}: give bytes")
        raw = self._raw(key for key, _, _ in entries)
        return [
            (key, value, _milliseconds(seconds))
            for key, (_, value, seconds) in zip(raw, entries, strict=True)
        ]

    @staticmethod
    def _get(client: redis.Redis, keys: list[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for some in _pieces(keys):
            values: Any = client.mget(some)
            if len(values) != len(some) or not all(isinstance(each, Value) for each in values):
                raise ValueError(f"{values!r:.200} for {len(some)} keys")
            found += values
        return found

    @staticmethod
    def _set(client: redis.Redis, commands: list[tuple[bytes, bytes, int | None]]) -> None:
        with client.pipeline(transaction=True) as pipeline:
            for key, value, milliseconds in commands:
                pipeline.set(key, value, px=milliseconds)
            if pipeline.execute() != [True] * len(commands):
                raise ValueError("not every value was set")

    @staticmethod
    def _delete(client: redis.Redis, keys: list[bytes]) -> None:
        for some in _pieces(keys):
            if not isinstance(client.unlink(*some), int):
                raise ValueError("nobody knows what was deleted")  # noqa: TRY004 - the server's fault


class _Pages:
    """The keys of a namespace, a page at a time, each once.

    Attributes:
        cursor: Where the server goes on; None at the end.
    """

    def __init__(self, namespace: str, prefix: str) -> None:
        self.cursor: int | None = 0
        self._skip = len(namespace)
        self._pattern = _encoded(re.sub(r"([*?\[\]\\])", r"\\\1", namespace + prefix) + "*")
        self._seen: set[bytes] = set()  # a table that grows meanwhile yields some keys twice
        self._cursors: set[int] = set()

    def turn(self, client: redis.Redis) -> list[str]:
        """Return the next page; it may be empty."""
        page: Any = client.scan(self.cursor or 0, match=self._pattern, count=KEYS)
        cursor, keys = page
        if cursor in self._cursors or not all(isinstance(key, bytes) for key in keys):
            raise ValueError(f"{page!r:.200} for the page at {self.cursor}")
        self._cursors.add(cursor)
        self.cursor = cursor or None
        new = dict.fromkeys(key for key in keys if key not in self._seen)
        self._seen.update(new)
        return [key.decode(errors=BINARY)[self._skip :] for key in new]


def _encoded(key: str) -> bytes:
    """Return a key as Redis has it; one that is no UTF-8 there is a text with half characters here.

    Raises:
        UnicodeEncodeError: It holds other half characters, or such as make up whole ones.
    """
    try:
        return key.encode()
    except UnicodeEncodeError:
        raw = key.encode(errors=BINARY)
        if raw.decode(errors=BINARY) != key:
            raise
        return raw


def _milliseconds(seconds: float | None) -> int | None:
    """Return a time as Redis takes it: not 0, and none that has no end."""
    if seconds is None or seconds > FOR_EVER:
        return None
    return max(1, math.ceil(seconds * 1000))


def _pieces(keys: list[bytes]) -> Iterator[list[bytes]]:
    return (keys[start : start + KEYS] for start in range(0, len(keys), KEYS))
