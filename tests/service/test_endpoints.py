"""Endpoints with a behaviour of their own: separate limits, slots, draws and counts."""

import asyncio
import json
from functools import partial

import pytest

from course_lib import service
from course_lib.lab.simulation import simulate
from course_lib.service import Behaviour, Capacity, Faults, Latency, RateLimit
from course_lib.service.engine import Engine, Rejected

ONE = Latency.constant(1)
RERANK = Behaviour(Latency.constant(2), capacity=Capacity(2))


async def call(engine, path):
    """Make one request."""
    async with engine.admit(path):
        pass


async def calls(engine, *paths):
    """Make requests at once."""
    await asyncio.gather(*(call(engine, path) for path in paths))


def test_an_endpoint_named_has_its_own_latency_and_slots():
    """Five reranks through two slots of 2 s; searches meanwhile take 1 s, as many as come."""
    engine = Engine(Behaviour(ONE, endpoints={"/rerank": RERANK}))
    run = simulate(partial(calls, engine, *["/rerank"] * 5, *["/search"] * 9))
    assert run.seconds == 6
    assert {c.end for c in engine.ledger().path("/search").calls} == {1}
    assert engine.ledger().path("/rerank").peak_working == 2
    assert engine.ledger().path("/search").peak_working == 9


def test_endpoints_without_a_name_share_one_limit():
    """Two of four requests are let in, whichever paths they take; the named one has its own."""
    own = Behaviour(ONE, RateLimit(0.001, 1))
    engine = Engine(Behaviour(ONE, RateLimit(0.001, 2), endpoints={"/rerank": own}))

    async def main():
        paths = ["/search", "/v1/embeddings", "/search", "/v1/models", "/rerank"]
        return await asyncio.gather(*(call(engine, p) for p in paths), return_exceptions=True)

    outcomes = [type(outcome) for outcome in simulate(main).value]
    assert outcomes == [type(None)] * 2 + [Rejected] * 2 + [type(None)]


def test_draws_of_an_endpoint_are_its_own():
    """Searches in between do not shift the sequence of its latencies."""
    latency = Latency.lognormal(1, 5, seed=4)
    engine = Engine(Behaviour(latency, endpoints={"/rerank": Behaviour(latency)}))
    simulate(partial(calls, engine, *["/search", "/rerank"] * 5))
    ends = sorted(c.end for c in engine.ledger().path("/rerank").calls)
    assert ends == pytest.approx(sorted(latency.samples(5)))


def test_a_change_of_one_endpoint_leaves_the_others_alone():
    """It starts from what it shared; the bucket of the rest keeps its level."""
    engine = Engine(Behaviour(ONE, RateLimit(0.001, 1)))

    async def main():
        await call(engine, "/search")
        engine.behaviour = engine.behaviour.updated("/rerank", capacity=Capacity(1))
        await call(engine, "/rerank")
        with pytest.raises(Rejected):
            await call(engine, "/search")

    simulate(main)
    assert engine.behaviour.at("/rerank") == Behaviour(ONE, RateLimit(0.001, 1), Capacity(1))
    assert engine.behaviour.at("/search") == Behaviour(ONE, RateLimit(0.001, 1))


def test_more_slots_for_an_endpoint_move_its_queue():
    """A change reaches the endpoint's own station, which goes on with who waits in it."""
    engine = Engine(Behaviour(endpoints={"/rerank": Behaviour(ONE, capacity=Capacity(1))}))

    async def main():
        running = asyncio.create_task(calls(engine, *["/rerank"] * 3))
        await asyncio.sleep(0.5)
        engine.behaviour = engine.behaviour.updated("/rerank", capacity=Capacity(3))
        await running

    assert simulate(main).seconds == 1.5


def test_a_reset_restarts_every_endpoint():
    """Its bucket is full again, too."""
    engine = Engine(Behaviour(endpoints={"/rerank": Behaviour(ONE, RateLimit(0.001, 1))}))

    async def main():
        await call(engine, "/rerank")
        engine.reset()
        await call(engine, "/rerank")

    simulate(main)
    assert engine.ledger().path("/rerank").answered == 1


def test_a_behaviour_with_endpoints_survives_json():
    """What is sent is what arrives, and it does not share the caller's dictionary."""
    given = {"/rerank": RERANK}
    behaviour = Behaviour(faults=Faults(0.5), endpoints=given)
    given.clear()
    assert Behaviour.from_dict(json.loads(json.dumps(behaviour.to_dict()))) == behaviour
    assert behaviour.at("/rerank") == RERANK


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: Behaviour(endpoints={"/rernak": RERANK}),
            "no endpoint '/rernak': there is /search",
        ),
        (lambda: Behaviour(endpoints={"/rerank": Capacity(4)}), r"give a Behaviour\(\.\.\.\)"),
        (lambda: Behaviour(endpoints=[RERANK]), "give behaviours by path"),
        (lambda: Behaviour().updated("/rerank", endpoints={"/search": RERANK}), "side by side"),
        (lambda: Behaviour().updated(capacity=4), r"capacity=4: give a Capacity"),
        (lambda: Behaviour().updated(speed=4), "no field 'speed'"),
        (lambda: Behaviour().changed({"endpoints": 4}), "no JSON object of behaviours by path"),
        (lambda: Behaviour().changed({"endpoints": {"/rerank": {"speed": 1}}}), "no field 'speed'"),
        (lambda: Behaviour().at("/health"), "no endpoint '/health'"),
    ],
)
def test_what_does_not_fit_is_refused(make, reason):
    """The message names the value and the fix."""
    with pytest.raises(ValueError, match=reason):
        make()


def test_a_behaviour_without_endpoints_does_not_show_them():
    """The repr is as short as what was given."""
    assert "endpoints" not in repr(Behaviour())
    assert "endpoints={'/rerank': Behaviour(" in repr(Behaviour(endpoints={"/rerank": RERANK}))


def test_the_provider_takes_endpoints_at_start_and_while_it_runs():
    """Over HTTP as in the engine; `endpoints=None` takes all of them away."""
    with service.running(latency=None, endpoints={"/rerank": RERANK}) as provider:
        assert provider.behaviour.at("/rerank") == RERANK
        now = provider.configure(path="/rerank", latency=None, capacity=Capacity(9))
        assert now.at("/rerank") == Behaviour(Latency.constant(0), capacity=Capacity(9))
        assert now.at("/search") == Behaviour(Latency.constant(0))
        now = provider.configure(path="/search", faults=Faults(error=1))
        assert set(now.endpoints) == {"/rerank", "/search"}
        assert provider.configure(endpoints=None) == Behaviour(Latency.constant(0))


def test_an_unknown_endpoint_is_refused_by_the_handle(provider):
    """In `configure` and in the ledger, before a wrong figure is believed."""
    with pytest.raises(ValueError, match="no endpoint '/chat'"):
        provider.configure(path="/chat", capacity=Capacity(1))
    with pytest.raises(ValueError, match="no endpoint '/chat'"):
        provider.ledger().path("/chat")
    with pytest.raises(ValueError, match="give behaviours by path"):
        provider.configure(endpoints=RERANK)
