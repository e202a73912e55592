"""What the tests of caching share: a simple model of the cache."""

from collections import OrderedDict

HAIR = 1e-9


class ModelEntries:
    """The first tier in a few lines: what is used last goes last, and two of the first are swept."""

    def __init__(self, maxsize):
        self.maxsize = maxsize
        self.entries = OrderedDict()  # key -> (outcome, expires)
        self.hits = self.misses = self.evictions = self.expired = 0

    def find(self, key, now):
        """The outcome that is kept, or None."""
        if key not in self.entries:
            return None
        outcome, expires = self.entries[key]
        if expires <= now + HAIR:
            del self.entries[key]
            self.expired += 1
            return None
        self.entries.move_to_end(key)
        return outcome

    def put(self, key, outcome, expires, now):
        """Keep an outcome."""
        self.entries.pop(key, None)
        for first in list(self.entries)[:2]:
            if self.entries[first][1] > now + HAIR:
                break
            del self.entries[first]
            self.expired += 1
        self.entries[key] = outcome, expires
        while len(self.entries) > self.maxsize:
            self.entries.popitem(last=False)
            self.evictions += 1
