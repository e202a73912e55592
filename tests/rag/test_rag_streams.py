"""Answers that come piece by piece, in virtual time."""

import asyncio
from contextlib import aclosing

import pytest
from rag.rag_support import VirtualClient, pipeline_of

from course_lib.lab import simulate
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag import RagAnswer, RagSettings
from course_lib.rag.prompt import IGNORANCE
from course_lib.service import Faults


def run(use, *, monitor=None, settings=None, **client):
    """Open a pipeline in a simulation and use it."""

    async def main():
        own = VirtualClient(latency=None, **client)
        async with pipeline_of(own, monitor=monitor, settings=settings) as pipeline:
            return await use(pipeline, own), own

    return simulate(main).value


async def collected(pipeline, question="q", **options):
    """All that a stream yields, with the time of each."""
    clock = asyncio.get_running_loop().time
    async with aclosing(pipeline.astream(question, **options)) as stream:
        return [(piece, clock()) async for piece in stream]


def test_pieces_come_as_they_are_written():
    """The first piece is there long before the last, and the answer at the end."""
    pieces, _ = run(lambda pipeline, _: collected(pipeline))
    *texts, (answer, end) = pieces
    assert [text for text, _ in texts] == ["0 ", "1 ", "2 ", "3 "]
    assert [time for _, time in texts] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert isinstance(answer, RagAnswer)
    assert (answer.text, answer.first_token) == ("0 1 2 3 ", pytest.approx(0.1))
    assert answer.seconds == pytest.approx(end) == pytest.approx(0.4)
    assert answer.timing("generate").service == pytest.approx(0.4)


def test_a_kept_answer_comes_in_one_piece():
    """What was streamed once is not written again, for a stream or otherwise."""

    async def use(pipeline, _):
        await collected(pipeline)
        return await collected(pipeline), await pipeline.high_performance_rag("q")

    (pieces, whole), client = run(use)
    assert [piece for piece, _ in pieces][:-1] == ["0 1 2 3 "] == [whole.text]
    assert client.asked["stream"] == 1
    assert client.asked["chat"] == 0


def test_closing_a_stream_early_ends_its_call():
    """The provider's stream is closed, the slot free, and nothing half is kept."""

    async def use(pipeline, client):
        async with aclosing(pipeline.astream("q")) as stream:
            await anext(stream)
        closed, inside = client.closed_streams, pipeline.gates["generate"].statistics().inside
        return closed, inside, (await collected(pipeline))[-1][0]

    (closed, inside, answer), client = run(use)
    assert (closed, inside) == (1, 0)
    assert answer.text == "0 1 2 3 "
    assert client.asked["stream"] == 2


def test_a_stream_fails_with_an_answer_that_says_so():
    """It ends with the failure, also where nothing came."""

    async def use(pipeline, client):
        client.provider.configure(path="/v1/chat/completions", faults=Faults(error=1.0))
        return await collected(pipeline)

    [(answer, _)], _ = run(use)
    assert (answer.error.stage, answer.error.kind) == ("generate", "Unavailable")
    assert answer.retries == 4
    assert len(answer.sources) == 5


def test_a_stream_that_breaks_off_is_not_begun_again():
    """What was said stays said: the answer holds it, and the reason."""

    async def use(pipeline, client):
        return await collected(pipeline, budget=0.25)

    (*texts, (answer, _)), client = run(use)
    assert [text for text, _ in texts] == ["0 ", "1 "]
    assert answer.text == "0 1 "
    assert answer.error.reason == "the query's budget of 0.25 s is used up"
    assert client.asked["stream"] == client.closed_streams == 1


def test_a_stream_has_its_time_for_each_piece():
    """All of it together may take longer than an attempt may."""
    settings = RagSettings(timeout=2.0)
    pieces, _ = run(lambda pipeline, _: collected(pipeline), settings=settings, pieces=9, piece=1.5)
    answer, end = pieces[-1]
    assert answer.ok
    assert end == pytest.approx(13.5)
    late, client = run(lambda pipeline, _: collected(pipeline), settings=settings, piece=2.5)
    assert late[-1][0].error.reason == "generate gave no answer within 2 s"
    assert client.closed_streams == client.asked["stream"]


@pytest.mark.parametrize(
    ("piece", "kind", "reason"),
    [
        (1.0, "TimedOut", "generate has not come to an end within 600 s"),
        (0.0, "Unavailable", "the answer has no end: 200 tokens of it were asked for"),
    ],
)
def test_a_stream_without_end_has_a_bound(piece, kind, reason):
    """In time and in length, with what has come by then."""
    pieces, client = run(lambda pipeline, _: collected(pipeline), pieces=10**9, piece=piece)
    answer, end = pieces[-1]
    assert (answer.error.kind, answer.error.reason) == (kind, reason)
    assert len(answer.text) > 1000
    assert end <= 602
    assert client.asked["stream"] == client.closed_streams == 1


@pytest.mark.parametrize("config", [None, {"callbacks": [PerformanceMonitor().callback]}])
@pytest.mark.parametrize("way", ["astream", "atransform"])
def test_a_stream_that_is_closed_early_is_closed_below_at_once(way, config):
    """Not when somebody collects what is left of it; also as the step of a chain, and watched."""

    async def use(pipeline, client):
        given = "q" if way == "astream" else question()
        async with aclosing(getattr(pipeline, way)(given, config)) as stream:
            await anext(stream)
        return client.closed_streams, pipeline.gates["generate"].statistics().inside

    async def question():
        yield "q"

    assert run(use)[0] == (1, 0)


def test_nothing_found_is_streamed_too():
    """The honest answer comes as a piece."""
    pieces, _ = run(lambda pipeline, _: collected(pipeline), empty=["q"])
    assert [piece for piece, _ in pieces][:-1] == [IGNORANCE]
