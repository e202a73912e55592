"""Places for items, and for those that are tried again."""

import asyncio

from batching_support import settle

from course_lib.batching.task_pool import PoolSlots
from course_lib.lab.simulation import simulate


def test_who_is_tried_again_goes_before_new_ones():
    """First come, first served; a place given back is never free in between."""

    async def main():
        slots, order = PoolSlots(1), []
        slots.take()

        async def again(name):
            await slots.retake()
            order.append((name, slots.room()))
            slots.give()

        waiting = [asyncio.ensure_future(again(name)) for name in "ab"]
        await settle()
        assert not slots.room()
        slots.give()
        await asyncio.gather(*waiting)
        return order, slots.room()

    assert simulate(main).value == ([("a", False), ("b", False)], True)


def test_a_place_given_to_one_who_gives_up_goes_to_the_next():
    """Also when both happen in one moment; and it is free when nobody waits."""

    async def main():
        slots = PoolSlots(1)
        slots.take()
        first, second, third = [asyncio.ensure_future(slots.retake()) for _ in range(3)]
        await settle()
        third.cancel()
        slots.give()
        first.cancel()
        await second
        await asyncio.wait([first, third])
        assert (first.cancelled(), third.cancelled(), slots.used) == (True, True, 1)
        slots.give()
        return slots.used, slots.room()

    assert simulate(main).value == (0, True)
