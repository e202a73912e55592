"""One gate for everything that calls a provider: rate and concurrency, decided together.

`Gate` is what is shared, and a `Slot` one visit to it. A `SlotQueue` keeps slots and those who wait
for one; the gate has one of them, and so has each visit that lends its slot to nested ones.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import count
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar
from weakref import WeakValueDictionary

from course_lib.checks import require_positive, require_seconds, require_whole
from course_lib.clock import Clock, running_loop
from course_lib.errors import rate_limit_of
from course_lib.rate_limiting.waiters import (
    CoolDown,
    LoopWaiter,
    ThreadWaiter,
    Waiter,
    WaitingLine,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from course_lib.rate_limiting.aimd import Policy
    from course_lib.rate_limiting.token_bucket import TokenBucket

__all__ = ["Gate", "GateStatistics", "Slot"]

T = TypeVar("T", LoopWaiter, ThreadWaiter)

_innermost: ContextVar[Slot | None] = ContextVar("course_lib.rate_limiting.slot", default=None)
_PLACE = attrgetter("place")


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """What a gate has done since it was made.

    Attributes:
        inside: Slots in use now.
        waiting: Callers that wait now.
        admitted: Callers let in.
        cancelled: Callers that gave up while they waited.
        rejected: Calls that the provider answered 429.
        rejected_by_step: The same, by the name given as `step`.
        waits: Seconds that those admitted have waited, in total.
        longest_wait: Seconds that the slowest of them waited.
        cooling: Seconds until the cool-down is over, 0.0 if there is none.
    """

    inside: int
    waiting: int
    admitted: int
    cancelled: int
    rejected: int
    rejected_by_step: Mapping[str, int]
    waits: float
    longest_wait: float
    cooling: float


class Gate:
    """Lets at most so many in at once, and none faster than a bucket allows.

        gate = Gate(concurrency=8, bucket=TokenBucket(rate=50, capacity=10))
        async with gate.slot():  # or `with gate.slot():` in a thread
            await client.search(question)

    - **One for all.** Calls of several batches, steps, event loops and threads may share it, and
      the limits hold for all of them together.
    - **Rate first, slot last.** Whoever is first in line waits for tokens while a slot is free,
      and takes both in one moment. Nobody occupies a slot while they wait for the rate. Nor are
      tokens put by while all slots are taken: what enters keeps the bucket's bound.
    - **Priority with ageing.** Higher goes first; equals in the order they came. A step of priority
      counts as much as `ageing` seconds of waiting, so nobody starves.
    - **A shared cool-down.** `cool_down(seconds)` holds everybody back. A `RateLimited` that leaves
      the block does that by itself, for its `retry_after`, and is counted under the slot's `step`;
      so does what another client raises for a 429 (see `service_error_of`). A `retry_after` beyond
      `longest_cool_down` is not obeyed: it is left to the caller, whom the error reaches.
    - **Nested calls.** A caller inside that asks for another slot (through a nested Runnable) uses
      the one it has, and pays the rate. Of several at once, each waits until the one before has
      left: so there is no deadlock, and never more than `concurrency` at work. Wrap the steps that
      call the provider, not the whole chain, where they are to run side by side.
    - Whoever is cancelled, wherever they are, costs nothing and delays nobody.
    - A synchronous `with` whose thread runs an event loop waits for the rate only: where it would
      have to wait for others to leave, who may need that loop, it raises a `RuntimeError`.

    It bounds what this process does: a provider may count otherwise. A call that is inside and
    hangs keeps its slot: set a timeout in the block, where it does not count the wait.

    Args:
        concurrency: How many may be inside at once.
        bucket: Their rate; other gates and chat models may share it. By default there is none.
        ageing: Seconds of waiting that outweigh one step of priority; None lets the higher go first
            for ever, so that the lower may starve.
        policy: Moves `concurrency` by what comes back, such as `Aimd()`.
        longest_cool_down: Seconds that a provider's `retry_after` may hold everybody back.
        timer: Returns seconds, for a gate without a bucket; a bucket brings its own. See
            `TokenBucket`.

    Attributes:
        longest_cool_down: As above.

    Raises:
        ValueError: An argument is out of range, or both `bucket` and `timer` are given.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        bucket: TokenBucket | None = None,
        ageing: float | None = 30.0,
        policy: Policy | None = None,
        longest_cool_down: float = 60.0,
        timer: Callable[[], float] | None = None,
    ) -> None:
        require_whole(concurrency=concurrency)
        require_seconds(longest_cool_down=longest_cool_down)
        if ageing is not None:
            require_positive(ageing=ageing)
        if bucket is not None and timer is not None:
            raise ValueError("timer= is given beside a bucket: give it to the bucket")
        if bucket is None:
            self._rate = WaitingLine(CoolDown(), Clock(timer, exclusive=True))
        else:
            self._rate = bucket.line
        self.longest_cool_down = longest_cool_down
        self._bucket = bucket
        self._ageing = ageing
        self._policy = policy
        self._lock = self._rate.lock  # guards all that follows, too
        self._clock = self._rate.clock
        self._slots = SlotQueue(concurrency)
        self._cool_down = CoolDown()
        self._cooling = WaitingLine(self._cool_down, self._clock, self._lock, settle=self._settle)
        self._rated: OrderedDict[Slot, None] = OrderedDict()  # candidates in the bucket's line
        self._arrivals = count()
        self._waiting = self._admitted = self._cancelled = 0
        self._waits = self._longest_wait = 0.0
        self._rejected: Counter[str] = Counter()
        # Rejections on their way from a nested call through the outer one. By their ids, since not
        # all errors can be hashed.
        self._seen: WeakValueDictionary[int, BaseException] = WeakValueDictionary()

    def __repr__(self) -> str:
        now = self.statistics()
        bucket = "" if self._bucket is None else f", {self._bucket!r}"
        cooling = f", cooling down for {now.cooling:.3g} s" if now.cooling else ""
        return f"<Gate {now.inside} of {self.concurrency} inside, {now.waiting} waiting{cooling}{bucket}>"

    @property
    def concurrency(self) -> int:
        """How many may be inside at once. May be set while it is in use.

        More slots are taken at once by those who wait. With fewer, nobody is evicted, and nobody
        else is let in until enough have left.
        """
        return self._slots.limit

    @concurrency.setter
    def concurrency(self, concurrency: int) -> None:
        require_whole(concurrency=concurrency)
        with self._lock:
            now = self._clock.now()
            self._resize(concurrency, now)
            self._settle(now)

    def slot(self, *, weight: float = 1, priority: float = 0, step: str = "") -> Slot:
        """Return a place inside, to be entered with `async with` (or `with`, in a thread).

        Args:
            weight: Tokens it takes from the bucket. It is one slot, whatever the weight.
            priority: 0 or higher; higher goes first.
            step: What a 429 is counted under.

        Raises:
            ValueError: The weight could never be had, or the priority is below 0 or not finite.
        """
        if self._bucket is not None:
            self._bucket.check(weight)
        elif weight != 1:
            require_positive(weight=weight)
        if not 0 <= priority < math.inf:
            raise ValueError(f"priority={priority!r}: 0 is the lowest; give others a higher one")
        return Slot(self, weight, priority, step)

    def cool_down(self, seconds: float) -> None:
        """Let nobody in for a while; those inside go on.

        Args:
            seconds: For how long from now on. A cool-down that lasts longer stays as it is.

        Raises:
            ValueError: They are below 0 or not finite.
        """
        require_seconds(seconds=seconds)
        with self._lock:
            now = self._clock.now()
            self._hold_back(seconds, now)
            self._settle(now)

    def end_cool_down(self) -> None:
        """Let everybody in again, whoever has said that they are to wait, and for how long."""
        with self._lock:
            self._cool_down.until = -math.inf
            self._settle(self._clock.now())

    def statistics(self) -> GateStatistics:
        """Return what it has done, as a frozen value."""
        with self._lock:
            return GateStatistics(
                inside=self._slots.inside,
                waiting=self._waiting,
                admitted=self._admitted,
                cancelled=self._cancelled,
                rejected=self._rejected.total(),
                rejected_by_step=MappingProxyType(dict(self._rejected)),
                waits=self._waits,
                longest_wait=self._longest_wait,
                cooling=max(0.0, self._cool_down.until - self._clock.seen()),
            )

    # How a visit goes: slots, priority -> cool-down -> the bucket's line -> inside.
    #
    # Only the first of a queue, and only while a slot is free for it, goes on to the lines behind;
    # when a cool-down begins or the slot is taken away, it is called back. So a slot and its tokens
    # are given in the same moment: nobody holds a slot while they wait for tokens, or tokens, which
    # would add up to a burst, while they wait for a slot. A slot that a nested call asks for becomes
    # a queue of its own, which goes the same way: as in GNU make's job server, who is inside lends
    # its slot, to one nested call at a time.
    #
    # Each step reads the clock once and hands the time on. Who leaves reads it, too, though nobody
    # may wait: the last reading is where the time goes on in the next event loop (see `Clock`).

    def _arrive(self, slot: Slot, kind: type[T], lender: Slot | None) -> T | None:
        """Take a visit in at once, or else into its line; return what it waits with, if it does.

        Raises:
            RuntimeError: A thread would block its own event loop until others there have left.
        """
        with self._lock:
            slot.arrived = now = self._clock.now()
            if slot.place is None:
                slot.place = self._place(slot.priority, now)
            slot.queue = queue = self._queue_of(lender)
            if self._passes(queue, slot.weight, now):
                self._let_in(slot, now)
                return None
            slot.waiter = waiter = kind(slot.weight, now)
            queue.add(slot)
            self._waiting += 1
            self._nominate(queue, now)
            self._settle(now)
            if kind is ThreadWaiter and not slot.inside and queue.candidate is not slot:
                self._refuse_to_block(slot, now)
            return waiter

    def _abandon(self, slot: Slot) -> None:
        """Let one go who was interrupted, perhaps just after it was let in."""
        with self._lock:
            self._cancelled += 1
            let_in = slot.inside
            queue = self._vacate(slot) if let_in else self._forget(slot)
            now = self._clock.now()
            if let_in:
                self._admitted -= 1
                self._waits -= slot.waited
                self._rate.meter.give_back(slot.weight, slot.granted_at, now)
            self._nominate(queue, now)
            self._settle(now)

    def _leave(self, slot: Slot, error: BaseException | None) -> None:
        """Take back a slot, and learn from how the visit ended."""
        limit = None if error is None else rate_limit_of(error)
        with self._lock:
            in_use = self._slots.inside >= self._slots.limit
            queue = self._vacate(slot)
            now = self._clock.now()
            if error is None:
                self._learn_success(slot, now, in_use=in_use)
            elif limit is not None and self._is_news(error):
                self._learn_rejection(slot, limit.retry_after, now)
            if self._waiting:
                self._nominate(queue, now)
                self._settle(now)

    def _place(self, priority: float, now: float) -> tuple[float, int]:
        """Sort by arrival, each step of priority as if `ageing` seconds earlier.

        Somebody gains on a later arrival as time passes, but both age alike: their order is
        settled when the second arrives.
        """
        rank = -priority if self._ageing is None else now - self._ageing * priority
        return rank, next(self._arrivals)

    def _queue_of(self, lender: Slot | None) -> SlotQueue:
        if lender is None or not lender.inside:
            return self._slots
        if lender.lent is None:
            lender.lent = SlotQueue(1)
        return lender.lent

    def _passes(self, queue: SlotQueue, weight: float, now: float) -> bool:
        """Take the tokens of one who need not wait, or say False: nobody is overtaken."""
        return (
            queue.inside < queue.limit
            and not queue.waiting
            and not self._cooling.waiters
            and not self._rate.waiters
            and self._cool_down.take(weight, now)
            and self._rate.meter.take(weight, now)
        )

    def _let_in(self, slot: Slot, now: float) -> None:
        slot.queue.inside += 1
        self._admitted += 1
        slot.inside, slot.number, slot.granted_at = True, self._admitted, now

    def _nominate(self, queue: SlotQueue, now: float) -> None:
        """Send on who is first, if a slot is free, and call back who was."""
        while (slot := queue.next()) is not None and slot.waiter.gone:
            self._forget(slot)
        if slot is queue.candidate:
            return
        self._call_back(queue)
        queue.candidate = slot
        if slot is not None:
            self._cooling.join(slot.waiter, partial(self._cooled, slot))
            self._cooling.advance(now)

    def _call_back(self, queue: SlotQueue) -> None:
        if queue.candidate is not None:
            self._cooling.leave(queue.candidate.waiter)
            self._rate.leave(queue.candidate.waiter)
            self._rated.pop(queue.candidate, None)
            queue.candidate = None

    def _cooled(self, slot: Slot, waiter: Waiter, _: float) -> None:
        self._rated[slot] = None
        self._rate.join(waiter, partial(self._granted, slot))

    def _granted(self, slot: Slot, waiter: Waiter, now: float) -> None:
        del self._rated[slot]
        queue = self._forget(slot)
        queue.candidate = None
        self._let_in(slot, now)
        self._waits += slot.waited
        self._longest_wait = max(self._longest_wait, slot.waited)
        waiter.grant(now)
        self._nominate(queue, now)

    def _forget(self, slot: Slot) -> SlotQueue:
        if slot.queue.remove(slot):
            self._waiting -= 1
        return slot.queue

    def _refuse_to_block(self, slot: Slot, now: float) -> None:
        if running_loop() is None:
            return
        self._nominate(self._forget(slot), now)
        self._settle(now)
        raise RuntimeError(
            "a synchronous call would block this thread's event loop until others have left the "
            "gate, and they may need the loop for that: await the asynchronous one (`ainvoke`, "
            "`async with`), or make the call in a thread (`asyncio.to_thread`)"
        )

    def _vacate(self, slot: Slot) -> SlotQueue:
        """Take back a slot; return the queue in which there may be one more now.

        Nested calls that wait go on to wait there. One that is inside keeps the slot until it leaves.
        """
        slot.inside = False
        home, lent = slot.queue.living(), slot.lent
        if lent is not None:
            self._call_back(lent)
            for nested in lent.waiting:
                home.add(nested)
            lent.waiting = []
            if lent.inside:
                lent.heir = slot.queue
                return home
        slot.queue.release()
        return home

    def _resize(self, concurrency: int, now: float) -> None:
        self._slots.limit = concurrency
        self._nominate(self._slots, now)

    def _hold_back(self, seconds: float, now: float) -> None:
        until = now + seconds
        if until <= max(now, self._cool_down.until):
            return
        self._cool_down.until = until
        for slot in self._rated:
            self._rate.leave(slot.waiter)
            self._cooling.join(slot.waiter, partial(self._cooled, slot))
        self._rated.clear()

    def _settle(self, now: float) -> None:
        self._cooling.advance(now)
        self._rate.advance(now)

    def _learn_success(self, slot: Slot, now: float, *, in_use: bool) -> None:
        if self._policy is not None:
            limit = self._slots.limit
            self._resize(self._policy.succeeded(limit, number=slot.number, in_use=in_use), now)

    def _is_news(self, error: BaseException) -> bool:
        """Return whether a rejection was not told by a nested call, as itself or as its cause."""
        for each in (error, error.__cause__):
            if each is not None and self._seen.get(id(each)) is each:
                return False
        with suppress(TypeError):  # of a class that knows no weak references
            self._seen[id(error)] = error
        return True

    def _learn_rejection(self, slot: Slot, retry_after: float, now: float) -> None:
        self._rejected[slot.step] += 1
        if retry_after <= self.longest_cool_down:
            self._hold_back(retry_after, now)
        if self._policy is not None:
            limit, admitted = self._slots.limit, self._admitted
            self._resize(self._policy.rejected(limit, number=slot.number, admitted=admitted), now)


class Slot:
    """One visit to a gate: `async with gate.slot():`, or `with gate.slot():` in a thread.

    Made by `Gate.slot`, and entered once.

    Attributes:
        weight: Tokens wanted.
        priority: Higher goes first.
        step: What its rejections are counted under.
        number: Which of the gate's admissions this was, from 1; 0 before.
        inside: Whether the slot is held.
        arrived: Seconds on the gate's clock when it was asked for.
        granted_at: Seconds on the gate's clock when it was let in.
        place: Sorts those who wait: the lowest goes first, and no two are equal.
        queue: Where it waits for a slot, or holds one.
        lent: The queue for its own slot, from which nested calls take it; None if there are none.
        waiter: How it is woken; unset where it need not wait.
    """

    __slots__ = (
        "_gate",
        "_outer",
        "arrived",
        "granted_at",
        "inside",
        "lent",
        "number",
        "place",
        "priority",
        "queue",
        "step",
        "waiter",
        "weight",
    )

    arrived: float
    granted_at: float
    queue: SlotQueue
    waiter: Waiter

    def __init__(self, gate: Gate, weight: float, priority: float, step: str) -> None:
        self._gate = gate
        self._outer: Slot | None = None
        self.weight = weight
        self.priority = priority
        self.step = step
        self.inside = False
        self.number = 0
        self.place: tuple[float, int] | None = None
        self.lent: SlotQueue | None = None

    @property
    def waited(self) -> float:
        """Seconds from asking for the slot to getting it."""
        if not self.number:
            raise RuntimeError("this slot has not been entered yet")
        return self.granted_at - self.arrived

    def again(self) -> Slot:
        """Return a slot for another attempt: whoever was rejected keeps their place in line."""
        slot = Slot(self._gate, self.weight, self.priority, self.step)
        slot.place = self.place
        return slot

    async def __aenter__(self) -> Self:
        waiter = self._arrive(LoopWaiter)
        if waiter is not None:
            try:
                await waiter.wait()
            except BaseException:
                self._gate._abandon(self)  # noqa: SLF001 - its other half
                raise
        _innermost.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def __enter__(self) -> Self:
        waiter = self._arrive(ThreadWaiter)
        if waiter is not None:
            try:
                waiter.wait()
            except BaseException:
                self._gate._abandon(self)  # noqa: SLF001 - its other half
                raise
        _innermost.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _arrive(self, kind: type[T]) -> T | None:
        if hasattr(self, "queue"):
            raise RuntimeError("a slot is entered once: ask for another with `gate.slot()`")
        self._outer = slot = _held(_innermost.get())
        # The one of the same gate that this caller is inside of, if there is one, lends its slot.
        while slot is not None and slot._gate is not self._gate:  # noqa: SLF001 - its own kind
            slot = _held(slot._outer)  # noqa: SLF001 - its own kind
        return self._gate._arrive(self, kind, slot)  # noqa: SLF001 - its other half

    def _leave(self, error: BaseException | None) -> None:
        # A stream may be closed in another context than the one it was opened in.
        if _innermost.get() is self:
            _innermost.set(_held(self._outer))
        self._gate._leave(self, error)  # noqa: SLF001 - its other half


def _held(slot: Slot | None) -> Slot | None:
    """Return this slot, or the nearest outer one that is still held."""
    while slot is not None and not slot.inside:
        slot = slot._outer  # noqa: SLF001 - its own kind
    return slot


class SlotQueue:
    """Some slots, and the visits that wait for one, in the order of their places.

    Args:
        limit: How many slots there are; may change while they are in use.

    Attributes:
        inside: How many are taken.
        waiting: The visits that wait, the next one first.
        candidate: The one that a free slot is kept for, until the rate lets it in.
        heir: Where the slot goes when the last has left; set for a queue whose owner has left
            before the nested call that it lent its slot to.
    """

    __slots__ = ("candidate", "heir", "inside", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self.candidate: Slot | None = None
        self.heir: SlotQueue | None = None
        self.waiting: list[Slot] = []  # a list that stays sorted: a few µs at 10,000 in line

    def add(self, slot: Slot) -> None:
        """Have a visit wait here."""
        slot.queue = self
        insort(self.waiting, slot, key=_PLACE)

    def remove(self, slot: Slot) -> bool:
        """Have it wait no more, or say False if it does not."""
        index = bisect_left(self.waiting, slot.place, key=_PLACE)
        found = index < len(self.waiting) and self.waiting[index] is slot
        if found:
            del self.waiting[index]
        return found

    def next(self) -> Slot | None:
        """Return who comes next, if there is a slot."""
        return self.waiting[0] if self.waiting and self.inside < self.limit else None

    def living(self) -> SlotQueue:
        """Return this queue, or the nearest outer one whose owner is there."""
        queue = self
        while queue.heir is not None:
            queue = queue.heir
        return queue

    def release(self) -> None:
        """Take a slot back; and one of the heir's, if a nested call had outlived its caller."""
        queue: SlotQueue | None = self
        while queue is not None:
            queue.inside -= 1
            queue = queue.heir
