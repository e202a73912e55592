"""What chooses the size of chunks: the machine's load, or the service's latency and throughput."""

import re
from statistics import median
from typing import NamedTuple

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching import Chunk, CpuMeter, CpuSignal, LatencySignal, Outcome, adaptive_batch
from course_lib.lab.simulation import simulate
from course_lib.service import Behaviour, Capacity, Latency
from course_lib.service.engine import Engine


class Times(NamedTuple):
    """What Linux counts, in seconds."""

    user: float
    system: float
    idle: float
    iowait: float
    guest: float
    guest_nice: float = 0.0


@pytest.fixture
def machine(monkeypatch):
    """Two processors whose counters the test sets."""
    times = {"user": 100.0, "system": 50.0, "idle": 500.0, "iowait": 10.0, "guest": 20.0}

    def run(**seconds):
        for name, more in seconds.items():
            times[name] += more

    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(**times))
    return run


def test_a_meter_measures_from_when_it_was_made(machine):
    """Its first reading means something already; waiting for disks is idle, guests count once."""
    meter = CpuMeter()
    machine(user=1.5, guest=1.0, system=0.5, idle=1.0, iowait=1.0)
    assert meter() == pytest.approx(0.5)
    machine(idle=2.0)
    assert meter() == 0.0


def test_a_meter_says_nothing_over_too_short_a_time(machine):
    """And loses none of it: what was too short counts at the next reading."""
    meter = CpuMeter()
    machine(user=0.15)
    assert meter() is None
    machine(idle=0.15)
    assert meter() == pytest.approx(0.5)


def test_meters_do_not_disturb_each_other(machine):
    """As callers of `psutil.cpu_percent` do."""
    first, second = CpuMeter(), CpuMeter()
    machine(user=2.0)
    assert (first(), second()) == (1.0, 1.0)


def test_a_meter_reads_this_machine():
    """Whatever its system counts: a share, or nothing yet."""
    load = CpuMeter()()
    assert load is None or 0 <= load <= 1


def loads(*values):
    """A load that takes these values in turn."""
    return iter(values).__next__


def sizes(signal, count):
    """The sizes that a signal goes through."""
    found = [signal.size]
    for _ in range(count):
        signal.observe(Chunk((), 1.0))
        found.append(signal.size)
    return found


def test_an_idle_machine_gets_larger_chunks_and_a_busy_one_smaller():
    """Between the two, or where nothing is known, they stay; there is a largest and a smallest."""
    signal = CpuSignal(4, most=10, load=loads(0.1, None, 0.1, 0.6, 0.9, 0.9, 0.9, 1.0))
    assert sizes(signal, 8) == [4, 8, 8, 10, 10, 5, 2, 1, 1]
    assert repr(signal) == "<CpuSignal size=1, load 100%>"


def run_against(latency, signal, items, *, capacity):
    """Run a batch against a provider with so many slots; return the sizes of its chunks."""
    found = []

    class Watched:
        size = property(lambda _: signal.size)

        def observe(self, chunk):
            found.append(len(chunk.outcomes))
            signal.observe(chunk)

    async def main():
        engine = Engine(Behaviour(latency=latency, capacity=Capacity(capacity)))

        async def search(item):
            async with engine.admit("/search"):
                return item

        batch = adaptive_batch(search, range(items), signal=Watched())
        return sum([1 async for _ in batch])

    result = simulate(main)
    assert result.value == items
    return found, result.seconds


@pytest.mark.parametrize("capacity", [3, 8, 24])
def test_latency_leads_to_the_knee(capacity):
    """Where every place of the service is taken and nobody queues, whatever it was before."""
    for start in (1, 4, 100):
        signal = LatencySignal(start)
        found, _ = run_against(Latency.constant(0.1), signal, 3000, capacity=capacity)
        assert median(found[len(found) // 2 :]) == pytest.approx(capacity, rel=0.13)


@pytest.mark.parametrize(("start", "capacity"), [(24, 6), (1, 6)])
def test_at_either_end_it_looks_the_other_way(start, capacity):
    """Where it cannot grow it shrinks, and where it cannot shrink it grows."""
    signal = LatencySignal(start, most=24)
    signal._direction = -1 if start == 1 else 1
    found, _ = run_against(Latency.constant(0.1), signal, 2000, capacity=capacity)
    assert median(found[len(found) // 2 :]) == pytest.approx(capacity, abs=1)


def test_an_idle_machine_knows_no_knee():
    """By its own load a client that waits never learns that the service is full."""
    signal = CpuSignal(load=lambda: 0.05)
    found, _ = run_against(Latency.constant(0.1), signal, 3000, capacity=8)
    assert max(found) == 256


def test_spread_latencies_do_not_lead_far_astray():
    """It does about as well as chunks of the service's capacity, which it does not know."""
    ratios = []
    for seed in range(5):
        latency = Latency.lognormal(0.1, 0.4, seed=seed)
        _, seconds = run_against(latency, LatencySignal(), 2000, capacity=8)
        _, known = run_against(latency, CpuSignal(8, load=lambda: 0.6), 2000, capacity=8)
        ratios.append(seconds / known)
    assert median(ratios) < 1.1


def chunk(size, seconds, error=None):
    """A chunk whose items all took so long."""
    return Chunk(tuple(Outcome(n, error=error, service=seconds) for n in range(size)), seconds)


def test_it_follows_a_service_that_has_changed():
    """Power that has dropped by more than half starts a new search."""
    signal = LatencySignal(8)

    def serve(chunks, slots):
        for _ in range(chunks):
            waves = [1 + number // slots for number in range(signal.size)]
            outcomes = (Outcome(n, service=0.1 * wave) for n, wave in enumerate(waves))
            signal.observe(Chunk(tuple(outcomes), 0.1 * waves[-1]))
        return signal.size

    assert serve(200, slots=32) == pytest.approx(32, rel=0.13)
    assert serve(600, slots=4) == pytest.approx(4, abs=1)
    assert serve(600, slots=16) == pytest.approx(16, rel=0.13)


def test_what_is_rejected_at_once_is_not_fast():
    """Errors count as no answers, so more of them never looks better."""
    signal = LatencySignal(8, sample=1)
    signal.observe(chunk(8, 0.1))
    assert signal.size == 16
    signal.observe(chunk(16, 0.001, error=ConnectionError()))
    assert signal.size < 8


def test_a_partial_chunk_says_nothing():
    """The last one of a batch is not held against its size."""
    signal = LatencySignal(8, sample=1)
    signal.observe(chunk(3, 9.0))
    assert signal.power is None
    assert repr(signal) == "<LatencySignal size=8, best 8, nothing seen yet>"


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60), st.integers(1, 20))
def test_whatever_it_sees_the_size_is_allowed(seen, start):
    """From 1 to the most."""
    signal = LatencySignal(start, most=20, sample=1)
    for seconds, good in seen:
        signal.observe(chunk(signal.size, seconds, None if good else OSError()))
        assert 1 <= signal.size <= 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CpuSignal(0), "start=0: give a whole number, 1 or above"),
        (lambda: CpuSignal(8, most=4), "most=4: give a whole number, 8 or above"),
        (lambda: CpuSignal(idle=0.9, busy=0.5), "idle=0.9, busy=0.5: give 0 <= idle <= busy <= 1"),
        (lambda: LatencySignal(patience=0), "patience=0: give a whole number"),
        (lambda: LatencySignal(margin=-1), "margin=-1: give a finite number, 0 or above"),
        (lambda: LatencySignal(sample=0), "sample=0: give a whole number"),
    ],
)
def test_impossible_signals_are_refused(make, message):
    """When they are made."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
