"""What the callback makes of batches, in which LangChain tells all starts and ends at once."""

import asyncio
import time

import pytest
from langchain_core.runnables import RunnableLambda
from monitoring_support import figures, spans_of, step, watched

from course_lib.lab import simulate
from course_lib.monitoring import PerformanceMonitor


@pytest.fixture
def monitor():
    return PerformanceMonitor()


def chain_of(*steps):
    first, *others = steps
    for each in others:
        first |= each
    return first.with_config(run_name="chain")


def test_an_item_lasts_from_its_first_step_to_its_last(monitor):
    """Not from the batch's start to its end, as LangChain tells it: 0.75 s for each of them."""
    chain = chain_of(step("a", lambda x: 0.1 * (x + 1)), step("b", lambda x: 0.6 / (x + 2)))
    batch = chain.abatch([0, 1, 2], config=watched(monitor, max_concurrency=2))
    assert simulate(batch).seconds == 0.75
    report = monitor.report()
    # a: 0-0.1, 0-0.2, 0.1-0.4; then b for all: 0.4-0.7, 0.4-0.6, 0.6-0.75 by two at once
    assert spans_of(report, "a") == [(0.0, 0.1), (0.0, 0.2), (0.1, 0.4)]
    assert sorted(spans_of(report, "chain")) == [(0.0, 0.6), (0.0, 0.7), (0.1, 0.75)]


def test_the_first_wait_of_an_item_is_told_apart(monitor):
    """Response runs from the batch's start until the item was done."""
    chain = chain_of(step("a", 1), step("b", 2))
    simulate(chain.abatch(range(3), config=watched(monitor, max_concurrency=1)))
    step_report = monitor.report()["chain"]
    assert (step_report.wait.minimum, step_report.wait.maximum) == (0.0, 2.0)
    assert (step_report.response.minimum, step_report.response.maximum) == (5.0, 9.0)
    assert step_report.service.maximum == 7.0
    assert monitor.report().seconds == 9.0


def test_littles_law_holds_for_batches(monitor):
    """What was waiting or done is not in flight."""
    chain = chain_of(step("a", lambda x: 0.1 * (x + 1)), step("b", 0.3))
    simulate(chain.abatch(range(20), config=watched(monitor, max_concurrency=4)))
    for name in ("chain", "a", "b"):
        step_report = monitor.report()[name]
        law = step_report.throughput * step_report.mean
        assert step_report.mean_in_flight == pytest.approx(law, rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 30])
def test_single_calls_and_batches_of_one_keep_their_times(monitor, size):
    """Where nothing waits, an item's time is that of its steps."""
    chain = chain_of(step("a", 1), step("b", 2))
    simulate(chain.abatch(range(size), config=watched(monitor)))
    simulate(chain.ainvoke(0, config=watched(monitor)))
    step_report = monitor.report()["chain"]
    assert (step_report.minimum, step_report.maximum) == (3.0, 3.0)
    assert step_report.wait.maximum == 0.0


def test_retries_in_a_batch_last_until_their_own_success(monitor):
    """An item that needs one attempt is not charged for another's second."""
    failed = set()

    async def flaky(number):
        await asyncio.sleep(1)
        if number == 1 and number not in failed:
            failed.add(number)
            raise ValueError("once")
        return number

    retried = RunnableLambda(flaky, name="flaky").with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    )
    config = watched(monitor, run_name="retried")
    result = simulate(retried.abatch([0, 1, 2], config=config))
    report = monitor.report()
    assert result.value == [0, 1, 2]
    assert figures(report, "flaky") == (4, 1, 0)
    assert sorted(spans_of(report, "retried")) == [(0.0, 1.0), (0.0, 1.0), (0.0, 2.0)]


def test_a_sequence_in_a_batch_passes_its_items_times_on(monitor):
    """What is corrected within is what the steps around it go by."""
    inner = step("a", lambda x: 1 + x) | step("b", lambda x: 1 + x / 3)
    retried = inner.with_retry(stop_after_attempt=1).with_config(run_name="retried")
    chain = chain_of(retried, step("c", 1))
    simulate(chain.abatch([0, 3], config=watched(monitor)))
    report = monitor.report()
    assert spans_of(report, "b") == [(4.0, 5.0), (4.0, 6.0)]
    assert spans_of(report, "RunnableSequence") == [(0.0, 5.0), (0.0, 6.0)]
    assert spans_of(report, "retried") == [(0.0, 5.0), (0.0, 6.0)]
    assert spans_of(report, "chain") == [(0.0, 7.0), (0.0, 7.0)]


def test_a_sequence_in_a_batch_passes_its_items_waits_on(monitor):
    """An item of the outer batch begins when that of the inner one really does."""
    inner = step("a", 1) | step("b", 1)
    retried = inner.with_retry(stop_after_attempt=1).with_config(run_name="retried")
    simulate(retried.abatch([0, 1], config=watched(monitor, max_concurrency=1)))
    report = monitor.report()
    assert spans_of(report, "RunnableSequence") == [(0.0, 3.0), (1.0, 4.0)]
    assert spans_of(report, "retried") == [(0.0, 3.0), (1.0, 4.0)]
    assert report["retried"].wait.maximum == 1.0


def test_items_in_flight_at_a_reset_count_from_it_on(monitor):
    """What a batch told too early or too late is taken off only as far as it was counted."""
    chain = chain_of(step("a", 1), step("b", 1))

    async def main():
        batch = chain.abatch([0, 1], config=watched(monitor, max_concurrency=1))
        task = asyncio.create_task(batch)
        await asyncio.sleep(1.5)
        monitor.reset()
        await task

    simulate(main)
    report = monitor.report()
    assert spans_of(report, "chain") == [(0.0, 3.0), (1.0, 4.0)]
    assert (report.started, report.seconds) == (1.5, 2.5)
    assert report["chain"].mean_in_flight == (1.5 + 2.5) / 2.5


def test_failed_items_of_a_batch_are_errors(monitor):
    """With `return_exceptions` only they; without, LangChain fails all."""

    async def pick(number):
        if number == 1:
            raise ValueError("no")
        return number

    chain = chain_of(RunnableLambda(pick), step("b", 1))

    async def main(*, return_exceptions):
        return await chain.abatch(
            [0, 1, 2], config=watched(monitor), return_exceptions=return_exceptions
        )

    simulate(main(return_exceptions=True))
    assert figures(monitor.report(), "chain") == (3, 1, 0)
    monitor.reset()
    with pytest.raises(ValueError, match="no"):
        simulate(main(return_exceptions=False))
    assert figures(monitor.report(), "chain") == (3, 3, 0)


def test_items_of_a_synchronous_batch_have_their_own_times(monitor):
    """Steps in a pool of one thread: each item but the first waited for those before."""

    def nap(value):
        time.sleep(0.01)
        return value

    chain = chain_of(RunnableLambda(nap, name="a"), RunnableLambda(nap, name="b"))
    chain.batch([1, 2, 3], config=watched(monitor, max_concurrency=1))
    report = monitor.report()
    starts, firsts = (
        sorted(start for start, _ in spans_of(report, name)) for name in ("chain", "a")
    )
    assert starts == firsts
    assert report["chain"].wait.maximum >= 0.02


def test_a_step_that_works_round_its_children_is_not_cut(monitor):
    """Its time is its own: only where a batch told it all at once is it taken from its steps."""

    async def outer(value):
        await asyncio.sleep(1)
        await step("inner", 1).ainvoke(value)
        await asyncio.sleep(1)

    simulate(RunnableLambda(outer).abatch([1, 2], config=watched(monitor)))
    assert spans_of(monitor.report(), "outer") == [(0.0, 3.0), (0.0, 3.0)]
