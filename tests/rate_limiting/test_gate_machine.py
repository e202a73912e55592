"""The gate's promises in whatever order things happen, in virtual time."""

import asyncio
import contextvars

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limits_support import excess, tokens_left
from steered_loop import Steered

from course_lib.rate_limiting import Gate, TokenBucket

TENTHS = st.integers(0, 12).map(lambda n: n / 10)  # so that things often happen at one moment
HAIR = 1e-6


class Caller:
    """One who asks for a slot, and stays inside until told to leave."""

    def __init__(self, number, weight, priority, arrived, parent):
        self.number, self.weight, self.priority = number, weight, priority
        self.arrived, self.parent = arrived, parent
        self.leave = asyncio.Event()
        self.came = self.inside = False
        self.rides_on = None  # the caller whose slot it uses
        self.context = self.task = None

    @property
    def waits(self):
        """Whether it is neither inside nor done nor about to be."""
        settled = self.inside or self.task.done() or self.task.cancelling()
        return self.came and not settled

    def lender(self):
        """Return the caller inside whose slot this one uses, if it is not its own."""
        caller = self.rides_on
        while caller is not None and not caller.inside:
            caller = caller.rides_on
        return caller

    def above(self):
        """Return the nearest caller around this one that is inside."""
        caller = self.parent
        while caller is not None and not caller.inside:
            caller = caller.parent
        return caller


class GateMachine(RuleBasedStateMachine):
    """Callers come, nest, leave and give up, while the gate is resized and cooled down."""

    @initialize(
        concurrency=st.integers(1, 4),
        bucket=st.none() | st.tuples(st.sampled_from([1.0, 10.0]), st.sampled_from([1.0, 3.0])),
        ageing=st.sampled_from([None, 0.3, 2.0]),
    )
    def begin(self, concurrency, bucket, ageing):
        """Make the gate, in the loop."""
        self.ageing = ageing
        self.rate, self.capacity = bucket or (1.0, float("inf"))
        self.cool_until = 0.0
        self.log = []  # (time, weight) of those let in
        self.callers = []
        self.time = Steered()
        tokens = bucket and self.time.do(lambda: TokenBucket(*bucket))
        self.gate = self.time.do(
            lambda: Gate(concurrency=concurrency, bucket=tokens, ageing=self.ageing)
        )

    def key(self, caller):
        """Sort as the gate promises to."""
        if self.ageing is None:
            return -caller.priority, caller.number
        return caller.arrived - self.ageing * caller.priority, caller.number

    async def ask(self, caller):
        """One caller, from arrival to departure."""
        caller.came = True
        async with self.gate.slot(weight=caller.weight, priority=caller.priority):
            caller.rides_on = caller.above()
            caller.inside, caller.context = True, contextvars.copy_context()
            try:
                self.entered(caller)
                await caller.leave.wait()
            finally:
                caller.inside = False

    def entered(self, caller):
        """Check what must hold as somebody comes in."""
        now = self.time.loop.time()
        assert now > self.cool_until - HAIR
        self.log.append((now, caller.weight))
        if caller.parent is None:
            assert self.gate.statistics().inside <= self.gate.concurrency
            others = [other for other in self.waiting() if other.parent is None]
            assert all(self.key(caller) < self.key(other) for other in others)
        elif caller.rides_on is not None:
            beside = [other for other in self.inside() if other.lender() is caller.rides_on]
            assert beside == [caller]

    def waiting(self):
        """Callers that wait."""
        return [caller for caller in self.callers if caller.waits]

    def inside(self):
        """Callers that are inside."""
        return [caller for caller in self.callers if caller.inside]

    def add(self, share, priority, parent, context):
        """Have somebody come."""
        weight = share * min(self.capacity, 3.0)
        now = self.time.loop.time()
        caller = Caller(len(self.callers), weight, priority, now, parent)
        caller.task = self.time.loop.create_task(self.ask(caller), context=context)
        self.callers.append(caller)

    @rule(
        share=st.sampled_from([0.3, 1.0]),
        priorities=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    )
    def arrive(self, share, priorities):
        """Callers come, one after another."""
        for priority in priorities:
            self.add(share, priority, None, contextvars.Context())
        self.time.settle()

    @precondition(lambda self: self.inside())
    @rule(share=st.sampled_from([0.3, 1.0]), count=st.integers(1, 2), data=st.data())
    def nest(self, share, count, data):
        """Somebody inside asks for more slots."""
        parent = data.draw(st.sampled_from(self.inside()), label="parent")
        for _ in range(count):
            self.add(share, 0, parent, parent.context.copy())
        self.time.settle()

    @precondition(lambda self: self.inside())
    @rule(data=st.data())
    def leave(self, data):
        """Somebody inside leaves, perhaps before those nested in it."""
        data.draw(st.sampled_from(self.inside()), label="who").leave.set()
        self.time.settle()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def give_up(self, data):
        """Somebody who waits is cancelled."""
        data.draw(st.sampled_from(self.waiting()), label="who").task.cancel()
        self.time.settle()

    @precondition(lambda self: self.waiting() or self.inside())
    @rule(tenths=TENTHS, data=st.data())
    def give_up_later(self, tenths, data):
        """The same after a while, and perhaps inside by then, or in that very moment."""
        who = data.draw(st.sampled_from(self.waiting() + self.inside()), label="who")
        self.time.loop.call_later(tenths / self.rate, who.task.cancel)
        self.time.settle()

    @rule(concurrency=st.integers(1, 5))
    def resize(self, concurrency):
        """The gate gets more slots, or fewer."""
        self.time.do(lambda: setattr(self.gate, "concurrency", concurrency))
        self.time.settle()

    @rule(tenths=TENTHS)
    def cool_down(self, tenths):
        """Nobody may come in for a while."""
        seconds = tenths / self.rate
        self.cool_until = max(self.cool_until, self.time.loop.time() + seconds)
        self.time.do(lambda: self.gate.cool_down(seconds))
        self.time.settle()

    @rule()
    def end_cool_down(self):
        """Everybody may come in again."""
        self.cool_until = 0.0
        self.time.do(self.gate.end_cool_down)
        self.time.settle()

    @rule(tenths=TENTHS)
    def wait(self, tenths):
        """Time passes."""
        self.time.wait(tenths / self.rate)

    @invariant()
    def nobody_came_in_wrongly(self):
        """What `entered` checks."""
        for caller in self.callers:
            if caller.task.done() and not caller.task.cancelled():
                caller.task.result()

    @invariant()
    def the_bound_holds_in_any_window(self):
        """What came in kept the bucket's bound."""
        assert excess(self.log, self.rate, self.capacity) < HAIR

    @invariant()
    def who_is_at_work_has_a_slot(self):
        """As many slots are in use as there are callers inside with no nested one inside."""
        lenders = {caller.lender() for caller in self.inside()}
        at_work = [caller for caller in self.inside() if caller not in lenders]
        assert self.gate.statistics().inside == len(at_work)
        assert self.gate.statistics().waiting == len(self.waiting())

    @invariant()
    def nobody_waits_for_nothing(self):
        """With a slot free and no cool-down, who is first waits for tokens that are not there."""
        now, waiting = self.time.loop.time(), self.waiting()
        if not waiting or now < self.cool_until:
            return
        if any(caller.above() for caller in waiting):
            return  # who of several lines is first at the bucket is not modelled here
        if self.gate.statistics().inside >= self.gate.concurrency:
            return
        first = min(waiting, key=self.key)
        left = tokens_left(self.log, self.rate, self.capacity, self.capacity, now)
        assert first.weight > left - HAIR

    def teardown(self):
        """All who stay are let in in the end, and nothing is left behind."""
        if not hasattr(self, "gate"):
            return
        try:
            self.wind_up()
        finally:
            self.time.close()

    def wind_up(self):
        """Let those inside leave until nobody waits; that takes no more rounds than callers."""
        for _ in self.callers:
            for caller in self.callers:
                caller.leave.set()
            self.time.wait(max(self.cool_until, 20 / self.rate))
        assert all(caller.task.done() for caller in self.callers)
        assert (self.gate.statistics().inside, self.gate.statistics().waiting) == (0, 0)
        assert self.gate._clock.waiting == len(self.gate._rated) == 0
        assert self.gate._slots.candidate is None
        self.nobody_came_in_wrongly()


TestGateMachine = GateMachine.TestCase
