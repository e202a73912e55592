"""The cache's promises in whatever order things happen, in virtual time, against a simple model."""

import asyncio
import functools

from caching_support import ModelEntries, Steered
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from course_lib.caching import AsyncCache

KEYS = st.sampled_from("abcd")
TENTHS = st.integers(1, 12).map(lambda n: n / 10)  # so that things often happen at one moment
VALUES = st.sampled_from([None, 0, "", [], "x"])
ABSENT = object()


class BrokenError(Exception):
    """What a computation raises."""


class Computation:
    """One computation of the model: when it ends, how, and who waits for it."""

    def __init__(self, number, key, end, outcome):
        self.number, self.key, self.end, self.outcome = number, key, end, outcome
        self.waiting = []
        self.current = True  # to be kept


class CacheMachine(RuleBasedStateMachine):
    """Callers get, set, compute, fail, give up, and let time pass."""

    @initialize(
        ttl=st.sampled_from([0.3, 1.0, 5.0]),
        maxsize=st.sampled_from([1, 2, 3]),
        negative_ttl=st.sampled_from([0.0, 0.5]),
    )
    def begin(self, ttl, maxsize, negative_ttl):
        """Make the cache and its model."""
        self.ttl, self.negative_ttl = ttl, negative_ttl
        self.time = Steered()
        self.cache = AsyncCache(ttl=ttl, maxsize=maxsize, negative_ttl=negative_ttl)
        self.model = ModelEntries(maxsize)
        self.computations = []  # of the model, those that run
        self.coalesced = self.failed = 0
        self.calls = self.ended = self.given_up = 0  # as the real computations count themselves
        self.begun = self.stopped = 0  # as the model says they must

    async def compute(self, number, seconds, outcome):
        """One real computation."""
        self.calls += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        self.ended += 1
        failed, value = outcome
        if failed:
            raise value
        return value

    @rule(key=KEYS, seconds=TENTHS, value=VALUES, fails=st.booleans(), count=st.integers(1, 3))
    def ask(self, key, seconds, value, fails, count):
        """Callers want a value; if it is not there, it takes a while and may fail."""
        for _ in range(count):
            outcome = (True, BrokenError()) if fails else (False, value)
            compute = functools.partial(self.compute, self.begun, seconds, outcome)
            task = self.time.start(self.cache.get_or_compute(key, compute))
            self.expect(key, task, seconds, outcome)

    def expect(self, key, task, seconds, outcome):
        """Say what must become of it."""
        found = self.model.find(key, self.time.now)
        if found is not None:
            self.model.hits += 1
            check(task, found)
            return
        running = next((c for c in self.computations if c.key == key and c.current), None)
        if running is None:
            self.model.misses += 1
            running = Computation(self.begun, key, round(self.time.now + seconds, 9), outcome)
            self.begun += 1
            self.computations.append(running)
        else:
            self.coalesced += 1
        running.waiting.append(task)

    @rule(key=KEYS)
    def get(self, key):
        """A value is wanted if it is there."""
        found = self.model.find(key, self.time.now)
        hit = found is not None and not found[0]
        self.model.hits += hit
        self.model.misses += not hit
        value = self.time.run(self.cache.get(key, ABSENT))
        assert value is (found[1] if hit else ABSENT)

    @rule(key=KEYS, value=VALUES)
    def set(self, key, value):
        """A value is set; what is being computed for it is out of date."""
        self.time.run(self.cache.set(key, value))
        self.disown(key)
        self.model.put(key, (False, value), self.time.now + self.ttl, self.time.now)

    @rule(key=KEYS)
    def invalidate(self, key):
        """A value is known to be out of date."""
        entry = self.model.entries.pop(key, None)
        held = entry is not None and entry[1] > self.time.now + 1e-9
        assert self.time.run(self.cache.invalidate(key)) == held
        self.disown(key)

    @rule()
    def clear(self):
        """Everything is."""
        self.time.run(self.cache.clear())
        self.model.entries.clear()
        for computation in self.computations:
            computation.current = False

    def disown(self, key):
        """What runs for a key is not kept."""
        for computation in self.computations:
            computation.current &= computation.key != key

    @precondition(lambda self: self.computations)
    @rule(data=st.data())
    def give_up(self, data):
        """Somebody who waits is cancelled; with the last one, the computation is."""
        computation = data.draw(st.sampled_from(self.computations))
        task = data.draw(st.sampled_from(computation.waiting))
        task.cancel()
        self.time.settle()
        assert task.cancelled()
        computation.waiting.remove(task)
        if not computation.waiting:
            self.computations.remove(computation)
            self.stopped += 1

    @rule(seconds=TENTHS)
    def wait(self, seconds):
        """Time passes; computations end, in the order in which they are due."""
        end = round(self.time.now + seconds, 9)
        self.time.wait(seconds)
        for computation in sorted(self.computations, key=lambda c: (c.end, c.number)):
            if computation.end <= end:
                self.finish(computation)

    def finish(self, computation):
        """What must have happened when it ended."""
        self.computations.remove(computation)
        failed, _ = computation.outcome
        self.failed += failed
        for task in computation.waiting:
            check(task, computation.outcome)
        lives = self.negative_ttl if failed else self.ttl
        if computation.current and lives:
            now = computation.end
            self.model.put(computation.key, computation.outcome, now + lives, now)

    @invariant()
    def it_computes_exactly_what_the_model_says(self):
        """No call too many, none forgotten, none cancelled that somebody waits for."""
        if hasattr(self, "cache"):
            assert (self.calls, self.given_up) == (self.begun, self.stopped)
            assert self.calls - self.ended - self.given_up == len(self.computations)

    @invariant()
    def who_waits_waits(self):
        """Exactly as long as the computation takes."""
        for computation in getattr(self, "computations", ()):
            assert not any(task.done() for task in computation.waiting)

    @invariant()
    def what_it_says_of_itself_is_true(self):
        """All counts."""
        if not hasattr(self, "cache"):
            return
        says, model = self.cache.statistics(), self.model
        assert (says.hits, says.misses, says.coalesced) == (
            model.hits,
            model.misses,
            self.coalesced,
        )
        assert (says.evictions, says.expired) == (model.evictions, model.expired)
        assert (says.size, says.errors) == (len(model.entries), self.failed)
        assert says.in_flight == sum(c.current for c in self.computations)

    def teardown(self):
        """All who stay get their answer in the end, and nothing is left behind."""
        if not hasattr(self, "cache"):
            return
        try:
            self.wait(2.0)
            assert not self.computations
            assert self.cache.statistics().in_flight == 0
        finally:
            self.time.close()


def check(task, outcome):
    """Hold a caller's result against what it should be: the same object."""
    failed, value = outcome
    assert task.done()
    assert (task.exception() if failed else task.result()) is value


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=150, stateful_step_count=40)
