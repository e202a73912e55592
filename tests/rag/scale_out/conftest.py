import contextlib
import multiprocessing

import pytest
from scale_support import Worker

from course_lib.rag.scale_out.redis_server import find_server, start_server


@pytest.fixture(scope="session")
def program_of_server():
    """A Redis server's program; in CI there is one."""
    pytest.importorskip("redis", reason="redis-py is in the extra `scale`")
    try:
        return find_server()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_server(program_of_server):
    """One server for all tests."""
    with start_server(program_of_server) as server:
        yield server


@pytest.fixture
def server(shared_server, client):
    """A server that holds nothing."""
    client.flushall()
    return shared_server


@pytest.fixture
def client(shared_server):
    """A client of the tests' own."""
    import redis

    with contextlib.closing(redis.Redis.from_url(shared_server.url)) as client:
        yield client


@pytest.fixture
def own_server(program_of_server):
    """A server that may be stopped and started."""
    with start_server(program_of_server) as server:
        yield server


@pytest.fixture(scope="session")
def context():
    """Where processes come from: forks of one that has imported what they need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["course_lib.caching", "course_lib.rag.scale_out", "redis"])
    return context


@pytest.fixture
def worker(context):
    """Run a function in a process of its own; it is gone after the test."""
    workers = []

    def start(function, *arguments):
        workers.append(Worker(context, function, *arguments))
        return workers[-1]

    yield start
    for each in workers:
        each.kill()
        each.connection.close()
