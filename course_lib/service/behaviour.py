"""How the provider behaves: value objects that are checked when they are made.

    Behaviour
    ├── Latency      how long it works on one request
    ├── RateLimit    how often it lets somebody in; the rest are answered 429
    ├── Capacity     how many requests it works on at once; the rest queue
    ├── Faults       which share of requests goes wrong, and how
    ├── TokenLimit   how many tokens a minute it reads and writes; the rest are answered 429
    ├── Generation   how fast it writes the answers of a chat
    └── endpoints    behaviours of their own for some paths; the other paths share the parts above

Each has `to_dict` and `from_dict`, so that a behaviour can be sent as JSON.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from course_lib.service.faults import Faults
from course_lib.service.generation import Generation, TokenLimit
from course_lib.service.latency import Latency
from course_lib.service.values import Value, require_number, require_whole

__all__ = [
    "ENDPOINTS",
    "Behaviour",
    "Capacity",
    "Faults",
    "Generation",
    "Latency",
    "RateLimit",
    "TokenLimit",
    "check_path",
]

DEFAULT_LATENCY: Final = Latency.constant(0.1)
"""100 ms: what a call to a provider across the network costs, to an order of magnitude."""


ENDPOINTS: Final = (
    "/search",
    "/rerank",
    "/v1/embeddings",
    "/v1/chat/completions",
    "/v1/models",
)
"""Paths of the provider that behave, and stand in the ledger."""


def check_path(path: str) -> str:
    """Return `path` if the provider has such an endpoint.

    Raises:
        ValueError: It has none; the message says which there are.
    """
    if path not in ENDPOINTS:
        raise ValueError(
            f"there is no endpoint {reprlib.repr(path)}: there is {', '.join(ENDPOINTS)}"
        )
    return path


@dataclass(frozen=True, slots=True)
class RateLimit(Value):
    """A token bucket: in any t seconds at most `burst + rate * t` requests are let in.

    Attributes:
        rate: Requests a second in the long run, above 0.
        burst: Requests let in at once after a pause, at least 1.
    """

    rate: float
    burst: int

    def __post_init__(self) -> None:
        require_number("rate", self.rate, above=0)
        require_whole("burst", self.burst, least=1)

    @classmethod
    def per_minute(cls, requests: int) -> Self:
        """A limit as providers state it: so many requests a minute, all of them at once at most.

        Args:
            requests: Requests a minute in the long run, at least 1.
        """
        require_whole("requests", requests, least=1)
        return cls(rate=requests / 60, burst=requests)


@dataclass(frozen=True, slots=True)
class Capacity(Value):
    """A bound on the requests that are worked on at once; the rest queue, first come first served.

    Attributes:
        slots: Requests worked on at once, at least 1.
        queue: Requests that may wait for a slot; more are answered 429. None lets any number wait.
    """

    slots: int
    queue: int | None = None

    def __post_init__(self) -> None:
        require_whole("slots", self.slots, least=1)
        if self.queue is not None:
            require_whole("queue", self.queue, least=0)


PARTS: Final[dict[str, type[Value]]] = {
    "latency": Latency,
    "rate_limit": RateLimit,
    "capacity": Capacity,
    "faults": Faults,
    "token_limit": TokenLimit,
    "generation": Generation,
}
"""Fields of a behaviour and what each holds."""

FIELDS: Final = (*PARTS, "endpoints")


@dataclass(frozen=True, slots=True)
class Behaviour(Value):
    """All that decides how the provider treats a request; `None` switches a part off.

    An endpoint that `endpoints` names has a whole behaviour of its own: its own limits, slots and
    draws, none of which the rest touch. All other endpoints share the parts given here, so that
    they count against one limit.

    Attributes:
        latency: Work on one request.
        rate_limit: How often it lets somebody in; without it, always.
        capacity: How many requests it works on at once; without it, any number.
        faults: What goes wrong; without it, nothing.
        token_limit: How many tokens a minute embeddings and chats may have; without it, any number.
        generation: How fast the answers of a chat are written; without it, at once.
        endpoints: Behaviours by path, such as `{"/rerank": Behaviour(capacity=Capacity(4))}`.
    """

    latency: Latency = DEFAULT_LATENCY
    rate_limit: RateLimit | None = None
    capacity: Capacity | None = None
    faults: Faults | None = None
    token_limit: TokenLimit | None = None
    generation: Generation | None = None
    endpoints: "Mapping[str, Behaviour]" = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, kind in PARTS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "latency"):
                raise ValueError(f"{name}={value!r}: give a {kind.__name__}(...)")
        object.__setattr__(self, "endpoints", _endpoints(self.endpoints))

    def __repr__(self) -> str:
        shown = ((each.name, getattr(self, each.name)) for each in fields(self))
        # Most providers have no endpoint with a behaviour of its own: nothing to read there.
        text = (f"{name}={value!r}" for name, value in shown if value != {})
        return f"Behaviour({', '.join(text)})"

    def at(self, path: str) -> "Behaviour":
        """Return the behaviour that a path has: its own, or the one shared by the rest."""
        own = self.endpoints.get(check_path(path))
        return replace(self, endpoints={}) if own is None else own

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a behaviour from a JSON object; parts left out keep their defaults.

        Raises:
            ValueError: A field is unknown, missing or out of range; the message says which.
        """
        return cls().changed(data)

    def changed(self, changes: Mapping[str, Any], *, path: str | None = None) -> Self:
        """Return this behaviour with the parts that a JSON object names put in place.

        Args:
            changes: Parts by name, each as its `to_dict` gives it, or None to switch it off
                (a latency that is switched off is 0 s).
            path: Endpoint that the changes are for. One without a behaviour of its own gets one:
                what it shared so far, with the changes. Without it, they are for the shared parts.

        Raises:
            ValueError: A field is unknown, missing or out of range; the message says which.
        """
        if not isinstance(changes, Mapping):
            raise ValueError(f"{reprlib.repr(changes)} is no JSON object of {', '.join(FIELDS)}")  # noqa: TRY004 - JSON's error
        if unknown := sorted(set(changes) - set(FIELDS)):
            raise ValueError(
                f"Behaviour has no field {reprlib.repr(unknown[0])}: it has {', '.join(FIELDS)}"
            )
        return self.updated(path, **{name: _part(name, data) for name, data in changes.items()})

    def updated(self, path: str | None = None, /, **parts: Any) -> Self:
        """Return this behaviour with other values for the parts that are named.

        Args:
            path: Endpoint that they are for, as in `changed`.
            **parts: Values by field; None switches a part off.

        Raises:
            ValueError: A field is unknown, or its value is of the wrong kind.
        """
        if unknown := sorted(set(parts) - set(FIELDS)):
            raise ValueError(
                f"Behaviour has no field {reprlib.repr(unknown[0])}: it has {', '.join(FIELDS)}"
            )
        filled = {name: _off(name) if part is None else part for name, part in parts.items()}
        if path is None:
            return replace(self, **filled)
        own = replace(self.at(path), **filled)
        return replace(self, endpoints={**self.endpoints, path: own})


def _endpoints(given: Any) -> dict[str, Behaviour]:
    """Return a copy of the behaviours by path, checked."""
    if not isinstance(given, Mapping):
        raise ValueError(f"endpoints={given!r}: give behaviours by path, {{'/rerank': ...}}")  # noqa: TRY004 - as for each other part
    for path, own in given.items():
        check_path(path)
        if not isinstance(own, Behaviour):
            raise ValueError(f"endpoints[{path!r}]={own!r}: give a Behaviour(...)")  # noqa: TRY004
        if own.endpoints:
            raise ValueError(
                f"endpoints[{path!r}] has endpoints itself: name all paths side by side"
            )
    return dict(given)


def _off(name: str) -> Any:
    """Return the value that switches a part off."""
    return {"latency": Latency.constant(0), "endpoints": {}}.get(name)


def _part(name: str, data: Any) -> Any:
    if data is None:
        return None
    if name != "endpoints":
        return PARTS[name].from_dict(data)
    if not isinstance(data, Mapping):
        raise ValueError(f"endpoints: {reprlib.repr(data)} is no JSON object of behaviours by path")  # noqa: TRY004 - JSON's error
    return {path: Behaviour.from_dict(own) for path, own in data.items()}
