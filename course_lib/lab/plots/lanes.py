"""Swim lanes: interval partitioning of calls that overlap."""

import heapq
from collections.abc import Sequence

__all__ = ["lanes"]


def lanes(intervals: Sequence[tuple[float, float]]) -> list[int]:
    """Return a lane for each interval, such that none in one lane overlap.

    Uses as few lanes as the largest number of intervals that overlap at any moment (interval
    partitioning by earliest start; Kleinberg and Tardos, Algorithm Design, section 4.1). An
    interval may begin in a lane at the very moment another ends there.

    Args:
        intervals: Start and end of each, in any one unit.

    Returns:
        Lane numbers from 0, in the order of `intervals`.
    """
    placed = [0] * len(intervals)
    busy: list[tuple[float, int]] = []  # (end, lane)
    free: list[int] = []
    used = 0
    for index in sorted(range(len(intervals)), key=lambda i: intervals[i]):
        start, end = intervals[index]
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        placed[index] = lane
        heapq.heappush(busy, (end, lane))
    return placed
