"""Scenario 4: caching that holds when things go wrong."""

from course_lib.caching.cache import AsyncCache
from course_lib.caching.codec import JsonCodec
from course_lib.caching.statistics import CacheStatistics
from course_lib.caching.stores import SqliteStore

__all__ = ["AsyncCache", "CacheStatistics", "JsonCodec", "SqliteStore"]
