"""The second tier in Redis: what is set is there for all, expires, and harms nobody when it fails."""

import asyncio
import logging
import threading

import pytest
from langchain_core.stores import BaseStore

from course_lib.caching import AsyncCache
from course_lib.caching.store_tier import KeepsExpiry
from course_lib.errors import Unavailable
from course_lib.rag.scale_out import RedisStore


@pytest.fixture
def store(server):
    """A store, closed in the end."""
    with RedisStore(server.url, "answers") as store:
        yield store


def test_what_is_set_is_there_for_another_store_of_the_same_name_only(store, server):
    """Keys are listed, by prefix if wanted, whatever is special in them."""
    store.mset([("a*/1", b"one"), ("a*/2", b"\x00two"), ("ab/3", b""), ("", b"none")])
    store.mdelete(["a*/1", "nothing"])
    with RedisStore(server.url, "answers") as same, RedisStore(server.url, "answer?") as other:
        assert same.mget(["ab/3", "a*/1", "a*/2", "ab/3"]) == [b"", None, b"\x00two", b""]
        assert sorted(same.yield_keys()) == ["", "a*/2", "ab/3"]
        assert list(same.yield_keys(prefix="a*")) == ["a*/2"]
        assert other.mget(["a*/2"]) == [None]
        assert list(other.yield_keys()) == []
    assert isinstance(store, BaseStore)
    assert isinstance(store, KeepsExpiry)


def test_it_works_on_event_loops_and_from_threads(store):
    """Several at once, and one loop after another."""

    async def main(name):
        await asyncio.gather(*(store.amset([(f"{name}{n}", b"1")]) for n in range(20)))
        await store.amset_expiring([(f"{name}x", b"2", 60)])
        await store.amdelete([f"{name}0"])
        keys = [key async for key in store.ayield_keys(prefix=name)]
        return len(keys), await store.amget([f"{name}0", f"{name}1", f"{name}x"])

    found = []
    threads = [
        threading.Thread(target=lambda name=name: found.append(asyncio.run(main(name))))
        for name in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(20, [None, b"1", b"2"])] * 3
    assert asyncio.run(main("d")) == found[0]


def test_many_keys_are_more_than_one_command(store):
    """In the order asked; each is listed once."""
    store.mset([(str(n), str(n).encode()) for n in range(1200)])
    keys = [str(n) for n in reversed(range(1200))]
    assert store.mget(keys) == [key.encode() for key in keys]
    listed = list(store.yield_keys())
    assert (len(listed), set(listed)) == (1200, set(keys))
    store.mdelete(keys[:1100])
    assert len(list(store.yield_keys())) == 100
    assert store.mget([]) == []
    store.mset([])
    store.mdelete([])


def test_redis_itself_drops_what_expires(store, client):
    """After as long as was said; what was said to be over is over, and harms no other."""
    store.mset_expiring([("long", b"1", 50.0), ("ever", b"2", None), ("over", b"3", -1.0)])
    assert 49_000 < client.pttl("course:store:answers:long") <= 50_000
    assert client.pttl("course:store:answers:ever") == -1
    assert client.pttl("course:store:answers:over") in {-2, 0, 1}
    store.mset([("long", b"1")])
    assert client.pttl("course:store:answers:long") == -1


def test_a_key_that_is_no_text_harms_no_other(store, client):
    """It is listed, found and deleted like any other, so that a cache can be cleared."""
    client.set(b"course:store:answers:\xff\xfe", b"1")
    store.mset([("a", b"2")])
    assert sorted(store.yield_keys()) == ["a", "\udcff\udcfe"]
    assert store.mget(["\udcff\udcfe", "a"]) == [b"1", b"2"]
    asyncio.run(new(store).clear())
    assert list(store.yield_keys()) == []
    assert client.dbsize() == 0


def test_no_two_texts_are_one_key(store):
    """Half characters that would make up whole ones are refused, and others that cannot be sent."""
    for key in ("\udcc3\udca9", "\ud800"):  # the first would be "é"
        for call in (store.mget, store.mdelete, lambda keys: store.mset([(keys[0], b"")])):
            with pytest.raises(UnicodeEncodeError):
                call([key])


@pytest.mark.parametrize(
    ("key", "value", "seconds", "error"),
    [
        ("bad", "text", None, TypeError),
        ("bad", None, None, TypeError),
        ("bad", 1.5, None, TypeError),
        (7, b"1", None, TypeError),
        ("\ud800", b"1", None, UnicodeEncodeError),
        ("bad", b"1", float("nan"), ValueError),
    ],
)
def test_all_are_set_or_none(store, key, value, seconds, error):
    """What Redis could not take is refused before anything is sent."""
    entries = [("good", b"1", None), (key, value, seconds), ("good too", b"1", None)]
    with pytest.raises(error):
        store.mset_expiring(entries)
    assert list(store.yield_keys()) == []


@pytest.mark.parametrize("seconds", [1e300, float("inf"), 1e11, 1e9])
def test_a_time_that_redis_cannot_count_is_for_ever(store, client, seconds):
    """It would refuse that one alone, and set the others."""
    store.mset_expiring([("a", b"1", seconds), ("b", b"2", 5.0)])
    assert store.mget(["a", "b"]) == [b"1", b"2"]
    assert client.pttl("course:store:answers:a") == -1 or seconds == 1e9


def new(store, **options):
    """A cache in front of a store."""
    return AsyncCache(**{"ttl": 10, "maxsize": 100, "store": store, **options})


def test_what_one_cache_computed_the_next_finds_for_what_is_left_of_its_time(store, server, client):
    """Through another connection, with `clear` for all."""

    async def compute():
        return {"sources": (1, None)}

    async def main():
        first, calls = new(store), []
        await first.get_or_compute("k", compute)
        with RedisStore(server.url, "answers") as other:
            second = new(other)
            found = await second.get_or_compute("k", lambda: calls.append(1))
            hits = second.statistics().store_hits
            left = client.pttl("course:store:answers:k")
            client.set("mine", 1)
            await second.clear()
        return found, calls, hits, left, await new(store).get("k", "nothing")

    found, calls, hits, left, after = asyncio.run(main())
    assert (found, calls, hits, after) == ({"sources": (1, None)}, [], 1, "nothing")
    assert 0 < left <= 10_000
    assert client.get("mine") == b"1"


@pytest.mark.filterwarnings("error")
def test_while_redis_is_away_a_cache_misses_and_goes_on(own_server, caplog):
    """Counted, logged once, without the password; when it is back, it is used again."""
    own_server.stop()

    async def main():
        cache = new(store)
        with caplog.at_level(logging.WARNING):
            values = [await cache.get_or_compute(key, lambda: asyncio.sleep(0, 1)) for key in "ab"]
            errors = cache.statistics().store_errors
        own_server.start()
        await cache.set("c", 3)
        return values, errors, await new(store).get("c")

    with RedisStore(own_server.url, "answers") as store:
        with pytest.raises(Unavailable, match="socket/0 did not answer"):
            store.mget(["a"])
        assert asyncio.run(main()) == ([1, 1], 4, 3)
    assert len(caplog.records) == 1


def test_a_client_that_is_given_is_used_and_left_open(client):
    """The caller closes it."""
    with RedisStore(client, "given") as store:
        store.mset([("a", b"1")])
    assert client.get("course:store:given:a") == b"1"


def test_keys_need_a_namespace():
    """Or `clear` would delete what is not the cache's."""
    with pytest.raises(ValueError, match="name what is kept"):
        RedisStore("redis://127.0.0.1:1", "")
