"""The provider's application on a loop of the test's own, so that its insides can be looked at."""

import asyncio
import logging
from contextlib import contextmanager

import numpy as np

from course_lib.service.app import App
from course_lib.service.behaviour import Behaviour, Latency
from course_lib.service.engine import Engine
from course_lib.service.knowledge.corpus import Passage
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.lexical import LexicalIndex

PATIENCE = 60.0  # seconds for what a free machine does at once
AT_ONCE = Behaviour(Latency.constant(0))


class Likeness:
    """A model without weights: a vector says how long a text is, and how many spaces it has."""

    name = "likeness"
    dimensions = 3
    stands_in = ""

    def encode(self, text):
        """Return the vector of a text."""
        vector = np.array([1, len(text), text.count(" ")], dtype=np.float32)
        return vector / np.linalg.norm(vector)


class InProcess:
    """A provider, its client and what it says that nobody should have to read.

    Attributes:
        app: The application.
        said: What was logged or handed to the loop's handler of errors.
    """

    def __init__(self, runner):
        self._runner = runner
        passages = [Passage("queue", "A queue", "Queues", "A queue holds what waits.")]
        self.app = App(Engine(AT_ONCE), LexicalIndex(passages), Embedder(Likeness))
        self.said = []
        self.server = self.run(self._start())

    async def _start(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.said.append(str(context)))
        return await loop.create_server(self.app.server(), "127.0.0.1", 0)

    def run(self, coroutine):
        """Run a coroutine on the provider's loop."""
        return self._runner.run(coroutine)

    async def connect(self):
        """Open a connection; return its reader and writer."""
        return await asyncio.open_connection(*self.server.sockets[0].getsockname())

    async def answer(self, data, *, ends=True):
        """Send bytes, end the sending, and return all that comes back."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(data)
                if ends:
                    writer.write_eof()
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def until(self, condition):
        """Let the loop turn until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is looked at knows nothing of tests
                await asyncio.sleep(0.001)

    def emit(self, record):
        """Take a log record."""
        self.said.append(record.getMessage() + str(record.exc_info or ""))


@contextmanager
def in_process():
    """Run a provider on a loop of this thread's."""
    with asyncio.Runner() as runner:
        provider = InProcess(runner)
        handler = logging.Handler(logging.WARNING)
        handler.emit = provider.emit
        logging.getLogger().addHandler(handler)
        try:
            yield provider
        finally:
            logging.getLogger().removeHandler(handler)
            provider.server.close()
            for task in asyncio.all_tasks(runner.get_loop()):
                task.cancel()
