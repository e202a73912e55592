"""The shared rate limit when Redis is away, hangs, or comes back."""

import asyncio
import os
import signal
import threading

import pytest
from scale_support import eventually, fill

from course_lib.errors import Unavailable
from course_lib.rag.scale_out import RedisTokenBucket, redis_bucket

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def bucket(own_server):
    """Make a bucket at a server that may be stopped."""
    made = []

    def make(**options):
        options = {"rate": 0.1, "capacity": 2, "patience": 0.1, "timeout": 0.2, **options}
        made.append(RedisTokenBucket(own_server.url, "b", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def filled(server, rate=0.1, capacity=2):
    """Have the bucket full."""
    import redis

    with redis.Redis.from_url(server.url) as client:
        fill(client, "course:bucket:b", rate, capacity)


def test_closed_it_fails_with_what_to_do_and_lets_nobody_through(bucket, own_server):
    """After its patience, in order, both ways; who does not wait is told at once."""
    bucket = bucket()
    own_server.stop()
    with pytest.raises(Unavailable, match=r"Redis at .*socket/0 did not answer .*running_server"):
        bucket.acquire()

    async def main():
        return await asyncio.gather(*(bucket.aacquire() for _ in range(5)), return_exceptions=True)

    assert {type(error) for error in asyncio.run(main())} == {Unavailable}
    with pytest.raises(Unavailable):
        bucket.acquire(blocking=False)
    seen = bucket.statistics()
    assert (seen.admitted, seen.failed, seen.outages, seen.waiting) == (0, 7, 1, 0)
    own_server.start()
    filled(own_server)
    assert bucket.acquire()


def test_closed_who_waits_rides_out_an_outage(bucket, own_server):
    """Nobody is lost, and nobody is let through before Redis is back."""
    filled(own_server, 100, 2)
    bucket = bucket(rate=100, patience=60)
    bucket.acquire(weight=2)
    own_server.stop()
    threads = [threading.Thread(target=bucket.acquire) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: bucket.statistics().outages == 1)
    assert bucket.statistics().waiting == 8
    own_server.start()
    for thread in threads:
        thread.join()
    seen = bucket.statistics()
    assert (seen.admitted, seen.failed, seen.waiting) == (9, 0, 0)


def test_open_it_lets_everybody_through_and_counts_them(bucket, own_server):
    """Also those who were in line; when Redis is back, the limit holds again."""
    bucket = bucket(on_failure="open")
    waiting = threading.Thread(target=bucket.acquire)
    waiting.start()
    eventually(lambda: bucket._queue._place.weight)
    own_server.stop()
    bucket._queue._resume = 0  # as if its time had come
    with bucket._queue._changed:
        bucket._queue._changed.notify()
    waiting.join()
    assert all(bucket.acquire(blocking=blocking) for blocking in (True, False) * 10)
    assert bucket.statistics().unlimited == 21
    own_server.start()
    eventually(lambda: not bucket.acquire(blocking=False))
    assert bucket.statistics().outages == 1


@posix
def test_a_server_that_hangs_is_one_that_is_away(bucket, own_server):
    """After the timeout; when it goes on, the limit goes on."""
    bucket = bucket(timeout=0.1)
    filled(own_server)
    assert bucket.acquire()
    os.kill(own_server.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable, match="TimeoutError"):
        bucket.acquire()
    os.kill(own_server.pid, signal.SIGCONT)
    answers = []
    eventually(lambda: again(bucket, answers))
    assert answers[0] is False or bucket.statistics().admitted == 2


def again(bucket, answers):
    """Ask once more; whether there was an answer."""
    try:
        answers.append(bucket.acquire(blocking=False))
    except Unavailable:
        return False
    return True


def test_cancelled_while_redis_is_away_leaves_nothing(bucket, own_server, monkeypatch):
    """No place, no caller, no thread."""
    monkeypatch.setattr(redis_bucket, "IDLE_SECONDS", 0.05)
    bucket = bucket(patience=60)
    own_server.stop()

    async def main():
        tasks = [asyncio.create_task(bucket.aacquire()) for _ in range(3)]
        await asyncio.to_thread(eventually, lambda: bucket.statistics().outages)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    seen = bucket.statistics()
    assert (seen.waiting, seen.cancelled, seen.failed) == (0, 3, 0)
    eventually(lambda: bucket._queue._thread is None)


def test_an_error_that_is_no_outage_reaches_everybody_who_waits(bucket):
    """Nobody hangs on a thread that has died."""
    bucket = bucket()

    def broken(*arguments, **options):
        raise ZeroDivisionError

    bucket._queue._ask = broken
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            bucket.acquire()
