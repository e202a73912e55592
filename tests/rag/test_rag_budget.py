"""What a query with a time budget leaves out, in which order, in virtual time."""

import asyncio

import pytest
from rag.rag_support import VirtualClient, pipeline_of, seconds

from course_lib.lab import simulate
from course_lib.rag import Failure, RagSettings
from course_lib.rag.budget import Budget, Pace
from course_lib.service import Latency

THREE = {"retrieve": 0.1, "rerank": 0.2, "generate": 0.4}


def run(use, settings=None):
    """Open a pipeline in a simulation, let it learn what its stages take, and use it."""

    async def main():
        client = VirtualClient(endpoints=seconds(**THREE))
        async with pipeline_of(client, settings=settings) as pipeline:
            for number in range(30):
                await pipeline.high_performance_rag(f"earlier {number}")
            client.asked.clear()
            client.prompts.clear()
            return await use(pipeline, client), client

    return simulate(main).value


@pytest.mark.parametrize(
    ("budget", "degraded", "passages", "length"),
    [
        (1.0, (), 5, 200),
        (0.65, ("rerank",), 5, 200),
        (0.48, ("rerank", "passages"), 2, 200),
        (0.25, ("rerank", "passages", "length"), 2, 50),
    ],
)
def test_less_time_leaves_out_more_in_the_order_stated(budget, degraded, passages, length):
    """First the reranking, then all but two passages, then three quarters of the length."""

    async def use(pipeline, client):
        return await pipeline.high_performance_rag("q", budget=budget)

    answer, client = run(use)
    [(prompt, most)] = client.prompts or [(None, None)]
    assert answer.degraded == degraded
    assert (len(answer.sources), most) == (passages, length)
    assert prompt.count("Passage") == passages
    assert answer.ok == (budget > 0.5)  # this provider takes as long for a short answer


def test_a_reranking_that_takes_too_long_is_broken_off():
    """The time that the answer is expected to take is kept for it."""

    async def use(pipeline, client):
        client.provider.configure(path="/rerank", latency=Latency.constant(60))
        return await pipeline.high_performance_rag("q", budget=1.0)

    answer, client = run(use)
    assert answer.ok
    assert answer.degraded == ("rerank",)
    assert [each.id for each in answer.sources] == ["p0", "p1", "p2", "p3", "p4"]
    assert client.asked["rerank"] == 1
    assert answer.from_cache == ()
    assert sum(each.wait + each.service for each in answer.timings) == pytest.approx(answer.seconds)
    assert answer.seconds <= 1.0


def test_a_first_query_gives_the_reranking_half_of_its_time():
    """Nothing is known yet of how long the answer takes."""

    async def main():
        client = VirtualClient(endpoints=seconds(retrieve=0.2, rerank=60, generate=0.4))
        async with pipeline_of(client) as pipeline:
            return await pipeline.high_performance_rag("q", budget=1.2)

    answer = simulate(main).value
    assert answer.ok
    assert answer.degraded == ("rerank",)
    assert answer.seconds == pytest.approx(0.2 + 0.5 + 0.4)


def test_what_is_kept_takes_no_time_and_is_used():
    """However little time there is, a known answer is whole."""

    async def use(pipeline, client):
        return await pipeline.high_performance_rag("earlier 3", budget=0.001)

    answer, client = run(use)
    assert answer.ok
    assert not answer.degraded
    assert not client.asked


def test_a_used_up_budget_is_a_failure_that_names_the_stage():
    """Sources found by then are in the answer, and the provider's call is ended."""

    async def use(pipeline, client):
        client.provider.configure(path="/v1/chat/completions", latency=Latency.constant(60))
        answer = await pipeline.high_performance_rag("q", budget=2.0)
        await asyncio.sleep(0)
        return answer

    answer, client = run(use)
    reason = "the query's budget of 2 s is used up"
    assert answer.error == Failure("generate", "TimedOut", reason)
    assert len(answer.sources) == 5
    assert answer.seconds == pytest.approx(2.0)
    assert client.provider.ledger().dropped == 1


def test_a_stage_left_out_for_its_slowness_is_tried_again():
    """The expectation fades, so that a provider that is fast again is used again."""

    async def use(pipeline, client):
        client.provider.configure(path="/rerank", latency=Latency.constant(5))
        first = [await pipeline.high_performance_rag(f"slow {n}", budget=1.0) for n in range(5)]
        client.provider.configure(path="/rerank", latency=Latency.constant(0.2))
        await asyncio.sleep(60)
        return first, await pipeline.high_performance_rag("later", budget=1.0)

    (first, later), _ = run(use)
    assert {answer.degraded for answer in first} == {("rerank",)}
    assert later.degraded == ()


def test_the_settings_budget_holds_for_each_query():
    """A batch's queries have it each from their own start."""

    async def use(pipeline, client):
        return await pipeline.batch_rag([f"q{n}" for n in range(8)], limit=1)

    answers, _ = run(use, RagSettings(budget=1.0))
    assert all(answer.ok and not answer.degraded for answer in answers)


def test_pace_follows_what_it_sees():
    """The expectation lies above the mean, and moves with it."""

    async def main():
        pace = Pace()
        unknown = pace.expected("a")
        for _ in range(100):
            pace.observe("a", 1.0)
        steady = pace.expected("a")
        for _ in range(100):
            pace.observe("a", 3.0)
        return unknown, steady, pace.expected("a")

    unknown, steady, slower = simulate(main).value
    assert unknown == 0.0
    assert steady == pytest.approx(1.1, abs=0.01)
    assert slower == pytest.approx(3.3, abs=0.05)


def test_no_budget_is_never_short():
    """Without a limit everything has its time."""

    async def main():
        pace = Pace()
        pace.observe("a", 1e9)
        budget = Budget(None, pace)
        return budget.suffices("a"), budget.latest("a")

    assert simulate(main).value == (True, None)
