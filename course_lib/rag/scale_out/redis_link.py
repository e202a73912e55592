"""The way to a Redis: one client for threads and event loops alike, and errors with a way out."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from course_lib.checks import require_positive, require_whole
from course_lib.errors import Unavailable, excerpt

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import redis

__all__ = ["CONNECTIONS", "Linked", "RedisLink", "Script"]

T = TypeVar("T")
CONNECTIONS: Final = 4
SENT_AT_ONCE: Final = 1 << 16
MOST_BYTES: Final = 1 << 28
"""Bytes of the answers to one operation, at most: a server that never ends would fill the memory."""


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
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        return answer


class RedisLink:
    """Calls a Redis, from any number of threads and event loops.

    A client of redis-py for asyncio belongs to one event loop. This one is synchronous, and runs
    in threads of its own when a coroutine asks: a call costs some 0.1 ms more, and notebooks,
    servers and worker processes may share it in whatever loops they run.

    A connection that broke while idle is made again at once. What fails then, takes longer than
    `timeout`, or is answered by something that is no Redis, is an `Unavailable` that names the
    server but no password.

    Args:
        url_or_client: `redis://`, `rediss://` or `unix://` address, or a `redis.Redis` client, which
            keeps its own timeouts.
        timeout: Seconds for an operation, from when it is sent: a new connection, all that is sent
            and the whole answer included, however many pieces they come in. (A name with several
            addresses that do not answer takes as long for each.)
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
        require_positive(timeout=timeout)
        require_whole(connections=connections)
        self._own = isinstance(url_or_client, str)
        self._client = _client(url_or_client, timeout, connections)
        self._timeout = timeout
        self.address = _address(self._client)
        self._connections = connections
        self._lock = threading.Lock()
        self._threads: _Threads | None = None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return `function(client, *arguments)`; the calling thread waits.

        Whatever the function raises is the server's fault: it looks at nothing but the answers.

        Raises:
            Unavailable: The server did not do it.
        """
        return self._call(math.inf, function, *arguments)

    async def acall(self, function: Callable[..., T], *arguments: Any) -> T:
        """Do as `call`, without holding up the event loop."""
        with self._lock:
            if self._threads is None or self._threads.pid != os.getpid():  # a fork has no threads
                self._threads = _Threads(self._connections)
            asked = self._threads.submit(self._call, function, *arguments)
        return await asyncio.wrap_future(asked)

    def close(self) -> None:
        """Let what has been asked for be done, for `timeout` seconds, and close connections made here.

        The next call makes new ones.
        """
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.end(self._timeout)
        if self._own:
            self._client.connection_pool.disconnect()

    def _call(self, until: float, function: Callable[..., T], *arguments: Any) -> T:
        from redis.exceptions import RedisError  # noqa: PLC0415 - heavy

        _operation.begin(min(until, time.monotonic() + self._timeout))
        try:
            return function(self._client, *arguments)
        except (RedisError, OSError) as error:
            failure = self._failure("did not answer", error)
        except Exception as error:  # noqa: BLE001 - what foreign answers make of redis-py is many-fold
            # Such a connection may be left in the middle of an answer, or of logging in.
            self._client.connection_pool.disconnect(inuse_connections=False)
            failure = self._failure("answered what no Redis does", error)
        raise failure  # here: the error of redis-py is not even its context

    def _failure(self, what: str, error: Exception) -> Unavailable:
        password = self._client.connection_pool.connection_kwargs.get("password") or ""
        said = excerpt(str(error), [password])
        return Unavailable(
            f"Redis at {self.address} {what} ({type(error).__name__}: {said}): see that it runs and "
            "lets us in; `running_server()` starts one here"
        )


class _Threads:
    """Threads that make the calls of coroutines.

    Attributes:
        pid: The process that they belong to.
    """

    def __init__(self, number: int) -> None:
        self.pid = os.getpid()
        self._executor = ThreadPoolExecutor(number, "RedisLink")
        self._calls: set[Future[Any]] = set()
        self._until = math.inf

    def submit(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have a thread make a call, whose first argument is by when it must be over."""
        made = self._executor.submit(lambda: call(self._until, *arguments))
        self._calls.add(made)
        made.add_done_callback(self._calls.discard)
        return made

    def end(self, seconds: float) -> None:
        """Let calls be made for so many seconds more, and wait for the threads to end.

        Those of a client that was given, with timeouts of its own, may end later.
        """
        if self.pid != os.getpid():
            return
        self._until = time.monotonic() + seconds
        self._executor.shutdown(wait=False)
        late = wait(list(self._calls), seconds).not_done
        self._executor.shutdown(wait=not late)


class _Operation(threading.local):
    """What a thread is asking a server for, and the bounds of that."""

    end = math.inf  # monotonic seconds
    room = MOST_BYTES

    def begin(self, end: float) -> None:
        """Set the bounds of the next one."""
        self.end, self.room = end, MOST_BYTES

    def left(self) -> float:
        """Return the seconds that are left, above 0."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, threading.TIMEOUT_MAX)

    def take(self, size: int) -> None:
        """Count what has come."""
        self.room -= size
        if self.room < 0:
            raise OSError(f"the answer has more than {MOST_BYTES:,} bytes")


_operation: Final = _Operation()


class _BoundedSocket:
    """A socket that is used no longer than the operation may take which its thread is at.

    A time-out of its own would begin anew with each piece that comes.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._seconds = connected.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Note whether it waits at all."""
        self._seconds = seconds
        self._socket.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """Return what comes."""
        self._bound()
        received = self._socket.recv(size)
        _operation.take(len(received))
        return received

    def recv_into(self, buffer: Any, *sizes: int) -> int:
        """Put what comes into a buffer, as the parser in C has it."""
        self._bound()
        size = self._socket.recv_into(buffer, *sizes)
        _operation.take(size)
        return size

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of it; a socket with TLS would begin its time anew with each piece."""
        rest = memoryview(data)
        while rest:
            self._bound()
            rest = rest[self._socket.send(rest[:SENT_AT_ONCE]) :]

    def _bound(self) -> None:
        if self._seconds != 0:
            self._socket.settimeout(_operation.left())


def _bounded(kind: Any) -> Any:
    """Return a class of connections like this one, with sockets that are bounded."""

    def connect(self: Any) -> _BoundedSocket:
        self.socket_connect_timeout = _operation.left()
        return _BoundedSocket(kind._connect(self))  # noqa: SLF001 - what redis-py has subclasses define

    return type(kind.__name__, (kind,), {"_connect": connect})


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
            protocol=2,  # answers of few kinds, and no handshake
        )
    except ValueError:  # its message may quote a part of the password
        raise ValueError(
            "this is no address of a Redis: give redis://, rediss:// or unix://, and quote what "
            "is special in a password (urllib.parse.quote(password, safe=''))"
        ) from None
    pool.connection_class = _bounded(pool.connection_class)
    return _bytes_only(redis.Redis(connection_pool=pool))


def _bytes_only(client: redis.Redis) -> redis.Redis:
    if client.connection_pool.get_encoder().decode_responses:
        raise ValueError("decode_responses=True turns answers into str: leave it out")
    return client


def _address(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    where = options.get("path") or f"{options.get('host', '?')}:{options.get('port', '?')}"
    return f"{where}/{options.get('db') or 0}"
