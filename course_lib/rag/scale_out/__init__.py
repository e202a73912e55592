"""Beyond one process: the processes, and what they share (extra `scale`).

`Workers` are processes with a pipeline each, which share out queries (Dask distributed).
`RedisTokenBucket` is one rate limit for all of them, `RedisStore` the second tier of their caches;
`running_server` gives them a Redis.

Beneath: `RedisLink` is the way to the server.
"""

from course_lib.rag.scale_out.chunk import RemoteError
from course_lib.rag.scale_out.redis_bucket import RedisBucketStatistics, RedisTokenBucket
from course_lib.rag.scale_out.redis_server import RedisServer, running_server, start_server
from course_lib.rag.scale_out.redis_store import RedisStore
from course_lib.rag.scale_out.workers import Answers, Workers

__all__ = [
    "Answers",
    "RedisBucketStatistics",
    "RedisServer",
    "RedisStore",
    "RedisTokenBucket",
    "RemoteError",
    "Workers",
    "running_server",
    "start_server",
]
