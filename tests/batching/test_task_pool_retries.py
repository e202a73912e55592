"""Items that are tried again, time limits, and gates."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
from batching_support import Step, handed_over, now, others, settle

from course_lib.batching import Backoff, amap
from course_lib.errors import BadRequest, RateLimited, TimedOut, Unavailable
from course_lib.lab.simulation import simulate

SECOND = Backoff(first=1.0, most=1.0)


class Flaky:
    """Fails at the first tries of some items."""

    def __init__(self, failures, error=None, seconds=1.0):
        self.failures, self.error = dict(failures), error or Unavailable("busy")
        self.seconds, self.calls = seconds, []

    async def __call__(self, item):
        """One try."""
        self.calls.append((now(), item))
        await asyncio.sleep(self.seconds)
        if self.failures.get(item, 0) > 0:
            self.failures[item] -= 1
            raise self.error
        return item


async def listed(*arguments, **options):
    """All outcomes of an `amap`."""
    return [outcome async for outcome in amap(*arguments, **options)]


def test_an_item_that_waits_to_be_tried_again_holds_no_place():
    """Others run meanwhile; afterwards it goes before those not yet started."""
    step = Flaky({0: 1})

    result = simulate(lambda: listed(step, range(4), limit=1, attempts=2, backoff=SECOND))
    assert [(int(time), item) for time, item in step.calls] == [
        (0, 0),
        (1, 1),
        (2, 0),
        (3, 2),
        (4, 3),
    ]
    tried = next(outcome for outcome in result.value if outcome.index == 0)
    assert (tried.value, tried.attempts, tried.wait, tried.service) == (0, 2, 1, 2)
    assert result.seconds == 5


def test_waits_for_a_place_and_between_attempts_add_up():
    """To the nanosecond, so that what is told of a schedule is exact."""
    step = Flaky({1: 1}, seconds=0.1)
    backoff = Backoff(first=0.2, most=0.2)
    outcomes = simulate(lambda: listed(step, range(4), limit=1, attempts=2, backoff=backoff)).value
    waits = {outcome.index: outcome.wait for outcome in outcomes}
    pause = backoff.seconds(1, 1)
    assert 0.1 < pause < 0.2  # so that item 2 has ended, and item 3 has not
    assert waits == {0: 0.0, 1: 0.3, 2: 0.2, 3: 0.3}
    assert {outcome.service for outcome in outcomes} == {0.1, 0.2}


def test_the_last_error_is_the_outcome():
    """After as many attempts as allowed."""
    outcomes = simulate(
        lambda: listed(Flaky({0: 9}), [0], limit=1, attempts=3, return_exceptions=True)
    ).value
    assert isinstance(outcomes[0].error, Unavailable)
    assert outcomes[0].attempts == 3


def test_an_error_that_will_not_go_away_is_final():
    """And says why it was not tried again."""
    step = Flaky({0: 9}, error=BadRequest("no"))
    outcomes = simulate(
        lambda: listed(step, [0, 0], limit=1, attempts=3, return_exceptions=True)
    ).value
    assert [outcome.attempts for outcome in outcomes] == [1, 1]
    assert outcomes[0].error.__notes__ == ["Not tried again: BadRequest is not among `retry_on`."]


@pytest.mark.parametrize("kinds", [BadRequest, (KeyError, BadRequest)])
def test_which_errors_are_tried_again_can_be_said(kinds):
    """One class or several."""
    step = Flaky({0: 1}, error=BadRequest("no"))
    outcomes = simulate(lambda: listed(step, [0], limit=1, attempts=2, retry_on=kinds)).value
    assert outcomes[0].value == 0


def test_a_rate_limit_is_waited_for():
    """For as long as the provider says, and the pause."""
    step = Flaky({0: 1}, error=RateLimited("slow down", retry_after=30.0))
    simulate(lambda: listed(step, [0], limit=1, attempts=2, backoff=SECOND))
    assert 31 <= step.calls[1][0] <= 32


def refused(seconds, client):
    """What a client raises for a 429: ours, or one that is not known here."""
    if client == "ours":
        return RateLimited("slow down", retry_after=seconds)
    error = RuntimeError("429")
    error.status_code = 429
    error.response = SimpleNamespace(headers={"retry-after": str(seconds)}, content=b"")
    return error


@pytest.mark.parametrize("client", ["ours", "another"])
@pytest.mark.parametrize("seconds", [61.0, 86400.0, float("inf")])
def test_a_rate_limit_that_asks_for_too_long_is_raised_at_once(client, seconds):
    """With what it asks for, so that the caller decides; and it says why it was not tried again."""
    step = Flaky({1: 1}, error=refused(seconds, client))

    async def main():
        with pytest.raises(RateLimited) as caught:
            await listed(step, range(3), limit=1, attempts=9, backoff=SECOND)
        return caught.value, now(), others()

    error, seconds_taken, left = simulate(main).value
    assert (error.retry_after, seconds_taken, left) == (seconds, 2.0, set())
    assert "60 s are the longest wait" in error.__notes__[0]


def test_where_errors_are_outcomes_only_that_item_has_it():
    """The others go on."""
    step = Flaky({1: 1}, error=RateLimited("a day", retry_after=86400.0))
    options = {"limit": 1, "attempts": 9, "backoff": SECOND, "return_exceptions": True}
    outcomes = simulate(lambda: listed(step, range(3), **options)).value
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert (outcomes[1].error.retry_after, outcomes[1].attempts) == (86400.0, 1)


@pytest.mark.parametrize("client", ["ours", "another"])
def test_how_long_a_rate_limit_is_waited_for_can_be_said(client):
    """Here, or for all who share a gate."""
    for options in ({"limit": 1, "longest_wait": 3600}, {"limit": Patient(1)}):
        step = Flaky({0: 1}, error=refused(1800.0, client))
        simulate(lambda o=options, s=step: listed(s, [0], attempts=2, backoff=SECOND, **o))
        assert 1801 <= step.calls[1][0] <= 1802


def test_between_attempts_the_source_is_not_read_to_its_end():
    """Items that wait count as held: an outage does not fill memory."""
    step = Flaky({}, seconds=0.1)
    step.failures = dict.fromkeys(range(10**4), 99)

    async def main():
        async with amap(
            step, iter(range(10**4)), limit=2, buffer=10, attempts=9, backoff=Backoff(1e6, 1e6)
        ) as outcomes:
            waiting = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(49)
            waiting.cancel()
            await asyncio.wait([waiting])

    simulate(main)
    assert len(step.calls) == 12


def test_an_attempt_that_takes_too_long_is_cut_short():
    """And can be tried again; its time counts from when it has its place."""
    step = Step(lambda item: item)
    outcomes = simulate(
        lambda: listed(step, [0.4, 5, 0.4], limit=1, timeout=0.5, return_exceptions=True)
    ).value
    assert [outcome.value for outcome in outcomes] == [0.4, None, 0.4]
    assert isinstance(outcomes[1].error, TimedOut)
    assert str(outcomes[1].error) == "item 1 gave no answer within 0.5 s"
    assert step.cancelled == [5]


def test_a_time_limit_of_the_steps_own_stays_its_own():
    """It is not taken for the one given to `amap`."""

    async def step(_):
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        simulate(lambda: listed(step, [1], limit=1, timeout=5))


class Gate:
    """The least that can be given in place of a number."""

    def __init__(self, concurrency):
        self.concurrency, self.semaphore = concurrency, asyncio.Semaphore(concurrency)

    def slot(self):
        """One place."""
        return self.semaphore


class Patient(Gate):
    """One that says itself how long everybody may be held back."""

    longest_cool_down = 3600.0


def test_a_gate_can_be_shared():
    """Two windows at once: never more inside than it allows, and each gets half of it."""

    async def main():
        gate, step = Gate(4), Step(lambda _: 1.0)
        halves = await asyncio.gather(
            *(listed(step, range(8), limit=gate) for _ in range(2)),
        )
        return step.peak, [max(o.wait + o.service for o in half) for half in halves]

    result = simulate(main)
    assert result.value == (4, [4.0, 4.0])
    assert result.seconds == 4.0


def test_a_gate_is_filled_as_soon_as_it_lets_in():
    """One item stands in front of it; behind it nothing is read."""
    step, read = Step(lambda _: 1.0), []

    async def main():
        source = (read.append(n) or n for n in range(100))
        async with amap(step, source, limit=Gate(3), buffer=0) as outcomes:
            waiting = asyncio.ensure_future(anext(outcomes))
            await settle(30)
            counts = len(step.started), len(read)
            await waiting
            return counts

    assert simulate(main).value == (3, 4)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start at once from Python 3.12 on")
@pytest.mark.parametrize("kind", [list, handed_over])
@pytest.mark.parametrize("limit", [lambda: 2, lambda: Gate(2)])
def test_tasks_may_start_at_once(kind, limit):
    """With a loop's eager tasks an item may end before it is known to have started."""
    step = Step(lambda item: item % 3)

    async def echo(item):
        return item

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        slow = await listed(step, kind(range(20)), limit=limit())
        quick = await listed(echo, kind(range(20)), limit=limit())
        await settle()
        assert others() == set()
        return sorted(o.value for o in slow), sorted(o.value for o in quick)

    assert simulate(main).value == ([*range(20)], [*range(20)])
    assert step.peak == 2


def test_between_attempts_an_item_is_outside_the_gate():
    """So others may enter."""
    step = Flaky({0: 1})

    async def main():
        await listed(step, range(3), limit=Gate(1), attempts=2, backoff=SECOND)
        return others()

    assert simulate(main).value == set()
    # Item 2 stood in front of the gate already when item 0 came back.
    assert [item for _, item in step.calls] == [0, 1, 2, 0]


def test_a_wait_at_the_gate_is_a_wait():
    """And no service; time limits count from when it is over."""

    async def main():
        return await listed(Step(lambda _: 1.0), range(3), limit=Gate(1), timeout=1.5)

    outcomes = simulate(main).value
    assert [(o.wait, o.service) for o in outcomes] == [(0, 1), (1, 1), (2, 1)]
