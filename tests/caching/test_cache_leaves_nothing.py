"""What a computation needed is freed at once, not by the garbage collector some time later."""

import asyncio
import gc
import weakref

import pytest

from course_lib.caching import AsyncCache


class Value:
    """Something large."""


@pytest.fixture
def no_collector():
    """Only what nobody refers to is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_computation_that_has_ended_is_freed_at_once():
    """Its task, too, whose context knows the work that it is part of."""

    async def main():
        cache, tasks = AsyncCache(ttl=1, maxsize=1), []

        async def compute():
            tasks.append(weakref.ref(asyncio.current_task()))
            return Value()

        value = weakref.ref(await cache.get_or_compute("key", compute))
        await cache.get_or_compute("another", compute)
        await asyncio.sleep(0)
        return value(), tasks[0]()

    assert asyncio.run(main()) == (None, None)
