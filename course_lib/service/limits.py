"""The provider's own limits: a token bucket that refuses, and slots that make others wait."""

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass

from course_lib.service.behaviour import Behaviour, Capacity, RateLimit, TokenLimit
from course_lib.service.faults import Fault
from course_lib.service.streams import Streams

__all__ = [
    "Allowance",
    "Dropped",
    "Failed",
    "FifoSemaphore",
    "Limits",
    "RefusingBucket",
    "Rejected",
    "TooLarge",
    "work",
]

EARLY = 1e-6
"""Seconds that one may come early: clocks round, and who waits exactly as told is to be let in."""

SHORTEST = 0.001
"""Seconds to come back after, where the work takes none and yet the queue is full."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit.

    Attributes:
        most: What it lets in at once after a pause.
        left: What it would let in at once now.
        seconds: Seconds until all of it is there again.
    """

    most: int
    left: int
    seconds: float


class RefusingBucket:
    """A token bucket that never waits: it lets in, or says when to come back.

    Args:
        limit: Rate and burst; None lets everybody in.
    """

    def __init__(self, limit: RateLimit | TokenLimit | None) -> None:
        self._limit = limit
        self._tokens = 0.0
        self._filled = -math.inf

    def wait(self, now: float, amount: float = 1) -> float:
        """Return the seconds until `amount` tokens are there; 0.0 if they are.

        Args:
            now: Seconds on a clock that does not go back.
            amount: Tokens wanted, at most the burst.
        """
        if self._limit is None:
            return 0.0
        missing = (amount - self._level(now, self._limit)) / self._limit.rate
        return missing if missing > EARLY else 0.0

    def _level(self, now: float, limit: RateLimit | TokenLimit) -> float:
        self._tokens = min(limit.burst, self._tokens + (now - self._filled) * limit.rate)
        self._filled = now
        return self._tokens

    def take(self, now: float, amount: float = 1) -> float:
        """Take tokens if they are there; arguments and result as for `wait`."""
        missing = self.wait(now, amount)
        if not missing:
            self.give_back(-amount)  # below 0 if it came early: the next one pays
        return missing

    def give_back(self, amount: float) -> None:
        """Put back tokens that were taken and not used."""
        self._tokens += amount

    def allowance(self, now: float) -> Allowance | None:
        """Return what is left, None where there is no limit; `now` as for `wait`."""
        limit = self._limit
        if limit is None:
            return None
        level = self._level(now, limit)
        return Allowance(limit.burst, max(0, int(level)), (limit.burst - level) / limit.rate)


class FifoSemaphore:
    """A FIFO semaphore whose size may change while it is in use.

    While anybody waits, every slot is taken: each release and each growth hands slots to those
    who wait, in order, before anybody else can ask. So nobody jumps the queue.

    Args:
        capacity: Slots; None for any number.
    """

    def __init__(self, capacity: Capacity | None) -> None:
        self._limit, self._places = _size(capacity)
        self._busy = 0
        # An ordered dict: a request that is cancelled leaves from the middle in constant time.
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def resize(self, capacity: Capacity | None) -> None:
        """Change the number of slots. Growth wakes the queue; nobody is evicted."""
        self._limit, self._places = _size(capacity)
        self._hand_out()

    @property
    def full(self) -> bool:
        """Whether another request would find neither a slot nor a place in the queue."""
        return self._busy >= self._limit and len(self._waiting) >= self._places

    async def __aenter__(self) -> None:
        if self._busy < self._limit:
            self._busy += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _withdraw(self, waiter: asyncio.Future[None]) -> None:
        self._waiting.pop(waiter, None)
        if not waiter.cancelled():  # it had been given its slot, and was cancelled before it woke
            self._release()

    def _release(self) -> None:
        self._busy -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._busy < self._limit:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                self._busy += 1
                waiter.set_result(None)


def _size(capacity: Capacity | None) -> tuple[float, float]:
    """Slots, and places in the queue for them."""
    if capacity is None:
        return math.inf, math.inf
    return capacity.slots, math.inf if capacity.queue is None else capacity.queue


class Rejected(Exception):  # noqa: N818 - the names are what happens to the request
    """The rate limit, or a full queue, refused the request (429).

    Attributes:
        retry_after: Seconds until a request would be let in, above 0.
    """

    def __init__(self, retry_after: float, *, what: str = "requests") -> None:
        super().__init__(f"too many {what}: try again in {retry_after:.3f} s")
        self.retry_after = retry_after


class TooLarge(Exception):  # noqa: N818
    """The request wants more tokens than the limit can ever hold (400): waiting will not help."""


class Failed(Exception):  # noqa: N818
    """The request went wrong (500), as `Faults.error` asks for."""


class Dropped(Exception):  # noqa: N818
    """The connection is to be cut without an answer, as `Faults.drop` asks for."""


class Limits:
    """What the endpoints that share a behaviour share: buckets, slots, draws, writing speed.

    Args:
        behaviour: What it does; may be set anew while it runs.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.slots = FifoSemaphore(behaviour.capacity)
        self.streams = Streams(behaviour.generation)
        self.restart()

    @property
    def behaviour(self) -> Behaviour:
        """What it does. Only a part that changed starts afresh."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, new: Behaviour) -> None:
        old, self._behaviour = self._behaviour, new
        if new.latency != old.latency:
            self._seconds = new.latency.sampler()
        if new.rate_limit != old.rate_limit:
            self._bucket = RefusingBucket(new.rate_limit)
        if new.token_limit != old.token_limit:
            self._tokens = RefusingBucket(new.token_limit)
        if new.faults != old.faults:
            self._faults = new.faults.sampler() if new.faults else None
        if new.generation != old.generation:  # answers under way go on as they began
            self.streams = Streams(new.generation)
        self.slots.resize(new.capacity)

    def restart(self) -> None:
        """Fill the buckets and restart the draws; who holds a slot or queues for one stays."""
        behaviour = self._behaviour
        self._seconds = behaviour.latency.sampler()
        self._bucket = RefusingBucket(behaviour.rate_limit)
        self._tokens = RefusingBucket(behaviour.token_limit)
        self._faults = behaviour.faults.sampler() if behaviour.faults else None

    def pass_limits(self, now: float, tokens: int) -> RefusingBucket:
        """Let a request in.

        Args:
            now: Seconds on the engine's clock.
            tokens: Tokens that it may need, at most.

        Returns:
            The bucket that its tokens came from: what it does not use goes back there.

        Raises:
            Rejected: The queue is full, or a rate is used up; nothing was taken.
            TooLarge: The limit on tokens is smaller than what it needs.
        """
        self._check_size(tokens)
        if self.slots.full:
            raise Rejected(self._usual_time() or SHORTEST)
        if retry_after := self._tokens.wait(now, tokens):
            raise Rejected(max(retry_after, self._bucket.wait(now)), what="tokens")
        if retry_after := self._bucket.take(now):
            raise Rejected(retry_after)
        self._tokens.take(now, tokens)
        return self._tokens

    def allowances(self, now: float) -> dict[str, Allowance]:
        """Return what is left of each limit that there is: of "requests", and of "tokens"."""
        left = {"requests": self._bucket.allowance(now), "tokens": self._tokens.allowance(now)}
        return {what: allowance for what, allowance in left.items() if allowance is not None}

    def _usual_time(self) -> float:
        """Return the seconds after which somebody will typically have left, at the least."""
        generation = self._behaviour.generation
        return self._behaviour.latency.p50 + (generation.first_token if generation else 0)

    def _check_size(self, tokens: int) -> None:
        limit = self._behaviour.token_limit
        if limit and tokens > limit.tokens_per_minute:
            raise TooLarge(
                f"the request may need {tokens} tokens: more than the {limit.tokens_per_minute} "
                "that are allowed a minute; send less"
            )

    def draw(self) -> tuple[float, Fault | None]:
        """Return the next request's latency in seconds, and what goes wrong with it."""
        return next(self._seconds), next(self._faults) if self._faults else None


async def work(seconds: float, fault: Fault | None) -> None:
    """Take the time of one request, and go wrong as drawn.

    Raises:
        Failed: The fault is an error.
        Dropped: The fault is a cut connection.
    """
    if seconds > 0:
        await asyncio.sleep(seconds)
    if fault == "error":
        raise Failed("the provider failed: try again")
    if fault == "drop":
        raise Dropped
    if fault == "hang":
        await asyncio.get_running_loop().create_future()
