"""The limit on tokens a minute, in virtual time."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lab.simulation import simulate
from course_lib.service import Behaviour, Faults, Latency, RateLimit, TokenLimit
from course_lib.service.engine import Engine, Failed, Rejected, TooLarge

NONE = Latency.constant(0)
CHAT = "/v1/chat/completions"


async def call(engine, reserved, used, seconds=0.0):
    """Make a request that may use some tokens, and uses fewer."""
    async with engine.admit(CHAT, tokens=reserved) as turn:
        await asyncio.sleep(seconds)
        turn.spend(used)


def test_what_is_reserved_and_not_used_is_given_back():
    """Sixty tokens a minute: 50 reserved and 10 used leave room for 50 more, not for 51."""
    engine = Engine(Behaviour(NONE, token_limit=TokenLimit(60)))

    async def main():
        await call(engine, 50, 10)
        with pytest.raises(Rejected) as refused:
            await call(engine, 51, 51)
        await call(engine, 50, 50)
        return refused.value

    refused = simulate(main).value
    assert refused.retry_after == 1
    assert "too many tokens" in str(refused)
    ledger = engine.ledger()
    assert (ledger.tokens, ledger.rejected) == (60, 1)
    assert [each.tokens for each in ledger.calls] == [10, 0, 50]


def test_a_refusal_for_tokens_costs_no_request_and_the_other_way_round():
    """Both limits are looked at before either is charged."""
    engine = Engine(Behaviour(NONE, RateLimit(0.001, 2), token_limit=TokenLimit(60)))

    async def main():
        await call(engine, 60, 60)
        with pytest.raises(Rejected):
            await call(engine, 30, 30)
        await asyncio.sleep(30)
        await call(engine, 30, 30)  # the second request: the refused one was not counted
        await asyncio.sleep(60)
        with pytest.raises(Rejected, match="requests"):
            await call(engine, 60, 60)
        engine.behaviour = engine.behaviour.updated(rate_limit=None)
        await call(engine, 60, 60)  # its tokens were left alone

    simulate(main)


def test_who_waits_as_told_is_let_in_by_both_limits():
    """The longer of the two waits is told."""
    engine = Engine(Behaviour(NONE, RateLimit(0.1, 1), token_limit=TokenLimit(60)))

    async def main():
        await call(engine, 60, 60)
        with pytest.raises(Rejected) as refused:
            await call(engine, 3, 3)
        await asyncio.sleep(refused.value.retry_after)
        await call(engine, 3, 3)

    assert simulate(main).seconds == 10


def test_more_than_the_limit_can_hold_is_refused_for_good():
    """Waiting would not help: the message says to send less."""
    engine = Engine(Behaviour(NONE, token_limit=TokenLimit(60)))
    with pytest.raises(TooLarge, match="61 tokens: more than the 60.*send less"):
        simulate(lambda: call(engine, 61, 1))
    assert engine.ledger().calls[0].status == 400


def test_a_request_without_tokens_is_not_held_up():
    """A search shares the behaviour, and needs none."""
    engine = Engine(Behaviour(NONE, token_limit=TokenLimit(60)))

    async def main():
        await call(engine, 60, 60)
        async with engine.admit("/search"):
            pass

    simulate(main)
    assert engine.ledger().answered == 2


def test_who_reserves_nothing_leaves_the_limit_to_the_others():
    """A rerank counts its tokens for the ledger; chats and embeddings have their whole minute."""
    engine = Engine(Behaviour(NONE, token_limit=TokenLimit(60)))

    async def main():
        async with engine.admit("/rerank") as turn:
            turn.spend(10_000)
        async with engine.admit("/search"):
            pass
        await call(engine, 60, 60)

    simulate(main)
    assert (engine.ledger().answered, engine.ledger().tokens) == (3, 10_060)


@pytest.mark.parametrize("end", ["fault", "cancelled"])
def test_a_request_that_fails_gives_all_of_its_tokens_back(end):
    """Nothing was read or written."""
    faults = Faults(error=1) if end == "fault" else None
    engine = Engine(Behaviour(Latency.constant(1), faults=faults, token_limit=TokenLimit(60)))

    async def main():
        first = asyncio.create_task(call(engine, 60, 60))
        await asyncio.sleep(0.5)
        if end == "cancelled":
            first.cancel()
        await asyncio.wait([first])
        engine.behaviour = engine.behaviour.updated(faults=None)
        await call(engine, 60, 60)
        return first

    first = simulate(main).value
    assert first.cancelled() or isinstance(first.exception(), Failed)
    assert engine.ledger().tokens == 60


@given(
    st.integers(10, 1000),
    st.lists(st.tuples(st.integers(1, 10), st.integers(0, 10), st.floats(0, 30)), max_size=60),
)
def test_the_limit_holds_in_every_window(limit, plan):
    """In any window of t minutes at most limit * (1 + t) tokens are used."""
    engine = Engine(Behaviour(NONE, token_limit=TokenLimit(limit)))

    async def main():
        for reserved, used, pause in plan:
            with suppress(Rejected):
                await call(engine, reserved, min(reserved, used))
            await asyncio.sleep(pause)

    simulate(main)
    calls = engine.ledger().calls
    for i, first in enumerate(calls):
        for last in range(i, len(calls)):
            used = sum(each.tokens for each in calls[i : last + 1])
            minutes = (calls[last].start - first.start) / 60
            assert used <= limit * (1 + minutes) + 1e-3
