"""Exercise 3.2: one loop that answers everybody."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["grade_serve"]

Queue = asyncio.PriorityQueue["_Entry"]
Serve = Callable[[Queue, Callable[[list[str]], Awaitable[list[str]]], int], Awaitable[Any]]

SIZE, SECONDS, PATIENCE = 4, 0.1, 5.0
TOLERANCE = 1e-6


@dataclass(order=True)
class _Entry:
    rank: tuple[float, int]
    item: str = field(compare=False)
    answer: asyncio.Future[str] = field(compare=False)


class _Desk:
    """A queue with its learner's loop, and callers who stand in it.

    Args:
        serve: The learner's function.

    Attributes:
        batches: The batches as they were processed.
    """

    def __init__(self, serve: Serve) -> None:
        self.batches: list[list[str]] = []
        self._queue: Queue = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._serve = serve

    async def _process(self, items: list[str]) -> list[str]:
        items = list(items)
        self.batches.append(items)
        await asyncio.sleep(SECONDS)
        if "bad" in items:
            raise ValueError("a bad item")
        return [item.upper() for item in items if item != "lost"]

    def submit(self, item: str, priority: float = 0) -> asyncio.Future[str]:
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Entry((-priority, next(self._numbers)), item, answer))
        return answer

    async def run(self, customers: Callable[["_Desk"], Awaitable[Any]]) -> Any:
        """Let the loop serve what the customers want; then close.

        Raises:
            Exception: The learner's code is not written, or never ends.
        """
        task = asyncio.ensure_future(self._serve(self._queue, self._process, SIZE))
        try:
            result = await customers(self)
            if task.done() and not task.cancelled():
                self._not_attempted(task.exception())
            return result
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            self.ended = task.done()

    @staticmethod
    def _not_attempted(error: BaseException | None) -> None:
        if isinstance(error, NotImplementedError):
            raise error


async def _outcomes(answers: Sequence[asyncio.Future[str]]) -> list[str]:
    """What became of each: its value, the name of its error, or "no answer" after a while."""
    await asyncio.wait(answers, timeout=PATIENCE)
    said = []
    for answer in answers:
        if not answer.done():
            said.append("no answer")
        elif answer.cancelled():
            said.append("cancelled")
        elif error := answer.exception():
            said.append(type(error).__name__)
        else:
            said.append(answer.result())
    return said


async def grade_serve(serve: Serve) -> Grading:
    """Twelve at once, one alone, a batch that fails, a caller who leaves, a result too few."""
    grading = Grading()
    _grade_batches(grading, serve)
    _grade_alone(grading, serve)
    _grade_troubles(grading, serve)
    return grading


def _grade_batches(grading: Grading, serve: Serve) -> None:
    wanted = [f"{name}{number}" for name in "abc" for number in range(SIZE)]
    mixed = sorted(wanted, key=lambda item: item[1])  # a0 b0 c0 a1 ...

    async def customers(desk: _Desk) -> list[str]:
        answers = [desk.submit(item, priority=-ord(item[0])) for item in mixed]
        return await _outcomes(answers)

    async def program() -> tuple[_Desk, list[str]]:
        desk = _Desk(serve)
        return desk, await desk.run(customers)

    desk, said = run_virtually(program).value
    sizes = [len(batch) for batch in desk.batches]
    grading.observe(
        "twelve at once, in batches of", " ".join(map(str, sizes)) or "none", "4 4 4",
        sizes == [SIZE] * 3, _wrong_sizes(sizes),
    )  # fmt: skip
    order = [item for batch in desk.batches for item in batch]
    grading.observe(
        "order", "most urgent first" if order == wanted else "another", "most urgent first",
        order == wanted, "take from the queue in its order: it gives the most urgent first",
    )  # fmt: skip
    own = sum(each == item.upper() for each, item in zip(said, mixed, strict=True))
    grading.observe(
        "callers with their own result", own, len(mixed), own == len(mixed),
        "each caller waits for its own result: `entry.answer.set_result(...)`, in the order of the "
        "batch",
    )  # fmt: skip


def _wrong_sizes(sizes: list[int]) -> str:
    if not sizes:
        return "nothing is processed: await `queue.get()`, then `process_batch`"
    if max(sizes) > SIZE:
        return f"a batch holds at most `size` items, here {SIZE}"
    if max(sizes) == 1:
        return "each goes alone: after the first, take what else waits, with `get_nowait()`"
    return "a batch takes what waits, up to `size`, and then the next one does"


def _grade_alone(grading: Grading, serve: Serve) -> None:
    async def customers(desk: _Desk) -> tuple[float, list[str]]:
        await asyncio.sleep(1)
        said = await _outcomes([desk.submit("alone")])
        return asyncio.get_running_loop().time() - 1, said

    seconds, said = run_virtually(lambda: _Desk(serve).run(customers)).value
    in_time = said == ["ALONE"] and seconds <= SECONDS + TOLERANCE
    got = f"{seconds:g} s" if said == ["ALONE"] else said[0]
    grading.observe(
        "one alone is answered after", got, f"{SECONDS:g} s", in_time,
        "a single item waits for company: when nothing else is there, process what you have",
    )  # fmt: skip


def _grade_troubles(grading: Grading, serve: Serve) -> None:
    errors = ["ValueError"] * SIZE
    said = _after(serve, ["bad", "w", "x", "y", "next"])
    grading.observe(
        "callers of a batch that fails", _summary(said[:SIZE]), "ValueError", said[:SIZE] == errors,
        "an error of `process_batch` belongs to the callers of that batch: `set_exception`",
    )  # fmt: skip
    grading.observe(
        "who comes after it", said[SIZE], "NEXT", said[SIZE] == "NEXT",
        "an error ends the loop, and whoever comes after it waits for ever: catch it, go on",
    )  # fmt: skip
    said = _after(serve, ["lost", "w", "x", "y", "next"])
    good = said[SIZE] == "NEXT" and "no answer" not in said and said[1] != "X"
    grading.observe(
        "a result too few", _summary(said), "an error for each, then NEXT", good,
        "when there are fewer results than items, nobody knows whose is missing: that is an error "
        "for the whole batch (`zip(..., strict=True)`, before any answer is set)",
    )  # fmt: skip
    said = _after(serve, ["w", "leaves", "x", "y", "next"])
    grading.observe(
        "a caller leaves", _summary(said), "W, cancelled, X, Y, NEXT",
        said == ["W", "cancelled", "X", "Y", "NEXT"],
        "an answer that is done already, since its caller has left, cannot be set: look at "
        "`entry.answer.done()` first",
    )  # fmt: skip
    _grade_end(grading, serve)


def _after(serve: Serve, items: list[str]) -> list[str]:
    async def customers(desk: _Desk) -> list[str]:
        answers = [desk.submit(item) for item in items]
        await asyncio.sleep(SECONDS / 2)
        for item, answer in zip(items, answers, strict=True):
            if item == "leaves":
                answer.cancel()
        return await _outcomes(answers)

    outcomes: list[str] = run_virtually(lambda: _Desk(serve).run(customers)).value
    return outcomes


def _grade_end(grading: Grading, serve: Serve) -> None:
    async def program() -> bool:
        desk = _Desk(serve)
        await desk.run(lambda _: asyncio.sleep(SECONDS))
        return desk.ended

    ended = run_virtually(program).value
    grading.observe(
        "when it is cancelled", "ends" if ended else "goes on", "ends", ended,
        "it cannot be stopped: catch `Exception`, which `CancelledError` is none of",
    )  # fmt: skip


def _summary(said: list[str]) -> str:
    return ", ".join(dict.fromkeys(said))
