"""The order in which visits wait for slots."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from course_lib.rate_limiting.gate import SlotQueue
from course_lib.rate_limiting.waiters import CoolDown


def visit(place):
    """Something that waits at a place."""
    return SimpleNamespace(place=place)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_the_lowest_place_comes_next_whoever_came_or_left(order, leaving):
    """Also when somebody leaves from the middle; who is not there cannot leave."""
    queue = SlotQueue(1)
    visits = {n: visit((float(n // 2), n)) for n in order}
    for each in visits.values():
        queue.add(each)
    for n in leaving:
        assert queue.remove(visits[n])
        assert not queue.remove(visits[n])
    left = []
    while (first := queue.next()) is not None:
        left.append(first.place[1])
        queue.remove(first)
    assert left == sorted(set(order) - leaving)


def test_nobody_comes_next_while_all_slots_are_taken():
    """Or more than all, after it has shrunk."""
    queue = SlotQueue(2)
    queue.add(visit((0.0, 0)))
    for inside, free in ((1, True), (2, False), (3, False)):
        queue.inside = inside
        assert (queue.next() is not None) == free


def test_an_heir_is_looked_for_outwards():
    """The nearest queue whose owner has not left."""
    root, outer, inner = SlotQueue(3), SlotQueue(1), SlotQueue(1)
    inner.heir, outer.heir = outer, root
    assert inner.living() is outer.living() is root.living() is root


def test_a_cool_down_that_has_not_begun_holds_nobody_up():
    """And one that has does so until it is over, whatever the weight."""
    cool_down = CoolDown()
    assert cool_down.take(10**9, 0)
    cool_down.give_back(10**9, 0, 0)
    cool_down.until = 7
    assert cool_down.due(1) == 7
    assert [cool_down.take(1, now) for now in (6, 7)] == [False, True]
