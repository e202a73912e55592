"""What a cache has done, as a frozen value."""

from dataclasses import dataclass

__all__ = ["CacheStatistics", "Counts"]


@dataclass(slots=True)
class Counts:
    """What is counted while it happens; see `CacheStatistics`."""

    store_hits: int = 0
    misses: int = 0
    coalesced: int = 0
    refreshes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache has done since it was made. Each request is one of the first four.

    Attributes:
        hits: Requests answered from memory, with a value or an error that was kept.
        store_hits: Requests answered from the second tier.
        misses: Requests that led to a computation, or to the default of `get`.
        coalesced: Requests that waited for a computation that another one had begun.
        refreshes: Early refreshes begun; they are no requests.
        evictions: Entries dropped for want of room.
        expired: Entries dropped from memory because their time was over.
        errors: Computations that raised; cancelled ones do not count.
        store_errors: Calls of the second tier that failed or took too long, and what it held that
            could not be read, or was given and could not be written.
        size: Entries in memory now, those included that have expired and were not asked for since.
        bytes: Their weight, as `weigh` says.
        in_flight: Keys being computed now.
    """

    hits: int
    store_hits: int
    misses: int
    coalesced: int
    refreshes: int
    evictions: int
    expired: int
    errors: int
    store_errors: int
    size: int
    bytes: float
    in_flight: int

    @property
    def requests(self) -> int:
        """All requests."""
        return self.hits + self.store_hits + self.misses + self.coalesced

    @property
    def hit_ratio(self) -> float:
        """Share of requests that led to no computation of their own; 0.0 if there were none."""
        return 1 - self.misses / self.requests if self.requests else 0.0
