"""A room while it runs: its socket, its store, and what it prints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from course_lib.room.provider import Gateway, start_provider
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
    started: Callable[[Room, int], None],
) -> None:
    """Run a room until it is cancelled.

    Args:
        listen: The address to listen on.
        port: The port; 0 for a free one.
        hosts: Names and addresses that it answers to.
        file: What keeps it; None keeps nothing.
        rehearse: How many made-up learners there are.
        started: Called with the room and its port when it answers.

    Raises:
        OSError: The address cannot be listened on.
        RuntimeError: The provider did not start.
    """
    store = Store(file)
    clock = Earlier()
    register = Register(store, wall=clock) if rehearse else Register(store)
    # Its own process: what it works on does not hold up the board.
    provider = await asyncio.to_thread(start_provider)
    gateway = Gateway(provider.url)
    room = Room(register, hosts, "rehearsal: made-up learners" if rehearse else "", gateway)
    runner = web.AppRunner(
        await room.application(), access_log=None, handler_cancellation=True, keepalive_timeout=15
    )
    try:
        await runner.setup()
        site = web.TCPSite(runner, listen, port, shutdown_timeout=1)
        await site.start()
        started(room, runner.addresses[0][1])
        if rehearse:
            await run_rehearsal(register, rehearse, clock)
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
        await gateway.close()
        provider.stop()
        store.close()
