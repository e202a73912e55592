"""What the tests of limits share: the window bound, and a bucket to compare with."""

from itertools import accumulate

from course_lib.rate_limiting.waiters import EARLY

ROUNDING = EARLY + 2e-9  # seconds: virtual time is kept in nanoseconds


def excess(log, rate, capacity):
    """Return by how many tokens the worst window of a log of (time, weight) is above the bound.

    A window from t_i to t_j holds `S_j - S_(i-1)` tokens (S: sums so far), so that the largest
    `S_j - rate * t_j - (S_(i-1) - rate * t_i)` says it in one pass.
    """
    worst = lowest = float("-inf")
    sums = [0.0, *accumulate(weight for _, weight in log)]
    for (time, _), before, after in zip(log, sums, sums[1:], strict=False):
        lowest = max(lowest, rate * time - before)
        worst = max(worst, after - rate * time + lowest)
    return worst - capacity - rate * ROUNDING


def tokens_left(log, rate, capacity, initial, now):
    """Return what a bucket holds that gave out this log of (time, weight) and nothing else."""
    tokens, last = initial, 0.0
    for time, weight in log:
        tokens, last = min(capacity, tokens + rate * (time - last)) - weight, time
    return min(capacity, tokens + rate * (now - last))
