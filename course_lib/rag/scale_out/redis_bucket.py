"""A rate limit that processes share, on machines that need not agree on the time.

`RedisTokenBucket` is what is used. Within a process callers stand in a `LocalQueue`, for which one
thread asks the server, which decides by the program in `redis_bucket.lua`.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from langchain_core.rate_limiters import BaseRateLimiter

from course_lib.checks import require_positive, require_seconds
from course_lib.clock import running_loop, timer_of
from course_lib.errors import Unavailable
from course_lib.rag.scale_out.redis_link import Linked, RedisLink, Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

__all__ = ["RedisBucketStatistics", "RedisTokenBucket"]

TEXT: Final = files(__package__).joinpath("redis_bucket.lua").read_text(encoding="utf-8")
IDLE_SECONDS: Final = 1.0  # after which the thread ends; the next caller starts another
BATCH: Final = 128  # callers in one question
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two tries while the server is away


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
        timeout: Seconds for a question to Redis, connecting included.

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
        require_seconds(patience=patience)
        if not name:
            raise ValueError("name='' is nobody's: name what the limit is for")
        self.name, self.rate, self.capacity = name, float(rate), float(capacity)
        self._key = f"course:bucket:{name}"
        self._link = RedisLink(url_or_client, timeout=timeout, connections=1)
        self._script = Script(TEXT)
        self._queue = LocalQueue(self._ask, opens=on_failure == "open", patience=patience)

    def __repr__(self) -> str:
        return (
            f"<RedisTokenBucket {self.name!r} rate={self.rate:g}/s, capacity={self.capacity:g}, "
            f"{len(self._queue)} waiting here>"
        )

    def close(self) -> None:
        """Close the connection, if it was made here. The next call makes a new one."""
        self._queue.close()
        super().close()

    def statistics(self) -> RedisBucketStatistics:
        """Return what this process has had from it, as a frozen value."""
        return RedisBucketStatistics(waiting=len(self._queue), **asdict(self._queue.totals))

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
        caller = _Caller(self._checked(weight), waits=blocking)
        self._queue.join(caller)
        try:
            return caller.granted.result()
        except BaseException:
            self._queue.leave(caller)
            raise

    async def aacquire(self, *, blocking: bool = True, weight: float = 1) -> bool:
        """Take tokens, from a coroutine; see `acquire`."""
        loop = asyncio.get_running_loop()
        caller = _Caller(self._checked(weight), waits=blocking, loop=loop)
        self._queue.join(caller)
        try:
            return await asyncio.wrap_future(caller.granted)
        except BaseException:
            self._queue.leave(caller)
            raise

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

    def _ask(self, weights: Sequence[float], *, place: Stake, back: Stake) -> Decision:
        decision = self._link.call(self._decide, weights, place, back)
        if isinstance(decision, Decision):
            return decision
        rate, capacity = decision
        raise ValueError(
            f"the bucket {self.name!r} is in use with rate={rate}, capacity={capacity}, not "
            f"rate={self.rate!r}, capacity={self.capacity!r}: give all processes the same, or "
            "take another name; an idle one is forgotten a second after it is full"
        )

    def _decide(
        self, client: redis.Redis, weights: Sequence[float], place: Stake, back: Stake
    ) -> Decision | list[str]:
        """Return what the server decides, or rate and capacity of another limit of this name."""
        reply = self._script.run(
            client,
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
            return [rate, capacity]
        decided, at, run, now = reply
        decision = Decision(decided.decode(), float(at), bytes(run), float(now))
        if not decision.answers(weights):
            raise ValueError(f"{decision!r:.200} to {len(weights)} callers")
        return decision


class Stake(NamedTuple):
    """A weight that the server has put down for this process.

    Attributes:
        weight: Tokens; 0 for none.
        at: Microseconds on the server's clock: from when on they may be taken, or when they were.
        run: The run of the server that knows of it; any other has forgotten.
    """

    weight: float
    at: float
    run: bytes


NOTHING: Final = Stake(0, 0.0, b"")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the server decided.

    Attributes:
        decided: A letter for each weight: g (granted), r (refused), or w (waits) for the last one.
        place: From when on (microseconds on the server's clock) the one that waits may come again.
        run: The run of the server.
        now: Microseconds on the server's clock.
    """

    decided: str
    place: float
    run: bytes
    now: float

    def answers(self, weights: Sequence[float]) -> bool:
        """Return whether it is one on these weights: on all, or up to the first who waits."""
        letters, last = self.decided, self.decided[-1:]
        pairs = zip(letters, weights, strict=False)
        fitting = all(letter in ("gr" if weight < 0 else "gw") for letter, weight in pairs)
        whole = len(letters) == len(weights) or (last == "w" and len(letters) < len(weights))
        times = math.isfinite(self.place) and math.isfinite(self.now)
        return fitting and whole and "w" not in letters[:-1] and times


class Ask(Protocol):
    """The question to the server, put by one thread at a time."""

    def __call__(self, weights: Sequence[float], *, place: Stake, back: Stake) -> Decision:
        """Return what becomes of `weights`, in order; below 0 for one who does not wait.

        Args:
            weights: Tokens wanted. None at all give up the `place`.
            place: Held for the first of them.
            back: Taken before, and not used.

        Raises:
            Unavailable: The server did not answer.
        """


class _Caller:
    """Somebody who wants tokens, in a thread or in a coroutine.

    Args:
        weight: Tokens wanted.
        waits: Whether they wait, or want to know at once.
        loop: The event loop of a coroutine.

    Attributes:
        arrived: Monotonic seconds when they came.
        granted: Whether they got their tokens, or the error, once that is decided.
        stake: What was granted.
    """

    __slots__ = ("_loop", "arrived", "granted", "stake", "waits", "weight")

    def __init__(
        self, weight: float, *, waits: bool, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.weight = weight
        self.waits = waits
        self.arrived = time.monotonic()
        self.granted: Future[bool] = Future()
        self.stake = NOTHING
        self._loop = loop

    @property
    def wanted(self) -> float:
        """Tokens, below 0 if they do not wait."""
        return self.weight if self.waits else -self.weight

    @property
    def gone(self) -> bool:
        """Whether nobody will use a grant any more: cancelled, or the loop was closed."""
        return self.granted.cancelled() or (self._loop is not None and self._loop.is_closed())


@dataclass(slots=True)
class _Totals:
    """What has been done so far; see `RedisBucketStatistics`."""

    admitted: int = 0
    refused: int = 0
    cancelled: int = 0
    unlimited: int = 0
    failed: int = 0
    outages: int = 0
    waits: float = 0.0
    longest_wait: float = 0.0


class LocalQueue:
    """Takes callers in order, and asks the server for as many as it lets pass.

    A single thread asks, and sleeps until the time that the server names for the first in line. It
    runs only while there is somebody to ask for, and a moment longer. Those behind are unknown to
    the server: they may come and go at no cost, and take the place of who leaves.

    Args:
        ask: Puts the question.
        opens: Whether callers pass while the server is away; otherwise they wait, and fail.
        patience: Seconds that a caller waits for a server that is away.

    Attributes:
        totals: What it has done.
    """

    def __init__(self, ask: Ask, *, opens: bool, patience: float) -> None:
        self._ask = ask
        self._opens = opens
        self._patience = patience
        self.totals = _Totals()
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._line: OrderedDict[_Caller, None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._place = NOTHING  # held by the first in line
        self._back: list[Stake] = []
        self._resume = 0.0  # monotonic seconds from when on to ask (again)
        self._away: Unavailable | None = None
        self._away_since = 0.0
        self._pause = FIRST_PAUSE
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._line)

    def join(self, caller: _Caller) -> None:
        """Take the last place, or have it decided at once."""
        if self._pid != os.getpid():  # a fork: thread, lock and places are its parent's
            self._begin()
        with self._changed:
            if self._away and (self._opens or not caller.waits) and time.monotonic() < self._resume:
                self._turn_away(caller, self._away)
            elif self._place.weight and not caller.waits:  # nobody overtakes
                self._settle(caller, outcome=False)
            else:
                self._line[caller] = None
                self._wake(news=len(self._line) == 1)

    def leave(self, caller: _Caller) -> None:
        """Let somebody go who was interrupted, perhaps just after they were granted."""
        with self._changed:
            told = caller.granted.done() and not caller.granted.cancelled()
            if told and not caller.stake.weight:
                return  # an error or a refusal: it had left the line with that
            self.totals.cancelled += 1
            self._line.pop(caller, None)
            if caller.stake.weight:
                self.totals.admitted -= told
                self._back.append(caller.stake)
            self._wake(news=not self._line or bool(self._back))

    def close(self) -> None:
        """Have the thread end as soon as nobody waits; if nobody does, wait a moment for that."""
        with self._changed:
            thread, self._closed = self._thread, True
            idle = not self._line
            self._changed.notify()
        if thread is not None and idle and self._pid == os.getpid():
            thread.join(IDLE_SECONDS)

    def _wake(self, *, news: bool) -> None:
        """See that the thread runs, and tell it if there is something for it to do."""
        self._closed = False
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="RedisTokenBucket", daemon=True)
            thread.start()
            self._thread = thread
        elif news:
            self._changed.notify()

    def _serve(self) -> None:
        while self._wait_for_work():
            with self._changed:
                back = self._back[0] if self._back else NOTHING
                callers = [] if back.weight else self._first()
                place = NOTHING if back.weight else self._place
            try:
                answer = self._ask([each.wanted for each in callers], place=place, back=back)
            except Unavailable as error:
                with self._changed:
                    self._gone_away(error)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                with self._changed:
                    self._fail(error)
            else:
                with self._changed:
                    self._away, self._pause = None, FIRST_PAUSE
                    if back.weight:
                        del self._back[0]
                    else:
                        self._take_in(callers, answer)

    def _wait_for_work(self) -> bool:
        """Wait until the server is to be asked; False if nobody has wanted anything for long."""
        with self._changed:
            idle = False
            while True:
                self._drop_who_is_gone()
                if self._line or self._place.weight or self._back:
                    left = self._resume - time.monotonic()
                    to_return = self._back or not self._line
                    if left <= 0 or (to_return and self._away is None):
                        return True
                    self._changed.wait(min(left, self._grace()))
                    idle = False
                elif self._closed or idle:
                    self._thread = None
                    return False
                else:
                    idle = not self._changed.wait(IDLE_SECONDS)

    def _drop_who_is_gone(self) -> None:
        """Let those go who were cancelled, whose loop was closed, or whose patience is over."""
        while self._line:
            first = next(iter(self._line))
            if first.gone:
                del self._line[first]
            elif self._away is not None and self._grace() <= 0:
                del self._line[first]
                self._turn_away(first, self._away)
            else:
                return

    def _grace(self) -> float:
        """Return the seconds that the first in line still waits for a server that is away."""
        if self._away is None or not self._line:
            return threading.TIMEOUT_MAX
        since = max(self._away_since, next(iter(self._line)).arrived)
        return since + self._patience - time.monotonic()

    def _first(self) -> list[_Caller]:
        return [caller for caller in islice(self._line, BATCH) if not caller.gone]

    def _take_in(self, callers: list[_Caller], answer: Decision) -> None:
        self._place, self._resume = NOTHING, 0.0
        for caller, letter in zip(callers, answer.decided, strict=False):
            stake = Stake(caller.weight, answer.now, answer.run)
            if letter == "w":
                self._place = stake._replace(at=answer.place)
                self._resume = time.monotonic() + max(0.0, answer.place - answer.now) / 1e6
            elif caller in self._line:
                del self._line[caller]
                if letter == "g":
                    caller.stake = stake
                self._settle(caller, outcome=letter == "g")
            elif letter == "g":  # left meanwhile
                self._back.append(stake)
        if self._place.weight:
            for caller in [each for each in self._line if not each.waits]:
                del self._line[caller]
                self._settle(caller, outcome=False)

    def _gone_away(self, error: Unavailable) -> None:
        now = time.monotonic()
        if self._away is None:
            self._away_since = now
            self.totals.outages += 1
        self._away = error
        self._resume = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._back.clear()  # not worth waiting for: it only means that less is given out
        if not self._line:
            self._place = NOTHING
        for caller in [each for each in self._line if self._opens or not each.waits]:
            del self._line[caller]
            self._turn_away(caller, error)

    def _turn_away(self, caller: _Caller, error: Unavailable) -> None:
        self._settle(caller, outcome=True if self._opens else Unavailable(*error.args))

    def _fail(self, error: Exception) -> None:
        self._place, self._back = NOTHING, []
        while self._line:
            caller, _ = self._line.popitem(last=False)
            self._settle(caller, outcome=error)

    def _settle(self, caller: _Caller, *, outcome: bool | Exception) -> None:
        if not caller.granted.set_running_or_notify_cancel():
            return  # cancelled in this very moment, and about to leave
        self._count(caller, outcome=outcome)
        if isinstance(outcome, Exception):
            caller.granted.set_exception(outcome)
        else:
            caller.granted.set_result(outcome)

    def _count(self, caller: _Caller, *, outcome: bool | Exception) -> None:
        totals = self.totals
        if isinstance(outcome, Exception):
            totals.failed += 1
        elif not outcome:
            totals.refused += 1
        elif caller.stake.weight:
            waited = time.monotonic() - caller.arrived
            totals.admitted += 1
            totals.waits += waited
            totals.longest_wait = max(totals.longest_wait, waited)
        else:
            totals.unlimited += 1
