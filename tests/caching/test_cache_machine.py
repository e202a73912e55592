"""The cache's promises in whatever order things happen, in virtual time, against a simple model."""

import asyncio
import functools

from caching_support import ModelEntries
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from steered_loop import Steered

from course_lib.caching import AsyncCache

KEYS = st.sampled_from("abcd")
TENTHS = st.integers(1, 12).map(lambda n: n / 10)  # so that things often happen at one moment
VALUES = st.sampled_from([None, 0, "", [], "x"])
ABSENT = object()


class BrokenError(Exception):
    """What a computation raises."""


class Computation:
    """What the model knows of one key being computed: its end, and who waits.

    Several that are computed in one call share their `call`, a set of those that are wanted.
    """

    def __init__(self, key, end, outcome, call):
        self.key, self.end, self.outcome, self.call = key, end, outcome, call
        self.waiting = []
        self.current = True  # to be kept
        call.append(self)


class CacheMachine(RuleBasedStateMachine):
    """Callers get, set, compute one or many, fail, give up, and let time pass."""

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
        self.computations = []  # of the model, those that run, in the order they began
        self.batches = {}  # task -> what it is to return, value by value
        self.coalesced = self.failed = 0
        self.calls = self.ended = self.given_up = 0  # as the real computations count themselves
        self.begun = self.stopped = 0  # as the model says they must

    async def compute(self, seconds, outcomes):
        """One real computation."""
        self.calls += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        self.ended += 1
        return outcomes

    async def compute_one(self, seconds, outcome):
        """The same for a single key: an error is raised."""
        failed, value = await self.compute(seconds, outcome)
        if failed:
            raise value
        return value

    async def compute_many(self, seconds, outcome, keys):
        """The same for many: errors are returned."""
        _, value = await self.compute(seconds, outcome)
        return [value] * len(keys)

    @rule(key=KEYS, seconds=TENTHS, value=VALUES, fails=st.booleans(), count=st.integers(1, 3))
    def ask(self, key, seconds, value, fails, count):
        """Callers want a value; if it is not there, it takes a while and may fail."""
        for _ in range(count):
            outcome = (True, BrokenError()) if fails else (False, value)
            compute = functools.partial(self.compute_one, seconds, outcome)
            task = self.time.start(self.cache.get_or_compute(key, compute))
            self.time.settle()
            [expected] = self.expect([key], task, seconds, outcome)
            if not isinstance(expected, Computation):
                check(task, expected)

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=6),
        seconds=TENTHS,
        value=VALUES,
        fails=st.booleans(),
    )
    def ask_many(self, keys, seconds, value, fails):
        """A caller wants many, perhaps some of them twice."""
        outcome = (True, BrokenError()) if fails else (False, value)
        compute = functools.partial(self.compute_many, seconds, outcome)
        task = self.time.start(
            self.cache.get_or_compute_many(keys, compute, return_exceptions=True)
        )
        self.time.settle()
        self.batches[task] = self.expect(keys, task, seconds, outcome)
        self.check_batches()

    def expect(self, keys, task, seconds, outcome):
        """Return, for each key, the outcome that is there or the computation that will have it."""
        expected = [self.model.find(key, self.time.now) for key in keys]
        missing = list(dict.fromkeys(k for k, e in zip(keys, expected, strict=True) if e is None))
        running = {c.key: c for c in self.computations if c.current}
        call, end = [], round(self.time.now + seconds, 9)
        new = {k: Computation(k, end, outcome, call) for k in missing if k not in running}
        self.begun += bool(new)
        self.computations += new.values()
        self.model.hits += len(keys) - expected.count(None)
        self.model.misses += len(new)
        self.coalesced += expected.count(None) - len(new)
        running |= new
        for key in missing:
            running[key].waiting.append(task)
        return [running[k] if e is None else e for k, e in zip(keys, expected, strict=True)]

    def check_batches(self):
        """Hold every batch that is complete against what it should be."""
        for task, expected in list(self.batches.items()):
            if any(each in self.computations for each in expected):
                assert not task.done()
                continue
            del self.batches[task]
            if not task.cancelled():
                outcomes = [getattr(each, "outcome", each) for each in expected]
                found = task.result()
                assert all(f is value for f, (_, value) in zip(found, outcomes, strict=True))

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
        self.batches.pop(task, None)
        for other in [each for each in self.computations if task in each.waiting]:
            other.waiting.remove(task)
            if not other.waiting:
                self.computations.remove(other)
                other.call.remove(other)
                self.stopped += not other.call

    @rule(seconds=TENTHS)
    def wait(self, seconds):
        """Time passes; computations end, in the order in which they are due."""
        end = round(self.time.now + seconds, 9)
        self.time.wait(seconds)
        for computation in sorted(self.computations, key=lambda each: each.end):
            if computation.end <= end:
                self.finish(computation)
        self.check_batches()

    def finish(self, computation):
        """What must have happened when it ended."""
        self.computations.remove(computation)
        failed, _ = computation.outcome
        self.failed += failed
        for task in computation.waiting:
            if task not in self.batches:
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
            running = {id(each.call) for each in self.computations}
            assert self.calls - self.ended - self.given_up == len(running)

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
