"""A room's provider with 60 seats, while five boards watch it and while none does.

Rounds with and without watchers take turns in one run; medians. "At the bound" keeps the provider
busy and its queue short; in the "storm" everybody asks as fast as the room answers, refusals
included, so that it shows what the room itself can carry on this machine.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import aiohttp

from course_lib.async_batch import ServiceClient
from course_lib.errors import ServiceError
from course_lib.room import Alone
from course_lib.table import Table

SEATS, WATCHERS = 60, 5
ROUNDS, SECONDS = 7, 3.0
WIDTHS = {"at the bound": 2, "storm": 20}
"""Calls that a seat has in flight."""


@asynccontextmanager
async def watched(room: Alone, boards: int) -> AsyncIterator[None]:
    """Have boards watch the provider."""

    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{room.url}/api/calls") as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    json.loads(line[6:])

    headers = {"Authorization": f"Bearer {room.board.partition('#')[2]}"}
    async with aiohttp.ClientSession(headers=headers, read_bufsize=2**20) as session:
        tasks = [asyncio.create_task(watch(session)) for _ in range(boards)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def asked(client: ServiceClient, width: int, until: float) -> tuple[int, int]:
    """Ask as fast as answers come; return how many were good, and how many came."""
    good = came = 0

    async def ask() -> None:
        nonlocal good, came
        while time.monotonic() < until:
            try:
                await client.search("What does a gate do?", k=1)
                good += 1
            except ServiceError:
                pass
            came += 1

    await asyncio.gather(*(ask() for _ in range(width)))
    return good, came


async def measure() -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Return good and all answers a second by load and watchers, one pair a round."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    room = Alone(SEATS)
    for _ in range(ROUNDS):
        for load, width in WIDTHS.items():
            for boards in (0, WATCHERS):
                async with watched(room, boards):
                    rates = await loaded(room.providers, width)
                found.setdefault((load, boards), []).append(rates)
    room.close()
    return found


async def loaded(providers: list[str], width: int) -> tuple[float, float]:
    """Return good and all answers a second while every seat has so many calls in flight."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(ServiceClient(each, max_connections=width))
            for each in providers
        ]
        start = time.monotonic()
        counts = await asyncio.gather(*(asked(each, width, start + SECONDS) for each in clients))
        took = time.monotonic() - start
    good, came = (sum(each) / took for each in zip(*counts, strict=True))
    return good, came


def main() -> None:
    """Print both loads, with and without watchers."""
    found = asyncio.run(measure())
    rows = []
    for load in WIDTHS:
        without, watched_ = found[load, 0], found[load, WATCHERS]
        for name, place in (("good answers a second", 0), ("all answers a second", 1)):
            none, five = (median(each[place] for each in rounds) for rounds in (without, watched_))
            rows.append([load, name, f"{none:.0f}", f"{five:.0f}", f"{five / none:.1%}"])
    print(Table(["load", "of 60 seats", "no board", f"{WATCHERS} boards", "share"], rows))


if __name__ == "__main__":
    main()
