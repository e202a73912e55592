"""Everything a request goes through, without HTTP.

    arrive -> room in the queue -> rate limits -> queue for a slot -> latency -> fault or answer

However it ends, it is recorded. Endpoints with a behaviour of their own have their own limits,
queue and draws (`Limits`); all others share one.

The engine waits by the running loop's clock only, so that the same engine serves HTTP in real time
and runs in virtual time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from course_lib.service.behaviour import Behaviour
from course_lib.service.ledger import KEPT_CALLS, NO_ANSWER, Ledger, OpenCall, Recorder
from course_lib.service.limits import (
    Allowance,
    Dropped,
    Failed,
    Limits,
    RefusingBucket,
    Rejected,
    TooLarge,
    work,
)
from course_lib.service.streams import Streams

__all__ = ["STATUSES", "Admitted", "Dropped", "Engine", "Failed", "Rejected", "TooLarge"]

STATUSES = {
    Rejected: HTTPStatus.TOO_MANY_REQUESTS,
    TooLarge: HTTPStatus.BAD_REQUEST,
    Failed: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""HTTP status for what a request may meet."""


class Admitted:
    """A request that has been let in and has its slot.

    Attributes:
        streams: What an answer is written through.
    """

    def __init__(
        self, streams: Streams, call: OpenCall, reserved: int, bucket: RefusingBucket
    ) -> None:
        self.streams = streams
        self._call, self._reserved, self._bucket = call, reserved, bucket

    def spend(self, tokens: int) -> None:
        """Say how many tokens the request has used so far; the ledger keeps the last word."""
        self._call.tokens = tokens

    def settle(self) -> None:
        """Give back the tokens that were reserved and not used.

        Who reserved none, as a rerank, is not held to the limit, and leaves it to the others.
        """
        self._bucket.give_back(max(0, self._reserved - self._call.tokens))


class Engine:
    """Treats requests as a behaviour says, and keeps the ledger.

    Args:
        behaviour: What it does; may be set anew while it runs.
        timer: Returns seconds; by default the running loop's clock.
    """

    def __init__(self, behaviour: Behaviour, *, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer or _loop_time
        self._behaviour = behaviour
        self._shared = Limits(behaviour)
        self._own = {path: Limits(own) for path, own in behaviour.endpoints.items()}
        self.recorder = Recorder(self._timer)

    def __repr__(self) -> str:
        return f"<Engine {self._behaviour}, {self.recorder.in_flight} in flight>"

    @property
    def behaviour(self) -> Behaviour:
        """What it does. A new one holds from the next request on.

        More capacity lets the queue move at once; less evicts nobody, so that until enough have
        left, more are worked on than the new capacity allows. Only a part that changed
        starts afresh: a rate limit with a full bucket, a latency or fault with its first draw.
        An endpoint that gets a behaviour of its own, or loses it, starts with free slots: who is
        under way ends where it began.
        """
        return self._behaviour

    @behaviour.setter
    def behaviour(self, new: Behaviour) -> None:
        self._behaviour = self._shared.behaviour = new
        old, self._own = self._own, {}
        for path, own in new.endpoints.items():
            self._own[path] = limits = old.get(path) or Limits(own)
            limits.behaviour = own

    def ledger(self, *, last: int = KEPT_CALLS) -> Ledger:
        """Return what was seen since the last reset, with the `last` calls at most."""
        return self.recorder.ledger(last=last)

    def reset(self) -> None:
        """Begin a new ledger, fill the buckets and restart the draws: a run can be repeated."""
        self.recorder.reset()
        for limits in (self._shared, *self._own.values()):
            limits.restart()

    def allowances(self, path: str) -> dict[str, Allowance]:
        """Return what is left of each limit that a path has, by what it counts."""
        return self._own.get(path, self._shared).allowances(self._timer())

    def refuse(self, path: str, query: str, status: HTTPStatus, connection: int = 0) -> None:
        """Record a request that is refused at once for what it says; it costs no limit."""
        self.recorder.arrive(path, query, connection).leave(status)

    @asynccontextmanager
    async def admit(
        self, path: str, query: str = "", connection: int = 0, *, tokens: int = 0
    ) -> AsyncIterator[Admitted]:
        """Take one request in; the body of the `async with` computes its answer.

        The body runs with a slot held, after the latency. However it ends, the request is recorded
        once: 200, 500 if the body raises, 0 if it is cancelled or its connection breaks.

        Args:
            path: Path of the address: its behaviour, and for the record.
            query: What is asked, for the record.
            connection: Number of the connection, for the record.
            tokens: Tokens that it may use, at most; `Admitted.spend` says how many it did.

        Raises:
            Rejected: A limit or a full queue refused it; answer 429.
            TooLarge: It wants more tokens than it can ever have; answer 400.
            Failed: A fault; answer 500.
            Dropped: A fault; cut the connection.
        """
        limits = self._own.get(path, self._shared)
        call = self.recorder.arrive(path, query, connection)
        status: int = NO_ANSWER
        try:
            async with self._let_in(limits, call, tokens) as admitted:
                yield admitted
            status = HTTPStatus.OK
        except (Dropped, ConnectionError):
            raise
        except Exception as error:
            status = STATUSES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        finally:
            call.leave(status)

    @asynccontextmanager
    async def _let_in(self, limits: Limits, call: OpenCall, tokens: int) -> AsyncIterator[Admitted]:
        admitted = Admitted(limits.streams, call, tokens, limits.pass_limits(self._timer(), tokens))
        try:
            call.accept()
            # Drawn on arrival: who gets which latency does not depend on who gets which slot.
            seconds, fault = limits.draw()
            async with limits.slots:
                call.work()
                await work(seconds, fault)
                yield admitted
        finally:
            admitted.settle()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
