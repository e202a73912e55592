import asyncio
import contextvars
import gc
import math
import sys
import threading
import time
from uuid import uuid4

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


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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


def test_in_flight_is_integrated_over_time(clock, monitor):
    """Also without spans, and with calls that are not done."""
    monitor = PerformanceMonitor(timer=clock, keep_spans=0)
    outer, inner = monitor.measure("call"), monitor.measure("call")
    with outer:
        clock.advance(1)
        with inner:
            clock.advance(1)
        clock.advance(1)
        during = monitor.report()["call"]
    after = monitor.report()["call"]
    assert (during.count, during.in_flight, during.mean_in_flight) == (1, 1, 4 / 3)
    assert (after.count, after.in_flight, after.mean_in_flight) == (2, 0, 4 / 3)
    assert monitor.report().spans == ()
    assert monitor.report().dropped_spans == 2


def test_time_that_passes_after_the_last_call_is_not_observed(clock, monitor):
    """A report made later is the same report."""
    monitor.record("call", 1.0)
    before = monitor.report()
    clock.advance(1000)
    assert monitor.report() == before


def test_littles_law_holds_for_what_is_counted(clock, monitor):
    """Mean in flight = throughput x mean service, when all calls have ended."""
    open_calls = []
    for number in range(50):
        clock.advance(0.1 * (number % 7))
        open_calls.append(monitor.measure("call"))
        open_calls[-1].__enter__()
        if number % 3 == 0:
            open_calls.pop(0).__exit__(None, None, None)
    for each in open_calls:
        clock.advance(0.3)
        each.__exit__(None, None, None)
    step = monitor.report()["call"]
    assert step.mean_in_flight == pytest.approx(step.throughput * step.mean, rel=1e-12)
    assert step.count == 50


def test_no_record_is_lost_with_eight_threads(monitor):
    """Counts, sums and names, with threads that change places as often as they can."""

    def work(number):
        for turn in range(2000):
            monitor.record("shared", 0.001)
            with monitor.measure(f"own {number}"):
                pass
            if turn % 100 == 0:
                monitor.record("rare", 0.5, wait=0.5, outcome="error")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads(8, work)
    finally:
        sys.setswitchinterval(interval)
    report = monitor.report()
    assert report["shared"].count == 16_000
    assert report["shared"].total == 16.0
    assert figures(report, "rare") == (160, 160, 0)
    assert [report[f"own {number}"].count for number in range(8)] == [2000] * 8
    assert len(report.spans) + report.dropped_spans == 32_160
    assert len({span.id for span in report.spans}) == 10_000


def test_reports_are_made_while_threads_add_names(monitor):
    """Each is consistent in itself: never an error, never a count that goes down."""
    stop = threading.Event()

    def work(number):
        for turn in range(20_000):
            if stop.is_set():
                return
            monitor.record(f"{number}.{turn % 400}", 0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        counts = []
        for _ in range(20):
            report = monitor.report()
            counts.append(sum(step.count for step in report.steps.values()))
            assert counts[-1] == len(report.spans) + report.dropped_spans
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert counts == sorted(counts)


def test_a_run_that_ends_while_another_is_counted_blocks_nothing():
    """Python may close a forgotten stream, and so end its run, in the middle of any allocation."""
    run, seconds = uuid4(), 0

    def timer():
        if seconds:
            monitor.callback.on_chain_error(GeneratorExit(), run_id=run)
        return seconds

    monitor = PerformanceMonitor(timer=timer)
    monitor.callback.on_chain_start(None, {}, run_id=run, name="stream")
    seconds = 1
    thread = threading.Thread(target=monitor.record, args=("call", 0.5), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert figures(monitor.report(), "stream") == (1, 0, 1)
    assert figures(monitor.report(), "call") == (1, 0, 0)


def test_the_spans_kept_are_the_last(clock):
    """As many as there is room for; the rest is counted."""
    monitor = PerformanceMonitor(timer=clock, keep_spans=3)
    for number in range(10):
        monitor.record(str(number), 0.0)
    report = monitor.report()
    assert [span.name for span in report.spans] == ["7", "8", "9"]
    assert report.dropped_spans == 7


def test_names_without_end_are_counted_together(clock):
    """Beyond `max_names` under "(other)"; those known before keep their own."""
    monitor = PerformanceMonitor(timer=clock, max_names=2)
    for name in ("a", "b", "question 1", "question 2", "a"):
        with monitor.measure(name):
            clock.advance(1)
    report = monitor.report()
    assert {name: step.count for name, step in report.steps.items()} == {
        "a": 2,
        "b": 1,
        "(other)": 2,
    }
    assert [span.name for span in report.spans] == ["a", "b", "(other)", "(other)", "a"]
    assert report["(other)"].in_flight == 0


def test_memory_does_not_grow_with_the_number_of_calls(clock):
    """After the first thousand, another ten thousand leave no object behind."""
    monitor = PerformanceMonitor(timer=clock, keep_spans=100)

    def some(count):
        for number in range(count):
            with monitor.measure("call"):
                clock.advance(0.001 * (number % 100))

    some(1000)
    gc.collect()
    before = len(gc.get_objects())
    some(10_000)
    gc.collect()
    assert len(gc.get_objects()) - before < 100


def test_reset_forgets_what_has_ended(clock, monitor):
    """And observes from the next call on."""
    monitor.record("old", 1.0)
    clock.advance(10)
    monitor.reset()
    assert len(monitor.report()) == 0
    clock.advance(5)
    monitor.record("new", 1.0)
    report = monitor.report()
    assert list(report) == ["new"]
    assert (report.started, report.seconds, len(report.spans)) == (14.0, 1.0, 1)


def test_calls_in_flight_at_a_reset_are_counted_when_they_end(clock, monitor):
    """In full; in flight they count from the reset on."""
    with monitor.measure("long"):
        clock.advance(3)
        monitor.reset()
        assert monitor.report()["long"].in_flight == 1
        clock.advance(1)
    report = monitor.report()
    assert (report["long"].count, report["long"].total) == (1, 4.0)
    assert (report.seconds, report["long"].mean_in_flight) == (1.0, 1.0)


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
