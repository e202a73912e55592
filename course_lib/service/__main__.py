"""`python -m course_lib.service`: the provider as a program.

It prints one line of JSON, `{"url": ..., "pid": ...}`, when it answers, and nothing else.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from course_lib.service.behaviour import Behaviour
from course_lib.service.engine import Engine
from course_lib.service.values import LAST_PORT

if TYPE_CHECKING:
    from course_lib.service.app import App

__all__ = ["main"]

HOST: Final = "127.0.0.1"

BACKLOG: Final = 2048
"""Connections that may wait to be accepted: all of a burst of a thousand, and more."""

LOOK_SECONDS: Final = 1.0
"""Between two looks at who the parent is."""

OPEN_FILES: Final = 8192
"""Open files asked of the system, one for each connection."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop.

    Args:
        arguments: Command line; by default that of this process.

    Returns:
        Exit status.
    """
    options = _parser().parse_args(arguments)
    if options.watch_stdin:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever holds our input decides
        for end in (_end_with_input, _end_with_parent):
            threading.Thread(target=end, daemon=True).start()
    _allow_many_files()
    try:
        return _run(options.behaviour, options.port)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib.service", description=__doc__)
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (a free one)")
    parser.add_argument(
        "--behaviour",
        type=_behaviour,
        default=Behaviour(),
        help='JSON of its parts, such as {"rate_limit": {"rate": 5, "burst": 1}}',
    )
    parser.add_argument(
        "--watch-stdin", action="store_true", help="end when standard input ends; ignore Ctrl-C"
    )
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= LAST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 0 to {LAST_PORT}")


def _behaviour(text: str) -> Behaviour:
    try:
        return Behaviour.from_dict(json.loads(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _end_with_input() -> None:
    """End this process when the parent is gone: it holds the other end of our standard input.

    At once, without saying goodbye to connections: a stuck request must not keep it alive.
    """
    while os.read(0, 4096):
        pass
    os._exit(0)


def _end_with_parent() -> None:
    """End this process when another one is its parent: the first one is gone.

    For a parent that forked: its children hold our standard input as well, and may outlive it.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(0)


def _allow_many_files() -> None:
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _app(behaviour: Behaviour) -> "App":
    # Imported here, so that a wrong command line is answered at once.
    from course_lib.service.app import App  # noqa: PLC0415
    from course_lib.service.knowledge.corpus import load_passages  # noqa: PLC0415
    from course_lib.service.knowledge.embedder import Embedder  # noqa: PLC0415
    from course_lib.service.knowledge.lexical import LexicalIndex  # noqa: PLC0415

    return App(Engine(behaviour), LexicalIndex(load_passages()), Embedder())


def _run(behaviour: Behaviour, port: int) -> int:
    app = _app(behaviour)
    try:
        listener = socket.create_server((HOST, port), backlog=BACKLOG)
    except OSError as error:
        print(f"cannot listen on {HOST}:{port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    asyncio.run(_serve(app, listener))
    return 0


async def _serve(app: "App", listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    port = listener.getsockname()[1]
    await loop.create_server(app.server(), sock=listener, backlog=BACKLOG)
    print(json.dumps({"url": f"http://{HOST}:{port}", "pid": os.getpid()}), flush=True)  # noqa: T201
    await loop.create_future()


if __name__ == "__main__":
    sys.exit(main())
