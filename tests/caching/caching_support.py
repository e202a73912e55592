"""What the tests of caching share: a steered loop, and a simple model of the cache."""

import asyncio
from collections import OrderedDict

from course_lib.lab.virtual_loop import VirtualLoop

ROUNDS = 12  # of the loop, for everything that is due at one moment
HAIR = 1e-9


class Steered:
    """A loop in virtual time that runs only as far as it is told."""

    def __init__(self):
        self.loop = VirtualLoop()

    @property
    def now(self):
        """Virtual seconds."""
        return self.loop.time()

    def run(self, coroutine):
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(coroutine)

    def start(self, coroutine):
        """Make a task of a coroutine, and let it come as far as it can."""
        task = self.loop.create_task(coroutine)
        self.settle()
        return task

    def settle(self):
        """Let everything happen that is due now."""

        async def rounds():
            for _ in range(ROUNDS):
                await asyncio.sleep(0)

        self.run(rounds())

    def wait(self, seconds):
        """Let time pass, and everything happen that is due by then."""
        self.run(asyncio.sleep(seconds))
        self.settle()

    def close(self):
        """Cancel what still waits, and close the loop."""
        for task in self.loop.waiting():
            task.cancel()
        self.settle()
        self.loop.close()


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
