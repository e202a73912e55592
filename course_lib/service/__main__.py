"""`python -m course_lib.service`: the provider as a program.

It prints one line of JSON, `{"url": ..., "pid": ...}`, when it answers, and nothing else.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
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
        threading.Thread(target=_end_with_input, daemon=True).start()
    _allow_many_files()
    try:
        asyncio.run(_serve(_app(options.behaviour), options.port))
    except OSError as error:
        print(f"cannot listen on {HOST}:{options.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib.service", description=__doc__)
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (a free one)")
    parser.add_argument(
        "--behaviour", type=_behaviour, default=Behaviour(), help="JSON as of Behaviour.to_dict"
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


async def _serve(app: "App", port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(app.server(), HOST, port, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://{HOST}:{port}", "pid": os.getpid()}), flush=True)  # noqa: T201
    await loop.create_future()


if __name__ == "__main__":
    sys.exit(main())
