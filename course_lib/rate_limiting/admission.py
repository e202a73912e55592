"""Who is let in, and when: the decisions of a gate, all of them under one lock."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

from course_lib.clock import running_loop
from course_lib.errors import RateLimited
from course_lib.rate_limiting.pool import CoolDown, Pool, Visit
from course_lib.rate_limiting.turn import ThreadTurn, Turn
from course_lib.rate_limiting.waiters import Line

if TYPE_CHECKING:
    from collections.abc import Callable

    from course_lib.rate_limiting.aimd import Policy

__all__ = ["Admission", "Request"]

T = TypeVar("T", bound=Turn)


class Request(Visit, Protocol):
    """A visit and what it asks for.

    Attributes:
        weight: Tokens wanted.
        priority: Higher goes first.
        step: What its rejections are counted under.
        senior: The place of an earlier attempt, if this is another one.
    """

    weight: float
    priority: float
    step: str
    senior: tuple[float, int] | None


class Admission:
    """Lets visits in, each as soon as it is first in line, a slot is free and the rate allows it.

        pool (slots, priority) -> cooling (shared cool-down) -> rate (the bucket's line) -> inside

    Only the first of a pool, and only while a slot is free for it, goes on to the lines behind;
    when the cool-down begins or the slot is taken away, it is called back. So a slot and its tokens
    are given in the same moment: nobody holds a slot while they wait for tokens, or tokens, which
    would add up to a burst, while they wait for a slot.

    The gate has one pool. Each slot that a nested call asks for becomes a pool of one slot, which
    goes the same way: as in GNU make's job server, who is inside lends its own slot, to one nested
    call at a time.

    Args:
        concurrency: Slots.
        rate: The line of a bucket; its lock guards everything here, too.
        ageing: Seconds of waiting that outweigh one step of priority; None for no ageing.
        policy: Moves the concurrency.

    Attributes:
        root: The gate's pool.
        waiting: Visits that wait, nested ones included.
        admitted: Visits let in.
        cancelled: Visits that gave up.
        waits: Seconds that those let in have waited, in total.
        longest_wait: Seconds that the slowest of them waited.
        rejected: How many were answered 429, by step.
    """

    def __init__(
        self, concurrency: int, rate: Line, ageing: float | None, policy: Policy | None
    ) -> None:
        self.root = Pool(concurrency)
        self.waiting = self.admitted = self.cancelled = 0
        self.waits = self.longest_wait = 0.0
        self.rejected: Counter[str] = Counter()
        self._rate = rate
        self._rated: OrderedDict[Visit, None] = OrderedDict()  # candidates in the bucket's line
        self._cool_down = CoolDown()
        self._cooling = Line(self._cool_down, rate.clock, rate.lock, settle=self._settle)
        self._ageing = ageing
        self._policy = policy
        self._arrivals = count()
        self._seen: WeakSet[RateLimited] = WeakSet()  # passing from a nested call through the outer

    @property
    def cooling(self) -> float:
        """Seconds until the cool-down is over; for display, with the lock held."""
        return max(0.0, self._cool_down.until - self._rate.clock.seen())

    def arrive(self, visit: Request, kind: Callable[[float, float], T], lender: Visit | None) -> T:
        """Take a visit into its line, or in at once; return what it waits with.

        Raises:
            RuntimeError: A thread would block its own event loop until others there have left.
        """
        with self._rate.lock:
            now = self._rate.clock.now()
            visit.turn = turn = kind(visit.weight, now)
            visit.place = visit.senior or self._place(visit.priority, now)
            pool = self._pool_of(lender)
            pool.add(visit)
            self.waiting += 1
            self._nominate(pool)
            self._settle()
            if isinstance(turn, ThreadTurn) and not visit.inside and pool.candidate is not visit:
                self._refuse_to_block(visit)
            return turn

    def abandon(self, visit: Request) -> None:
        """Let one go who was interrupted, perhaps just after it was let in."""
        with self._rate.lock:
            self.cancelled += 1
            if visit.inside:
                self._take_back(visit)
            else:
                self._drop(visit)
            self._settle()

    def leave(self, visit: Request, error: BaseException | None) -> None:
        """Take back a slot, and learn from how the visit ended."""
        with self._rate.lock:
            self._learn(visit, error)
            self._vacate(visit)
            self._settle()

    def resize(self, concurrency: int) -> None:
        """Have that many slots from now on. Nobody is evicted."""
        with self._rate.lock:
            self._resize(concurrency)
            self._settle()

    def cool_down(self, seconds: float) -> None:
        """Let nobody in for so many seconds, or longer if that has been said before."""
        with self._rate.lock:
            self._hold_back(seconds)
            self._settle()

    def _place(self, priority: float, now: float) -> tuple[float, int]:
        """Sort by arrival, each step of priority as if `ageing` seconds earlier.

        Somebody gains on a later arrival as time passes, but both age alike: their order is
        settled when the second arrives.
        """
        rank = -priority if self._ageing is None else now - self._ageing * priority
        return rank, next(self._arrivals)

    def _pool_of(self, lender: Visit | None) -> Pool:
        if lender is None or not lender.inside:
            return self.root
        if lender.lent is None:
            lender.lent = Pool(1)
        return lender.lent

    def _nominate(self, pool: Pool) -> None:
        """Send on who is first, if a slot is free, and call back who was."""
        while (visit := pool.next()) is not None and visit.turn.gone:
            self._forget(visit)
        if visit is pool.candidate:
            return
        self._call_back(pool)
        pool.candidate = visit
        if visit is not None:
            self._cooling.join(visit.turn, partial(self._cooled, visit))
            self._cooling.advance()

    def _call_back(self, pool: Pool) -> None:
        if pool.candidate is not None:
            self._cooling.leave(pool.candidate.turn)
            self._rate.leave(pool.candidate.turn)
            self._rated.pop(pool.candidate, None)
            pool.candidate = None

    def _cooled(self, visit: Visit, turn: Turn, _: float) -> None:
        self._rated[visit] = None
        self._rate.join(turn, partial(self._let_in, visit))

    def _let_in(self, visit: Visit, turn: Turn, now: float) -> None:
        pool = visit.pool
        self._rated.pop(visit)
        pool.candidate = None
        pool.inside += 1
        self._forget(visit)
        self.admitted += 1
        visit.inside, visit.number = True, self.admitted
        self.waits += now - turn.arrived
        self.longest_wait = max(self.longest_wait, now - turn.arrived)
        turn.grant(now)
        self._nominate(pool)

    def _drop(self, visit: Visit) -> None:
        self._forget(visit)
        self._nominate(visit.pool)

    def _forget(self, visit: Visit) -> None:
        if visit.pool.remove(visit):
            self.waiting -= 1

    def _take_back(self, visit: Visit) -> None:
        granted_at = visit.turn.granted_at or 0.0
        self.admitted -= 1
        self.waits -= granted_at - visit.turn.arrived
        self._rate.meter.give_back(visit.turn.weight, granted_at, self._rate.clock.now())
        self._vacate(visit)

    def _refuse_to_block(self, visit: Visit) -> None:
        if running_loop() is None:
            return
        self._drop(visit)
        self._settle()
        raise RuntimeError(
            "a synchronous call would block this thread's event loop until others have left the "
            "gate, and they may need the loop for that: await the asynchronous one (`ainvoke`, "
            "`async with`), or make the call in a thread (`asyncio.to_thread`)"
        )

    def _vacate(self, visit: Visit) -> None:
        visit.inside = False
        if visit.lent is None or not self._bequeath(visit, visit.lent):
            self._free(visit.pool)

    def _bequeath(self, visit: Visit, lent: Pool) -> bool:
        """Part with nested calls that go on: return whether one of them still uses the slot."""
        self._call_back(lent)
        home = visit.pool.living()
        for nested in lent.clear():
            home.add(nested)
        self._nominate(home)
        if lent.inside:
            lent.heir = visit.pool
        return bool(lent.inside)

    def _free(self, pool: Pool) -> None:
        pool.inside -= 1
        if pool.heir is not None:  # the nested call that had outlived its caller is gone, too
            self._free(pool.heir)
        else:
            self._nominate(pool)

    def _resize(self, concurrency: int) -> None:
        self.root.limit = concurrency
        self._nominate(self.root)

    def _hold_back(self, seconds: float) -> None:
        until = self._rate.clock.now() + seconds
        self._cool_down.until = max(self._cool_down.until, until)
        for visit in self._rated:
            self._rate.leave(visit.turn)
            self._cooling.join(visit.turn, partial(self._cooled, visit))
        self._rated.clear()

    def _settle(self) -> None:
        self._cooling.advance()
        self._rate.advance()

    def _learn(self, visit: Request, error: BaseException | None) -> None:
        policy, limit = self._policy, self.root.limit
        if error is None and policy is not None:
            in_use = self.root.inside >= limit
            self._resize(policy.succeeded(limit, number=visit.number, in_use=in_use))
        elif isinstance(error, RateLimited) and error not in self._seen:
            self._seen.add(error)
            self.rejected[visit.step] += 1
            if error.retry_after > 0 and math.isfinite(error.retry_after):
                self._hold_back(error.retry_after)
            if policy is not None:
                admitted = self.admitted
                self._resize(policy.rejected(limit, number=visit.number, admitted=admitted))
