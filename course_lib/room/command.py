"""`python -m course_lib room`: the room as a program, on the instructor's machine."""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from course_lib.room.server import Room

__all__ = ["main"]

LOOPBACK: Final = "127.0.0.1"
PORT: Final = 8900
_UNREACHABLE: Final = frozenset({LOOPBACK, "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104
"""Hosts by which no other machine reaches this one."""

OPENLY: Final = (
    "This is plain HTTP: whoever shares this network can read what is sent (names, results), and\n"
    "could take a seat's token. Nothing secret belongs in it. Ctrl-C ends the room;\n"
    "`python -m course_lib room --forget` deletes all that it kept."
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib room", description=__doc__)
    parser.add_argument(
        "--listen", default=LOOPBACK, metavar="ADDRESS",
        help="address of this machine that learners reach, such as 192.168.1.20, or 0.0.0.0 for "
        "all (by default only this machine)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=PORT, help=f"({PORT})")
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME",
        help="a further name by which learners may call this machine",
    )  # fmt: skip
    parser.add_argument(
        "--rehearse", type=int, default=0, metavar="N",
        help="fill the board with N made-up learners; nothing of it is kept",
    )  # fmt: skip
    parser.add_argument("--forget", action="store_true", help="delete all that the room has kept")
    parser.add_argument(
        "--file", type=Path, default=default_file(), help="what keeps the room (%(default)s)"
    )
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input ends")
    return parser


def default_file() -> Path:
    """Return where a room is kept: in the user's folder for state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "course-room" / "room.sqlite"


def main(arguments: list[str]) -> int:
    """Run the room until it is interrupted; return the exit status.

    Raises:
        OSError: It cannot listen there.
    """
    options = _parser().parse_args(arguments)
    if options.forget:
        return _forget(options.file)
    # Loaded here, so that a wrong command line is answered at once.
    import asyncio  # noqa: PLC0415

    from course_lib.room.running import serve  # noqa: PLC0415

    if options.watch_stdin:
        threading.Thread(target=_end_with_input, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its provider ends with it
    hosts = hosts_of(options.listen, options.host)
    room = serve(
        options.listen,
        options.port,
        hosts,
        file=None if options.rehearse else options.file,
        rehearse=options.rehearse,
        started=lambda room, port: _introduce(room, port, options.listen, hosts),
    )
    try:
        asyncio.run(room)
    except KeyboardInterrupt:
        return 0
    return 0


def _end_with_input() -> None:
    """End this process when whoever started it is gone: they hold its standard input."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def hosts_of(listen: str, names: list[str]) -> set[str]:
    """Return the names and addresses that a room answers to.

    Args:
        listen: The address that it listens on.
        names: Further ones.

    Raises:
        OSError: The address is none.
    """
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise OSError(f"--listen {listen}: give an address in figures") from None
    hosts = {LOOPBACK, "localhost", str(address), *(name.lower() for name in names)}
    return hosts | own_addresses() if address.is_unspecified else hosts


def own_addresses() -> set[str]:
    """Return the addresses of this machine, those left out that need the interface's name."""
    import psutil  # noqa: PLC0415

    families = {socket.AF_INET, socket.AF_INET6}
    found = (each for addresses in psutil.net_if_addrs().values() for each in addresses)
    addresses = {each.address for each in found if each.family in families}
    return {each for each in addresses if "%" not in each and not each.startswith("fe80:")}


def _introduce(room: Room, port: int, listen: str, hosts: set[str]) -> None:
    """Say where the board is, how learners join, and who else can read it."""
    private = listen == LOOPBACK
    local = LOOPBACK if private or ipaddress.ip_address(listen).is_unspecified else listen
    _say(
        f"Board (for you alone, it holds your key): http://{_in_url(local)}:{port}/board#{room.key}"
    )
    for host in [LOOPBACK] if private else sorted(hosts - _UNREACHABLE):
        _say(f'Learners: lab.join("http://{_in_url(host)}:{port}", "{room.code}", name="…")')
    _say("It listens on this machine only; --listen ADDRESS opens it." if private else OPENLY)


def _forget(file: Path) -> int:
    from course_lib.room.store import forget  # noqa: PLC0415

    _say(f"Deleted {file}." if forget(file) else f"There is no {file}: nothing was kept.")
    return 0


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
