"""The shared rate limit as its users see it, in one process."""

import asyncio
import os
import threading
from contextlib import suppress

import pytest
import redis
from langchain_core.language_models import FakeListChatModel
from scale_support import eventually, excess, fill

from course_lib.errors import Unavailable
from course_lib.lab.simulation import simulate
from course_lib.rag.scale_out import RedisTokenBucket, redis_bucket
from course_lib.rag.scale_out.redis_link import RedisLink

KEY = "course:bucket:shared"
NAN = float("nan")


class Logged(RedisTokenBucket):
    """Remembers what was granted, by the server's clock."""

    log = ()

    def _ask(self, weights, **stakes):
        answer = super()._ask(weights, **stakes)
        letters = zip(weights, answer.decided, strict=False)
        self.log = [*self.log, *((answer.now, abs(w)) for w, letter in letters if letter == "g")]
        return answer


@pytest.fixture
def bucket(server, client):
    """Make buckets of one name, full."""
    made = []

    def make(rate=50.0, capacity=5.0, **options):
        fill(client, KEY, rate, capacity)
        made.append(Logged(server.url, "shared", rate=rate, capacity=capacity, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def gather(bucket, weights):
    """Ask for tokens of these weights all at once; return in which order they came."""
    order = []

    async def ask(number, weight):
        assert await bucket.aacquire(weight=weight)
        order.append(number)

    await asyncio.gather(*(ask(*each) for each in enumerate(weights)))
    return order


def test_a_burst_then_the_rate_in_the_order_of_arrival(bucket):
    """Heavy requests are neither starved nor overtaken."""
    bucket = bucket(rate=100, capacity=5)
    weights = [3, 5, 1, 0.5, 4] * 6
    assert asyncio.run(gather(bucket, weights)) == list(range(30))
    assert [weight for _, weight in bucket.log] == weights
    assert excess(bucket.log, 100, 5) < 1e-4
    seen = bucket.statistics()
    assert (seen.admitted, seen.waiting, seen.outages) == (30, 0, 0)
    assert seen.waits >= seen.longest_wait >= (sum(weights) - 5) / 100 - 0.001


def test_who_does_not_wait_does_not_overtake(bucket):
    """`blocking=False` takes what there is, and is behind everybody who waits."""
    bucket = bucket(rate=0.5, capacity=2)

    async def main():
        answers = [await bucket.aacquire(blocking=False), bucket.acquire(blocking=False)]
        answers.append(await bucket.aacquire(blocking=False))
        heavy = asyncio.create_task(bucket.aacquire(weight=2))
        await until(lambda: bucket._queue._place.weight)
        answers.append(bucket.acquire(blocking=False))
        heavy.cancel()
        await asyncio.gather(heavy, return_exceptions=True)
        return answers

    with Logged(bucket._link._client, "shared", rate=0.5, capacity=2) as other:
        assert asyncio.run(main()) == [True, True, False, False]
        assert other.acquire(blocking=False) is False
    assert bucket.statistics().refused == 2


async def until(condition):
    """`eventually`, for a coroutine."""
    await asyncio.to_thread(eventually, condition)


def line_of(client):
    """The end of the line in seconds from now, on the server."""
    seconds, micros = client.time()
    return float(client.hget(KEY, "line")) / 1e6 - seconds - micros / 1e6


def test_who_is_cancelled_behind_others_costs_nothing(bucket):
    """Thirty of forty give up, the first among them: the server never hears of them."""
    bucket = bucket(rate=100, capacity=1)

    async def main():
        tasks = [asyncio.create_task(bucket.aacquire()) for _ in range(41)]
        await until(lambda: bucket._queue._place.weight)
        for number, task in enumerate(tasks[1:]):
            if number % 4 != 3:
                task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    got = asyncio.run(main())
    assert got.count(True) >= 11
    assert len(bucket.log) == got.count(True)
    seen = bucket.statistics()
    assert seen.admitted + seen.cancelled == 41


def test_a_place_that_nobody_takes_over_is_given_back(bucket, client):
    """The line on the server is as short as before."""
    bucket = bucket(rate=0.1, capacity=1)
    before = line_of(client)

    async def main():
        task = asyncio.create_task(bucket.aacquire())
        assert await task
        task = asyncio.create_task(bucket.aacquire())
        await until(lambda: bucket._queue._place.weight)
        assert line_of(client) > before + 15
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: not bucket._queue._place.weight)

    asyncio.run(main())
    eventually(lambda: line_of(client) < 10.1)
    assert bucket.statistics().cancelled == 1


def test_tokens_granted_to_somebody_who_has_just_left_are_given_back(bucket, client):
    """The answer comes after the cancellation."""
    bucket = bucket(rate=0.1, capacity=2)
    asked, go = threading.Event(), threading.Event()
    ask = bucket._queue._ask

    def slow(*arguments, **options):
        answer = ask(*arguments, **options)
        asked.set()
        go.wait(60)
        return answer

    bucket._queue._ask = slow

    async def main():
        task = asyncio.create_task(bucket.aacquire(weight=2))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        go.set()
        await until(lambda: not bucket._queue._back)

    asyncio.run(main())
    eventually(lambda: float(client.hget(KEY, "spent")) < 0.5)
    seen = bucket.statistics()
    assert (seen.admitted, seen.cancelled, seen.waiting) == (0, 1, 0)
    assert bucket.acquire(blocking=False)


def test_who_is_cancelled_just_after_the_grant_gives_the_tokens_back(bucket, client):
    """The loop is busy when the answer comes, and then cancels first."""
    bucket = bucket(rate=0.1, capacity=2)

    async def main():
        task = asyncio.create_task(bucket.aacquire(weight=2))
        await asyncio.sleep(0)
        eventually(lambda: bucket.statistics().admitted)  # blocks the loop
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    eventually(lambda: float(client.hget(KEY, "spent")) < 0.5)
    seen = bucket.statistics()
    assert (seen.admitted, seen.cancelled) == (0, 1)
    assert bucket.acquire(blocking=False)


def test_threads_and_event_loops_share_it(bucket):
    """Two loops and two threads at once, and one loop after another."""
    bucket = bucket(rate=1000, capacity=10)

    def loop():
        asyncio.run(gather(bucket, [1] * 20))

    def thread():
        for _ in range(20):
            bucket.acquire()

    workers = [threading.Thread(target=target) for target in (loop, thread, loop, thread)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    loop()
    assert bucket.statistics().admitted == len(bucket.log) == 100
    assert excess(bucket.log, 1000, 10) < 1e-3


def test_its_thread_ends_when_nobody_has_asked_for_a_while(bucket, monkeypatch):
    """And another is started when somebody does; `close` does not wait for that."""
    bucket = bucket(rate=1000)
    monkeypatch.setattr(redis_bucket, "IDLE_SECONDS", 0.05)
    assert bucket.acquire()
    eventually(lambda: bucket._queue._thread is None)
    monkeypatch.setattr(redis_bucket, "IDLE_SECONDS", 60)
    assert bucket.acquire()
    thread = bucket._queue._thread
    bucket.close()
    assert not thread.is_alive()
    assert bucket.acquire()


def test_a_script_that_the_server_lacks_is_sent_again(bucket, client):
    """After SCRIPT FLUSH."""
    bucket = bucket(rate=1000)
    for _ in range(2):
        client.script_flush()
        assert bucket.acquire()


def test_a_bucket_that_is_full_is_forgotten(bucket, client):
    """So names that nobody uses any more leave nothing behind."""
    bucket = bucket(rate=100, capacity=5)
    bucket.acquire()
    assert 0 < client.pttl(KEY) <= 1010
    asyncio.run(gather(bucket, [1] * 10))
    assert 0 < client.pttl(KEY) <= 1050


def test_what_redis_has_forgotten_was_not_full(own_server):
    """Started anew, it holds what has flowed in since: what was taken before may be in use."""
    with RedisTokenBucket(own_server.url, "b", rate=0.01, capacity=5) as bucket:
        assert not bucket.acquire(blocking=False)
        own_server.stop()
        own_server.start()
        assert not bucket.acquire(blocking=False)


def test_another_limit_under_the_same_name_is_refused(bucket, server):
    """With both limits, and what to do."""
    first = bucket(rate=50, capacity=5)
    with (
        RedisTokenBucket(server.url, "shared", rate=60, capacity=5) as other,
        pytest.raises(ValueError, match=r"in use with rate=50.0, capacity=5.0, not rate=60.0"),
    ):
        other.acquire()
    assert first.acquire()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate=0"),
        ({"rate": NAN}, "rate=nan"),
        ({"capacity": 0.5}, "never holds the one token"),
        ({"on_failure": "ajar"}, "give 'closed' or 'open'"),
        ({"patience": -1}, "patience=-1"),
        ({"timeout": 0}, "timeout=0"),
        ({"name": ""}, "name='' is nobody's"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    """By name, before any connection is made."""
    options = {"name": "b", "rate": 1, "capacity": 1, **options}
    with pytest.raises(ValueError, match=message):
        RedisTokenBucket("redis://127.0.0.1:1/0", **options)


@pytest.mark.parametrize("weight", [0, -1, 5.5, NAN])
def test_a_weight_that_can_never_be_had_is_refused(bucket, weight):
    """At once, both ways."""
    bucket = bucket()
    with pytest.raises(ValueError, match="weight="):
        bucket.acquire(weight=weight)
    with pytest.raises(ValueError, match="weight="):
        asyncio.run(bucket.aacquire(weight=weight))


def test_in_virtual_time_it_says_what_to_use(bucket):
    """Instead of standing still."""
    bucket = bucket()
    with pytest.raises(RuntimeError, match="use TokenBucket"):
        simulate(bucket.aacquire)


def test_a_chat_model_takes_it(bucket):
    """As `rate_limiter=`."""
    bucket = bucket(rate=1000)
    model = FakeListChatModel(responses=["yes"], rate_limiter=bucket)
    assert model.invoke("?").content == "yes"
    assert asyncio.run(model.ainvoke("?")).content == "yes"
    assert bucket.statistics().admitted == 2


def fork(connection, url):
    """Fork while four callers wait; the child asks as well."""
    bucket = RedisTokenBucket(url, "f", rate=20, capacity=1)
    threads = [threading.Thread(target=bucket.acquire) for _ in range(4)]
    for thread in threads:
        thread.start()
    if os.fork() == 0:
        bucket.acquire()
        os._exit(7)
    for thread in threads:
        thread.join()
    connection.send(os.waitstatus_to_exitcode(os.wait()[1]))


def test_a_fork_asks_for_itself(worker, server):
    """While its parent's callers wait."""
    assert worker(fork, server.url).finish() == [7]


def test_an_address_is_checked_and_its_password_never_shown():
    """In no message and no representation."""
    with pytest.raises(ValueError, match="urllib.parse.quote") as refused:
        RedisLink("redis://:se/cret@127.0.0.1:1/0")
    assert "se" not in str(refused.value).split("quote")[0].split()
    bucket = RedisTokenBucket("redis://:secret@127.0.0.1:1/3", "b", rate=1, capacity=1, patience=0)
    with bucket, pytest.raises(Unavailable, match="127.0.0.1:1/3") as failed:
        bucket.acquire()
    assert "secret" not in f"{failed.value!r} {failed.value.__cause__!r} {bucket!r}"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (7, TypeError, "int: give an address"),
        ("http://x", ValueError, "give redis://"),
        (redis.Redis(decode_responses=True), ValueError, "leave it out"),
    ],
)
def test_only_addresses_and_clients_that_answer_bytes_are_taken(given, error, message):
    """The others are told what to give."""
    with pytest.raises(error, match=message):
        RedisLink(given)
