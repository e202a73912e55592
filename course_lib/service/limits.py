"""The provider's own limits: a token bucket that refuses, and slots that make others wait."""

import asyncio
import math
from collections import OrderedDict

from course_lib.service.behaviour import Capacity, RateLimit, TokenLimit

__all__ = ["Bucket", "Slots"]

EARLY = 1e-6
"""Seconds that one may come early: clocks round, and who waits exactly as told is to be let in."""


class Bucket:
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
        limit = self._limit
        if limit is None:
            return 0.0
        self._tokens = min(limit.burst, self._tokens + (now - self._filled) * limit.rate)
        self._filled = now
        missing = (amount - self._tokens) / limit.rate
        return missing if missing > EARLY else 0.0

    def take(self, now: float, amount: float = 1) -> float:
        """Take tokens if they are there; arguments and result as for `wait`."""
        missing = self.wait(now, amount)
        if not missing:
            self.give_back(-amount)  # below 0 if it came early: the next one pays
        return missing

    def give_back(self, amount: float) -> None:
        """Put back tokens that were taken and not used."""
        self._tokens += amount


class Slots:
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
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _withdraw(self, turn: asyncio.Future[None]) -> None:
        self._waiting.pop(turn, None)
        if not turn.cancelled():  # it had been given its slot, and was cancelled before it woke
            self._release()

    def _release(self) -> None:
        self._busy -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._busy < self._limit:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                self._busy += 1
                turn.set_result(None)


def _size(capacity: Capacity | None) -> tuple[float, float]:
    """Slots, and places in the queue for them."""
    if capacity is None:
        return math.inf, math.inf
    return capacity.slots, math.inf if capacity.queue is None else capacity.queue
