"""50 and 1,000 calls of 100 ms: the naive program, ours, bare aiohttp, and the bound.

The bound is one latency: all calls at once. With 1,000 calls the client's own CPU is far above it,
on a machine that the provider shares; what counts there is the ratio to bare aiohttp.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from langchain_core.runnables import RunnableLambda

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, SyncServiceClient, as_runnable

LATENCY = 0.1
MOST_OVER_AIOHTTP = 1.2
"""What `ServiceClient` may take, in a bare gather, relative to bare aiohttp."""


async def sync_delegate(url: str, questions: list[str]) -> Any:
    with SyncServiceClient(url) as client:
        return await RunnableLambda(client.search).abatch(questions)


async def session_per_call(url: str, questions: list[str]) -> Any:
    async def search(question: str) -> Any:
        async with ServiceClient(url) as client:
            return await client.search(question)

    return await asyncio.gather(*map(search, questions))


async def client_abatch(url: str, questions: list[str]) -> Any:
    async with ServiceClient(url, max_connections=len(questions)) as client:
        return await as_runnable(client.search).abatch(questions)


async def client_gather(url: str, questions: list[str]) -> Any:
    async with ServiceClient(url, max_connections=len(questions)) as client:
        return await asyncio.gather(*map(client.search, questions))


async def aiohttp_gather(url: str, questions: list[str]) -> Any:
    connector = aiohttp.TCPConnector(limit=len(questions))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def search(question: str) -> Any:
            async with session.get(f"{url}/search", params={"q": question}) as response:
                response.raise_for_status()
                return (await response.json())["results"]

        return await asyncio.gather(*map(search, questions))


VARIANTS: dict[str, Callable[[str, list[str]], Awaitable[Any]]] = {
    "sync function, abatch": sync_delegate,
    "a session per call": session_per_call,
    "ServiceClient, abatch": client_abatch,
    "ServiceClient, gather": client_gather,
    "bare aiohttp, gather": aiohttp_gather,
}


async def calls(provider: service.Provider, count: int, names: list[str], rounds: int) -> None:
    """Print one table for one size of batch."""
    questions = lab.questions(count)
    variants = {name: (lambda name=name: VARIANTS[name](provider.url, questions)) for name in names}
    result = await lab.compare(variants, rounds=rounds, bound=LATENCY, provider=provider)
    print(f"{count} calls, bound {LATENCY} s\n{result}")
    ratio = result.speedup("bare aiohttp, gather", over="ServiceClient, gather")
    verdict = "within" if ratio <= MOST_OVER_AIOHTTP else "NOT within"
    print(f"ServiceClient takes {ratio:.2f}x bare aiohttp: {verdict} {MOST_OVER_AIOHTTP}x\n")


async def run() -> None:
    with service.running(latency=service.Latency.constant(LATENCY)) as provider:
        await calls(provider, 50, list(VARIANTS), rounds=5)
        await calls(provider, 1000, list(VARIANTS)[1:], rounds=7)
        await calls(provider, 1000, ["sync function, abatch", *list(VARIANTS)[2:]], rounds=1)


def main() -> None:
    asyncio.run(run())
