"""Scenario 4: a cache that holds its promises when callers give up, stores fail and time passes.

`AsyncCache` keeps values, `cached` puts it in front of a Runnable and `CacheAdapter` into a chat
model; `SqliteStore` is a second tier on disk, and `stable_key` makes keys for it.
"""

from course_lib.caching.adapter import CacheAdapter
from course_lib.caching.cache import AsyncCache, CacheStatistics
from course_lib.caching.cached import cached
from course_lib.caching.codec import JsonCodec
from course_lib.caching.keys import stable_key
from course_lib.caching.sqlite_store import SqliteStore

__all__ = [
    "AsyncCache",
    "CacheAdapter",
    "CacheStatistics",
    "JsonCodec",
    "SqliteStore",
    "cached",
    "stable_key",
]
