"""The bottleneck that is named is the one whose mending helps, in networks whose limits are known."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda
from network_support import CHAIN, Place, batch, chain, poisson, run

from course_lib.lab import simulate
from course_lib.monitoring.bottleneck import bottleneck, held_by
from course_lib.monitoring.monitor import PerformanceMonitor
from course_lib.monitoring.report import Report, Span
from course_lib.rate_limiting import Gate, limited

QUEUES = ("provider", "planned", "gap")


def only_spans(*spans, **more):
    """A report whose figures come from a monitor, and whose spans are these."""
    monitor = PerformanceMonitor()
    for span in spans:
        monitor.record(span.name, span.end - span.start, wait=span.wait, outcome=span.outcome)
    report = monitor.report()
    return Report(report.steps, report.seconds, 0.0, tuple(spans), **more)


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("kind", ["constant", "lognormal", "exponential"])
def test_at_60_arrivals_a_second_rerank_does_not_keep_up(kind, queue):
    """With 4 places for 80 ms each it takes 50 a second; `generate` has the largest own time."""
    found = bottleneck(run(chain(kind, queue), poisson(60, 400))[0])
    assert (found.kind, found.step) == ("saturated", "rerank")
    assert 45 < found.stations["rerank"].capacity < 55
    assert found.utilisations["rerank"] > 0.93
    assert found.sure


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("kind", ["constant", "lognormal", "exponential"])
def test_at_40_arrivals_a_second_nothing_is_saturated(kind, queue):
    """80 % of rerank's places are used: more of them, of any step, would change next to nothing."""
    found = bottleneck(run(chain(kind, queue), poisson(40, 400))[0])
    assert (found.kind, found.step, found.largest) == ("none", None, "generate")
    assert 0.6 < found.utilisations["rerank"] < 0.88
    assert "rerank comes nearest" in str(found)


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("kind", ["constant", "lognormal", "exponential"])
def test_a_hundred_at_once_wait_for_rerank(kind, queue):
    """Halving it shortens the batch most, although `generate` takes twelve times as long."""
    found = bottleneck(run(chain(kind, queue), batch(100))[0])
    assert (found.kind, found.step) == ("saturated", "rerank")
    assert found.stations["generate"].slots is None
    assert found.stations["retrieve"].slots is None


def test_a_few_at_once_wait_for_generate():
    """Rerank is full for 0.4 s only; that is no bottleneck of a run of 1.5 s."""
    found = bottleneck(run(chain("constant"), batch(20))[0])
    assert (found.step, found.largest) == (None, "generate")
    assert "Nothing is saturated for long" in found.evidence
    assert not found.sure


@pytest.mark.parametrize(("workers", "step"), [(1, None), (20, None), (80, "rerank")])
def test_a_closed_load_saturates_only_with_workers_enough(workers, step):
    """The knee is at 56 of them: 1.12 s of own times, at 50 a second."""
    found = bottleneck(run(chain(), ("closed", 300, workers))[0])
    assert found.step == step


TIMES = st.sampled_from([0.02, 0.05, 0.1, 0.3])
SLOTS = st.sampled_from([None, 1, 2, 4, 8])
KINDS = st.sampled_from(["constant", "lognormal"])
PLACES = st.tuples(TIMES, SLOTS, st.sampled_from(QUEUES))
LOADS = st.sampled_from([batch(100), ("closed", 100, 10), ("closed", 100, 40)])


@settings(max_examples=25)
@given(st.tuples(PLACES, PLACES, PLACES), KINDS, LOADS)
def test_what_it_names_is_what_helps(places, kind, load):
    """Twice the places for the named step shorten the run at least as much as for any other.

    Within 6 % of the run, and with demands that differ: of two equal limits either may be named.
    """
    network = [
        Place(name, *place[:2], kind, place[2]) for name, place in zip("abc", places, strict=True)
    ]
    *_, second, largest = sorted(place.seconds / (place.slots or 1e9) for place in network)
    assume(largest > 1.3 * second)
    report, seconds = run(network, load)
    found = bottleneck(report)
    gains = {
        place.name: seconds - run([p.doubled() if p is place else p for p in network], load)[1]
        for place in network
    }
    best = max(gains.values())
    if found.step is not None:
        assert gains[found.step] >= best - 0.06 * seconds
    else:
        assert best <= 0.35 * seconds


def test_once_it_is_mended_the_bottleneck_is_another_one():
    """The second limit shows when the first is gone."""
    network = [Place("a", 0.1, 2), Place("b", 0.1, 4), Place("c", 0.1)]
    assert bottleneck(run(network, batch(100))[0]).step == "a"
    network[0] = replace(network[0], slots=16)
    assert bottleneck(run(network, batch(100))[0]).step == "b"


def test_a_gate_within_a_step_is_found():
    """The course's own gate, of which the monitor sees nothing."""

    async def program():
        monitor, gate = PerformanceMonitor(), Gate(concurrency=3)

        async def item():
            with monitor.measure("search"):
                await asyncio.sleep(0.5)
            with monitor.measure("ask"):
                async with gate.slot():
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(item() for _ in range(60)))
        return monitor.report()

    found = bottleneck(simulate(program).value)
    assert found.step == "ask"
    assert found.stations["ask"].slots == 3


def test_a_limit_round_the_whole_is_named_by_what_it_surrounds():
    """Items wait before the first step, by their planned starts."""

    async def program():
        monitor, gate = PerformanceMonitor(), Gate(concurrency=5)

        async def item():
            planned = monitor.now()
            async with gate.slot():
                with monitor.measure("item", planned=planned):
                    with monitor.measure("first"):
                        await asyncio.sleep(0.1)
                    with monitor.measure("second"):
                        await asyncio.sleep(0.2)

        await asyncio.gather(*(item() for _ in range(100)))
        return monitor.report()

    found = bottleneck(simulate(program).value)
    assert (found.kind, found.step) == ("saturated", "item")
    assert set(found.shares) == {"first", "second"}
    assert "5 at once" in found.evidence


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_a_chain_of_langchain_is_judged_by_its_callback(hidden, batched):
    """The limit lies inside the step, or round it in a gate; items flow, or come step by step."""

    def named(place, slots=None):
        async def call(item):
            async with slots or contextlib.nullcontext():
                await asyncio.sleep(place.seconds)
            return item

        return RunnableLambda(call).with_config(run_name=place.name)

    async def program():
        monitor = PerformanceMonitor()
        retrieve, rerank, generate = CHAIN
        if hidden:
            limit = named(rerank, asyncio.Semaphore(4))
        else:
            limit = limited(named(rerank), Gate(concurrency=4))
        pipeline = named(retrieve) | limit | named(generate)
        config = {"callbacks": [monitor.callback]}
        if batched:
            await pipeline.abatch(list(range(100)), config)
        else:
            await asyncio.gather(*(pipeline.ainvoke(item, config) for item in range(100)))
        return monitor.report()

    found = bottleneck(simulate(program).value)
    assert (found.kind, found.step) == ("saturated", "rerank")
    assert found.stations["rerank"].slots == 4
    assert found.times["rerank"] == pytest.approx((0.96, 0.08))


def test_steps_of_one_parent_are_compared_when_it_is_named():
    """By default those without children."""
    report, _ = run(chain("constant"), batch(100))
    assert set(bottleneck(report).shares) == {"retrieve", "rerank", "generate"}
    assert bottleneck(report, parent="item") == bottleneck(report)
    with pytest.raises(ValueError, match=r"parent='generate': no step ran in it.*'item'"):
        bottleneck(report, parent="generate")


def blocking(items=40, seconds=0.05, before=0.1, after=0.3):
    """Spans as a loop leaves them that stands still while each item is parsed."""
    spans, ends = [], []
    for number in range(items):
        begin = before + number * seconds
        for name, start, end in (
            ("fetch", number * 1e-5, begin + 1e-5),
            ("parse", begin + 2e-5, begin + seconds - 2e-5),
            ("ask", begin + seconds - 1e-5, max(begin + seconds + after, items * seconds)),
        ):
            moved = end + number * 1e-5 if name == "ask" else end
            ends.append((moved, name, start))
    for number, (end, name, start) in enumerate(sorted(ends), 1):
        spans.append(Span(name, start, end, id=number))
    return only_spans(*spans)


def test_a_step_that_blocks_the_loop_is_told_from_those_that_it_keeps_waiting():
    """`fetch` seems to queue, since its ends come late; nothing happens while `parse` runs."""
    found = bottleneck(blocking())
    assert (found.kind, found.step) == ("loop", "parse")
    assert found.largest != "parse"
    assert "holds the event loop" in found.evidence


def test_a_loop_that_is_held_only_a_little_is_not_the_bottleneck():
    """Each item holds it for 1 ms, of more than 300."""
    found = bottleneck(blocking(seconds=0.001))
    assert found.kind == "none"
    assert found.largest == "ask"


def test_a_few_calls_without_events_are_a_coincidence():
    """Two short calls, while one other is under way."""
    other = Span("other", 0.0, 10.0, id=1)
    short = [Span("short", n + 0.5, n + 0.6, id=2 + n) for n in range(2)]
    assert held_by([*short, other], ["short", "other"]) == {}


def test_a_step_that_lets_others_go_on_at_times_does_not_hold_the_loop():
    """Nothing happens during half of its calls, much during the others."""
    others = [Span("other", n - 0.5, n + 0.7, id=100 + n) for n in range(40)]
    calls = [Span("step", n + 0.1, n + (0.4, 0.9)[n % 2], id=1 + n) for n in range(40)]
    spans = sorted([*others, *calls], key=lambda span: span.end)
    assert held_by(spans, ["step"]) == {}
    quiet = [span for span in spans if span.name == "other" or span.id % 2]
    assert held_by(quiet, ["step"])["step"] == pytest.approx(20 * 0.3)


def test_a_blocked_loop_is_found_in_real_time():
    """An `async def` that computes, between two that wait."""

    async def program():
        monitor = PerformanceMonitor()

        async def item():
            with monitor.measure("fetch"):
                await asyncio.sleep(0.01)
            with monitor.measure("parse"):
                end = time.monotonic() + 0.01
                while time.monotonic() < end:
                    pass
            with monitor.measure("ask"):
                await asyncio.sleep(0.01)

        await asyncio.gather(*(item() for _ in range(30)))
        return monitor.report()

    found = bottleneck(asyncio.run(program()))
    assert (found.kind, found.step) == ("loop", "parse")


def test_work_side_by_side_is_no_blocked_loop():
    """A step that is worked on one at a time, while others go on."""
    network = [Place("a", 0.02), Place("b", 0.05, 1, "lognormal", "gap"), Place("c", 1.0)]
    found = bottleneck(run(network, batch(60))[0])
    assert (found.kind, found.step) == ("saturated", "b")


def test_failed_calls_do_not_hide_the_queue():
    """Rejections at once would look like a step that is fast."""
    report, _ = run(chain("constant"), batch(100))
    rejected = [
        Span("rerank", 0.04 + n / 100, 0.041 + n / 100, outcome="error", id=10_000 + n)
        for n in range(100)
    ]
    spans = sorted([*report.spans, *rejected], key=lambda span: span.end)
    found = bottleneck(Report(report.steps, report.seconds, 0.0, tuple(spans)))
    assert found.step == "rerank"
    assert 40 < found.stations["rerank"].capacity < 60


def test_the_last_spans_suffice():
    """The ring holds a third of the run; those that it cut in two are left out."""
    report, _ = run(chain(), poisson(60, 900), keep_spans=1200)
    assert report.dropped_spans > 2000
    assert bottleneck(report).step == "rerank"


def test_without_spans_the_answer_is_a_guess_and_says_so():
    """Waits that were told come first, then medians far above the minimum."""
    told = bottleneck(run(chain(queue="planned"), poisson(70, 400), keep_spans=0)[0])
    hidden = bottleneck(run(chain(queue="provider"), poisson(70, 400), keep_spans=0)[0])
    for found in (told, hidden):
        assert (found.step, found.sure) == ("rerank", False)
        assert "no spans" in found.evidence
    calm = bottleneck(run(chain("constant"), poisson(5, 100), keep_spans=0)[0])
    assert (calm.step, calm.largest) == (None, "generate")


def test_shares_add_up_to_one():
    """Waiting and being worked on, of all steps."""
    found = bottleneck(run(chain(), poisson(40, 100))[0])
    assert sum(found.shares.values()) == pytest.approx(1)


def test_one_call_of_one_step_is_an_answer_too():
    """Nothing is saturated."""
    found = bottleneck(only_spans(Span("only", 0.0, 1.0, id=1)))
    assert (found.step, found.largest, found.sure) == (None, "only", False)
    assert str(found).startswith("no bottleneck")


def test_nothing_recorded_is_refused():
    """With what to do."""
    with pytest.raises(ValueError, match="run the pipeline with the monitor first"):
        bottleneck(PerformanceMonitor().report())
