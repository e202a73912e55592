"""Scenario 2: limits on rate and concurrency that hold."""

from course_lib.rate_limiting.token_bucket import BucketStatistics, TokenBucket

__all__ = ["BucketStatistics", "TokenBucket"]
