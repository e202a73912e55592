"""Three processes share a limit: the bound holds over all of them, whatever happens to them."""

import asyncio
import time

import pytest
import redis
from scale_support import excess, fill

from course_lib.rag.scale_out import RedisTokenBucket

RATE, CAPACITY = 100, 20
SLACK = 1e-3  # tokens: the server's clock counts microseconds
KEY = "course:bucket:shared"


def call(connection, url, callers, each):
    """Have so many callers take so many tokens each; say what is granted, by the server's clock."""

    class Logged(RedisTokenBucket):
        def _ask(self, weights, **stakes):
            answer = super()._ask(weights, **stakes)
            for weight, letter in zip(weights, answer.decided, strict=False):
                if letter == "g":
                    connection.send((answer.now, weight))
            return answer

    async def caller(bucket):
        for _ in range(each):
            await bucket.aacquire()

    async def main(bucket):
        await asyncio.gather(*(caller(bucket) for _ in range(callers)))

    with Logged(url, "shared", rate=RATE, capacity=CAPACITY, patience=60) as bucket:
        connection.send("ready")
        connection.recv()
        asyncio.run(main(bucket))


@pytest.fixture
def start(worker, own_server):
    """Start processes whose callers begin all at once, at a full bucket."""

    def start(*works):
        workers = [worker(call, own_server.url, *work) for work in works]
        for each in workers:
            assert each.hear() == "ready"
        with redis.Redis.from_url(own_server.url) as client:
            fill(client, KEY, RATE, CAPACITY)
        for each in workers:
            each.go()
        return workers

    return start


def test_the_bound_holds_over_three_processes_and_through_a_restart_of_redis(start, own_server):
    """A burst, Redis stopped and started, one process killed: nothing else lost, no window full."""
    victim, *others = start((500, 1), (20, 3), (5, 12))
    seen = [victim.hear() for _ in range(10)]
    own_server.stop()
    time.sleep(0.05)
    own_server.start()
    seen += [victim.hear() for _ in range(5)]
    victim.kill()
    victims = [*seen, *victim.rest()]
    logs = [each.finish() for each in others]
    assert [len(log) for log in logs] == [60, 60]
    assert excess([*victims, *logs[0], *logs[1]], RATE, CAPACITY) < SLACK


def test_what_there_is_is_used_and_shared(start):
    """Of three that always want, each gets its part, and nothing much is wasted."""
    logs = [each.finish() for each in start((40, 1), (40, 1), (40, 1))]
    together = sorted(grant for log in logs for grant in log)
    assert len(together) == 120
    assert excess(together, RATE, CAPACITY) < SLACK
    early = set(together[:60])
    assert min(len(early & set(log)) for log in logs) >= 5
    ideal = (120 - CAPACITY) / RATE
    assert together[-1][0] - together[0][0] < 4e6 * ideal  # a machine that is busy is late


def test_a_process_that_is_killed_costs_one_place(start, own_server):
    """However many callers it had in line."""
    (victim,) = start((1000, 1))
    for _ in range(CAPACITY + 1):
        victim.hear()
    victim.kill()
    with redis.Redis.from_url(own_server.url) as client:
        line = float(client.hget(KEY, "line"))
        seconds, micros = client.time()
    ahead = (line / 1e6 - seconds - micros / 1e6) * RATE - CAPACITY  # tokens promised
    assert ahead <= 1 + SLACK
