"""What LangChain asks of a key-value store holds for those on disk and in Redis."""

import contextlib

import pytest
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests

from course_lib.caching import SqliteStore
from course_lib.rag.scale_out import RedisStore, running_server

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def redis_server():
    """A Redis server for this module."""
    pytest.importorskip("redis", reason="redis-py is in the extra `scale`")
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running_server())
        except RuntimeError as error:
            pytest.skip(str(error))
        yield server


class Bytes:
    """Values as these stores hold them."""

    @pytest.fixture
    def three_values(self):
        return b"foo", b"\x00bar", b""


class OnDisk(Bytes):
    """An empty file each time."""

    @pytest.fixture
    def kv_store(self, tmp_path):
        with SqliteStore(tmp_path / "cache.sqlite3") as store:
            yield store


class InRedis(Bytes):
    """An empty namespace each time."""

    @pytest.fixture
    def kv_store(self, redis_server):
        with RedisStore(redis_server.url, "contract") as store:
            store.mdelete(list(store.yield_keys()))
            yield store


class TestSqliteStore(OnDisk, BaseStoreSyncTests[bytes]):
    """LangChain's suite for the sync side of the store on disk."""


class TestSqliteStoreAsync(OnDisk, BaseStoreAsyncTests[bytes]):
    """LangChain's suite for its async side."""


class TestRedisStore(InRedis, BaseStoreSyncTests[bytes]):
    """LangChain's suite for the sync side of the store in Redis."""


class TestRedisStoreAsync(InRedis, BaseStoreAsyncTests[bytes]):
    """LangChain's suite for its async side."""
