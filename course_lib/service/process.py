"""Starting the provider in a process of its own, and the handle to it.

A process, because in the kernel's own loop a blocking call would deadlock with it, and in a thread
the kernel's work would slow it down. The handle uses the standard library only and is synchronous,
so that it works from a notebook's cell whatever the kernel's loop is doing.
"""

import json
import os
import subprocess
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from types import EllipsisType, TracebackType
from typing import IO, Any, Final, Self
from urllib.parse import quote, urlsplit

from course_lib.service.behaviour import (
    DEFAULT_LATENCY,
    FIELDS,
    PARTS,
    Behaviour,
    Capacity,
    Faults,
    Generation,
    Latency,
    RateLimit,
    TokenLimit,
    check_path,
)
from course_lib.service.launch import end, exit_state, launch
from course_lib.service.ledger import Ledger

__all__ = ["Provider", "active", "running", "start"]

PATIENCE: Final = 30.0
"""Seconds for one call; it takes milliseconds unless the provider is up to its neck in work."""

_started: "weakref.WeakSet[Provider]" = weakref.WeakSet()


class Provider:
    """A running provider: its address, its behaviour, its ledger.

    Made by `start` or `running`; may be used from several threads. Its process ends with `stop`, at
    the end of a `with` block, when this handle is forgotten, and with the process that started it,
    however that ends.

    Attributes:
        url: Its address, such as "http://127.0.0.1:43210".
        pid: The number of its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], url: str) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._admin = Admin(url)
        # Runs once: on stop, when the handle is collected, or when this process exits.
        self._end = weakref.finalize(self, end, process, log, os.getpid())
        _started.add(self)

    def __repr__(self) -> str:
        return f"<Provider {self.url} pid {self.pid}, {self._state()}>"

    def _state(self) -> str:
        if not self._end.alive:
            return "stopped"
        try:
            seen = self._ledger(last=0)
        except RuntimeError:
            return "ended"
        return f"running, {seen.requests} requests, {seen.connections} connections"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves at the moment, as it says itself."""
        return Behaviour.from_dict(self._call("GET", "/admin/behaviour"))

    def configure(
        self,
        *,
        path: str | None = None,
        latency: Latency | EllipsisType | None = ...,
        rate_limit: RateLimit | EllipsisType | None = ...,
        capacity: Capacity | EllipsisType | None = ...,
        faults: Faults | EllipsisType | None = ...,
        token_limit: TokenLimit | EllipsisType | None = ...,
        generation: Generation | EllipsisType | None = ...,
        endpoints: Mapping[str, Behaviour] | EllipsisType | None = ...,
    ) -> Behaviour:
        """Change how it behaves, from the next request on.

        Only what is named changes; None switches a part off (and sets the latency to 0).

        Args:
            path: Endpoint that this is for, such as "/rerank"; from then on it has a behaviour of
                its own: what it shared so far, with the changes. Without it, what is named changes
                for all endpoints that have none of their own.
            latency: Work on one request.
            rate_limit: How often it lets somebody in.
            capacity: How many requests it works on at once.
            faults: What goes wrong.
            token_limit: How many tokens a minute it reads and writes.
            generation: How fast it writes the answers of a chat.
            endpoints: Behaviours by path, in place of all that endpoints had of their own.

        Returns:
            The whole behaviour, as it is now.

        Raises:
            ValueError: A part is of the wrong kind, or there is no such endpoint.
            RuntimeError: The provider has ended.
        """
        given = zip(
            FIELDS,
            (latency, rate_limit, capacity, faults, token_limit, generation, endpoints),
            strict=True,
        )
        changes = {name: _json(name, part) for name, part in given if part is not ...}
        where = "" if path is None else f"?path={quote(check_path(path))}"
        return Behaviour.from_dict(self._call("PUT", f"/admin/behaviour{where}", changes))

    def ledger(self) -> Ledger:
        """Return what it saw since it started, or since the last `reset`.

        Raises:
            RuntimeError: The provider has ended.
        """
        return self._ledger()

    def _ledger(self, **limits: int) -> Ledger:
        query = "".join(f"?{name}={value}" for name, value in limits.items())
        return Ledger.from_dict(self._call("GET", f"/admin/ledger{query}"))

    def reset(self) -> None:
        """Begin a new ledger, fill the rate limit and restart all draws: a run can be repeated.

        Requests still under way are left out of the new ledger.

        Raises:
            RuntimeError: The provider has ended.
        """
        self._call("DELETE", "/admin/ledger")

    def stop(self) -> None:
        """End its process now, whatever it is working on. A second call does nothing."""
        self._end()

    def _call(self, method: str, path: str, data: Any = None) -> Any:
        if not self._end.alive:
            raise RuntimeError(f"the provider at {self.url} was stopped: service.start() a new one")
        try:
            return self._admin.call(method, path, data)
        except Unreachable as error:
            raise RuntimeError(
                f"the provider at {self.url} {exit_state(self._process)}: "
                "stop() it and service.start() a new one"
            ) from error


def _json(name: str, part: Any) -> Any:
    if name == "endpoints":
        return Behaviour(endpoints=part or {}).to_dict()["endpoints"]
    if part is not None and not isinstance(part, PARTS[name]):
        raise ValueError(f"{name}={part!r}: give a {PARTS[name].__name__}(...) or None")
    return None if part is None else part.to_dict()


def start(
    *,
    latency: Latency | None = DEFAULT_LATENCY,
    rate_limit: RateLimit | None = None,
    capacity: Capacity | None = None,
    faults: Faults | None = None,
    token_limit: TokenLimit | None = None,
    generation: Generation | None = None,
    endpoints: Mapping[str, Behaviour] | None = None,
    port: int = 0,
) -> Provider:
    """Start a provider and return when it answers.

    Args:
        latency: Work on one request; None for none, as fast as the machine can.
        rate_limit: How often it lets somebody in; without it, always.
        capacity: How many requests it works on at once; without it, any number.
        faults: What goes wrong; without it, nothing.
        token_limit: How many tokens a minute embeddings and chats may have; without it, any number.
        generation: How fast the answers of a chat are written; without it, at once.
        endpoints: Behaviours by path, for endpoints that do not share the parts above, such as
            `{"/rerank": Behaviour(capacity=Capacity(4))}`.
        port: Port on 127.0.0.1; 0 for a free one.

    Raises:
        ValueError: An argument is out of range.
        RuntimeError: It did not start; the message says why and what to do.
    """
    behaviour = Behaviour(
        latency or Latency.constant(0),
        rate_limit,
        capacity,
        faults,
        token_limit,
        generation,
        endpoints or {},
    )
    process, log, url = launch(behaviour, port)
    return Provider(process, log, url)


def active() -> list[Provider]:
    """Return the providers that this process started and has not stopped, by process number."""
    alive = [provider for provider in _started if provider._end.alive]  # noqa: SLF001 - one module
    return sorted(alive, key=lambda provider: provider.pid)


@contextmanager
def running(
    *,
    latency: Latency | None = DEFAULT_LATENCY,
    rate_limit: RateLimit | None = None,
    capacity: Capacity | None = None,
    faults: Faults | None = None,
    token_limit: TokenLimit | None = None,
    generation: Generation | None = None,
    endpoints: Mapping[str, Behaviour] | None = None,
    port: int = 0,
) -> Iterator[Provider]:
    """Run a provider for the length of a `with` block; arguments and errors as for `start`."""
    with start(
        latency=latency,
        rate_limit=rate_limit,
        capacity=capacity,
        faults=faults,
        token_limit=token_limit,
        generation=generation,
        endpoints=endpoints,
        port=port,
    ) as provider:
        yield provider


class Unreachable(Exception):  # noqa: N818 - Provider says what it means
    """The provider did not answer."""


class Admin:
    """Sends one request over a connection of its own each time.

    So it may be shared by threads, and a call that is interrupted leaves nothing half read. The
    standard library's client pays no heed to proxies in the environment.

    Args:
        url: Address of the provider.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port

    def call(self, method: str, path: str, data: Any = None) -> Any:
        """Send a request and return the JSON value of the answer; None if it has no body.

        Raises:
            ValueError: The provider refused the request; the message is its reason.
            Unreachable: It did not answer.
        """
        body = None if data is None else json.dumps(data).encode()
        connection = HTTPConnection(self._host, self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        value: Any = json.loads(answer) if answer else None
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ValueError(value["error"]["message"])
        return value
