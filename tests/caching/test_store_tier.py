"""The second tier in the cache: warm after a restart, and harmless whatever it does."""

import asyncio
import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.stores import InMemoryByteStore

from course_lib.caching import AsyncCache, SqliteStore
from course_lib.lab.simulation import simulate


class Slow(InMemoryByteStore):
    """Takes its time, or fails, and counts."""

    def __init__(self, seconds=0.0, error=None):
        super().__init__()
        self.seconds, self.error, self.calls = seconds, error, []

    async def _do(self, name):
        self.calls.append(name)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error

    async def amget(self, keys):
        await self._do("get")
        return self.mget(keys)

    async def amset(self, pairs):
        await self._do("set")
        self.mset(pairs)

    async def amdelete(self, keys):
        await self._do("delete")
        self.mdelete(keys)


class Broken(InMemoryByteStore):
    """Fails from synchronous code."""

    def mget(self, keys):
        raise OSError("down")

    mset = mdelete = yield_keys = mget


def new(store, **options):
    """A cache in front of a store."""
    return AsyncCache(**{"ttl": 10, "maxsize": 100, "store": store, **options})


def stored(value):
    """What a cache keeps in its store for a value that does not expire."""
    return json.dumps({"value": value, "cost": 0.0, "expires": None}).encode()


def source(value="computed", calls=None):
    """A computation that counts."""

    async def compute():
        if calls is not None:
            calls.append(value)
        return value

    return compute


@pytest.mark.parametrize("value", [None, 0, "", [], False, {"a": (1, "x")}])
def test_what_one_cache_computed_the_next_one_finds(value):
    """Also what is empty; once it is found, it is in memory."""

    async def main():
        store, calls = InMemoryByteStore(), []
        await new(store).get_or_compute("k", source(value, calls))
        second = new(store)
        found = [await second.get_or_compute("k", source(value, calls)) for _ in range(2)]
        return found, calls, second.statistics()

    found, calls, statistics = simulate(main).value
    assert (found, len(calls)) == ([value] * 2, 1)
    assert (statistics.store_hits, statistics.hits, statistics.misses) == (1, 1, 0)


def test_a_dictionary_comes_back_in_its_order():
    """A reader must not see which tier a value comes from."""
    store, value = InMemoryByteStore(), {"b": 1, "a": {"z": 1, "y": 2}}
    new(store).set_sync("k", value)
    assert str(new(store).get_sync("k")) == str(value)


def test_fifty_who_ask_lead_to_one_question_to_the_store():
    """And the batch asks it once for all its keys."""

    async def main():
        store = Slow(0.1)
        cache = new(store)
        await asyncio.gather(*(cache.get_or_compute("k", source()) for _ in range(50)))
        single = list(store.calls)
        await cache.get_or_compute_many("abc", lambda keys: asyncio.sleep(0, keys))
        return single, store.calls[2:]

    assert simulate(main).value == (["get", "set"], ["get", "set"])


def test_a_value_keeps_its_age_in_the_store():
    """Who finds it there gets what is left of its time, and not a new life."""

    async def main():
        store = InMemoryByteStore()
        await new(store).set("k", 1)
        await asyncio.sleep(6)
        return store

    store = simulate(main).value

    def left():
        stored = json.loads(store.mget(["k"])[0])
        return stored["expires"] - time.time()

    async def later(seconds):
        await asyncio.sleep(seconds)
        return await new(store).get("k")

    assert 0 < left() <= 10
    assert simulate(lambda: later(10)).value is None


def test_what_was_found_in_the_store_expires_in_memory_in_time():
    """In one simulation, where the date goes as the seconds do."""

    async def main():
        store = InMemoryByteStore()
        first, second = new(store), new(store)
        await first.set("k", 1)
        seen = []
        for pause in (6, 3.999, 0.002):
            await asyncio.sleep(pause)
            seen.append(await second.get("k"))
        return seen

    assert simulate(main).value == [1, 1, None]


def test_a_clock_that_was_set_back_gives_nothing_a_longer_life():
    """Whatever date the store says, it is at most the ttl of who reads."""

    async def main():
        store = InMemoryByteStore()
        day = {"value": 1, "cost": 0.0, "expires": time.time() + 86_400}
        store.mset([("k", json.dumps(day).encode())])
        cache = new(store)
        before = await cache.get("k")
        store.mdelete(["k"])
        await asyncio.sleep(10)
        return before, await cache.get("k")

    assert simulate(main).value == (1, None)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"text"',
        b'{"value":1,"cost":0}',
        b'{"value":1,"cost":"x","expires":null}',
        b'{"value":1,"cost":0,"expires":[]}',
        b'{"value":1,"cost":0,"expires":NaN}',
        b'{"value":1,"cost":1' + b"0" * 400 + b',"expires":null}',
        b'{"value":1,"cost":1e400,"expires":null}',
        b'{"value":1,"cost":-1,"expires":null}',
        b'{"value":1,"cost":true,"expires":null}',
        b'{"value":1,"cost":0,"expires":1' + b"0" * 400 + b"}",
        b'{"value":{"$type":"Evil","fields":{}},"cost":0,"expires":null}',
    ],
)
def test_what_cannot_be_read_is_a_miss_and_is_written_again(stored):
    """Counted, and the call goes on."""

    async def main():
        store = InMemoryByteStore()
        store.mset([("k", stored)])
        cache = new(store)
        value = await cache.get_or_compute("k", source())
        return value, cache.statistics().store_errors, await new(store).get("k")

    assert simulate(main).value == ("computed", 1, "computed")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([10**400, -1, 1e308, "$type", "AIMessage"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$type", "$tuple", "$dict", "fields", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
WRITTEN = st.binary(max_size=40) | st.fixed_dictionaries(
    {"value": JSON, "cost": JSON, "expires": JSON}
).map(lambda entry: json.dumps(entry).encode())


@given(WRITTEN, st.sampled_from([None, 10.0]), st.sampled_from([0.0, 1.0]))
def test_whatever_is_written_there_no_call_fails(written, ttl, early):
    """Nor any that comes later; what can be read is given, and no other value."""

    async def main():
        store = InMemoryByteStore()
        store.mset([("k", written)])
        cache = new(store, ttl=ttl, early=early)
        values = [await cache.get_or_compute("k", source()) for _ in range(3)]
        await asyncio.sleep(0)
        return values, cache.statistics()

    values, statistics = simulate(main).value
    if statistics.store_hits:
        assert b'"value"' in written
    else:
        assert values == ["computed"] * 3


def test_a_store_that_fails_is_a_miss_that_is_counted(caplog):
    """One warning says so; no call fails."""

    async def main():
        cache = new(Slow(error=OSError("down")))
        values = [await cache.get_or_compute(key, source(key)) for key in "aba"]
        await cache.set("c", 1)
        await cache.invalidate("c")
        values.append(await cache.get("c"))
        await cache.clear()
        return values, cache.statistics()

    with caplog.at_level(logging.WARNING):
        values, statistics = simulate(main).value
    assert values == ["a", "b", "a", None]
    assert statistics.store_errors == 8
    assert len(caplog.records) == 1
    assert "goes on without its store: Slow.amget: OSError('down')" in caplog.text


def test_a_store_that_is_slow_costs_no_more_than_its_timeout(caplog):
    """To read and to write."""

    async def main():
        cache = new(Slow(100), store_timeout=0.5)
        return await cache.get_or_compute("k", source()), cache.statistics().store_errors

    with caplog.at_level(logging.WARNING):
        result = simulate(main)
    assert (result.value, result.seconds) == (("computed", 2), 1.0)
    assert "no answer within 0.5 s" in caplog.text


def test_a_store_that_is_slow_to_fail_is_left_alone_for_a_while():
    """Three times in a row; after ten seconds one caller tries, and for all if it works again."""

    async def main():
        store, took = Slow(100), []
        cache = new(store, store_timeout=0.5)
        now = asyncio.get_running_loop().time

        async def ask(key, count=1):
            start = now()
            await asyncio.gather(
                *(cache.get_or_compute(f"{key}{n}", source()) for n in range(count))
            )
            took.append(now() - start)

        for key in "abcd":
            await ask(key)
        await asyncio.sleep(10)
        before = list(store.calls)
        await ask("e", count=5)
        tried = store.calls[len(before) :]
        store.seconds = 0
        await ask("f")
        await asyncio.sleep(10)
        await ask("g")
        await ask("h", count=2)
        return took, before, tried, store.mget(["f0", "g0", "h0", "h1"])

    took, before, tried, kept = simulate(main).value
    assert took == [1, 1, 1, 0, 0.5, 0, 0, 0]  # one reads, another one writes
    assert before == ["get", "set"] * 3
    assert tried == ["get", "set"]
    assert kept[0] is None
    assert None not in kept[1:]


def test_a_store_that_is_slow_to_write_is_still_read_and_what_is_wrong_is_deleted():
    """Each is tried by itself, and to delete is always."""

    class SlowToWrite(Slow):
        async def amset(self, pairs):
            self.calls.append("set")
            await asyncio.sleep(100)

    async def main():
        store = SlowToWrite()
        store.mset([("old", stored("there"))])
        cache = new(store, store_timeout=0.5)
        for key in "abcde":
            await cache.get_or_compute(key, source())
        found = await cache.get("old")
        await cache.invalidate("old")
        return found, store.calls.count("set"), store.mget(["old"])

    assert simulate(main).value == ("there", 3, [None])


def test_a_store_that_fails_at_once_is_asked_again_at_once():
    """That costs nothing, and it may work in a moment."""

    async def main():
        store = Slow(error=OSError("down"))
        cache = new(store)
        for key in "abcdef":
            await cache.get_or_compute(key, source())
        store.error = None
        await cache.set("k", 1)
        return store.mget(["k"])

    assert simulate(main).value != [None]


@pytest.mark.parametrize("sync", [False, True])
def test_half_a_character_in_one_key_harms_no_other(sync, tmp_path):
    """That one goes without the store, and is counted."""
    half, asked = "half \ud83d", []

    def compute(keys):
        asked.append(keys)
        return [key.upper() for key in keys]

    async def acompute(keys):
        return compute(keys)

    def ask(cache, keys):
        if sync:
            return cache.get_or_compute_many_sync(keys, compute)
        return asyncio.run(cache.get_or_compute_many(keys, acompute))

    with SqliteStore(tmp_path / "c.sqlite3") as store:
        for keys in (["a"], ["a", half, "b"], ["a", "b", half]):
            cache = new(store)
            assert ask(cache, keys) == [key.upper() for key in keys]
        assert cache.statistics().store_errors == 1
        assert not cache.get_sync("other" + half)
        cache.invalidate_sync(half)
        asyncio.run(cache.invalidate(half))
        assert cache.get_sync(half) is None
    assert asked == [["a"], [half, "b"], [half]]


@pytest.mark.parametrize("answer", [[], [b"1", b"2"], 7])
def test_an_answer_that_is_no_list_of_as_many_values_is_none(answer):
    """Whose value is whose could not be told."""

    class Odd(InMemoryByteStore):
        async def amget(self, keys):
            return answer

    cache = new(Odd())
    assert asyncio.run(cache.get_or_compute("k", source())) == "computed"
    assert cache.statistics().store_errors == 1


def test_a_caller_who_gives_up_is_no_failure_of_the_store():
    """Cancelled while the store is asked."""

    async def main():
        cache = new(Slow(1), store_timeout=5)
        task = asyncio.create_task(cache.get_or_compute("k", source()))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), cache.statistics().store_errors, cache.statistics().in_flight

    assert simulate(main).value == (True, 0, 0)


def test_a_value_that_cannot_be_written_stays_in_memory(caplog):
    """Rather than to lose an answer that was paid for."""

    async def main():
        store = InMemoryByteStore()
        cache = new(store)
        await cache.get_or_compute("k", source({1, 2}))
        return await cache.get("k"), cache.statistics().store_errors, store.mget(["k"])

    with caplog.at_level(logging.WARNING):
        assert simulate(main).value == ({1, 2}, 1, [None])
    assert "the value of 'k' stays in memory only" in caplog.text


def test_what_is_invalidated_while_the_store_answers_does_not_come_back():
    """Neither by `get` nor by a computation."""

    async def main():
        store = Slow(1)
        store.mset([("k", stored("old"))])
        cache = new(store, store_timeout=5)
        asked = [
            asyncio.create_task(cache.get("k")),
            asyncio.create_task(cache.get_or_compute("k", source())),
        ]
        await asyncio.sleep(0.5)
        await cache.invalidate("k")
        return await asyncio.gather(*asked), await cache.get("k"), store.mget(["k"])

    assert simulate(main).value == (["old", "old"], None, [None])


def test_what_the_store_had_is_not_given_when_its_time_is_over():
    """Though the rest of the batch that found it is still being computed."""

    async def main():
        store, asked = InMemoryByteStore(), []
        store.mset([("quick", stored("old"))])
        cache = new(store, ttl=1)

        async def compute(keys):
            asked.append(keys)
            await asyncio.sleep(10)
            return keys

        batch = asyncio.create_task(cache.get_or_compute_many(["quick", "slow"], compute))
        await asyncio.sleep(5)
        store.mdelete(["quick"])
        value = await cache.get_or_compute("quick", source("new"))
        return value, await batch, asked

    assert simulate(main).value == ("new", ["old", "slow"], [["slow"]])


def test_errors_are_not_written_to_the_store():
    """They are this process's own."""

    async def main():
        store = InMemoryByteStore()
        cache = new(store, negative_ttl=5)

        async def breaks():
            raise OSError("down")

        with pytest.raises(OSError, match="down"):
            await cache.get_or_compute("k", breaks)
        return list(store.yield_keys())

    assert simulate(main).value == []


def test_in_a_batch_a_failed_key_can_be_asked_again_before_the_others_are_written():
    """The store is slow; who retries gets a computation, and not the same error."""

    async def main():
        store, calls = Slow(1), []
        cache = new(store, store_timeout=5)

        async def compute(keys):
            calls.append(keys)
            return [OSError(key) if key == "bad" and len(calls) == 1 else key for key in keys]

        batch = asyncio.create_task(cache.get_or_compute_many(["bad", "good"], compute))
        await asyncio.sleep(1.5)  # the store is being written
        retried = await cache.get_or_compute_many(["bad"], compute)
        with pytest.raises(OSError, match="bad"):
            await batch
        return retried, calls

    assert simulate(main).value == (["bad"], [["bad", "good"], ["bad"]])


def test_a_restart_is_warm_with_a_file(tmp_path):
    """As a kernel's; the same from synchronous code."""
    path, calls = tmp_path / "answers.sqlite3", []

    async def run():
        with SqliteStore(path) as store:
            cache = new(store)
            value = await cache.get_or_compute("k", source(["a", ("b",)], calls))
            await cache.set("other", 1)
            return value, cache.statistics().store_hits

    assert asyncio.run(run()) == (["a", ("b",)], 0)
    assert asyncio.run(run()) == (["a", ("b",)], 1)
    assert len(calls) == 1
    with SqliteStore(path) as store:
        cache = new(store)
        assert cache.get_sync("other") == 1
        assert cache.get_or_compute_sync("k", list) == ["a", ("b",)]
        cache.set_sync("third", 3)
        assert cache.invalidate_sync("other")
        assert not cache.invalidate_sync("other")
        assert sorted(store.yield_keys()) == ["k", "third"]
        cache.clear_sync()
        assert list(store.yield_keys()) == []


def test_from_synchronous_code_a_broken_store_is_harmless_too():
    """Counted as well."""
    cache = new(Broken())
    assert cache.get_or_compute_sync("k", lambda: 1) == 1
    assert cache.get_sync("absent", "nothing") == "nothing"
    cache.set_sync("k", 2)
    cache.invalidate_sync("k")
    cache.clear_sync()
    assert cache.statistics().store_errors == 6


def test_a_file_that_expires_drops_what_has_expired(tmp_path):
    """The store is told how long a value lives."""
    now = [1000.0]

    async def main():
        with SqliteStore(tmp_path / "c.sqlite3", wall_clock=lambda: now[0]) as store:
            await new(store).set("k", 1)
            now[0] += 9
            before = list(store.yield_keys())
            now[0] += 2
            return before, list(store.yield_keys())

    assert asyncio.run(main()) == (["k"], [])


def test_keys_are_str_and_stores_are_stores():
    """Refused at once, with what to do."""

    async def main():
        with pytest.raises(TypeError, match="with a store keys are str; make one with `stable_key"):
            await new(InMemoryByteStore()).get_or_compute(("a", 1), source())

    simulate(main)
    with pytest.raises(TypeError, match=r"pass `SqliteStore\(path\)`"):
        new({})
