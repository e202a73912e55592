import asyncio
import contextvars
import math
import time

import pytest
from monitoring_support import SetClock, figures, spans_of

from course_lib.lab import simulate
from course_lib.monitoring import PerformanceMonitor


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def monitor(clock):
    return PerformanceMonitor(timer=clock)


def test_a_block_is_measured_by_the_monitors_clock(clock, monitor):
    """From its first line to its last."""
    clock.advance(5)
    with monitor.measure("parse"):
        clock.advance(0.1)
    report = monitor.report()
    assert (report["parse"].count, report["parse"].total) == (1, 0.1)
    assert spans_of(report, "parse") == [(5.0, 5.1)]
    assert (report.started, report.seconds) == (5.0, 0.1)


def test_a_block_is_measured_round_awaits_in_virtual_time():
    """Three at once: exact durations, though each ends between others' awaits."""
    monitor = PerformanceMonitor()

    async def one(seconds):
        with monitor.measure("sleep"):
            await asyncio.sleep(seconds)

    async def main():
        await asyncio.gather(one(0.1), one(0.2), one(0.3))

    simulate(main)
    step = monitor.report()["sleep"]
    assert (step.minimum, step.maximum, step.total) == (0.1, 0.3, 0.6)
    assert (step.seconds, step.mean_in_flight, step.throughput) == (0.3, 2.0, 10.0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError, (1, 1, 0)),
        (TimeoutError, (1, 1, 0)),
        (asyncio.CancelledError, (1, 0, 1)),
        (GeneratorExit, (1, 0, 1)),
        (KeyboardInterrupt, (1, 0, 1)),
    ],
)
def test_what_is_raised_is_counted_and_goes_on(clock, monitor, error, expected):
    """The same error, and the time until then; failed is told from cancelled."""
    raised = error()

    def fail():
        clock.advance(0.5)
        raise raised

    with pytest.raises(error) as caught, monitor.measure("call"):
        fail()
    assert caught.value is raised
    assert figures(monitor.report(), "call") == expected
    assert monitor.report()["call"].maximum == 0.5


def test_a_cancelled_task_counts_as_cancelled():
    """With the time that it had taken."""
    monitor = PerformanceMonitor()

    async def call():
        with monitor.measure("call"):
            await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(call())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])

    simulate(main)
    assert figures(monitor.report(), "call") == (1, 0, 1)
    assert monitor.report()["call"].maximum == 1.0


def test_nested_blocks_know_their_parents(monitor):
    """Those one after the other share theirs; outside there is none."""
    with monitor.measure("request"):
        with monitor.measure("search"):
            pass
        with monitor.measure("answer"):
            pass
    with monitor.measure("search"):
        pass
    report = monitor.report()
    by_id = {span.id: span for span in report.spans}
    parents = [by_id[span.parent].name if span.parent else None for span in report.spans]
    assert parents == ["request", "request", None, None]
    assert report["search"].parents == ("request",)
    assert report["request"].parents == ()


def test_tasks_know_the_block_that_they_were_started_in():
    """Each task its own, however they interleave."""
    monitor = PerformanceMonitor()

    async def inner(name):
        with monitor.measure(name):
            await asyncio.sleep(1)

    async def outer(name):
        with monitor.measure(f"outer {name}"):
            await asyncio.gather(inner(f"inner {name}"), inner(f"inner {name}"))

    async def main():
        await asyncio.gather(outer("a"), outer("b"))

    simulate(main)
    report = monitor.report()
    assert report["inner a"].parents == ("outer a",)
    assert report["inner b"].parents == ("outer b",)


def test_the_block_of_another_monitor_is_no_parent(monitor):
    """Two monitors know nothing of each other."""
    other = PerformanceMonitor()
    with other.measure("outer"), monitor.measure("inner"):
        pass
    assert monitor.report()["inner"].parents == ()


def test_a_block_may_end_in_another_context(monitor):
    """As in a generator that somebody else closes."""
    measured = monitor.measure("stream")
    contextvars.copy_context().run(measured.__enter__)
    contextvars.copy_context().run(measured.__exit__, None, None, None)
    assert figures(monitor.report(), "stream") == (1, 0, 0)


def test_a_block_that_ends_elsewhere_leaves_the_blocks_there_alone(monitor):
    """What is measured after it still has its own parent."""
    stream = monitor.measure("stream")
    contextvars.copy_context().run(stream.__enter__)
    with monitor.measure("request"):
        stream.__exit__(None, None, None)
        with monitor.measure("search"):
            pass
    assert monitor.report()["search"].parents == ("request",)


def test_a_measurement_is_used_once(monitor):
    """The message says what to do instead."""
    measured = monitor.measure("parse")
    with measured:
        pass
    with pytest.raises(RuntimeError, match="call `monitor.measure` for each block"), measured:
        pass
    assert figures(monitor.report(), "parse") == (1, 0, 0)


def test_the_wait_runs_from_the_planned_start(clock, monitor):
    """A start ahead of the plan has not waited."""
    with monitor.measure("late", planned=-0.25) as late:
        clock.advance(1.0)
    with monitor.measure("early", planned=monitor.now() + 3) as early:
        clock.advance(1.0)
    report = monitor.report()
    assert (late.wait, early.wait) == (0.25, 0.0)
    assert (report["late"].wait.maximum, report["late"].response.maximum) == (0.25, 1.25)
    assert (report["late"].maximum, report["early"].response.maximum) == (1.0, 1.0)
    assert report.started == -0.25


def test_planned_starts_show_what_a_closed_loop_omits():
    """One stall of 2 s in 1,000 calls: the caller that waits for each answer meets it once."""

    async def call(number):
        await asyncio.sleep(2.0 if number == 500 else 0.005)

    async def load(monitor, planned):
        start = monitor.now()
        for number in range(1000):
            due = start + number * 0.01
            await asyncio.sleep(max(0, due - monitor.now()))
            with monitor.measure("call", planned=due if planned else None):
                await call(number)

    reports = []
    for planned in (False, True):
        monitor = PerformanceMonitor()
        simulate(load(monitor, planned))
        reports.append(monitor.report()["call"])
    closed, scheduled = reports
    assert closed.response.quantile(0.99) == pytest.approx(0.005, rel=0.01)
    assert scheduled.response.quantile(0.99) == pytest.approx(1.96, rel=0.01)
    assert scheduled.service == closed.service
    assert scheduled.wait.maximum == 1.99


def test_records_count_from_their_planned_start(clock, monitor):
    """A call that has just ended was in flight until now, and was observed from its plan on."""
    clock.advance(10)
    monitor.record("call", 2.0, wait=1.0)
    report = monitor.report()
    assert (report.started, report.seconds) == (7.0, 3.0)
    assert report["call"].mean_in_flight == 2 / 3
    span = report.spans[0]
    assert (span.planned, span.start, span.end, span.seconds) == (7.0, 8.0, 10.0, 2.0)


def test_the_clock_goes_on_from_one_simulation_to_the_next():
    """No time passes between them, and none while the machine's time is asked."""
    monitor = PerformanceMonitor()

    async def call():
        with monitor.measure("call"):
            await asyncio.sleep(1)

    simulate(call)
    first = monitor.report()
    simulate(call)
    second = monitor.report()
    assert first["call"].total == 1.0
    assert second["call"].total == 2.0
    start = first.spans[0].end
    assert 0 <= second.spans[1].start - start < 1
    assert second.seconds >= 2.0


def test_the_clock_counts_from_when_the_monitor_was_made():
    """In a simulation that is the loop's own time."""

    async def main():
        monitor = PerformanceMonitor()
        await asyncio.sleep(0.7)
        return monitor.now(), asyncio.get_running_loop().time()

    assert simulate(main).value == (0.7, 0.7)


def test_threads_and_ordinary_loops_share_the_machines_time():
    """By default; nobody has to wait for that to be seen."""
    monitor = PerformanceMonitor()
    before = time.monotonic()
    started = monitor.now()

    async def main():
        return monitor.now()

    inside = asyncio.run(main())
    assert started <= inside <= monitor.now() <= started + time.monotonic() - before + 1e-6


def test_a_timer_that_goes_back_counts_as_one_that_stands_still(clock, monitor):
    """A wall clock that is set back makes no negative duration."""
    with monitor.measure("call"):
        clock.advance(2)
        monitor.now()
        clock.advance(-100)
    with monitor.measure("next"):
        clock.advance(1)
    report = monitor.report()
    assert (report["call"].maximum, report["next"].maximum) == (2.0, 1.0)


def test_the_repr_shows_the_state(monitor):
    """Steps, calls that ended, calls in flight."""
    monitor.record("a", 1.0)
    with monitor.measure("b"):
        assert repr(monitor) == "<PerformanceMonitor: 2 steps, 1 calls, 1 in flight>"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"duration": -1.0}, ValueError, "duration=-1.0, wait=0.0: give seconds"),
        ({"duration": math.nan}, ValueError, "duration=nan"),
        ({"duration": math.inf}, ValueError, "duration=inf"),
        ({"wait": -0.5}, ValueError, "wait=-0.5"),
        ({"wait": math.nan}, ValueError, "wait=nan"),
        ({"duration": 8e9, "wait": 8e9}, ValueError, "0 or more"),
        ({"outcome": "fine"}, ValueError, "outcome='fine': one of 'ok', 'error', 'cancelled'"),
        ({"name": 7}, TypeError, "name=7 is no name of a step: pass a string"),
        ({"duration": "1"}, TypeError, "not supported between"),
    ],
)
def test_what_is_no_record_is_refused(monitor, arguments, error, message):
    """And nothing of it is counted."""
    with pytest.raises(error, match=message):
        monitor.record(**{"name": "a", "duration": 1.0, **arguments})
    assert len(monitor.report()) == 0


def test_what_cannot_be_measured_is_refused(monitor):
    """Before the block runs."""
    with pytest.raises(TypeError, match="name=None is no name"):
        monitor.measure(None)
    with pytest.raises(ValueError, match="planned=nan: seconds as `monitor.now"):
        monitor.measure("a", planned=math.nan)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timer": 7}, TypeError),
        ({"keep_spans": -1}, ValueError),
        ({"keep_spans": 1.5}, TypeError),
        ({"max_runs": 0}, ValueError),
        ({"max_names": 0}, ValueError),
        ({"max_names": True}, TypeError),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, error):
    """The message names the option and its value."""
    (name,) = options
    with pytest.raises(error, match=f"{name}={options[name]}"):
        PerformanceMonitor(**options)
