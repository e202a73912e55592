"""What becomes of single queries, in virtual time: timings, failures, cancelling, single flight."""

import asyncio
from contextlib import aclosing

import pytest
from rag.rag_support import VirtualClient, pipeline_of, seconds

from course_lib.lab import simulate
from course_lib.rag import Failure, RagSettings, StageTiming
from course_lib.rag.prompt import IGNORANCE
from course_lib.rate_limiting import Gate
from course_lib.service import Behaviour, Capacity, Faults, Latency, RateLimit

THREE = {"retrieve": 0.1, "rerank": 0.2, "generate": 0.4}


def run(use, *, client=None, settings=None, **options):
    """Open a pipeline in a simulation and use it; returns what `use` did, the client, the time."""

    async def main():
        own = client() if client else VirtualClient(endpoints=seconds(**THREE))
        async with pipeline_of(own, settings=settings, **options) as pipeline:
            return await use(pipeline), own

    simulation = simulate(main)
    return *simulation.value, simulation.seconds


def test_an_answer_tells_where_its_time_went():
    """One query alone waits for nobody, and each stage takes what the provider takes."""
    answer, client, took = run(lambda pipeline: pipeline.high_performance_rag("q"))
    assert answer.text == "answer to q"
    assert answer.timings == tuple(
        StageTiming(stage, 0.0, pytest.approx(time)) for stage, time in THREE.items()
    )
    assert answer.seconds == pytest.approx(took) == pytest.approx(0.7)
    assert [each.id for each in answer.sources] == ["p19", "p18", "p17", "p16", "p15"]
    assert (answer.from_cache, answer.retries, answer.degraded) == ((), 0, ())
    assert (answer.input_tokens, answer.output_tokens, answer.tokens) == (7, 3, 10)
    assert client.asked == {"search": 1, "rerank": 1, "chat": 1}


def test_waiting_at_a_gate_is_told_from_service():
    """Of three at a gate of one slot, the last waits for the two before it."""
    answers, *_ = run(
        lambda pipeline: pipeline.batch_rag(["a", "b", "c"]), gates={"rerank": Gate(concurrency=1)}
    )
    waits = [answer.timing("rerank") for answer in answers]
    assert [each.wait for each in waits] == pytest.approx([0.0, 0.2, 0.4])
    assert [each.service for each in waits] == pytest.approx([0.2] * 3)


def test_answers_flow_and_no_stage_waits_for_a_whole_batch():
    """Forty queries through one slot a stage take as long as the slowest stage needs, and a ramp."""
    gates = {stage: Gate(concurrency=1) for stage in THREE}
    answers, _, took = run(
        lambda pipeline: pipeline.batch_rag(map(str, range(40)), limit=40), gates=gates
    )
    assert all(answer.ok for answer in answers)
    assert took == pytest.approx(40 * 0.4 + 0.3)


def test_of_equal_questions_at_once_one_makes_the_calls():
    """The others wait for it, and say that they made none."""
    answers, client, took = run(lambda pipeline: pipeline.batch_rag(["q"] * 50))
    assert client.asked == {"search": 1, "rerank": 1, "chat": 1}
    assert took == pytest.approx(0.7)
    assert sorted(map(len, (answer.from_cache for answer in answers))) == [0] + [3] * 49
    assert {answer.text for answer in answers} == {"answer to q"}


def test_without_a_cache_each_makes_its_calls():
    """No stage is shared that is not named."""
    _, client, _ = run(
        lambda pipeline: pipeline.batch_rag(["q"] * 3), settings=RagSettings(cached=("rerank",))
    )
    assert client.asked == {"search": 3, "rerank": 1, "chat": 3}


def test_nothing_found_is_kept_and_answered_honestly():
    """No model is asked, and the second one who asks causes no search."""

    async def use(pipeline):
        return [await pipeline.high_performance_rag("q") for _ in range(2)]

    answers, client, _ = run(use, client=lambda: VirtualClient(latency=None, empty=["q"]))
    assert [answer.text for answer in answers] == [IGNORANCE] * 2
    assert all(answer.ok and answer.sources == () for answer in answers)
    assert client.asked == {"search": 1}


def test_a_failure_names_its_stage_and_is_not_kept():
    """Who asks again asks the provider again."""

    async def use(pipeline):
        failed = await pipeline.high_performance_rag("q")
        client.provider.configure(path="/rerank", faults=None)
        return failed, await pipeline.high_performance_rag("q")

    client = None

    def make():
        nonlocal client
        client = VirtualClient(latency=None)
        client.provider.configure(path="/rerank", faults=Faults(error=1.0))
        return client

    (failed, answered), *_ = run(use, client=make, settings=RagSettings(attempts=2))
    assert failed.error == Failure("rerank", "Unavailable", "the provider failed: try again")
    assert str(failed.error) == "rerank: Unavailable: the provider failed: try again"
    assert (failed.text, failed.retries, failed.from_cache) == ("", 1, ())
    assert answered.ok
    assert client.asked == {"search": 1, "rerank": 3, "chat": 1}


def test_one_failure_leaves_the_others_alone():
    """Of a hundred, some fail and say why; all others are answered."""
    faults = Behaviour(Latency.constant(0.2), faults=Faults(error=0.1, seed=1))
    answers, client, _ = run(
        lambda pipeline: pipeline.batch_rag([f"q{number}" for number in range(100)]),
        client=lambda: VirtualClient(endpoints=seconds(**THREE) | {"/rerank": faults}),
        settings=RagSettings(attempts=1),
    )
    failed = [answer for answer in answers if not answer.ok]
    assert 0 < len(failed) < 30
    assert client.asked["chat"] == 100 - len(failed)


def test_what_hangs_is_given_up_and_tried_again():
    """Each attempt has its own time, and the last error is the answer's."""
    answer, client, took = run(
        lambda pipeline: pipeline.high_performance_rag("q"),
        client=lambda: VirtualClient(faults=Faults(hang=1.0), latency=None),
        settings=RagSettings(attempts=3, timeout=2.0),
    )
    assert answer.error == Failure("retrieve", "TimedOut", "retrieve gave no answer within 2 s")
    assert answer.retries == 2
    assert client.asked == {"search": 3}
    assert 6.0 <= took < 7.0  # and pauses of at most 0.1 and 0.2 s
    assert answer.timing("retrieve").service == pytest.approx(6.0)


def test_after_a_rejection_all_of_the_stage_hold_back():
    """Fifty calls at a limit of ten a second are answered, with few rejections."""
    limit = Behaviour(Latency.constant(0.1), RateLimit(rate=10, burst=5))
    answers, client, took = run(
        lambda pipeline: pipeline.batch_rag([f"q{number}" for number in range(50)]),
        client=lambda: VirtualClient(endpoints=seconds(**THREE) | {"/search": limit}),
        gates={"retrieve": Gate(concurrency=2)},
        settings=RagSettings(attempts=50),
    )
    assert all(answer.ok for answer in answers)
    seen = client.provider.ledger().path("/search")
    assert seen.rejected == sum(answer.retries for answer in answers) > 0
    assert took >= 4.5


def test_a_gate_holds_for_all_pipelines_that_share_it():
    """Two pipelines with one gate never have more calls under way than it has slots."""

    async def main():
        client = VirtualClient(endpoints=seconds(**THREE))
        gate = Gate(concurrency=3)
        gates = {"generate": gate}
        async with pipeline_of(client, gates=gates) as one, pipeline_of(client, gates=gates) as two:
            await asyncio.gather(
                one.batch_rag(map(str, range(20))), two.batch_rag(map(str, range(20)))
            )
        return client.provider.ledger().path("/v1/chat/completions")

    seen = simulate(main).value
    assert (seen.requests, seen.peak_in_flight) == (40, 3)


def test_a_cancelled_query_ends_its_own_call_only():
    """The provider sees one call given up, and the other query is answered."""

    async def use(pipeline):
        tasks = [asyncio.create_task(pipeline.high_performance_rag(each)) for each in "ab"]
        await asyncio.sleep(0.15)  # both are being reranked
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    (cancelled, answered), client, _ = run(use)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert answered.ok
    assert client.asked == {"search": 2, "rerank": 2, "chat": 1}
    assert client.provider.ledger().dropped == 1


def test_a_call_that_others_wait_for_outlives_the_query_that_made_it():
    """The follower gets the leader's call, though the leader is cancelled."""

    async def use(pipeline):
        leader = asyncio.create_task(pipeline.high_performance_rag("q"))
        await asyncio.sleep(0.05)
        follower = asyncio.create_task(pipeline.high_performance_rag("q"))
        await asyncio.sleep(0)
        leader.cancel()
        return await follower

    answer, client, took = run(use)
    assert answer.ok
    assert answer.from_cache == ("retrieve",)
    assert client.asked == {"search": 1, "rerank": 1, "chat": 1}
    assert took == pytest.approx(0.7)


def test_leaving_early_cancels_what_is_under_way():
    """Of endless questions only as many are asked as fit, and none stays under way."""

    async def use(pipeline):
        def questions():
            number = 0
            while True:
                yield f"q{number}"
                number += 1

        async with aclosing(pipeline.answers(questions(), limit=4)) as answers:
            first = await anext(answers)
        return first, len(asyncio.all_tasks())

    (first, tasks), client, took = run(use)
    assert first.ok
    assert tasks == 1
    assert client.asked["search"] <= 8
    assert took == pytest.approx(0.7)


def test_a_question_that_is_none_is_refused():
    """What is no string is an error at once, not a failed answer."""

    async def use(pipeline):
        with pytest.raises(TypeError, match="ask in words"):
            await pipeline.high_performance_rag(7)
        with pytest.raises(ValueError, match="budget=0"):
            await pipeline.high_performance_rag("q", budget=0)
        with pytest.raises(TypeError, match="ask in words"):
            await pipeline.retrieve(7)
        with pytest.raises(ValueError, match="k=0"):
            await pipeline.retrieve("q", k=0)
        with pytest.raises(ValueError, match="limit=0"):
            await pipeline.batch_rag(["q"], limit=0)

    run(use)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "5", True, None])
def test_a_timeout_is_a_number_of_seconds(seconds):
    """What is none is refused by its name."""
    with pytest.raises(ValueError, match=f"timeout={seconds!r}"):
        RagSettings(timeout=seconds)


def test_a_question_longer_than_the_prompt_is_a_failed_answer():
    """It says how long a question may be."""
    answer, *_ = run(lambda pipeline: pipeline.high_performance_rag("why " * 3_000))
    assert (answer.error.stage, answer.error.kind) == ("generate", "ValueError")
    assert "ask a shorter one" in answer.error.reason


def test_a_full_queue_delays_and_loses_nothing():
    """A provider with few slots and a short queue answers all, as fast as it can."""
    tight = Behaviour(Latency.constant(0.2), capacity=Capacity(slots=2, queue=2))
    answers, *_ = run(
        lambda pipeline: pipeline.batch_rag([f"q{number}" for number in range(40)]),
        client=lambda: VirtualClient(endpoints=seconds(**THREE) | {"/rerank": tight}),
        settings=RagSettings(attempts=100),
    )
    assert all(answer.ok for answer in answers)
