"""Beyond one process: what several processes share (extra `scale`).

`RedisTokenBucket` is one rate limit for all of them, `RedisStore` the second tier of their caches,
`SharedFlight` has a value computed by one of them only; `running_server` gives them a Redis.

Beneath: `RedisLink` is the way to the server, a `Desk` the line within one process for what the
server grants.
"""

from course_lib.rag.scale_out.redis_bucket import RedisBucketStatistics, RedisTokenBucket
from course_lib.rag.scale_out.redis_server import RedisServer, running_server, start_server
from course_lib.rag.scale_out.redis_store import RedisStore
from course_lib.rag.scale_out.shared_flight import SharedFlight

__all__ = [
    "RedisBucketStatistics",
    "RedisServer",
    "RedisStore",
    "RedisTokenBucket",
    "SharedFlight",
    "running_server",
    "start_server",
]
