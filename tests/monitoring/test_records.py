"""What is counted of the calls that ended, and of those in flight."""

import gc
import sys
import threading
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring_support import SetClock, figures

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


STEPS = st.sampled_from(["a", "b", "c"])
EIGHTHS = st.integers(0, 40).map(lambda number: number / 8)  # of a second: exact in binary
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), EIGHTHS),
        st.tuples(st.just("begin"), STEPS, EIGHTHS),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("record"), STEPS, EIGHTHS, EIGHTHS),
        st.tuples(st.just("reset")),
        st.tuples(st.just("report")),
    ),
    max_size=60,
)


class Plain:
    """A monitor that keeps every call, and adds up in flight at each step of the clock."""

    def __init__(self, clock):
        self.clock, self.zero = clock, clock.seconds
        self.open, self.area = [], {}
        self.reset()

    def reset(self):
        self.ended, self.planned = [], []
        self.area = {name: 0.0 for name, *_ in self.open}
        self.since = self.last = self.now
        if self.open:
            self.planned = [self.now]

    @property
    def now(self):
        return self.clock.seconds - self.zero

    def advance(self, seconds):
        self.clock.advance(seconds)
        for name, *_ in self.open:
            self.area[name] += seconds

    def begin(self, name, wait):
        self.open.append((name, self.now, wait))
        self.area.setdefault(name, 0.0)
        self.planned.append(self.now - wait)

    def end(self, index):
        name, start, wait = self.open.pop(index)
        self.ended.append((name, start, self.now, wait))
        self.last = self.now

    def record(self, name, duration, wait):
        self.ended.append((name, self.now - duration, self.now, wait))
        self.area[name] = self.area.get(name, 0.0) + duration
        self.planned.append(self.now - duration - wait)
        self.last = self.now

    def observed(self):
        """When the time observed began, and how long it is."""
        end = self.now if self.open else self.last
        first = min(self.planned, default=end)
        return first, end - first


def assert_agrees(report, plain):
    assert (report.started, report.seconds) == plain.observed()
    assert set(report) == set(plain.area)
    for name, step in report.steps.items():
        ended = [(start, end, wait) for step, start, end, wait in plain.ended if step == name]
        assert step.count == step.wait.count == step.response.count == len(ended)
        assert step.total == sum(end - start for start, end, _ in ended)
        assert step.wait.total == sum(wait for *_, wait in ended)
        assert step.response.total == step.total + step.wait.total
        assert step.in_flight == sum(each == name for each, *_ in plain.open)
        assert step.in_flight_nanoseconds == plain.area[name] * 10**9
    spans = [(span.name, span.start, span.end, span.wait) for span in report.spans]
    assert spans == plain.ended[-5:]
    assert report.dropped_spans == max(0, len(plain.ended) - 5)


@settings(max_examples=200)
@given(EVENTS)
def test_figures_are_those_of_a_monitor_that_keeps_everything(events):
    """Whatever begins, ends, is recorded, forgotten or reported, in any order."""
    clock = SetClock()
    monitor, plain, blocks = PerformanceMonitor(timer=clock, keep_spans=5), Plain(clock), []
    for event, *given_ in events:
        if event == "advance":
            plain.advance(*given_)
        elif event == "begin":
            name, wait = given_
            blocks.append(monitor.measure(name, planned=plain.now - wait))
            blocks[-1].__enter__()
            plain.begin(name, wait)
        elif event == "end" and blocks:
            index = given_[0] % len(blocks)
            blocks.pop(index).__exit__(None, None, None)
            plain.end(index)
        elif event == "record":
            name, duration, wait = given_
            monitor.record(name, duration, wait=wait)
            plain.record(name, duration, wait)
        elif event == "reset":
            monitor.reset()
            plain.reset()
        elif event == "report":
            assert_agrees(monitor.report(), plain)
    assert_agrees(monitor.report(), plain)


def test_reports_share_the_spans_that_both_show(clock, monitor):
    """What was made for one is not made again, and keeps its place among those that came later."""
    for number in range(3):
        monitor.record(str(number), 0.5)
    before = monitor.report().spans
    monitor.record("3", 0.5)
    after = monitor.report().spans
    assert [span.name for span in after] == ["0", "1", "2", "3"]
    assert all(one is other for one, other in zip(before, after, strict=False))
