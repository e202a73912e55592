"""A search in 1,000, 10,000 and 100,000 vectors of 384: milliseconds, and how long the loop stands.

Vectors lie in clusters, as those of texts do, and queries near one of them. Each store is searched
one query after another while a ticker measures the longest time for which the event loop did
nothing else. The bound is the product of matrix and query on one thread, and nothing more. The approximate index
looks at a few of its cells: its share of the true five best stands beside its time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import numpy as np
from langchain_core.vectorstores import InMemoryVectorStore

from benchmarks.clusters import SPREAD, Bound, Ready, filled, vectors_in_clusters
from course_lib.rag import FaissVectorStore, MatrixVectorStore
from course_lib.table import Table

K = 5
SIZES = (1_000, 10_000, 100_000)
QUERIES = 100
SECONDS = 3.0  # for the queries of one store, of which there are three at least
TICK = 0.0005  # seconds between two ticks
FASTER, SHORTER = 20, 10
"""How often the matrix is faster than LangChain's store, and holds up the loop shorter, at least."""


def in_ivf(embedding: Ready) -> FaissVectorStore:
    return FaissVectorStore(embedding, factory="IVF256,Flat")


LEARNING = "FaissVectorStore IVF256"
LEARNS = 39 * 256  # vectors that it wants to learn its cells from

STORES: dict[str, Callable[[Any], Any]] = {
    "product alone (bound)": Bound,
    "InMemoryVectorStore": InMemoryVectorStore,
    "MatrixVectorStore": MatrixVectorStore,
    "FaissVectorStore Flat": FaissVectorStore,
    LEARNING: in_ivf,
}


@asynccontextmanager
async def longest_gap() -> AsyncIterator[Callable[[], float]]:
    """Give a function that returns the longest time between two ticks, in seconds, less the tick."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            longest, last = max(longest, now - last - TICK), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield lambda: longest
    finally:
        ticking.cancel()


async def search(store: Any, queries: list[list[float]]) -> tuple[float, float, list[set[str]]]:
    """Return seconds a query (median), the longest gap, and the ids found for each query."""
    await store.asimilarity_search_by_vector(queries[0], k=K)  # builds what is lazy
    took: list[float] = []
    found = []
    async with longest_gap() as gap:
        begin = time.perf_counter()
        for query in queries:
            if len(took) >= 3 and time.perf_counter() - begin > SECONDS:
                break
            start = time.perf_counter()
            documents = await store.asimilarity_search_by_vector(query, k=K)
            took.append(time.perf_counter() - start)
            await asyncio.sleep(2 * TICK)
            found.append({each.id for each in documents} if isinstance(documents, list) else set())
        return median(took), gap(), found


async def measured(size: int) -> dict[str, tuple[float, float, float]]:
    """Return for each store seconds a query, the longest gap, and the share of the best found."""
    embedding = Ready(vectors_in_clusters(size))
    draw = np.random.default_rng(7)
    near = embedding.vectors[draw.integers(size, size=QUERIES)]
    queries = (near + draw.normal(size=near.shape) * SPREAD).tolist()
    results = {
        name: await search(filled(make, embedding), queries)
        for name, make in STORES.items()
        if size >= LEARNS or name != LEARNING
    }
    exact = results["MatrixVectorStore"][2]
    return {
        name: (seconds, gap, share_of(found, exact))
        for name, (seconds, gap, found) in results.items()
    }


def share_of(found: list[set[str]], exact: list[set[str]]) -> float:
    """Return the share of the best that was found, over the queries that both were asked."""
    pairs = list(zip(found, exact, strict=False))
    return sum(len(one & other) for one, other in pairs) / K / len(pairs)


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


def main() -> None:
    for size in SIZES:
        results = asyncio.run(measured(size))
        rows = [
            [name, f"{seconds * 1e3:.2f}", f"{gap * 1e3:.1f}", f"{share:.0%}" if share else ""]
            for name, (seconds, gap, share) in results.items()
        ]
        print(Table([f"{size:,} vectors", "ms a query", "longest gap, ms", "best found"], rows))
        print(flush=True)
        theirs, ours = results["InMemoryVectorStore"], results["MatrixVectorStore"]
        ratio, calmer = theirs[0] / ours[0], theirs[1] / max(ours[1], 1e-6)
        say(f"MatrixVectorStore is {ratio:.0f} times faster: {FASTER} or more", ratio >= FASTER)
        if size > SIZES[0]:  # below, both gaps are those of the machine
            say(f"it holds up the loop {calmer:.0f} times shorter: {SHORTER}", calmer >= SHORTER)
        exact = min(results[name][2] for name in ("InMemoryVectorStore", "FaissVectorStore Flat"))
        say(f"the exact ones find the same: {exact:.1%}", exact > 0.99)
        print()
