"""Single flight across processes: once and only once, and the next takes over from who dies."""

import asyncio
import threading
from contextlib import suppress

import pytest
import redis
from scale_support import eventually

from course_lib.caching import AsyncCache
from course_lib.rag.scale_out import RedisStore, SharedFlight

KEY = "course:flight:f:k"


def ask(connection, url, seconds):
    """Ask a cache five times for one key; the computation counts itself on the server."""
    client = redis.Redis.from_url(url)

    async def compute():
        client.incr("computed")
        connection.send("computing")
        await asyncio.sleep(seconds)
        return ["value", None]

    async def main():
        with RedisStore(url, "s") as store, SharedFlight(url, "f", lease=0.6) as flight:
            cache = AsyncCache(ttl=60, maxsize=10, store=store)
            shared = flight.shared("k", compute)
            values = await asyncio.gather(*(cache.get_or_compute("k", shared) for _ in range(5)))
            assert values == [["value", None]] * 5
            return flight.computed, flight.received + cache.statistics().store_hits

    connection.send("ready")
    connection.recv()
    connection.send(asyncio.run(main()))
    client.close()


@pytest.fixture
def flight(server):
    """One process's part."""
    with SharedFlight(server.url, "f") as flight:
        yield flight


def computation(calls, value="value", seconds=0.05):
    """A computation that counts."""

    async def compute():
        calls.append(1)
        await asyncio.sleep(seconds)
        return value

    return compute


def test_processes_compute_once_and_the_next_takes_over_from_one_that_is_killed(
    worker, server, client
):
    """The first is killed with -9 while it computes; of the others one computes, once."""
    first, *others = (worker(ask, server.url, seconds) for seconds in (1000, 0.2, 0.2))
    for each in (first, *others):
        assert each.hear() == "ready"
    first.go()
    assert first.hear() == "computing"
    for each in others:
        each.go()
    first.kill()
    assert sorted(each.finish()[-1] for each in others) == [(0, 1), (1, 0)]
    assert client.get("computed") == b"2"


def test_those_who_wait_get_the_result_as_it_was(flight, server):
    """Whatever can be written; also who comes a moment later, until it is forgotten."""
    calls, value = [], {"a": (1, None, "é")}

    async def main():
        with SharedFlight(server.url, "f") as other:
            runs = [each.run("k", computation(calls, value)) for each in (flight, other, other)]
            found = await asyncio.gather(*runs)
            found.append(await other.run("k", computation(calls)))
            seen = [flight.computed + other.computed, flight.received + other.received]
            await other.forget("k")
            await other.run("k", computation(calls))
            return found, seen

    assert asyncio.run(main()) == ([value] * 4, [1, 3])
    assert len(calls) == 2


def test_a_lease_is_kept_alive_while_it_is_computed(server):
    """A computation four times as long as the lease is not done twice."""
    calls = []

    async def main():
        slow = computation(calls, seconds=1.2)
        with (
            SharedFlight(server.url, "f", lease=0.3) as one,
            SharedFlight(server.url, "f", lease=0.3) as two,
        ):
            found = await asyncio.gather(one.run("k", slow), two.run("k", slow))
        await asyncio.sleep(0)
        return found, len(asyncio.all_tasks())

    assert asyncio.run(main()) == (["value"] * 2, 1)
    assert len(calls) == 1


def test_an_error_is_nobody_elses(flight, server):
    """The next who waits tries itself, and has the result for those after it."""
    calls = []

    async def main():
        async def fail():
            calls.append("failed")
            await asyncio.sleep(0.05)
            raise ZeroDivisionError

        first = asyncio.create_task(flight.run("k", fail))
        await asyncio.to_thread(eventually, lambda: calls)
        with SharedFlight(server.url, "f") as other:
            second = await other.run("k", computation(calls))
        with pytest.raises(ZeroDivisionError):
            await first
        return second

    assert asyncio.run(main()) == "value"
    assert calls == ["failed", 1]


def test_who_is_cancelled_lets_the_next_begin_at_once(flight, client):
    """While it computes, and while it asks for the lease."""
    calls = []

    async def main():
        task = asyncio.create_task(flight.run("k", computation(calls, seconds=1000)))
        await asyncio.to_thread(eventually, lambda: calls)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(eventually, lambda: not client.exists(KEY))
        for _ in range(20):
            task = asyncio.create_task(flight.run("k", computation(calls, seconds=1000)))
            await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(eventually, lambda: not client.exists(KEY))

    asyncio.run(main())


class Late:
    """A script that is run only when it may."""

    def __init__(self, script):
        self.script, self.may, self.ran = script, threading.Event(), threading.Event()

    def run(self, *arguments):
        self.may.wait(60)
        said = self.script.run(*arguments)
        self.ran.set()
        return said


def test_a_lease_that_comes_after_the_cancellation_is_given_back(server, client):
    """Not before it has come, which would leave it to nobody."""

    async def main(flight):
        task = asyncio.create_task(flight.run("k", computation([])))
        await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.02)

    with SharedFlight(server.url, "f", lease=1000) as flight:
        late = flight._enter = Late(flight._enter)
        asyncio.run(main(flight))
        late.may.set()
        assert late.ran.wait(60)
        eventually(lambda: not client.exists(KEY))


def test_a_result_that_cannot_be_written_is_its_callers_only(flight, client):
    """Counted; the next begins at once."""

    async def main():
        value = await flight.run("k", computation([], value={1, 2}))
        await asyncio.to_thread(eventually, lambda: not client.exists(KEY))
        return value

    assert asyncio.run(main()) == {1, 2}
    assert (flight.computed, flight.unwritten) == (1, 1)


def test_a_lease_that_was_lost_leaves_nothing_for_others(flight, client):
    """Somebody else has begun meanwhile: theirs counts."""

    async def main():
        async def compute():
            client.set(KEY, "Lsomebody else")
            return "late"

        return await flight.run("k", compute)

    assert asyncio.run(main()) == "late"
    assert client.get(KEY) == b"Lsomebody else"
    assert flight.unwritten == 1


def test_a_lease_that_ended_unnoticed_does_no_harm(flight, client):
    """Redis was started anew, and nobody else has begun: the result is there for the others."""
    calls = []

    async def main():
        async def compute():
            client.delete(KEY)
            return "value"

        return [await flight.run("k", compute), await flight.run("k", computation(calls))]

    assert asyncio.run(main()) == ["value"] * 2
    assert (calls, flight.unwritten) == ([], 0)


def test_a_lease_asked_for_twice_is_ones_own(flight):
    """As when a connection breaks before the answer comes."""
    for token, said in (("a", b"mine"), ("a", b"mine"), ("b", b"wait")):
        assert asyncio.run(flight._on_entry(KEY, token)) == said


def test_what_cannot_be_read_is_computed(flight, client):
    """What another version left does no harm."""
    client.set(KEY, "R{nonsense")
    assert asyncio.run(flight.run("k", computation([]))) == "value"
    assert flight.alone == 1


def test_while_redis_is_away_each_computes_for_itself(own_server):
    """No call fails: not at the start, and not when it goes while a value is computed."""

    async def main():
        async def stop():
            await asyncio.to_thread(own_server.stop)
            return "value"

        with SharedFlight(own_server.url, "f", timeout=0.2) as flight:
            with RedisStore(own_server.url, "s", timeout=0.2) as store:
                cache = AsyncCache(ttl=10, maxsize=10, store=store)
                found = [await cache.get_or_compute(k, flight.shared(k, stop)) for k in "ab"]
            return found, flight.computed, flight.unwritten, flight.alone

    assert asyncio.run(main()) == (["value"] * 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lease": 0}, "lease=0: give seconds, 0.01 or more"),
        ({"keep": float("inf")}, "keep=inf"),
        ({"namespace": ""}, "name what is computed"),
    ],
)
def test_what_is_out_of_range_for_a_flight_is_refused(options, message):
    """By name."""
    with pytest.raises(ValueError, match=message):
        SharedFlight("redis://127.0.0.1:1", **{"namespace": "f", **options})
