"""The order in which visits wait for slots."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from course_lib.rate_limiting.pool import CoolDown, Pool, Unmetered


def visit(place):
    """Something that waits at a place."""
    return SimpleNamespace(place=place)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_the_lowest_place_comes_next_whoever_came_or_left(order, leaving):
    """Also when somebody leaves from the middle; who is not there cannot leave."""
    pool = Pool(1)
    visits = {n: visit((float(n // 2), n)) for n in order}
    for each in visits.values():
        pool.add(each)
    for n in leaving:
        assert pool.remove(visits[n])
        assert not pool.remove(visits[n])
    left = []
    while (first := pool.next()) is not None:
        left.append(first.place[1])
        pool.remove(first)
    assert left == sorted(set(order) - leaving)


def test_nobody_comes_next_while_all_slots_are_taken():
    """Or more than all, after it has shrunk."""
    pool = Pool(2)
    pool.add(visit((0.0, 0)))
    for inside, free in ((1, True), (2, False), (3, False)):
        pool.inside = inside
        assert (pool.next() is not None) == free


def test_an_heir_is_looked_for_outwards():
    """The nearest pool whose owner has not left."""
    root, outer, inner = Pool(3), Pool(1), Pool(1)
    inner.heir, outer.heir = outer, root
    assert inner.living() is outer.living() is root.living() is root


def test_what_is_not_metered_is_due_at_once():
    """And a cool-down when it is over, for any weight."""
    meter = Unmetered()
    meter.spend(5, 0)
    meter.give_back(5, 0, 0)
    assert meter.due(10**9) < 0
    cool_down = CoolDown()
    cool_down.until = 7
    assert cool_down.due(1) == 7
