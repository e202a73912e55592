"""What the tests of batching share: steps that sleep and keep count."""

import asyncio


class Step:
    """Sleeps for as long as each item says, and remembers who was there."""

    def __init__(self, seconds=lambda item: item, fails=lambda item: None):
        self.seconds, self.fails = seconds, fails
        self.started, self.ended, self.cancelled = [], [], []
        self.inside = self.peak = 0

    async def __call__(self, item):
        """Work on one item."""
        self.started.append(item)
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await asyncio.sleep(self.seconds(item))
            if (error := self.fails(item)) is not None:
                raise error
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.inside -= 1
        self.ended.append(item)
        return item


class Stop(BaseException):
    """What is no `Exception`, and does not stop the event loop as an interrupt does."""


async def handed_over(items):
    """The same items from an asynchronous source."""
    for item in items:
        yield item


async def settle(rounds=10):
    """Let everything happen that is due now."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def others():
    """Tasks of the loop beside the caller's."""
    return asyncio.all_tasks() - {asyncio.current_task()}


def now():
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()


class Source:
    """Generators that say whether they were closed."""

    def __init__(self, items=range(10**6)):
        self.items, self.read, self.closed = items, 0, False

    def sync(self):
        """An ordinary one."""
        try:
            for item in self.items:
                self.read += 1
                yield item
        finally:
            self.closed = True

    async def later(self):
        """An asynchronous one, that closes slowly; its time limit needs one task for all of it."""
        reader = asyncio.current_task()
        try:
            async with asyncio.timeout(1000):
                for item in self.items:
                    self.read += 1
                    yield item
                    await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.1)
            self.closed = asyncio.current_task() is reader
