"""What the experiments are made of: questions to ask, and pools to ask them from."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice

from course_lib.service.knowledge import load_passages, load_questions

__all__ = ["default_executor", "default_threads", "questions"]


def questions(count: int) -> list[str]:
    """Return `count` questions that the provider's passages answer, from the start again if short.

    Args:
        count: How many; 0 or more.

    Raises:
        ValueError: `count` is below 0.
    """
    if count < 0:
        raise ValueError(f"count={count}: ask for 0 questions or more")
    return list(islice(cycle(_texts()), count))


@cache
def _texts() -> tuple[str, ...]:
    return tuple(question.text for question in load_questions(load_passages()))


def default_threads() -> int:
    """Threads in the pool that an event loop makes for itself (`concurrent.futures`, 3.11 on)."""
    usable = getattr(os, "process_cpu_count", os.cpu_count)()  # what 3.13 counts, or all
    return min(32, (usable or 1) + 4)


@contextmanager
def default_executor(threads: int) -> Iterator[None]:
    """Give the running loop a thread pool of this size for the length of a `with` block.

    A loop does not tell which pool it has, so afterwards it gets a fresh one of the default size.

    Args:
        threads: Size of the pool; at least 1.

    Raises:
        ValueError: `threads` is below 1.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(threads) as pool:
        loop.set_default_executor(pool)
        try:
            yield
        finally:
            loop.set_default_executor(ThreadPoolExecutor(default_threads()))
