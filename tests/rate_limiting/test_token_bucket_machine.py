"""The token bucket's promises in whatever order things happen, in virtual time."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limits_support import excess, tokens_left
from steered_loop import Steered

from course_lib.rate_limiting import TokenBucket

TENTHS = st.integers(0, 12).map(lambda n: n / 10)  # so that things often happen at one moment
HAIR = 1e-6  # tokens


class BucketMachine(RuleBasedStateMachine):
    """Callers come, wait, give up and ask without waiting.

    After every step the log of what was given out is held against an ideal bucket.
    """

    @initialize(
        rate=st.sampled_from([1.0, 3.0, 10.0, 1000.0]),
        capacity=st.sampled_from([1.0, 1.5, 2.0, 5.0]),
        initial=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def begin(self, rate, capacity, initial):
        """Make the bucket, in the loop."""
        self.rate, self.capacity, self.initial = rate, capacity, initial * capacity
        self.time = Steered()
        self.log = []
        self.callers = []  # (task, weight), in the order they came
        self.served = []  # numbers, in the order they were served
        self.bucket = self.time.do(lambda: TokenBucket(rate, capacity, initial=self.initial))

    async def ask(self, number, weight):
        """One caller."""
        await self.bucket.aacquire(weight=weight)
        self.log.append((self.time.loop.time(), weight))
        self.served.append(number)

    def waiting(self):
        """Callers that are not done, first come first."""
        return [caller for caller in self.callers if not caller[0].done()]

    def left(self):
        """Tokens that an ideal bucket would hold now."""
        return tokens_left(self.log, self.rate, self.capacity, self.initial, self.time.loop.time())

    @rule(share=st.sampled_from([0.1, 0.5, 1.0]), count=st.integers(1, 4))
    def arrive(self, share, count):
        """Callers come."""
        for _ in range(count):
            weight = share * self.capacity
            task = self.time.start(self.ask(len(self.callers), weight))
            self.callers.append((task, weight))
        self.time.settle()

    @rule(share=st.sampled_from([0.1, 1.0]))
    def look(self, share):
        """Somebody asks without waiting: gets it exactly if nobody waits and there is enough."""
        weight = share * self.capacity
        over = self.left() - weight
        got = self.time.run(self.bucket.aacquire(blocking=False, weight=weight))
        assert got == (not self.waiting() and over >= 0) or abs(over) < HAIR
        if got:
            assert not self.waiting()
            self.log.append((self.time.loop.time(), weight))

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def give_up(self, data):
        """Somebody who waits is cancelled."""
        data.draw(st.sampled_from(self.waiting()))[0].cancel()
        self.time.settle()

    @precondition(lambda self: self.waiting())
    @rule(tenths=TENTHS, data=st.data())
    def give_up_later(self, tenths, data):
        """The same after a while: perhaps in the very moment when the turn comes."""
        task, _ = data.draw(st.sampled_from(self.waiting()))
        self.time.loop.call_later(tenths / self.rate, task.cancel)

    @rule(tenths=TENTHS)
    def wait(self, tenths):
        """Time passes."""
        self.time.wait(tenths / self.rate)

    @invariant()
    def the_bound_holds_in_any_window(self):
        """At most `capacity + rate * t` tokens in any t seconds."""
        assert excess(self.log, self.rate, self.capacity) < HAIR

    @invariant()
    def first_come_first_served(self):
        """Whatever the weights."""
        assert self.served == sorted(self.served)

    @invariant()
    def no_token_is_lost_or_withheld(self):
        """Who waits at the front waits because even an ideal bucket would not have enough."""
        if self.waiting():
            assert self.waiting()[0][1] > self.left() - HAIR

    @invariant()
    def one_timer_at_most(self):
        """Beside those of the test itself, which cancel."""
        rings = [
            handle
            for _, _, handle in self.time.loop._timers
            if not handle.cancelled() and handle._callback == self.bucket.line._ring
        ]
        assert len(rings) == bool(self.waiting())

    @invariant()
    def what_it_says_of_itself_is_true(self):
        """The counts, and the tokens."""
        self.time.settle()
        says = self.time.do(self.bucket.statistics)
        assert says.admitted == len(self.log)
        assert says.waiting == len(self.waiting())
        assert abs(says.tokens - max(0, self.left())) < HAIR

    def teardown(self):
        """All who stay are served in the end, and nothing is left behind."""
        if not hasattr(self, "bucket"):
            return
        try:
            self.wind_up()
        finally:
            self.time.close()

    def wind_up(self):
        """Wait for as long as it may take."""
        total = sum(weight for _, weight in self.waiting())
        self.time.wait(total / self.rate + HAIR)
        assert not self.waiting()
        assert len(self.bucket.line) == self.bucket.line.clock.waiting == 0
        for task, _ in self.callers:
            assert task.cancelled() or task.exception() is None


TestBucketMachine = BucketMachine.TestCase
