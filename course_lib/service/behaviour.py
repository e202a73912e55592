"""How the provider behaves: value objects that are checked when they are made.

    Behaviour
    ├── Latency      how long it works on one request
    ├── RateLimit    how often it lets somebody in; the rest are answered 429
    ├── Capacity     how many requests it works on at once; the rest queue
    └── Faults       which share of requests goes wrong, and how

Each has `to_dict` and `from_dict`, so that a behaviour can be sent as JSON.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from course_lib.service.latency import Latency
from course_lib.service.values import Value, number, whole

__all__ = ["Behaviour", "Capacity", "Faults", "Latency", "RateLimit"]

Fault = Literal["error", "drop", "hang"]

DEFAULT_LATENCY: Final = Latency.constant(0.1)
"""100 ms: what a call to a provider across the network costs, to an order of magnitude."""


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
        number("rate", self.rate, above=0)
        whole("burst", self.burst, least=1)


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
        whole("slots", self.slots, least=1)
        if self.queue is not None:
            whole("queue", self.queue, least=0)


@dataclass(frozen=True, slots=True)
class Faults(Value):
    """Shares of requests that go wrong, each between 0 and 1, together at most 1.

    A request that goes wrong costs the provider what a good one costs: it waits for its slot and
    its latency first. One that hangs keeps its slot.

    Attributes:
        error: Share answered with 500.
        drop: Share whose connection is cut without an answer.
        hang: Share never answered, until the client leaves or the provider stops.
        seed: What the sequence of draws starts from; the same seed, the same sequence.
    """

    error: float = 0.0
    drop: float = 0.0
    hang: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("error", "drop", "hang"):
            number(name, getattr(self, name), most=1)
        whole("seed", self.seed, least=0)
        total = self.error + self.drop + self.hang
        if total > 1 + 1e-9:
            raise ValueError(f"error + drop + hang = {total:g}: shares add up to at most 1")

    def sampler(self) -> Iterator[Fault | None]:
        """Return an endless iterator of what happens to each request; None is a good one."""
        draw = random.Random(self.seed).random  # noqa: S311 - a model of faults, not a secret
        while True:
            yield self._fault(draw())

    def _fault(self, share: float) -> Fault | None:
        if share < self.error:
            return "error"
        if share < self.error + self.drop:
            return "drop"
        return "hang" if share < self.error + self.drop + self.hang else None


PARTS: Final[dict[str, type[Value]]] = {
    "latency": Latency,
    "rate_limit": RateLimit,
    "capacity": Capacity,
    "faults": Faults,
}
"""Fields of a behaviour and what each holds."""


@dataclass(frozen=True, slots=True)
class Behaviour(Value):
    """All that decides how the provider treats a request; `None` switches a part off.

    Attributes:
        latency: Work on one request.
        rate_limit: How often it lets somebody in; without it, always.
        capacity: How many requests it works on at once; without it, any number.
        faults: What goes wrong; without it, nothing.
    """

    latency: Latency = DEFAULT_LATENCY
    rate_limit: RateLimit | None = None
    capacity: Capacity | None = None
    faults: Faults | None = None

    def __post_init__(self) -> None:
        for name, kind in PARTS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "latency"):
                raise ValueError(f"{name}={value!r}: give a {kind.__name__}(...)")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a behaviour from a JSON object; parts left out keep their defaults.

        Raises:
            ValueError: A field is unknown, missing or out of range; the message says which.
        """
        return cls().changed(data)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return this behaviour with the parts that a JSON object names put in place.

        Args:
            changes: Parts by name, each as its `to_dict` gives it, or None to switch it off
                (a latency that is switched off is 0 s).

        Raises:
            ValueError: A field is unknown, missing or out of range; the message says which.
        """
        if not isinstance(changes, Mapping):
            raise ValueError(f"{changes!r} is no JSON object of {', '.join(PARTS)}")  # noqa: TRY004 - JSON's error
        if unknown := sorted(set(changes) - set(PARTS)):
            raise ValueError(f"Behaviour has no field {unknown[0]!r}: it has {', '.join(PARTS)}")
        parts: dict[str, Any] = {name: _part(name, data) for name, data in changes.items()}
        return replace(self, **parts)


def _part(name: str, data: Any) -> Value | None:
    if data is None:
        return Latency.constant(0) if name == "latency" else None
    return PARTS[name].from_dict(data)
