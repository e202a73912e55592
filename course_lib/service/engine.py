"""Everything a request goes through, without HTTP.

    arrive -> room in the queue -> rate limit -> queue for a slot -> latency -> fault or answer

However it ends, it is recorded.

The engine waits by the running loop's clock only, so that the same engine serves HTTP in real time
and runs in virtual time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from course_lib.service.behaviour import Behaviour, Fault
from course_lib.service.ledger import KEPT_CALLS, NO_ANSWER, Ledger, Recorder
from course_lib.service.limits import Bucket, Slots

__all__ = ["Dropped", "Engine", "Failed", "Rejected"]

SHORTEST = 0.001
"""Seconds to come back after, where the work takes none and yet the queue is full."""


class Rejected(Exception):  # noqa: N818 - the names are what happens to the request
    """The rate limit, or a full queue, refused the request (429).

    Attributes:
        retry_after: Seconds until a request would be let in, above 0.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests: try again in {retry_after:.3f} s")
        self.retry_after = retry_after


class Failed(Exception):  # noqa: N818
    """The request went wrong (500), as `Faults.error` asks for."""


class Dropped(Exception):  # noqa: N818
    """The connection is to be cut without an answer, as `Faults.drop` asks for."""


class Engine:
    """Treats requests as a behaviour says, and keeps the ledger.

    Args:
        behaviour: What it does; may be set anew while it runs.
        timer: Returns seconds; by default the running loop's clock.
    """

    def __init__(self, behaviour: Behaviour, *, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer or _loop_time
        self._behaviour = behaviour
        self._slots = Slots(behaviour.capacity)
        self.recorder = Recorder(self._timer)
        self._restart()

    def __repr__(self) -> str:
        return f"<Engine {self._behaviour}, {self.recorder.in_flight} in flight>"

    @property
    def behaviour(self) -> Behaviour:
        """What it does. A new one holds from the next request on.

        More capacity lets the queue move at once; less evicts nobody, so that until enough have
        left, more are worked on than the new capacity allows. Only a part that changed
        starts afresh: a rate limit with a full bucket, a latency or fault with its first draw.
        """
        return self._behaviour

    @behaviour.setter
    def behaviour(self, new: Behaviour) -> None:
        old, self._behaviour = self._behaviour, new
        if new.latency != old.latency:
            self._seconds = new.latency.sampler()
        if new.rate_limit != old.rate_limit:
            self._bucket = Bucket(new.rate_limit)
        if new.faults != old.faults:
            self._faults = new.faults.sampler() if new.faults else None
        self._slots.resize(new.capacity)

    def _restart(self) -> None:
        behaviour = self._behaviour
        self._seconds = behaviour.latency.sampler()
        self._bucket = Bucket(behaviour.rate_limit)
        self._faults = behaviour.faults.sampler() if behaviour.faults else None

    def ledger(self, *, last: int = KEPT_CALLS) -> Ledger:
        """Return what was seen since the last reset, with the `last` calls at most."""
        return self.recorder.ledger(last=last)

    def reset(self) -> None:
        """Begin a new ledger, fill the bucket and restart the draws: a run can be repeated."""
        self.recorder.reset()
        self._restart()

    def refuse(self, path: str, query: str, status: HTTPStatus, connection: int = 0) -> None:
        """Record a request that is refused at once for what it says; it costs no limit."""
        self.recorder.arrive(path, query, connection).leave(status)

    @asynccontextmanager
    async def admit(self, path: str, query: str = "", connection: int = 0) -> AsyncIterator[None]:
        """Take one request in; the body of the `async with` computes its answer.

        The body runs with a slot held, after the latency. However it ends, the request is recorded
        once: 200, 500 if the body raises, 0 if it is cancelled.

        Args:
            path: Path of the address, for the record.
            query: What is asked, for the record.
            connection: Number of the connection, for the record.

        Raises:
            Rejected: The rate limit or a full queue refused it; answer 429.
            Failed: A fault; answer 500.
            Dropped: A fault; cut the connection.
        """
        visit = self.recorder.arrive(path, query, connection)
        status: int = NO_ANSWER
        try:
            self._pass_limits()
            visit.accept()
            # Drawn on arrival: who gets which latency does not depend on who gets which slot.
            seconds = next(self._seconds)
            fault = next(self._faults) if self._faults else None
            async with self._slots:
                visit.work()
                await _work(seconds, fault)
                yield
            status = HTTPStatus.OK
        except Rejected:
            status = HTTPStatus.TOO_MANY_REQUESTS
            raise
        except Dropped:
            raise
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            visit.leave(status)

    def _pass_limits(self) -> None:
        if self._slots.full:  # somebody will typically have left after one latency
            raise Rejected(self._behaviour.latency.p50 or SHORTEST)
        if retry_after := self._bucket.take(self._timer()):
            raise Rejected(retry_after)


async def _work(seconds: float, fault: Fault | None) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
    if fault == "error":
        raise Failed("the provider failed: try again")
    if fault == "drop":
        raise Dropped
    if fault == "hang":
        await asyncio.get_running_loop().create_future()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
