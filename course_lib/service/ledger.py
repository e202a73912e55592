"""What the provider saw: the record that notebooks hold their claims against."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Any, Self

__all__ = ["NO_ANSWER", "Call", "Ledger", "Recorder", "Visit"]

NO_ANSWER = 0
"""Status of a call that got no answer: dropped, hung, or the client left."""

KEPT_CALLS = 100_000
"""Calls that a ledger holds; of more, the last ones."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the provider saw it.

    Attributes:
        path: Path of the address, such as "/search".
        query: What was asked (`q`), decoded; "" if nothing was.
        start: Seconds on `time.monotonic()`'s clock (one for all processes of a machine), or on
            the virtual loop's, when it arrived.
        end: The same clock, when its answer was ready or it was given up.
        status: HTTP status, or 0 if no answer was given.
        connection: Number of the connection that carried it.
    """

    path: str
    query: str
    start: float
    end: float
    status: int
    connection: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """A snapshot of what the provider saw since the last reset.

    Attributes:
        calls: Finished calls, oldest first; the last 100,000.
        requests: Requests that arrived, those still being worked on included.
        answered: Calls answered with 2xx.
        peak_in_flight: Most requests accepted and not yet answered at once, queued ones included.
        peak_working: Most requests worked on at once.
        connections: Distinct connections that carried a request.
        rejected: Calls answered with 429.
        errors: Calls answered with 5xx.
        dropped: Calls that got no answer.
    """

    calls: tuple[Call, ...] = field(repr=False)
    requests: int
    answered: int
    peak_in_flight: int
    peak_working: int
    connections: int
    rejected: int
    errors: int
    dropped: int

    def to_dict(self) -> dict[str, Any]:
        """Return the ledger as a JSON object; a call is a list in the order of its fields."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        data["calls"] = [
            (call.path, call.query, call.start, call.end, call.status, call.connection)
            for call in self.calls
        ]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` gave."""
        return cls(**{**data, "calls": tuple(Call(*call) for call in data["calls"])})


class Recorder:
    """Takes down every request and makes ledgers of it.

    Args:
        timer: Returns seconds; the clock of `start` and `end`.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._tally = _Tally()

    def arrive(self, path: str, query: str, connection: int) -> "Visit":
        """Note that a request has come; the visit that is returned follows it to its end."""
        tally = self._tally
        tally.requests += 1
        tally.connections.add(connection)
        return Visit(tally, self._timer, path, query, connection)

    def ledger(self, *, last: int = KEPT_CALLS) -> Ledger:
        """Return a snapshot.

        Args:
            last: Calls wanted, counted from the end; the counts always cover all.
        """
        return self._tally.ledger(last)

    def reset(self) -> None:
        """Begin a new ledger. Requests that came before are not counted in it, nor their ends."""
        self._tally = _Tally()

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return self._tally.in_flight

    @property
    def seconds(self) -> float:
        """Seconds from arrival to end, summed over all finished calls."""
        return self._tally.seconds


class _Tally:
    """Running counts of one ledger."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT_CALLS)
        self.connections: set[int] = set()
        self.requests = self.answered = self.rejected = self.errors = self.dropped = 0
        self.in_flight = self.peak_in_flight = self.working = self.peak_working = 0
        self.seconds = 0.0

    def finish(self, call: Call) -> None:
        self.calls.append(call)
        self.seconds += call.end - call.start
        if call.status == NO_ANSWER:
            self.dropped += 1
        elif call.status < HTTPStatus.MULTIPLE_CHOICES:
            self.answered += 1
        elif call.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.rejected += 1
        elif call.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.errors += 1

    def ledger(self, last: int) -> Ledger:
        skipped = max(0, len(self.calls) - last)
        return Ledger(
            calls=tuple(self.calls)[skipped:],
            requests=self.requests,
            answered=self.answered,
            peak_in_flight=self.peak_in_flight,
            peak_working=self.peak_working,
            connections=len(self.connections),
            rejected=self.rejected,
            errors=self.errors,
            dropped=self.dropped,
        )


class Visit:
    """One request on its way through the provider."""

    __slots__ = ("_accepted", "_connection", "_path", "_query", "_start", "_tally", "_timer", "_working")  # fmt: skip

    def __init__(
        self, tally: _Tally, timer: Callable[[], float], path: str, query: str, connection: int
    ) -> None:
        self._tally, self._timer = tally, timer
        self._path, self._query, self._connection = path, query, connection
        self._start = timer()
        self._accepted = self._working = False

    def accept(self) -> None:
        """It is let in, and in flight from now on."""
        tally = self._tally
        self._accepted = True
        tally.in_flight += 1
        tally.peak_in_flight = max(tally.peak_in_flight, tally.in_flight)

    def work(self) -> None:
        """It has its slot, and is worked on from now on."""
        tally = self._tally
        self._working = True
        tally.working += 1
        tally.peak_working = max(tally.peak_working, tally.working)

    def leave(self, status: int) -> None:
        """It ends, with an HTTP status or `NO_ANSWER`."""
        tally = self._tally
        tally.in_flight -= self._accepted
        tally.working -= self._working
        now = self._timer()
        tally.finish(Call(self._path, self._query, self._start, now, status, self._connection))
