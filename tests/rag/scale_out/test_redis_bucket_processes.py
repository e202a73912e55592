"""Three processes share a limit: the bound holds over all of them, whatever happens to them."""

import time

import pytest
import redis
from scale_support import eventually, excess, fill, finish

RATE, CAPACITY = 100, 20
SLACK = 1e-3  # tokens: the server's clock counts microseconds
KEY = "course:bucket:shared"

# Prints what it was granted, by the server's clock, while so many callers ask for so many tokens.
CALLERS = """
import asyncio, sys
from course_lib.rag.scale_out import RedisTokenBucket

url, callers, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

class Logged(RedisTokenBucket):
    def _ask(self, weights, **stakes):
        answer = super()._ask(weights, **stakes)
        for weight, letter in zip(weights, answer.decided):
            if letter == "g":
                print(answer.now, weight, flush=True)
        return answer

bucket = Logged(url, "shared", rate=%d, capacity=%d, patience=60)

async def call():
    for _ in range(each):
        await bucket.aacquire()

async def main():
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())

print("ready", flush=True)
input()
asyncio.run(main())
""" % (RATE, CAPACITY)  # noqa: UP031 - braces are Python's in there


@pytest.fixture
def start(program, own_server):
    """Start processes whose callers begin all at once, at a full bucket."""

    def start(*works):
        processes = [program(CALLERS, own_server.url, *work) for work in works]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        with redis.Redis.from_url(own_server.url) as client:
            fill(client, KEY, RATE, CAPACITY)
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return processes

    return start


def log_of(lines):
    """What a process was granted: microseconds on the server's clock, and tokens."""
    return [tuple(map(float, line.split())) for line in lines]


def test_the_bound_holds_over_three_processes_and_through_a_restart_of_redis(start, own_server):
    """A burst, Redis stopped and started, one process killed: nothing else lost, no window full."""
    victim, *others = start((500, 1), (20, 3), (5, 12))
    seen = [victim.stdout.readline() for _ in range(10)]
    own_server.stop()
    time.sleep(0.05)
    own_server.start()
    seen += [victim.stdout.readline() for _ in range(5)]
    victim.kill()
    logs = [log_of(finish(process)) for process in others]
    assert [len(log) for log in logs] == [60, 60]
    victims = log_of([*seen, *victim.stdout.read().splitlines()])
    together = sorted([*victims, *logs[0], *logs[1]])
    assert excess(together, RATE, CAPACITY) < SLACK
    assert len(victims) >= 15


def test_what_there_is_is_used_and_shared(start):
    """Each of three that always want gets its part, and together they get most of the rate."""
    logs = [log_of(finish(process)) for process in start((40, 1), (40, 1), (40, 1))]
    together = sorted(grant for log in logs for grant in log)
    assert len(together) == 120
    assert excess(together, RATE, CAPACITY) < SLACK
    early = together[: len(together) // 2]
    assert min(len(set(early) & set(log)) for log in logs) >= 5


def test_a_process_that_is_killed_costs_one_place(start, own_server):
    """However many callers it had in line."""
    (victim,) = start((1000, 1))
    for _ in range(CAPACITY + 1):
        victim.stdout.readline()
    victim.kill()
    victim.wait()
    with redis.Redis.from_url(own_server.url) as client:
        line = float(client.hget(KEY, "line"))
        seconds, micros = client.time()
    ahead = (line / 1e6 - seconds - micros / 1e6) * RATE - CAPACITY  # tokens promised
    assert ahead <= 1 + SLACK
    eventually(lambda: True)
