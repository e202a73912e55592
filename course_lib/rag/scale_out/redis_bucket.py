"""A rate limit that processes share, on machines that need not agree on the time."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

from langchain_core.rate_limiters import BaseRateLimiter

from course_lib.checks import require_positive
from course_lib.clock import running_loop, timer_of
from course_lib.rag.scale_out.redis_desk import Desk
from course_lib.rag.scale_out.redis_desk_parts import Answer, Caller
from course_lib.rag.scale_out.redis_link import Linked, RedisLink, Script
from course_lib.rate_limiting.waiters import LoopWaiter, ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from course_lib.rag.scale_out.redis_desk_parts import Stake

__all__ = ["RedisBucketStatistics", "RedisTokenBucket"]

TEXT: Final = files(__package__).joinpath("redis_bucket.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class RedisBucketStatistics:
    """What this process has had from a bucket.

    Attributes:
        waiting: Callers that wait now.
        admitted: Callers that got their tokens.
        refused: Calls with `blocking=False` that got none.
        cancelled: Callers that gave up while they waited.
        unlimited: Callers let through without tokens, because Redis was away (`on_failure="open"`).
        failed: Callers that got an error.
        outages: How often Redis has gone away.
        waits: Seconds that admitted callers have waited, in total.
        longest_wait: Seconds that the slowest of them waited.
    """

    waiting: int
    admitted: int
    refused: int
    cancelled: int
    unlimited: int
    failed: int
    outages: int
    waits: float
    longest_wait: float


class RedisTokenBucket(Linked, BaseRateLimiter):
    """Lets the callers of all processes through at one rate, with bursts up to a capacity.

        bucket = RedisTokenBucket("redis://127.0.0.1:6379/0", "provider", rate=50, capacity=10)
        model = ChatOpenAI(rate_limiter=bucket)  # or, by hand:
        await bucket.aacquire()

    - In *any* t seconds on the server's clock at most `capacity + rate * t` tokens are given out,
      over all processes that use the name: also when processes are killed, and when Redis is
      stopped and started. A bucket that Redis has forgotten holds what has flowed in since that
      start (counted in whole seconds), so on a server just started it fills up first.
    - First come, first served within a process, whatever the weights; `blocking=False` does not
      overtake. Each process has one place in the shared line, taken when its first caller comes to
      the front. Places are served in the order they were taken, unless a process is late to take
      its tokens: then each other process may pass it, once.
    - A caller that is cancelled costs nothing while others of its process wait: the next takes its
      place. If there is none, the place, or tokens granted in that very moment, are given back for
      whoever comes next; those who have a place already keep it, so they wait as long as if the
      caller had stayed. A process that is killed costs its one place: `weight / rate` seconds, once.
    - Any number of threads and event loops may share it. Nobody polls: the one at the front comes
      again when the server said. It also works after a fork.

    When Redis is away, `on_failure` decides. "closed": callers wait up to `patience` seconds for it
    to come back, keep their order, and then get `Unavailable`; the limit holds. "open": callers
    pass at once and are counted in `unlimited`; the limit does not hold meanwhile. Redis is tried
    again at growing distances, 0.5 s at most, while somebody asks.

    What it is not: a limit on how many are at work at once. It does not see through what Redis does
    not know. Keys flushed or evicted there, or a fail-over to a copy that lags behind, give out up
    to a `capacity` too much. The server's clock set forward gives out what that time is worth; set
    back, it stands still until it has caught up.

    Sources: GCRA (ITU-T I.371, virtual scheduling), for level and line.

    Args:
        url_or_client: Address, or a `redis.Redis` client; see `RedisLink`.
        name: What the processes have in common. They give the same rate and capacity.
        rate: Tokens a second, for all together.
        capacity: Tokens that it holds, at least 1: the largest burst, and the largest weight.
        on_failure: What happens while Redis is away: "closed" or "open".
        patience: Seconds that a caller waits for Redis to come back, if closed; `timeout` may be
            added to it, once or twice.
        timeout: Seconds for connecting, and for each answer.

    Raises:
        ValueError: An argument is out of range.
        TypeError: Neither an address nor a synchronous client.
        ImportError: redis-py is not installed.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis,
        name: str,
        *,
        rate: float,
        capacity: float,
        on_failure: Literal["closed", "open"] = "closed",
        patience: float = 10.0,
        timeout: float = 1.0,
    ) -> None:
        require_positive(rate=rate, capacity=capacity)
        if capacity < 1:
            raise ValueError(f"capacity={capacity!r} never holds the one token of a call: give 1")
        if on_failure not in ("closed", "open"):
            raise ValueError(f"on_failure={on_failure!r}: give 'closed' or 'open'")
        if not 0 <= patience < math.inf:
            raise ValueError(f"patience={patience!r}: give seconds, 0 or more")
        if not name:
            raise ValueError("name='' is nobody's: name what the limit is for")
        self.name, self.rate, self.capacity = name, float(rate), float(capacity)
        self._key = f"course:bucket:{name}"
        self._link = RedisLink(url_or_client, timeout=timeout, connections=1)
        self._script = Script(TEXT)
        self._desk = Desk(self._ask, opens=on_failure == "open", patience=patience)

    def __repr__(self) -> str:
        return (
            f"<RedisTokenBucket {self.name!r} rate={self.rate:g}/s, capacity={self.capacity:g}, "
            f"{len(self._desk)} waiting here>"
        )

    def close(self) -> None:
        """Close the connection, if it was made here. The next call makes a new one."""
        self._desk.close()
        super().close()

    def statistics(self) -> RedisBucketStatistics:
        """Return what this process has had from it, as a frozen value."""
        return RedisBucketStatistics(waiting=len(self._desk), **asdict(self._desk.counts))

    def acquire(self, *, blocking: bool = True, weight: float = 1) -> bool:
        """Take tokens, from synchronous code.

        Args:
            blocking: Whether to wait for them. Redis is waited for in any case.
            weight: Tokens wanted.

        Returns:
            True; False only if `blocking` is false and it would have had to wait.

        Raises:
            ValueError: The weight is not above 0, or more than the capacity; or the name is in use
                with another limit.
            Unavailable: Redis is away, and stays away (`on_failure="closed"`).
            RuntimeError: Inside an event loop in virtual time.
        """
        turn = ThreadWaiter(self._checked(weight), time.monotonic())
        caller = Caller(turn, waits=blocking)
        self._desk.join(caller)
        try:
            turn.wait()
        except BaseException:
            self._desk.leave(caller)
            raise
        return caller.result()

    async def aacquire(self, *, blocking: bool = True, weight: float = 1) -> bool:
        """Take tokens, from a coroutine; see `acquire`."""
        turn = LoopWaiter(self._checked(weight), time.monotonic())
        caller = Caller(turn, waits=blocking)
        self._desk.join(caller)
        try:
            await turn.wait()
        except BaseException:
            self._desk.leave(caller)
            raise
        return caller.result()

    def _checked(self, weight: float) -> float:
        if not 0 < weight <= self.capacity:
            raise ValueError(
                f"weight={weight!r}: give more than 0 and at most capacity={self.capacity!r}"
            )
        if timer_of(running_loop()) is not time.monotonic:
            raise RuntimeError(
                "Redis keeps real time: in virtual time use TokenBucket, which keeps the same bound"
            )
        return float(weight)

    def _ask(self, weights: Sequence[float], *, place: Stake, back: Stake) -> Answer:
        reply = self._link.call(
            self._script.run,
            self._key,
            repr(self.rate),
            repr(self.capacity),
            place.run if place.weight else back.run,
            *place[:2],
            *back[:2],
            *weights,
        )
        if reply[0] == b"LIMIT":
            rate, capacity = reply[1].decode().split()
            raise ValueError(
                f"the bucket {self.name!r} is in use with rate={rate}, capacity={capacity}, not "
                f"rate={self.rate!r}, capacity={self.capacity!r}: give all processes the same, or "
                "take another name; an idle one is forgotten a second after it is full"
            )
        decided, at, run, now = reply
        return Answer(decided.decode(), float(at), run, float(now))
