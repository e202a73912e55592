"""A loop in virtual time for state machines: it runs only as far as it is told."""

import asyncio

from course_lib.lab.virtual_loop import VirtualLoop

ROUNDS = 12  # of the loop, for everything that is due at one moment


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
        """Make a task of a coroutine, which runs with the next step."""
        return self.loop.create_task(coroutine)

    def do(self, function):
        """Call a function in the loop, so that it goes by the loop's time."""

        async def call():
            return function()

        return self.run(call())

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
