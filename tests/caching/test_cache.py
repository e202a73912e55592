"""The cache as its users see it: values, time, room, errors, and who waits for what."""

import asyncio
import contextvars
import copy
import gc
import threading

import pytest

from course_lib.caching import AsyncCache
from course_lib.caching.single_flight import TaskFlight, Work
from course_lib.lab.simulation import simulate

NAN = float("nan")
EMPTY = [None, 0, "", [], False, (), {}, 0.0]


class Source:
    """Computes, counts and may be slow or broken."""

    def __init__(self, seconds=1.0, error=None):
        self.calls = self.running = self.peak = self.cancelled = 0
        self.seconds, self.error = seconds, error

    async def __call__(self):
        """One computation."""
        self.calls += 1
        number = self.calls
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return f"answer {number}"


def new(**options):
    """A cache for tests that are about something else."""
    return AsyncCache(**{"ttl": 10, "maxsize": 100, **options})


@pytest.mark.parametrize("value", EMPTY)
def test_what_is_empty_is_a_value_like_any_other(value):
    """Computed once, and found."""

    async def main():
        cache, calls = new(), []

        async def compute():
            calls.append(1)
            return value

        found = [await cache.get_or_compute("k", compute) for _ in range(10)]
        return found, await cache.get("k", "absent"), len(calls)

    assert simulate(main).value == ([value] * 10, value, 1)


def test_get_returns_the_default_only_for_what_is_not_there():
    """None by default."""

    async def main():
        cache = new()
        absent = await cache.get("k"), await cache.get("k", 7)
        await cache.set("k", None)
        return *absent, await cache.get("k", 7)

    assert simulate(main).value == (None, 7, None)


def test_a_value_lives_exactly_as_long_as_its_ttl():
    """There a moment before, gone at the end; also where rounding is in the way."""

    async def main():
        cache, seen = new(ttl=0.2), []
        await asyncio.sleep(0.1)
        await cache.set("k", 1)
        for pause in (0.1999, 0.0001):
            await asyncio.sleep(pause)
            seen.append(await cache.get("k"))
        return seen, cache.statistics().expired

    assert simulate(main).value == ([1, None], 1)


def test_a_ttl_of_none_is_for_ever_and_one_value_may_have_its_own():
    """The value's own goes first."""

    async def main():
        cache = new(ttl=None)
        await cache.set("short", 1, ttl=5)
        await cache.set("long", 1)
        await asyncio.sleep(3000)
        return await cache.get("short"), await cache.get("long")

    assert simulate(main).value == (None, 1)


def test_the_least_recently_used_goes_first():
    """To be asked for is to be used."""

    async def main():
        cache = new(maxsize=2)
        await cache.set("a", 1)
        await cache.set("b", 2)
        await cache.get("a")
        await cache.set("c", 3)
        return [await cache.get(key) for key in "abc"], cache.statistics().evictions

    assert simulate(main).value == ([1, None, 3], 1)


def test_what_has_expired_does_not_pile_up():
    """Each new value sweeps out more than one old one, though nobody asks for them."""

    async def main():
        cache = new(ttl=1, maxsize=None)
        for number in range(1000):
            await cache.set(number, number)
        await asyncio.sleep(1)
        for number in range(500):
            await cache.set(("later", number), number)
        return cache.statistics().size

    assert simulate(main).value == 500


def test_of_fifty_who_ask_one_leads_to_a_computation():
    """All get its result, when it is there."""

    async def main():
        cache, source = new(), Source()
        answers = await asyncio.gather(*(cache.get_or_compute("k", source) for _ in range(50)))
        return set(answers), source.calls, cache.statistics()

    result = simulate(main)
    answers, calls, statistics = result.value
    assert (answers, calls, result.seconds) == ({"answer 1"}, 1, 1.0)
    assert (statistics.misses, statistics.coalesced, statistics.hits) == (1, 49, 0)


def test_with_the_first_caller_cancelled_the_others_get_the_result():
    """One of fifty is cancelled, and one call is made."""

    async def main():
        cache, source = new(), Source()
        tasks = [asyncio.create_task(cache.get_or_compute("k", source)) for _ in range(50)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return isinstance(answers[0], asyncio.CancelledError), set(answers[1:]), source.calls

    assert simulate(main).value == (True, {"answer 1"}, 1)


def test_a_computation_that_nobody_waits_for_is_cancelled():
    """At once, and the next who asks begins anew."""

    async def main():
        cache, source = new(), Source()
        tasks = [asyncio.create_task(cache.get_or_compute("k", source)) for _ in range(3)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert cache.statistics().in_flight == 0
        return await cache.get_or_compute("k", source), source.cancelled

    assert simulate(main).value == ("answer 2", 1)


@pytest.mark.parametrize("rounds", range(5))
def test_a_caller_who_comes_just_as_the_last_gives_up_gets_an_answer(rounds):
    """Not the cancellation of somebody else, at whichever round of the loop."""

    async def main():
        cache, source = new(), Source()
        first = asyncio.create_task(cache.get_or_compute("k", source))
        await asyncio.sleep(0.5)
        first.cancel()
        for _ in range(rounds):
            await asyncio.sleep(0)
        answer = await cache.get_or_compute("k", source)
        return answer == f"answer {source.calls}", source.calls - source.cancelled

    assert simulate(main).value == (True, 1)


@pytest.mark.parametrize("rounds", range(5))
def test_a_caller_cancelled_in_its_first_moments_leaves_nothing_behind(rounds):
    """No coroutine that was never awaited, and no computation that goes on."""

    async def main():
        cache, source = new(), Source()
        task = asyncio.create_task(cache.get_or_compute("k", source))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.1)
        gc.collect()
        return source.running, cache.statistics().in_flight

    assert simulate(main).value == (0, 0)


def test_a_timeout_bounds_one_caller_and_not_the_computation():
    """The others wait on."""

    async def main():
        cache, source = new(), Source()
        other = asyncio.create_task(cache.get_or_compute("k", source))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await cache.get_or_compute("k", source)
        return await other, source.calls

    assert simulate(main).value == ("answer 1", 1)


def test_an_error_reaches_everybody_who_waits_and_is_not_kept():
    """Who asks again in the same moment has it computed again."""

    async def main():
        cache, source = new(), Source(error=OSError("down"))

        async def twice():
            with pytest.raises(OSError, match="down"):
                await cache.get_or_compute("k", source)
            with pytest.raises(OSError, match="down"):
                await cache.get_or_compute("k", source)

        await asyncio.gather(*(twice() for _ in range(5)))
        return source.calls, cache.statistics().errors

    result = simulate(main)
    assert (result.value, result.seconds) == ((2, 2), 2.0)


def test_an_error_is_kept_for_as_long_as_asked():
    """Raised again, without growing, and computed after that; `get` does not raise it."""

    async def main():
        cache, source = new(negative_ttl=2), Source(error=OSError("down"))
        depths = []
        for _ in range(5):
            with pytest.raises(OSError, match="down") as caught:
                await cache.get_or_compute("k", source)
            depths.append(len(caught.traceback))
        assert await cache.get("k", "absent") == "absent"
        await asyncio.sleep(2)
        source.error = None
        assert len(set(depths[1:])) == 1
        return await cache.get_or_compute("k", source), cache.statistics()

    answer, statistics = simulate(main).value
    assert answer == "answer 2"
    assert (statistics.misses, statistics.hits) == (3, 4)


def test_an_error_nobody_waits_for_is_not_reported_at_exit():
    """The last caller gave up; cleaning up failed."""

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        cache = new()

        async def breaks():
            try:
                await asyncio.sleep(1)
            finally:
                raise OSError("down")

        task = asyncio.create_task(cache.get_or_compute("k", breaks))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)
        del task
        gc.collect()
        return reports

    assert simulate(main).value == []


def test_what_was_invalidated_meanwhile_is_given_to_who_waits_and_not_kept():
    """Whoever asks after that gets a computation of their own."""

    async def main():
        cache, source = new(), Source()
        early = asyncio.create_task(cache.get_or_compute("k", source))
        await asyncio.sleep(0.5)
        await cache.invalidate("k")
        late = asyncio.create_task(cache.get_or_compute("k", source))
        return await early, await cache.get("k"), await late, await cache.get("k")

    assert simulate(main).value == ("answer 1", None, "answer 2", "answer 2")


def test_what_was_set_meanwhile_stays():
    """A computation that began before is older."""

    async def main():
        cache, source = new(), Source()
        task = asyncio.create_task(cache.get_or_compute("k", source))
        await asyncio.sleep(0.5)
        await cache.set("k", "new")
        return await task, await cache.get("k")

    assert simulate(main).value == ("answer 1", "new")


def test_invalidate_says_whether_there_was_something():
    """And clear leaves nothing."""

    async def main():
        cache = new()
        await cache.set("a", 1)
        await cache.set("b", 1)
        said = await cache.invalidate("a"), await cache.invalidate("a")
        await cache.clear()
        return said, cache.statistics().size

    assert simulate(main).value == ((True, False), 0)


def test_a_computation_that_asks_for_itself_is_refused():
    """It would wait for ever; also through another key."""

    async def main():
        cache = new()

        async def a():
            return await cache.get_or_compute("b", b)

        async def b():
            return await cache.get_or_compute("a", a)

        with pytest.raises(RuntimeError, match="asks the cache for 'a'"):
            await cache.get_or_compute("a", a)
        return cache.statistics().in_flight

    assert simulate(main).value == 0


def test_the_computation_sees_the_context_of_who_came_first():
    """And changes nothing in it."""
    name = contextvars.ContextVar("name")

    async def main():
        cache = new()

        async def compute():
            await asyncio.sleep(1)
            seen = name.get()
            name.set("changed")
            return seen

        async def ask(who):
            name.set(who)
            return await cache.get_or_compute("k", compute), name.get()

        return await asyncio.gather(ask("first"), ask("second"))

    assert simulate(main).value == [("first", "first"), ("first", "second")]


def test_a_cancelled_computation_is_a_cancelled_call():
    """As if it had been awaited directly."""

    async def main():
        async def gives_up():
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await new().get_or_compute("k", gives_up)

    simulate(main)


class StopError(BaseException):
    """No `Exception`, as KeyboardInterrupt, which would stop the loop."""


@pytest.mark.parametrize("stop", [StopError, asyncio.CancelledError])
def test_what_is_no_exception_is_raised_and_never_kept(stop):
    """Raised by the computation or returned by it, alone or in a batch, whose others are kept."""

    async def main():
        cache = new(negative_ttl=60)

        async def raises():
            raise stop

        async def returns():
            return stop()

        async def many(keys):
            return [stop() if key == "b" else key for key in keys]

        for ask in (
            lambda: cache.get_or_compute("raised", raises),
            lambda: cache.get_or_compute("returned", returns),
            lambda: cache.get_or_compute_many("abc", many),
            lambda: cache.get_or_compute_many("b", many, return_exceptions=True),
        ):
            with pytest.raises(stop):
                await ask()
        found = [await cache.get(key) for key in ("raised", "returned", *"abc")]
        return found, cache.statistics().errors, cache.statistics().in_flight

    assert simulate(main).value == ([None, None, "a", None, "c"], 0, 0)


def test_in_threads_too_what_is_no_exception_is_raised_and_never_kept():
    """An interruption is its thread's own."""
    cache = new(negative_ttl=60)

    def many(keys):
        return [KeyboardInterrupt() if key == "b" else key for key in keys]

    for ask in (
        lambda: cache.get_or_compute_sync("returned", KeyboardInterrupt),
        lambda: cache.get_or_compute_many_sync("abc", many),
        lambda: cache.get_or_compute_many_sync("b", many, return_exceptions=True),
    ):
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert [cache.get_sync(key) for key in ("returned", *"abc")] == [None, "a", None, "c"]


def test_what_is_no_value_cannot_be_set():
    """A batch of somebody else's may have handed it out."""
    with pytest.raises(TypeError, match="CancelledError.* is no value: raise it"):
        new().set_sync("k", asyncio.CancelledError())


def test_what_a_cancelled_computation_returns_is_not_kept():
    """An early refresh that the end of the loop cuts off leaves the good value as it was."""
    time = [0.0]
    cache = new(timer=lambda: time[0], early=1)

    async def compute():
        time[0] += 9.9
        return "good"

    async def cut_off():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "half"

    async def ask(compute):
        answers = {await cache.get_or_compute("k", compute) for _ in range(200)}
        await asyncio.sleep(0)
        return answers

    assert asyncio.run(ask(compute)) == {"good"}
    time[0] += 9.9
    assert asyncio.run(ask(cut_off)) == {"good"}
    assert cache.statistics().refreshes
    assert cache.get_sync("k") == "good"


def test_a_batch_is_computed_in_one_call_without_what_is_there_or_on_its_way():
    """Duplicates once; the results in the order of the keys."""

    async def main():
        cache, asked = new(), []

        async def compute(keys):
            asked.append(keys)
            await asyncio.sleep(1)
            return [key.upper() for key in keys]

        await cache.set("a", "there")
        other = asyncio.create_task(cache.get_or_compute_many("b", compute))
        await asyncio.sleep(0.5)
        values = await cache.get_or_compute_many("abcbca", compute)
        await other
        return values, asked, cache.statistics()

    values, asked, statistics = simulate(main).value
    assert values == ["there", "B", "C", "B", "C", "there"]
    assert asked == [["b"], ["c"]]
    assert (statistics.hits, statistics.misses, statistics.coalesced) == (2, 2, 3)


def test_a_hit_in_a_batch_is_a_use():
    """The least recently used goes first, there too."""

    async def main():
        cache = new(maxsize=2)
        await cache.set("a", 1)
        await cache.set("b", 2)
        await cache.get_or_compute_many("a", None)
        await cache.set("c", 3)
        return [await cache.get(key) for key in "abc"]

    assert simulate(main).value == [1, None, 3]


def test_in_a_batch_one_failure_takes_nobody_along():
    """The others are kept; the error is raised, or returned if asked."""

    async def main():
        cache = new()

        async def compute(keys):
            return [OSError(key) if key == "b" else key for key in keys]

        with pytest.raises(OSError, match="b"):
            await cache.get_or_compute_many("abc", compute)
        found = [await cache.get(key) for key in "abc"]
        return found, await cache.get_or_compute_many("ab", compute, return_exceptions=True)

    found, outcomes = simulate(main).value
    assert found == ["a", None, "c"]
    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], OSError)


def test_a_batch_goes_on_while_anybody_wants_one_of_it():
    """And ends when nobody does."""

    async def main():
        cache, cancelled = new(), []

        async def compute(keys):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                cancelled.append(list(keys))
                raise
            return keys

        first = asyncio.create_task(cache.get_or_compute_many("abc", compute))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(cache.get_or_compute_many("b", compute))
        await asyncio.sleep(0.2)
        first.cancel()
        assert await second == ["b"]
        third = asyncio.create_task(cache.get_or_compute_many("xy", compute))
        await asyncio.sleep(0.2)
        third.cancel()
        await asyncio.wait([third])
        await asyncio.sleep(0)
        return cancelled

    assert simulate(main).value == [["x", "y"]]


def test_a_batch_that_returns_too_few_is_refused():
    """Rather than to mix up whose value is whose."""

    async def main():
        async def compute(keys):
            return keys[1:]

        with pytest.raises(ValueError, match="3 values were to be computed, and 2 came back"):
            await new().get_or_compute_many("abc", compute)

    simulate(main)


def test_copies_keep_callers_from_changing_what_others_get():
    """Without `copy=` all share one object."""

    async def main(**options):
        cache = new(**options)

        async def compute():
            return [1, 2, 3]

        for _ in range(2):
            (await cache.get_or_compute("k", compute)).pop()
        return await cache.get("k")

    assert simulate(main(copy=copy.copy)).value == [1, 2, 3]
    assert simulate(main()).value == [1]


def test_it_goes_on_in_a_second_loop_and_forgets_what_a_dead_one_computed():
    """Values stay; nobody waits for a loop that is gone."""
    cache, source = new(timer=lambda: 0.0), Source(0.01)

    async def ask():
        return await cache.get_or_compute("k", source)

    loop = asyncio.new_event_loop()
    stuck = loop.create_task(ask())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert cache.statistics().in_flight == 1
    stuck._log_destroy_pending = False
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    loop.close()
    assert cache.statistics().in_flight == 0
    assert asyncio.run(ask()) == "answer 2"
    assert asyncio.run(ask()) == "answer 2"


def test_loops_that_are_gone_leave_nothing_behind():
    """However many there were."""
    cache = new()

    async def ask():
        task = asyncio.create_task(cache.get_or_compute("k", Source(60)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cache.statistics().in_flight == 1
        task.cancel()

    async def left_behind():
        here = cache._tasks.flights.of(asyncio.get_running_loop())
        here["k"] = TaskFlight("k", Work())

    for _ in range(5):
        asyncio.run(ask())
        asyncio.run(left_behind())
    assert cache.statistics().in_flight == 0
    assert len(cache._tasks.flights._tables) == 1


def test_time_goes_on_from_one_clock_to_another():
    """What was kept in real time expires in virtual time, and nothing lives longer for it."""
    cache = new(ttl=1000)

    async def real():
        await cache.set("k", 1)
        return await cache.get("k")

    async def virtual():
        assert await cache.get("k") == 1
        await asyncio.sleep(990)
        before = await cache.get("k")
        await asyncio.sleep(10)
        return before, await cache.get("k")

    assert asyncio.run(real()) == 1
    assert simulate(virtual).value == (1, None)
    assert asyncio.run(real()) == 1


def test_threads_compute_once_and_share_with_coroutines():
    """Eight threads, one call; a coroutine finds the value."""
    cache, calls, gate = new(), [], threading.Barrier(8)

    def compute():
        calls.append(1)
        while cache.statistics().coalesced < 7:
            pass
        return "answer"

    def ask():
        gate.wait()
        answers.append(cache.get_or_compute_sync("k", compute))

    answers = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, calls) == (["answer"] * 8, [1])
    assert asyncio.run(cache.get("k")) == "answer"


def test_a_thread_that_is_interrupted_leaves_the_work_to_the_next():
    """The interruption is its own."""
    cache, begun, go_on = new(), threading.Event(), threading.Event()
    outcomes = []

    def interrupted():
        begun.set()
        assert go_on.wait(60)
        raise KeyboardInterrupt

    def first():
        try:
            cache.get_or_compute_sync("k", interrupted)
        except KeyboardInterrupt:
            outcomes.append("interrupted")

    def second():
        outcomes.append(cache.get_or_compute_sync("k", lambda: "answer"))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    while not cache.statistics().coalesced:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["answer", "interrupted"]


def test_what_was_invalidated_while_a_thread_computed_is_not_kept():
    """As for coroutines."""
    cache = new()

    def compute():
        assert not cache.invalidate_sync("k")
        return "old"

    assert cache.get_or_compute_sync("k", compute) == "old"
    assert cache.get_sync("k", "absent") == "absent"


def test_threads_that_hit_and_evict_at_once_disturb_nobody():
    """A hit takes no lock: what it finds is right, and the counts add up."""
    cache = new(maxsize=8)

    def work(seed):
        for number in range(2000):
            key = (number * seed) % 16
            found.append(cache.get_or_compute_sync(key, lambda key=key: key) == key)

    found = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
    assert cache.statistics().requests == len(found) == 8000
    assert cache.statistics().size == 8


def test_in_threads_too_errors_are_raised_and_itself_is_refused():
    """Not kept, unless asked."""
    cache = new(negative_ttl=60)
    calls = []

    def breaks():
        calls.append(1)
        raise OSError("down")

    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            cache.get_or_compute_sync("k", breaks)
    with pytest.raises(RuntimeError, match="asks the cache for 'x'"):
        cache.get_or_compute_sync("x", lambda: cache.get_or_compute_sync("x", int))
    assert calls == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0}, "ttl=0: give a finite number above 0"),
        ({"ttl": NAN}, "ttl=nan: give a finite number above 0"),
        ({"maxsize": 0}, "maxsize=0: give a whole number, 1 or above"),
        ({"jitter": 1}, "jitter=1: give a share"),
        ({"negative_ttl": -1}, "negative_ttl=-1: give a finite number, 0 or above"),
        ({"early": -1}, "early=-1: give 0 for never"),
        ({"store_timeout": 0}, "store_timeout=0: give a finite number above 0"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(options, message):
    """With what to give instead."""
    with pytest.raises(ValueError, match=message):
        new(**options)


def test_a_key_that_cannot_be_looked_up_is_refused_with_advice():
    """Lists are the usual one."""

    async def main():
        with pytest.raises(TypeError, match="is not hashable: use a str"):
            await new().get_or_compute(["a"], Source())
        with pytest.raises(TypeError, match="is not hashable: use a str"):
            await new().get_or_compute_many([["a"]], Source())

    simulate(main)


def test_it_shows_its_state():
    """Short, in one line."""

    async def main():
        cache = new()
        await cache.set("a", 1)
        await cache.get("a")
        return repr(cache)

    assert simulate(main).value == "<AsyncCache 1 of 100 values, ttl=10 s, 100% hits>"
