"""What LangChain asks of a cache for models holds for `CacheAdapter`, in memory and over a file."""

import pytest
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from course_lib.caching import AsyncCache, CacheAdapter, SqliteStore

pytestmark = pytest.mark.nightly


class InMemory:
    """An empty cache each time."""

    @pytest.fixture
    def cache(self):
        return CacheAdapter(AsyncCache(ttl=60, maxsize=100))


class OverAFile:
    """An empty cache and an empty file each time."""

    @pytest.fixture
    def cache(self, tmp_path):
        with SqliteStore(tmp_path / "cache.sqlite3") as store:
            yield CacheAdapter(AsyncCache(ttl=60, maxsize=100, store=store))


class TestInMemory(InMemory, SyncCacheTestSuite):
    """LangChain's suite for sync callers."""


class TestInMemoryAsync(InMemory, AsyncCacheTestSuite):
    """LangChain's suite for async callers."""


class TestOverAFile(OverAFile, SyncCacheTestSuite):
    """The same with a store behind it."""


class TestOverAFileAsync(OverAFile, AsyncCacheTestSuite):
    """The same with a store behind it, for async callers."""
