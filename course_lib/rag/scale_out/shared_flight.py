"""Single flight across processes: one computes a value, the others wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from course_lib.caching import JsonCodec
from course_lib.errors import Unavailable
from course_lib.rag.scale_out.redis_link import CONNECTIONS, Linked, RedisLink, Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

__all__ = ["SharedFlight"]

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.005, 0.1, 1.5  # seconds between two looks, and how it grows
SHORTEST: Final = 0.01  # seconds; Redis counts milliseconds

# One key holds either the lease, "L" and the token of who computes, or the result, "R" and JSON:
# so that whoever looks finds the one or the other, or may begin, in one step.
ENTER: Final = """
local held = redis.call('GET', KEYS[1])
if not held then
  redis.call('SET', KEYS[1], 'L' .. ARGV[1], 'PX', ARGV[2])
  return 'mine'
end
if held == 'L' .. ARGV[1] then return 'mine' end -- asked again: the first answer was lost
if string.sub(held, 1, 1) == 'R' then return held end
return 'wait'
"""
IF_MINE: Final = "if redis.call('GET', KEYS[1]) ~= 'L' .. ARGV[1] then return 0 end\n"
RENEW: Final = IF_MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
LEAVE: Final = IF_MINE + "return redis.call('DEL', KEYS[1])"
FORGET: Final = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 1) == 'R' then redis.call('DEL', KEYS[1]) end
"""
LAND: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= 'L' .. ARGV[1] then return 0 end -- over, and somebody else has begun
redis.call('SET', KEYS[1], 'R' .. ARGV[3], 'PX', ARGV[2])
return 1
"""


class SharedFlight(Linked):
    """Has a value computed by one process at a time, and given to the others that want it.

        flight = SharedFlight(url, "answers")
        cache = AsyncCache(ttl=3600, maxsize=1_000, store=RedisStore(url, "answers"))
        answer = await cache.get_or_compute(key, flight.shared(key, lambda: ask(question)))

    The first who asks gets a lease, kept alive while it computes, and leaves the result for the
    others for `keep` seconds; they look for it, at growing distances of at most 0.1 s. In that time
    the cache puts it where it stays. Each process asks once for many callers: that is the cache's
    part.

    - While the lease lives, nobody else computes. It lives as long as the event loop of who
      computes runs and reaches Redis, and Redis is not started anew; when that process is killed
      or hangs, the lease ends after `lease` seconds at the latest and the next begins. One that
      only hung may then still finish: its own caller gets its result, the others do not.
    - An error is raised where it came up, and is nobody else's: the next who waits tries itself.
      A computation that is cancelled lets the next begin at once.
    - For `keep` seconds, also who comes later gets that result, though it was invalidated in the
      cache meanwhile: `forget` it as well. A value may be that much older than its ttl says.
    - Where Redis is away, or the codec cannot write the value, each process computes for itself:
      a slower cache, not a failed call. Both are counted.

    Args:
        url_or_client: Address, or a `redis.Redis` client; see `RedisLink`.
        namespace: What the keys begin with there.
        lease: Seconds that a process may be silent before another one begins.
        keep: Seconds that a result is left for those who wait.
        codec: Writes results; by default a `JsonCodec()`.
        timeout: Seconds for connecting, and for each answer.
        connections: Connections at most, and calls at once; more wait their turn.

    Attributes:
        computed: Values computed here.
        received: Values that another process had computed.
        alone: Computed without a lease: Redis was away, or what is there could not be read.
        unwritten: Computed with one, and not left for others: the codec could not write the value,
            somebody else had begun meanwhile, or Redis was away by then.

    Raises:
        ValueError: An argument is out of range.
        TypeError: Neither an address nor a synchronous client.
        ImportError: redis-py is not installed.
    """

    def __init__(
        self,
        url_or_client: str | redis.Redis,
        namespace: str,
        *,
        lease: float = 10.0,
        keep: float = 1.0,
        codec: JsonCodec | None = None,
        timeout: float = 1.0,
        connections: int = CONNECTIONS,
    ) -> None:
        if not namespace:
            raise ValueError("namespace='' would mix with other keys: name what is computed")
        for name, seconds in {"lease": lease, "keep": keep}.items():
            if not SHORTEST <= seconds < math.inf:
                raise ValueError(f"{name}={seconds!r}: give seconds, {SHORTEST} or more")
        self._prefix = f"course:flight:{namespace}:"
        self._lease = lease
        self._keep = keep
        self._codec = codec or JsonCodec()
        self._link = RedisLink(url_or_client, timeout=timeout, connections=connections)
        self._enter, self._renew, self._leave, self._land = map(Script, (ENTER, RENEW, LEAVE, LAND))
        self._forget = Script(FORGET)
        self.computed = self.received = self.alone = self.unwritten = 0

    def shared(self, key: str, compute: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """Return `compute` as a coroutine function that another process's result may save."""
        return lambda: self.run(key, compute)

    async def run(self, key: str, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the value of a key: computed here, or by another process that was first.

        Raises:
            Exception: Whatever the computation here raised.
            asyncio.CancelledError: The caller was cancelled.
        """
        name, token = self._prefix + key, secrets.token_hex(16)
        pause = FIRST_PAUSE
        while True:
            try:
                said = await self._on_entry(name, token)
            except Unavailable:
                self.alone += 1
                return await compute()
            if said == b"mine":
                return await self._compute(name, token, compute)
            if said != b"wait":
                with contextlib.suppress(ValueError, TypeError):  # written by another version
                    value: T = self._codec.loads(said[1:])
                    self.received += 1
                    return value
                self.alone += 1
                return await compute()
            await asyncio.sleep(pause)
            pause = min(pause * GROWTH, LONGEST_PAUSE)

    async def forget(self, key: str) -> None:
        """Leave an earlier result for nobody any more; what is being computed is not touched.

        Raises:
            Unavailable: Redis did not do it.
        """
        await self._link.acall(self._forget.run, self._prefix + key)

    async def _on_entry(self, name: str, token: str) -> bytes:
        """Ask for the lease. Who is cancelled meanwhile may have got it: it is given back."""
        asked = self._link.start(self._enter.run, name, token, _milliseconds(self._lease))
        try:
            return bytes(await asyncio.wrap_future(asked))
        except asyncio.CancelledError:
            asked.add_done_callback(lambda _: self._link.start(self._leave.run, name, token))
            raise

    async def _compute(self, name: str, token: str, compute: Callable[[], Awaitable[T]]) -> T:
        renewing = asyncio.create_task(self._stay(name, token))
        try:
            value = await compute()
            self.computed += 1
            if not await self._leave_result(name, token, value):
                self.unwritten += 1
        except BaseException:
            self._link.start(self._leave.run, name, token)
            raise
        finally:
            renewing.cancel()
        return value

    async def _leave_result(self, name: str, token: str, value: Any) -> bool:
        """Give the others the value; return whether that worked out."""
        try:
            written = self._codec.dumps(value)
        except (TypeError, ValueError):
            self._link.start(self._leave.run, name, token)
            return False
        try:
            return bool(await self._call(self._land, name, token, self._keep, written))
        except Unavailable:
            return False

    async def _stay(self, name: str, token: str) -> None:
        """Keep the lease alive."""
        while True:
            await asyncio.sleep(self._lease / 3)
            with contextlib.suppress(Unavailable):
                await self._call(self._renew, name, token, self._lease)

    async def _call(self, script: Script, name: str, token: str, seconds: float, *more: str) -> Any:
        return await self._link.acall(script.run, name, token, _milliseconds(seconds), *more)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
