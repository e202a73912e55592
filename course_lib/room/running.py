"""A room while it runs: its socket, its store, and what it prints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from course_lib.room.command import LOOPBACK, OPENLY
from course_lib.room.register import Register
from course_lib.room.rehearsal import Earlier
from course_lib.room.rehearsal import rehearse as run_rehearsal
from course_lib.room.server import Room
from course_lib.room.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

__all__ = ["serve"]


async def serve(
    listen: str,
    port: int,
    hosts: Collection[str],
    *,
    file: Path | None,
    rehearse: int = 0,
    say: Callable[[str], None],
) -> None:
    """Run a room until it is cancelled.

    Args:
        listen: The address to listen on.
        port: The port; 0 for a free one.
        hosts: Names and addresses that it answers to.
        file: What keeps it; None keeps nothing.
        rehearse: How many made-up learners there are.
        say: Prints a line.

    Raises:
        OSError: The address cannot be listened on.
    """
    store = Store(file)
    clock = Earlier()
    register = Register(store, wall=clock) if rehearse else Register(store)
    room = Room(register, hosts, "rehearsal: made-up learners" if rehearse else "")
    runner = web.AppRunner(
        await room.application(), access_log=None, handler_cancellation=True, keepalive_timeout=15
    )
    try:
        await runner.setup()
        site = web.TCPSite(runner, listen, port, shutdown_timeout=1)
        await site.start()
        _introduce(room, listen, runner.addresses[0][1], hosts, say)
        if rehearse:
            await run_rehearsal(register, rehearse, clock)
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
        store.close()


def _introduce(
    room: Room, listen: str, port: int, hosts: Collection[str], say: Callable[[str], None]
) -> None:
    local = LOOPBACK if listen in {LOOPBACK, "0.0.0.0"} else listen  # noqa: S104 - compared only
    say(f"Board (for you alone, it holds your key): http://{local}:{port}/board#{room.key}")
    addresses = sorted(each for each in hosts if each[:1].isdigit() and each != "0.0.0.0")  # noqa: S104
    for address in addresses if listen != LOOPBACK else [LOOPBACK]:
        if address != LOOPBACK or listen == LOOPBACK:
            say(f'Learners: lab.join("http://{address}:{port}", "{room.code}", name="…")')
    say(
        "It listens on this machine only; --listen ADDRESS opens it."
        if listen == LOOPBACK
        else OPENLY
    )
