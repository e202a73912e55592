"""Who waits for a batch, and in which order."""

import asyncio
import weakref

from hypothesis import given
from hypothesis import strategies as st

from course_lib.batching.batcher import Submission, SubmissionQueue
from course_lib.lab.simulation import simulate

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5)),  # a rank, often the same
        st.tuples(st.just("remove"), st.integers(0, 60)),  # one of those that ever came
        st.tuples(st.just("take"), st.integers(0, 4)),
    ),
    max_size=60,
)


class PlainQueue:
    """The same as two lists that are sorted again and again."""

    def __init__(self, size):
        self.size, self.queue, self.outside = size, [], []

    def add(self, place):
        """In the queue, or behind it."""
        (self.queue if len(self.queue) < self.size else self.outside).append(place)

    def remove(self, place):
        """From either."""
        for places in (self.queue, self.outside):
            if place in places:
                places.remove(place)
        self.refill()

    def take(self, most):
        """The first of both."""
        taken = sorted(self.queue + self.outside)[:most]
        self.queue = [place for place in self.queue if place not in taken]
        self.outside = [place for place in self.outside if place not in taken]
        self.refill()
        return taken

    def refill(self):
        """The first of those behind it."""
        self.outside.sort()
        while self.outside and len(self.queue) < self.size:
            self.queue.append(self.outside.pop(0))


@given(steps=STEPS, size=st.integers(1, 6))
def test_it_is_in_the_order_of_ranks_whoever_comes_and_goes(steps, size):
    """Equals in the order they came; and whoever has room in the queue has been told."""

    async def main():
        queue, plain, places = SubmissionQueue(size), PlainQueue(size), []
        for step, number in steps:
            if step == "add":
                places.append((number, len(places)))
                one = Submission(places[-1], 0.0, asyncio.get_running_loop().create_future())
                everybody.append(one)
                queue.add(one, number)
                plain.add(places[-1])
            elif step == "take":
                assert [one.item for one in queue.take(number)] == plain.take(number)
            elif number < len(places):
                queue.remove(everybody[number])
                plain.remove(places[number])
            waiting = sorted(plain.queue + plain.outside)
            assert len(queue) == len(waiting)
            assert not waiting or queue.first.item == waiting[0]
            for one in everybody:
                told = one.admission is None or one.admission.done()
                assert told or one.item in plain.outside or one.item not in waiting
                assert not told or one.item not in plain.outside

    everybody = []
    simulate(main)


class Item:
    """An item that can be watched."""


def test_who_has_left_is_let_go_of_though_others_stand_before():
    """A thousand give up far back in the order: what is kept of them is bounded."""
    items = weakref.WeakSet()

    async def main():
        loop, queue = asyncio.get_running_loop(), SubmissionQueue(10)
        queue.add(Submission("first", 0.0, loop.create_future()), 0.0)
        for _ in range(1000):
            one = Submission(Item(), 0.0, loop.create_future())
            items.add(one.item)
            queue.add(one, 1.0)
            queue.remove(one)
        del one
        assert (len(queue), queue.first.item) == (1, "first")
        return len(items)

    assert simulate(main).value < 100
