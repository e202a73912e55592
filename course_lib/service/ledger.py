"""What the provider saw: the record that notebooks hold their claims against."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from itertools import islice
from operator import attrgetter
from typing import Any, Self

from course_lib.service.behaviour import check_path

__all__ = ["NO_ANSWER", "Call", "Ledger", "OpenCall", "Recorder"]

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
        tokens: Tokens of prompt and answer, so far as it was written.
    """

    path: str
    query: str
    start: float
    end: float
    status: int
    connection: int
    tokens: int = 0


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
        tokens: Tokens of all finished calls.
        paths: The counts above, for each path that was called; `path` makes a ledger of them.
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
    tokens: int = 0
    paths: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False, hash=False)

    def path(self, path: str) -> "Ledger":
        """Return what was seen of one endpoint.

        Args:
            path: Path of the address, such as "/rerank".

        Raises:
            ValueError: The provider has no such endpoint, and nobody asked for it.
        """
        if path not in self.paths:
            check_path(path)
        counts = self.paths.get(path) or dict.fromkeys(COUNTS, 0)
        calls = tuple(call for call in self.calls if call.path == path)
        return Ledger(calls, **counts, paths={path: counts} if path in self.paths else {})

    def to_dict(self) -> dict[str, Any]:
        """Return the ledger as a JSON object; a call is a list in the order of its fields."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        data["calls"] = list(self.rows())
        return data

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield each call as a list in the order of its fields."""
        return map(attrgetter(*CALL), self.calls)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` gave."""
        return cls(**{**data, "calls": tuple(Call(*call) for call in data["calls"])})


CALL = tuple(each.name for each in fields(Call))
"""Fields of a call, in the order in which they travel."""

COUNTS = tuple(each.name for each in fields(Ledger) if each.name not in {"calls", "paths"})
"""Fields of a ledger that hold a number."""


class Recorder:
    """Takes down every request and makes ledgers of it.

    Args:
        timer: Returns seconds; the clock of `start` and `end`.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._book = _Book()

    def arrive(self, path: str, query: str, connection: int) -> "OpenCall":
        """Note that a request has come; the call that is returned follows it to its end."""
        call = OpenCall(self._book, self._timer, path, query, connection)
        call.arrive()
        return call

    def ledger(self, *, last: int = KEPT_CALLS) -> Ledger:
        """Return a snapshot.

        Args:
            last: Calls wanted, counted from the end; the counts always cover all.
        """
        return self._book.ledger(last)

    def reset(self) -> None:
        """Begin a new ledger. Requests that came before are not counted in it, nor their ends."""
        self._book = _Book()

    @property
    def in_flight(self) -> int:
        """Requests accepted and not yet answered."""
        return self._book.all.in_flight

    @property
    def seconds(self) -> float:
        """Seconds from arrival to end, summed over all finished calls."""
        return self._book.seconds


class _Book:
    """The record behind one ledger: finished calls, and a tally of all and one of each path."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT_CALLS)
        self.all = _Tally()
        self.paths: defaultdict[str, _Tally] = defaultdict(_Tally)
        self.seconds = 0.0

    def finish(self, call: Call) -> None:
        self.calls.append(call)
        self.seconds += call.end - call.start

    def ledger(self, last: int) -> Ledger:
        skipped = max(0, len(self.calls) - last)
        calls = tuple(islice(self.calls, skipped, None))
        paths = {path: tally.counts() for path, tally in self.paths.items()}
        return Ledger(calls, **self.all.counts(), paths=paths)


class _Tally:
    """Running counts."""

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.requests = self.answered = self.rejected = self.errors = self.dropped = 0
        self.tokens = 0
        self.in_flight = self.peak_in_flight = self.working = self.peak_working = 0

    def arrive(self, connection: int) -> None:
        self.requests += 1
        self.connections.add(connection)

    def accept(self) -> None:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def work(self) -> None:
        self.working += 1
        self.peak_working = max(self.peak_working, self.working)

    def leave(self, status: int, tokens: int, *, accepted: bool, working: bool) -> None:
        self.tokens += tokens
        self.in_flight -= accepted
        self.working -= working
        if status == NO_ANSWER:
            self.dropped += 1
        elif status < HTTPStatus.MULTIPLE_CHOICES:
            self.answered += 1
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            self.rejected += 1
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.errors += 1

    def counts(self) -> dict[str, int]:
        counts = {name: getattr(self, name) for name in COUNTS}
        return counts | {"connections": len(self.connections)}


class OpenCall:
    """One request on its way through the provider.

    Attributes:
        tokens: Tokens that it has used so far.
    """

    __slots__ = ("_accepted", "_book", "_connection", "_path", "_query", "_start", "_tallies", "_timer", "_working", "tokens")  # fmt: skip

    def __init__(
        self, book: _Book, timer: Callable[[], float], path: str, query: str, connection: int
    ) -> None:
        self._book, self._timer = book, timer
        self._tallies = (book.all, book.paths[path])
        self._path, self._query, self._connection = path, query, connection
        self._start = timer()
        self._accepted = self._working = False
        self.tokens = 0

    def arrive(self) -> None:
        """It has come."""
        for tally in self._tallies:
            tally.arrive(self._connection)

    def accept(self) -> None:
        """It is let in, and in flight from now on."""
        self._accepted = True
        for tally in self._tallies:
            tally.accept()

    def work(self) -> None:
        """It has its slot, and is worked on from now on."""
        self._working = True
        for tally in self._tallies:
            tally.work()

    def leave(self, status: int) -> None:
        """It ends, with an HTTP status or `NO_ANSWER`."""
        now = self._timer()
        self._book.finish(
            Call(self._path, self._query, self._start, now, status, self._connection, self.tokens)
        )
        for tally in self._tallies:
            tally.leave(status, self.tokens, accepted=self._accepted, working=self._working)
