import contextlib

import pytest
from scale_support import PATIENCE, run_program

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


@pytest.fixture
def program():
    """Run a Python program as a process; it is gone after the test."""
    processes = []

    def run(source, *arguments):
        processes.append(run_program(source, *arguments))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE)
