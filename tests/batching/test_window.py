"""`amap` as its users see it."""

import asyncio
import itertools
import re
from contextvars import ContextVar
from functools import partial

import pytest
from batching_support import Step, now, others
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableLambda

from course_lib.batching import Outcome, amap
from course_lib.lab.simulation import simulate

TENTHS = [0.3, 0.1, 0.2, 0.1, 0.5]


async def listed(*arguments, **options):
    """All outcomes of an `amap`."""
    return [outcome async for outcome in amap(*arguments, **options)]


async def double(item):
    """The simplest step."""
    return 2 * item


def test_outcomes_come_as_they_are_made():
    """With index, value, the wait for a place and the time of service."""
    result = simulate(lambda: listed(Step(), TENTHS, limit=2))
    assert result.value == [
        Outcome(1, 0.1, wait=0, service=0.1),
        Outcome(0, 0.3, wait=0, service=0.3),
        Outcome(2, 0.2, wait=0.1, service=0.2),
        Outcome(3, 0.1, wait=0.3, service=0.1),
        Outcome(4, 0.5, wait=0.3, service=0.5),
    ]
    assert result.seconds == 0.8


def test_outcomes_come_in_order_on_request():
    """The makespan stays the same while the buffer has room."""
    result = simulate(lambda: listed(Step(), TENTHS, limit=2, ordered=True))
    assert [outcome.value for outcome in result.value] == TENTHS
    assert result.seconds == 0.8


def test_a_slow_head_stops_the_reading_when_the_buffer_is_full():
    """In order and with room for two beside those in flight: four are read, not all."""
    read = []
    step = Step(lambda item: 9 if item == 0 else 0.1)

    async def main():
        source = (read.append(n) or n for n in itertools.count())
        async with amap(step, source, limit=2, ordered=True, buffer=2) as outcomes:
            waiting = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(8.9)
            at_the_stop = len(read)
            await waiting
            return at_the_stop

    assert simulate(main).value == 4


def test_a_slow_consumer_delays_nobody_until_the_buffer_is_full():
    """What was asked for goes on while the consumer is busy, and then pauses."""
    step = Step(lambda _: 0.1)

    async def main():
        seen = []
        async for outcome in amap(step, itertools.count(), limit=2, buffer=6):
            await asyncio.sleep(100)
            seen.append(len(step.started))
            if outcome.index == 2:
                break
        return seen

    assert simulate(main).value == [9, 10, 11]  # those fetched, and 2 + 6


def test_nothing_starts_before_the_first_is_asked_for():
    """So a window that is never used costs nothing, and needs no loop."""
    step = Step()
    outcomes = amap(step, TENTHS, limit=2)
    del outcomes
    assert step.started == []


def test_each_item_has_a_context_of_its_own():
    """It sees what the caller has set, and what it sets itself stays with it."""
    variable = ContextVar("variable", default="unset")

    async def step(item):
        before = variable.get()
        variable.set(item)
        return before

    async def main():
        variable.set("caller's")
        outcomes = await listed(step, range(5), limit=2)
        return {outcome.value for outcome in outcomes}, variable.get()

    assert simulate(main).value == ({"caller's"}, "caller's")


class Callbacks(AsyncCallbackHandler):
    """Notes the starts and ends of runs."""

    def __init__(self):
        self.seen = []

    async def on_chain_start(self, serialized, inputs, **options):
        """Note a start."""
        self.seen.append(("start", inputs, options["tags"]))

    async def on_chain_end(self, outputs, **options):
        """Note an end."""
        self.seen.append(("end", outputs))


@pytest.mark.parametrize("runnable", [RunnableLambda(double), double])
def test_config_and_callbacks_reach_every_item(runnable):
    """A coroutine function becomes a Runnable if there is a config."""
    callbacks = Callbacks()
    config = {"callbacks": [callbacks], "tags": ["mine"]}
    simulate(lambda: listed(runnable, [1, 2], limit=1, config=config))
    assert callbacks.seen == [
        ("start", 1, ["mine"]),
        ("end", 2),
        ("start", 2, ["mine"]),
        ("end", 4),
    ]


@pytest.mark.parametrize(
    "runnable", [double, partial(double), Step(), RunnableLambda(double) | double]
)
def test_any_runnable_or_coroutine_function_will_do(runnable):
    """Partial ones, objects and chains included."""
    outcomes = simulate(lambda: listed(runnable, [1], limit=1)).value
    assert outcomes[0].ok
    assert outcomes[0].result() in {1, 2, 4}


def test_a_progress_bar_comes_and_goes(capsys):
    """It counts to the end, then clears its line."""
    simulate(lambda: listed(Step(), TENTHS, limit=2, progress=True))
    written = capsys.readouterr().err
    assert "0/5" in written
    assert written.endswith("\r")
    assert written.split("\r")[-2].strip() == ""


def test_an_empty_source_has_no_outcomes():
    """At once, and again when asked again."""

    async def main():
        outcomes = amap(double, [], limit=3)
        return [outcome async for outcome in outcomes] + [outcome async for outcome in outcomes]

    result = simulate(main)
    assert (result.value, result.seconds) == ([], 0.0)


def test_two_tasks_cannot_wait_for_the_next_outcome():
    """The second is told so; the first gets its outcome."""

    async def main():
        outcomes = amap(Step(), [1], limit=1)
        first = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="let one task iterate"):
            await anext(outcomes)
        return (await first).value

    assert simulate(main).value == 1


def test_a_window_belongs_to_one_loop():
    """Begun in one, it is refused in another."""
    outcomes = amap(double, [1, 2], limit=1)
    simulate(lambda: anext(outcomes))
    with pytest.raises(RuntimeError, match="iterate it in one loop"):
        simulate(lambda: anext(outcomes))


def plain(item):
    """A function that is not async."""
    return item


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((double, [1]), {"limit": 0}, "limit=0: give a whole number, 1 or above"),
        ((double, [1]), {"limit": 2.5}, "limit=2.5: give a whole number"),
        ((double, [1]), {"limit": True}, "limit=True: give a whole number"),
        ((double, [1]), {"limit": None}, "limit=None: give a whole number"),
        ((double, [1]), {"limit": 1, "attempts": 0}, "attempts=0: give a whole number"),
        ((double, [1]), {"limit": 1, "timeout": 0}, "timeout=0: give a finite number above 0"),
        ((double, [1]), {"limit": 1, "buffer": -1}, "buffer=-1: give a whole number, 0 or above"),
        ((double, [1]), {"limit": 1, "longest_wait": -1}, "longest_wait=-1: give a finite number"),
        ((double, [1]), {"limit": 1, "retry_on": "all"}, "retry_on=('all',): give classes"),
        ((plain, [1]), {"limit": 1}, "is neither a Runnable nor `async def`"),
        ((lambda x: x, [1]), {"limit": 1}, "is neither a Runnable nor `async def`"),
        ((double, 5), {"limit": 1}, "inputs=5: give an iterable"),
        ((double, "five"), {"limit": 1}, "inputs='five' is one input, not several"),
        ((double, {"a": 1}), {"limit": 1}, "is one input, not several: put it into a list"),
        ((double, [1]), {"limit": 1, "config": {"run_id": 1}}, "run_id, which names a single run"),
    ],
)
def test_bad_input_is_refused_at_once(arguments, options, message):
    """When `amap` is called, with the name, the value and the fix."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        amap(*arguments, **options)


def test_it_shows_how_far_it_is():
    """For who looks at it in a notebook."""

    async def main():
        outcomes = amap(Step(), TENTHS, limit=2)
        await anext(outcomes)
        running = repr(outcomes)
        await outcomes.aclose()
        return running, repr(outcomes), others()

    assert simulate(main).value == (
        "<Outcomes 2 in flight, 3 started, 2 not yet fetched>",
        "<Outcomes over>",
        set(),
    )


def test_ten_thousand_at_a_time_are_all_answered():
    """No recursion, no quadratic cost."""

    async def main():
        total = 0
        async for outcome in amap(double, range(10_000), limit=10_000):
            total += outcome.value
        return total, now()

    assert simulate(main).value == (2 * sum(range(10_000)), 0.0)
