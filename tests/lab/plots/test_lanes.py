"""Swim lanes, against their two promises."""

from hypothesis import given
from hypothesis import strategies as st

from course_lib.lab.plots import lanes

INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda pair: (pair[0], sum(pair))),
    max_size=40,
)


@given(INTERVALS)
def test_no_two_calls_in_one_lane_overlap(intervals):
    """Each bar can be seen."""
    placed = lanes(intervals)
    for i, (start, end) in enumerate(intervals):
        for j in range(i):
            if placed[i] == placed[j]:
                other_start, other_end = intervals[j]
                assert end <= other_start or other_end <= start


@given(INTERVALS)
def test_there_are_no_more_lanes_than_calls_at_once(intervals):
    """So the number of lanes is the peak in flight."""
    peak = max(
        (sum(s <= start < e or s == e == start for s, e in intervals) for start, _ in intervals),
        default=0,
    )
    assert max(lanes(intervals), default=-1) + 1 <= peak


def test_a_call_may_follow_in_the_lane_of_the_one_that_ended():
    """Back to back is not overlap."""
    assert lanes([(0, 1), (1, 2), (0, 2)]) == [0, 0, 1]
