"""The way to a Redis: one client for threads and event loops alike, and errors with a way out."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from course_lib.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

__all__ = ["Linked", "RedisLink", "Script"]

T = TypeVar("T")
CONNECTIONS: Final = 4


class Script:
    """A Lua program that the server runs as one step.

    Args:
        text: The program.
    """

    __slots__ = ("_sha", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = ""

    def run(self, client: redis.Redis, key: str, *arguments: str | bytes | float) -> Any:
        """Run it and return what it returns; the text is sent only to a server that lacks it."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - heavy

        if self._sha:
            try:
                return client.evalsha(self._sha, 1, key, *arguments)
            except NoScriptError:  # restarted, or flushed
                pass
        answer = client.eval(self._text, 1, key, *arguments)
        self._sha = _sha1(self._text)
        return answer


class RedisLink:
    """Calls a Redis, from any number of threads and event loops.

    A client of redis-py for asyncio belongs to one event loop. This one is synchronous, and runs
    in threads of its own when a coroutine asks: a call costs some 0.1 ms more, and notebooks,
    servers and worker processes may share it in whatever loops they run.

    A connection that broke while idle is made again at once. What fails then, or takes longer than
    `timeout`, is an `Unavailable` that names the server but no password.

    Args:
        url_or_client: `redis://`, `rediss://` or `unix://` address, or a `redis.Redis` client, which
            keeps its own timeouts.
        timeout: Seconds for connecting, and for each answer.
        connections: Connections at most, and calls of coroutines at once; more wait their turn.

    Attributes:
        address: The server, for messages.

    Raises:
        ValueError: The address is none, or an argument is out of range.
        TypeError: Neither an address nor a synchronous client.
        ImportError: redis-py is not installed.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis,
        *,
        timeout: float = 1.0,
        connections: int = CONNECTIONS,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout={timeout!r}: give seconds above 0")
        self._own = isinstance(url_or_client, str)
        self._client = _client(url_or_client, timeout, connections)
        self.address = _address(self._client)
        self._connections = connections
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return `function(client, *arguments)`; the calling thread waits.

        Raises:
            Unavailable: The server did not do it.
        """
        from redis.exceptions import RedisError  # noqa: PLC0415 - heavy

        try:
            return function(self._client, *arguments)
        except (RedisError, OSError) as error:
            raise Unavailable(
                f"Redis at {self.address} did not answer ({type(error).__name__}: {error}): see "
                "that it runs and lets us in; `running_server()` starts one here"
            ) from None  # the message has it all; a traceback through redis-py would add nothing

    async def acall(self, function: Callable[..., T], *arguments: Any) -> T:
        """Do as `call`, without holding up the event loop."""
        asked = self._threads().submit(self.call, function, *arguments)
        return await asyncio.wrap_future(asked)

    def close(self) -> None:
        """Let what has been asked for be done, and close connections made here.

        The next call makes new ones.
        """
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        if self._own:
            self._client.connection_pool.disconnect()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None or self._pid != os.getpid():  # a fork has no threads
                self._executor = ThreadPoolExecutor(self._connections, "RedisLink")
                self._pid = os.getpid()
            return self._executor


class Linked:
    """What holds a link and is closed with it."""

    _link: RedisLink

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, if they were made here. The next call makes new ones."""
        self._link.close()


def _sha1(text: str) -> str:
    import hashlib  # noqa: PLC0415

    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _client(given: Any, timeout: float, connections: int) -> redis.Redis:
    try:
        import redis  # noqa: PLC0415 - heavy, and an extra
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError:
        raise ImportError("redis-py is missing: pip install 'course-lib[scale]'") from None
    if isinstance(given, redis.Redis):
        return _bytes_only(given)
    if not isinstance(given, str):
        raise TypeError(
            f"{type(given).__name__}: give an address such as 'redis://127.0.0.1:6379/0', or a "
            "synchronous redis.Redis"
        )
    # Once more at once: the connection may have broken while it was idle. The caller decides on
    # anything else; redis-py's own default tries for ten seconds.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        pool = redis.BlockingConnectionPool.from_url(
            given,
            max_connections=connections,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=retry,
        )
    except ValueError:  # its message may quote a part of the password
        raise ValueError(
            "this is no address of a Redis: give redis://, rediss:// or unix://, and quote what "
            "is special in a password (urllib.parse.quote(password, safe=''))"
        ) from None
    return _bytes_only(redis.Redis(connection_pool=pool))


def _bytes_only(client: redis.Redis) -> redis.Redis:
    if client.connection_pool.get_encoder().decode_responses:
        raise ValueError("decode_responses=True turns answers into str: leave it out")
    return client


def _address(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    where = options.get("path") or f"{options.get('host', '?')}:{options.get('port', '?')}"
    return f"{where}/{options.get('db') or 0}"
