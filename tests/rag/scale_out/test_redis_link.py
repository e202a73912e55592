"""What answers is no Redis, or a Redis that misbehaves: `Unavailable`, in time, and nothing else."""

import asyncio
import contextlib
import re
import socket
import threading

import pytest
import redis

from course_lib.errors import Unavailable
from course_lib.rag.scale_out import RedisStore, RedisTokenBucket, redis_link
from course_lib.rag.scale_out.redis_link import RedisLink

COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")
GREETING = {b"CLIENT", b"HELLO", b"SELECT", b"AUTH"}

ANSWERS = {
    "a line without end": b"+" + b"a" * 65_536,
    "a page of the web": b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n<html></html>",
    "a mail server": b"220 mail.example ESMTP ready\r\n",
    "a shell": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a greeting of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": bytes(range(256)),
    "an error": b"-ERR unknown command\r\n",
    "an error in no encoding": b"-\xff\xfe\x00\r\n",
    "no access": b"-NOAUTH Authentication required.\r\n",
    "no permission": b"-NOPERM this user has no permissions\r\n",
    "a copy": b"-READONLY You can't write against a read only replica.\r\n",
    "one that loads": b"-LOADING Redis is loading the dataset in memory\r\n",
    "one of a cluster": b"-MOVED 3999 127.0.0.1:6381\r\n",
    "one that is full": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "one that is busy": b"-BUSY Redis is busy running a script.\r\n",
    "nothing in an array": b"*-1\r\n",
    "an empty array": b"*0\r\n",
    "an array below nothing": b"*-7\r\n",
    "an array without end": b"*1000000000\r\n" + b":1\r\n" * 10_000,
    "arrays in arrays": b"*1\r\n" * 5_000,
    "a number": b":7\r\n",
    "a number that is none": b":seven\r\n",
    "a number of many digits": b":" + b"9" * 5_000 + b"\r\n",
    "a word": b"+OK\r\n",
    "a text": b"$5\r\nhello\r\n",
    "a text below nothing": b"$-5\r\nhello\r\n",
    "a text of no length": b"$abc\r\nhello\r\n",
    "a text that ends early": b"$1000000000\r\nhello\r\n",
    "no text": b"$-1\r\n",
    "an array of other things": b"*2\r\n:1\r\n*0\r\n",
    "five texts": b"*5\r\n" + b"$1\r\na\r\n" * 5,
    "a limit without numbers": b"*2\r\n$5\r\nLIMIT\r\n$1\r\nx\r\n",
    "a decision on nobody": b"*4\r\n$0\r\n\r\n$1\r\n0\r\n$1\r\nr\r\n$1\r\n0\r\n",
    "a decision that is none": b"*4\r\n$1\r\nz\r\n$1\r\n0\r\n$1\r\nr\r\n$1\r\n0\r\n",
    "a decision at no time": b"*4\r\n$1\r\nw\r\n$3\r\nnan\r\n$1\r\nr\r\n$1\r\n0\r\n",
    "pages in a circle": b"*2\r\n$1\r\n5\r\n*0\r\n",
    "a map": b"%1\r\n+a\r\n:1\r\n",
    "a null": b"_\r\n",
    "news": b">2\r\n+invalidate\r\n*0\r\n",
    "two answers at once": b"+OK\r\n+OK\r\n",
}


class Foreign:
    """Listens where a Redis is thought to be.

    Args:
        answer: Answered to each command.
        polite: Whether it greets as a Redis does.
        drips: Whether the answer comes a byte at a time.
        closes: Whether it then closes the connection.
    """

    def __init__(self, answer=b"", *, polite=False, drips=False, closes=False):
        self.answer, self.polite, self.drips, self.closes = answer, polite, drips, closes
        self.over = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.socket.getsockname()[1]}/0"
        self.threads = [threading.Thread(target=self.accept)]

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.over.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                connection.settimeout(0.05)
                self.threads.append(threading.Thread(target=self.serve, args=[connection]))
                self.threads[-1].start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            while not self.over.is_set():
                with contextlib.suppress(TimeoutError):
                    received = connection.recv(1 << 20)
                    if not received or self.closes:
                        return
                    for name in COMMAND.findall(received) or [b"?"]:
                        self.reply(connection, name.upper())

    def reply(self, connection, name):
        if self.polite and name in GREETING:
            connection.sendall(b"+OK\r\n")
        elif self.drips:
            while not self.over.wait(0.02):
                connection.sendall(b"a")
        else:
            connection.sendall(self.answer)


def calls(url):
    """All that is asked of a Redis, each by a name."""
    options = {"timeout": 0.1}
    store = RedisStore(url, "s", **options)
    bucket = RedisTokenBucket(url, "b", rate=1, capacity=1, patience=0, **options)
    return [store, bucket], {
        "get": lambda: store.mget(["k"]),
        "set": lambda: store.mset([("k", b"v")]),
        "delete": lambda: store.mdelete(["k"]),
        "keys": lambda: list(store.yield_keys()),
        "acquire": bucket.acquire,
        "ask": lambda: bucket.acquire(blocking=False),
    }


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_foreign_server_is_unavailable(kind):
    """Whatever it answers, to the greeting or after it, and whatever is asked of it."""
    for polite in (False, True):
        with Foreign(ANSWERS[kind], polite=polite) as server:
            assert_unavailable(server.url, good={("a number", "delete")}, kind=kind)


def assert_unavailable(url, *, good=(), kind=""):
    """Ask everything; each call is unavailable, for a reason that fits on a screen."""
    things, asked = calls(url)
    for name, call in asked.items():
        if (kind, name) in good:  # as good an answer as any
            continue
        with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:\d+/0 ") as raised:
            pytest.fail(f"{name}: {call()!r}")
        assert raised.value.__context__ is None
        assert len(str(raised.value)) < 500
    for each in things:
        each.close()


@pytest.mark.parametrize(
    "behaviour", [{"closes": True}, {"answer": b"", "polite": True}, {"answer": b""}]
)
def test_a_server_that_says_nothing_is_unavailable(behaviour):
    """It hangs up, or keeps still, at once or when it has greeted."""
    with Foreign(**behaviour) as server:
        assert_unavailable(server.url)


def test_nobody_is_unavailable():
    """Where no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    assert_unavailable(url)


@pytest.mark.parametrize("polite", [False, True])
def test_the_time_is_that_of_the_operation_not_of_each_read(polite):
    """A byte now and then would go on for ever: it ends nevertheless."""
    with Foreign(polite=polite, drips=True) as server:
        assert_unavailable(server.url)


def test_closing_does_not_wait_for_a_server_that_drips():
    """Calls under way and those in line end with `timeout`, each with its error."""

    async def main(url):
        store = RedisStore(url, "s", timeout=0.3, connections=2)
        tasks = [asyncio.create_task(store.amget(["k"])) for _ in range(20)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(store.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    with Foreign(polite=True, drips=True) as server:
        assert {type(each) for each in asyncio.run(main(server.url))} == {Unavailable}


def test_closing_does_not_wait_for_a_client_that_was_given():
    """Its time-outs are its own: it has none here."""

    async def main(url):
        with redis.Redis.from_url(url, protocol=2, socket_timeout=None) as client:
            store = RedisStore(client, "s", timeout=0.1)
            task = asyncio.create_task(store.amget(["k"]))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(store.close)
            waiting = not task.done()
            server.over.set()
            await asyncio.wait([task])
            return waiting, type(task.exception())

    with Foreign(polite=True, drips=True) as server:
        assert asyncio.run(main(server.url)) == (True, Unavailable)


def test_an_answer_without_end_does_not_fill_the_memory(monkeypatch):
    """Though it comes so fast that there is time for it."""
    monkeypatch.setattr(redis_link, "MOST_BYTES", 1 << 20)
    with (
        Foreign(b"$10000000\r\n" + b"a" * 10_000_000, polite=True) as server,
        RedisStore(server.url, "s", timeout=60) as store,
        pytest.raises(Unavailable, match="more than 1,048,576 bytes"),
    ):
        store.mget(["k"])


def test_after_an_answer_that_was_none_a_connection_is_made_anew():
    """One that was left in the middle of something would answer what was asked before."""
    with Foreign(b":7\r\n", polite=True) as server, RedisStore(server.url, "s") as store:
        with pytest.raises(Unavailable):
            store.mget(["k"])
        server.answer = b"*1\r\n$1\r\nv\r\n"
        assert store.mget(["k"]) == [b"v"]


def test_a_password_that_is_quoted_is_not_shown():
    """Servers quote commands that they do not know, arguments included."""
    said = b"-ERR unknown command 'AUTH', with args beginning with: 'hush\\x2fhush' hush/hush\r\n"
    with Foreign(said) as server:
        url = server.url.replace("redis://", "redis://:hush%2Fhush@")
        with RedisStore(url, "s") as store, pytest.raises(Unavailable) as raised:
            store.mget(["k"])
    assert "with args" in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"connections": 0}])
def test_what_is_out_of_range_is_refused(options):
    """By name, before any connection is made."""
    with pytest.raises(ValueError, match=next(iter(options))):
        RedisLink("redis://127.0.0.1:1/0", **options)
