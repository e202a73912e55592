"""The engine in virtual time: exact waits, and promises that hold in every order of events."""

import asyncio
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lab.simulation import simulate
from course_lib.service import Behaviour, Capacity, Faults, Generation, Latency, RateLimit
from course_lib.service.engine import Dropped, Engine, Failed, Rejected

NONE = Latency.constant(0)
RESIZES = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.builds(Capacity, st.integers(1, 5))),
    max_size=5,
    unique_by=lambda change: change[0],  # two at one moment: a test of its own, below
)
ARRIVALS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=25)


async def call(engine, query="", seconds=0.0, connection=0):
    """Make one request whose answer takes some seconds to compute."""
    async with engine.admit("/search", query, connection):
        await asyncio.sleep(seconds)


async def calls(engine, n):
    """Make many requests at once."""
    await asyncio.gather(*(call(engine, str(i), connection=i) for i in range(n)))


def test_latency_is_exact_and_shared_by_none():
    """Fifty requests at once take as long as one."""
    engine = Engine(Behaviour(Latency.constant(0.1)))
    assert simulate(partial(calls, engine, 50)).seconds == 0.1
    assert engine.ledger().peak_working == engine.ledger().peak_in_flight == 50


def test_a_full_queue_refuses_who_comes_next():
    """Two slots and one place to wait: of five at once, two are told to come back."""
    engine = Engine(Behaviour(Latency.constant(1), capacity=Capacity(2, queue=1)))

    async def outcome(i):
        try:
            await call(engine, str(i))
        except Rejected as rejected:
            return rejected.retry_after

    async def main():
        return await asyncio.gather(*map(outcome, range(5)))

    assert simulate(main).value == [None, None, None, 1, 1]
    seen = engine.ledger()
    assert (seen.answered, seen.rejected, seen.peak_in_flight, seen.peak_working) == (3, 2, 3, 2)


def test_a_refusal_for_want_of_room_costs_no_rate():
    """The token is there for who comes when there is room again."""
    limited = Behaviour(
        Latency.constant(1), rate_limit=RateLimit(0.001, 2), capacity=Capacity(1, queue=0)
    )
    engine = Engine(limited)

    async def both():
        first = asyncio.create_task(call(engine))
        await asyncio.sleep(0.5)
        with pytest.raises(Rejected):
            await call(engine)
        await first
        await call(engine)

    simulate(both)
    assert engine.ledger().answered == 2


def test_no_latency_is_no_wait_at_all():
    """A latency of 0 gives the loop no turn: the answer is computed at once."""

    async def steps():
        admission = engine.admit("/search").__aenter__()
        with pytest.raises(StopIteration):
            admission.send(None)

    engine = Engine(Behaviour(NONE))
    simulate(steps)


def test_capacity_makes_the_rest_queue():
    """Ten requests through four slots take three rounds; all ten are in flight meanwhile."""
    engine = Engine(Behaviour(Latency.constant(1), capacity=Capacity(4)))
    assert simulate(partial(calls, engine, 10)).seconds == 3
    seen = engine.ledger()
    assert (seen.peak_in_flight, seen.peak_working, seen.answered) == (10, 4, 10)
    assert [call.query for call in seen.calls] == [str(i) for i in range(10)]


def test_latencies_go_by_arrival():
    """The n-th request has the n-th draw, whoever is served first."""
    latency = Latency.lognormal(1, 5, seed=4)
    engine = Engine(Behaviour(latency))
    simulate(partial(calls, engine, 20))
    took = {int(call.query): call.end - call.start for call in engine.ledger().calls}
    assert [took[i] for i in range(20)] == pytest.approx(latency.samples(20))


def test_a_reset_repeats_the_run():
    """The same draws, faults and full bucket again, in a new ledger."""
    engine = Engine(
        Behaviour(Latency.lognormal(1, 5), RateLimit(0.001, 8), None, Faults(error=0.5))
    )

    async def run():
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(call(engine, str(i)) for i in range(12)), return_exceptions=True)
        return [(c.query, c.status, round(c.end - start, 6)) for c in engine.ledger().calls]

    async def twice():
        first = await run()
        engine.reset()
        return first, await run()

    first, second = simulate(twice).value
    assert first == second
    assert {status for _, status, _ in first} == {200, 429, 500}


@given(ARRIVALS, RESIZES)
def test_capacity_holds_while_it_is_resized(arrivals, resizes):
    """Nobody gets in beyond the capacity in force; first come, first served; no slot is lost."""
    engine = Engine(Behaviour(NONE, capacity=Capacity(2)))
    inside: set[int] = set()
    order: list[int] = []

    async def visit(number, arrival, work):
        await asyncio.sleep(arrival)
        async with engine.admit("/search", str(number)):
            inside.add(number)
            order.append(number)
            capacity = engine.behaviour.capacity
            assert capacity is None or len(inside) <= capacity.slots
            await asyncio.sleep(work)
            inside.remove(number)

    async def resize(when, capacity):
        await asyncio.sleep(when + 0.5)  # between arrivals and ends, which are at whole seconds
        engine.behaviour = Behaviour(NONE, capacity=capacity)

    async def main():
        await asyncio.gather(
            *(visit(i, *visitor) for i, visitor in enumerate(sorted(arrivals))),
            *(resize(*change) for change in resizes),
        )
        engine.behaviour = Behaviour(Latency.constant(1), capacity=Capacity(3))
        engine.reset()
        await calls(engine, 7)

    simulate(main)
    assert order == sorted(order)
    assert engine.ledger().peak_working == 3


def test_a_slot_once_given_is_kept():
    """Capacity that grows and shrinks in one moment has let somebody in; nobody is evicted."""
    engine = Engine(Behaviour(NONE, capacity=Capacity(1)))

    async def main():
        tasks = [asyncio.create_task(call(engine, str(i), seconds=1)) for i in range(4)]
        await asyncio.sleep(0.5)
        engine.behaviour = Behaviour(NONE, capacity=Capacity(2))
        engine.behaviour = Behaviour(NONE, capacity=Capacity(1))
        await asyncio.gather(*tasks)

    simulate(main)
    ends = [round(c.end, 6) for c in engine.ledger().calls]
    assert ends == [1, 1.5, 2.5, 3.5]
    assert engine.ledger().peak_working == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.none() | st.integers(0, 20)), min_size=1, max_size=25
    ),
    st.integers(1, 3),
    st.integers(0, 10),
)
def test_every_call_is_recorded_once_with_its_status(plan, slots, seed):
    """Answered, rejected, failed, dropped, hung or cancelled at any time: one record, the right one."""
    faults = Faults(error=0.2, drop=0.2, hang=0.2, seed=seed)
    engine = Engine(Behaviour(Latency.constant(0.3), RateLimit(5, 3), Capacity(slots), faults))
    ended: Counter[tuple[str, int]] = Counter()

    async def visit(number):
        status = 0
        try:
            await call(engine, str(number), seconds=0.1)
            status = 200
        except Rejected:
            status = 429
        except Failed:
            status = 500
        except Dropped:
            pass
        finally:
            ended[str(number), status] += 1

    async def visitor(number, arrival, patience):
        await asyncio.sleep(arrival / 10)
        task = asyncio.create_task(visit(number))
        # A patience of 0 cancels it before its first step: then it never arrived.
        await asyncio.sleep(5 if patience is None else patience / 10)
        task.cancel()
        await asyncio.wait([task])

    async def main():
        await asyncio.gather(*(visitor(i, *each) for i, each in enumerate(plan)))

    simulate(main)
    seen = engine.ledger()
    assert Counter((c.query, c.status) for c in seen.calls) == ended
    assert seen.requests == len(seen.calls)
    assert seen.requests == seen.answered + seen.rejected + seen.errors + seen.dropped
    assert engine.recorder.in_flight == 0
    assert seen.peak_working <= slots

    async def afterwards():
        engine.behaviour = Behaviour(Latency.constant(1), capacity=Capacity(slots))
        await calls(engine, slots)

    assert simulate(afterwards).seconds == 1  # every slot came back


@given(
    st.floats(0.1, 1000),
    st.integers(1, 20),
    st.lists(st.floats(0, 2), min_size=1, max_size=100),
)
def test_the_rate_limit_holds_in_every_window(rate, burst, pauses):
    """In any window of t seconds at most burst + rate * t requests are let in."""
    engine = Engine(Behaviour(NONE, RateLimit(rate, burst)))
    let_in = []

    async def main():
        for pause in pauses:
            await asyncio.sleep(pause / rate)
            try:
                await call(engine)
            except Rejected:
                pass
            else:
                let_in.append(asyncio.get_running_loop().time())

    simulate(main)
    assert len(let_in) == engine.ledger().answered
    for i, first in enumerate(let_in):
        for n, last in enumerate(let_in[i:], start=1):
            assert n <= burst + rate * (last - first + 1e-6) + 1e-6  # a microsecond early


@given(st.floats(0.01, 1000), st.integers(1, 5))
def test_who_waits_as_told_is_let_in(rate, burst):
    """`retry_after` is enough, each time."""
    engine = Engine(Behaviour(NONE, RateLimit(rate, burst)))

    async def main():
        for _ in range(burst + 5):
            try:
                await call(engine)
            except Rejected as rejected:
                await asyncio.sleep(rejected.retry_after)
                await call(engine)

    simulate(main, limit=10_000)
    assert engine.ledger().answered == burst + 5


def test_a_rejected_request_is_never_in_flight():
    """A 429 costs no slot and no latency."""
    engine = Engine(Behaviour(Latency.constant(1), RateLimit(1, 2)))

    async def main():
        return await asyncio.gather(*(call(engine) for _ in range(5)), return_exceptions=True)

    outcomes = simulate(main)
    assert [type(outcome) for outcome in outcomes.value] == [type(None)] * 2 + [Rejected] * 3
    assert outcomes.seconds == 1
    assert engine.ledger().peak_in_flight == 2


def test_a_hung_request_keeps_its_slot_until_it_is_cancelled():
    """Those behind it wait, and go on when its client gives up."""
    engine = Engine(Behaviour(NONE, capacity=Capacity(1), faults=Faults(hang=1)))

    async def main():
        stuck = asyncio.create_task(call(engine))
        await asyncio.sleep(1)
        engine.behaviour = Behaviour(NONE, capacity=Capacity(1))
        behind = asyncio.create_task(call(engine))
        await asyncio.sleep(1)
        assert not behind.done()
        stuck.cancel()
        await behind

    assert simulate(main).seconds == 2
    assert [c.status for c in engine.ledger().calls] == [0, 200]


def test_a_change_holds_from_the_next_request_on():
    """A request under way keeps its latency; only the changed part starts afresh."""
    latency = Latency.lognormal(1, 3)
    engine = Engine(Behaviour(latency))

    async def main():
        early = asyncio.create_task(call(engine, "early"))
        await asyncio.sleep(0)
        engine.behaviour = Behaviour(latency, capacity=Capacity(5))
        await call(engine, "second")
        await early
        engine.behaviour = Behaviour(Latency.constant(7))
        await call(engine, "late")

    simulate(main)
    took = {c.query: c.end - c.start for c in engine.ledger().calls}
    assert [took["early"], took["second"]] == pytest.approx(latency.samples(2))
    assert took["late"] == pytest.approx(7)


def test_an_answer_that_fails_is_an_error():
    """A body that raises is recorded as 500, and its error goes on."""
    engine = Engine(Behaviour(NONE))

    async def main():
        async with engine.admit("/search"):
            raise KeyError

    with pytest.raises(KeyError):
        simulate(main)
    assert engine.ledger().errors == 1


def test_a_refused_request_costs_nothing():
    """It is recorded with its status; neither bucket nor peaks notice."""
    engine = Engine(Behaviour(NONE, RateLimit(1, 1)))

    async def main():
        engine.refuse("/search", "", 400)
        await call(engine)

    simulate(main)
    assert [c.status for c in engine.ledger().calls] == [400, 200]
    assert engine.ledger().peak_in_flight == 1


def test_a_connection_that_breaks_while_it_is_answered_is_no_failure_of_the_provider():
    """It is recorded as a call without an answer, as if the client had left earlier."""
    engine = Engine(Behaviour(NONE))

    async def main():
        async with engine.admit("/search"):
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        simulate(main)
    assert (engine.ledger().dropped, engine.ledger().errors) == (1, 0)


def test_a_full_queue_says_to_come_back_after_the_usual_time():
    """Of an endpoint that generates: latency and time to first token, at the least."""
    slow = Behaviour(
        Latency.constant(1), capacity=Capacity(1, queue=0), generation=Generation(0.5, 10)
    )
    engine = Engine(slow)

    async def main():
        first = asyncio.create_task(call(engine, seconds=1))
        await asyncio.sleep(0.1)
        with pytest.raises(Rejected) as refused:
            await call(engine)
        await first
        return refused.value.retry_after

    assert simulate(main).value == 1.5
