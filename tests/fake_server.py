"""A server on loopback that answers with whatever bytes a test tells it to."""

import asyncio
import contextlib
import threading


class FakeServer:
    """Answers each connection's first request, in a thread of its own.

    Attributes:
        url: Its address.
        reply: Bytes of the answer, or a coroutine function that is given the writer.
        requests: What was asked, head and all.
    """

    def __init__(self):
        self.reply = b""
        self.requests = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self._ready.wait()

    async def _main(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # clients leave in the middle
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        self._ready.set()
        await self._end.wait()
        server.close()  # whoever is still answered is cancelled with the loop

    async def _serve(self, reader, writer):
        with (
            contextlib.suppress(ConnectionError, asyncio.IncompleteReadError),
            writer_closed(writer),
        ):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.requests.append(head + await reader.readexactly(int(length or 0)))
            if callable(self.reply):
                await self.reply(writer)
            else:
                writer.write(self.reply)
                await writer.drain()

    def close(self):
        """End it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@contextlib.contextmanager
def writer_closed(writer):
    """Close a connection at the end, also of a server that ends."""
    try:
        yield
    finally:
        writer.close()


@contextlib.contextmanager
def fake_server(reply=b""):
    """Run a server for the length of a `with` block."""
    server = FakeServer()
    server.reply = reply
    try:
        yield server
    finally:
        server.close()


def http(body=b"", *headers, status=200):
    """Return an answer in bytes: whole, with its length, and the connection's last."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body
