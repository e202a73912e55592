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
Serve = Callable[[Queue, Callable[[list[Any]], Awaitable[list[Any]]], int], Awaitable[Any]]

SIZE, SECONDS, PATIENCE = 4, 0.1, 5.0
TOLERANCE = 1e-6
SILENT = object()
"""What became of an answer that never came."""


@dataclass(order=True)
class _Entry:
    rank: tuple[float, int]
    item: Any = field(compare=False)
    answer: asyncio.Future[Any] = field(compare=False)


class _Desk:
    """A queue with its learner's loop, and callers who stand in it.

    Args:
        serve: The learner's function.
        size: Items that a batch may hold.

    Attributes:
        batches: The batches as they were processed.
        ended: Whether the loop ended soon after it was cancelled.
    """

    def __init__(self, serve: Serve, size: int = SIZE) -> None:
        self.batches: list[list[Any]] = []
        self.ended = False
        self._queue: Queue = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._serve, self._size = serve, size

    async def _process(self, items: list[Any]) -> list[Any]:
        items = list(items)
        self.batches.append(items)
        if "at once" in items:
            raise ValueError("a bad item, refused at once")
        await asyncio.sleep(SECONDS)
        if "bad" in items:
            raise ValueError("a bad item")
        results = [_result(item, place) for place, item in enumerate(items) if item != "lost"]
        return results + ["of nobody"] * ("one more" in items)

    def submit(self, item: Any, priority: float = 0) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Entry((-priority, next(self._numbers)), item, answer))
        return answer

    async def run(self, customers: Callable[["_Desk"], Awaitable[Any]]) -> Any:
        """Let the loop serve what the customers want; then close.

        Raises:
            Exception: The learner's code is not written, or never ends.
        """
        task = asyncio.ensure_future(self._serve(self._queue, self._process, self._size))
        try:
            result = await customers(self)
            if task.done() and not task.cancelled():
                self._not_attempted(task.exception())
            return result
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=SECONDS / 4)
            self.ended = task.done()
            await asyncio.wait([task], timeout=PATIENCE)

    @staticmethod
    def _not_attempted(error: BaseException | None) -> None:
        if isinstance(error, NotImplementedError):
            raise error


def _result(item: Any, place: int) -> Any:
    """What an item gets: a text in capitals; for a "twin" its place; else what it carries."""
    if item == "twin":
        return place
    return item["gives"] if isinstance(item, dict) else item.upper()


async def _outcomes(answers: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """What became of each: its value, its error, or that there was none after a while."""
    await asyncio.wait(answers, timeout=PATIENCE)
    said: list[Any] = []
    for answer in answers:
        if not answer.done():
            said.append(SILENT)
        elif answer.cancelled():
            said.append(asyncio.CancelledError())
        else:
            error = answer.exception()
            said.append(answer.result() if error is None else _Raised(error))
    return said


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error that a caller was told as an error, not as a result."""

    error: BaseException


async def grade_serve(serve: Serve) -> Grading:
    """Twelve at once, one alone, a batch that fails, a caller who leaves, a result too few."""
    grading = Grading()
    _grade_batches(grading, serve)
    _grade_alone(grading, serve)
    _grade_sizes(grading, serve)
    _grade_own(grading, serve)
    _grade_failures(grading, serve)
    _grade_counts(grading, serve)
    _grade_leavers(grading, serve)
    _grade_end(grading, serve)
    return grading


def _grade_batches(grading: Grading, serve: Serve) -> None:
    wanted = [f"{name}{number}" for name in "abc" for number in range(SIZE)]
    mixed = sorted(wanted, key=lambda item: item[1])  # a0 b0 c0 a1 ...

    async def customers(desk: _Desk) -> list[Any]:
        answers = [desk.submit(item, priority=-ord(item[0])) for item in mixed]
        return await _outcomes(answers)

    desk, said = _served(serve, customers)
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
        "callers with their own result", own, len(mixed), own == len(mixed), OWN
    )  # fmt: skip


OWN = (
    "each caller waits for its own result: `entry.answer.set_result(...)`, in the order of the "
    "batch"
)


def _served(
    serve: Serve, customers: Callable[[_Desk], Awaitable[Any]], size: int = SIZE
) -> tuple[_Desk, Any]:
    """The desk after its customers have left, and what they say."""

    async def program() -> tuple[_Desk, Any]:
        desk = _Desk(serve, size)
        return desk, await desk.run(customers)

    value: tuple[_Desk, Any] = run_virtually(program).value
    return value


def _wrong_sizes(sizes: list[int]) -> str:
    if not sizes:
        return "nothing is processed: await `queue.get()`, then `process_batch`"
    if max(sizes) > SIZE:
        return f"a batch holds at most `size` items, here {SIZE}"
    if max(sizes) == 1:
        return "each goes alone: after the first, take what else waits, with `get_nowait()`"
    return "a batch takes what waits, up to `size`, and then the next one does"


def _grade_sizes(grading: Grading, serve: Serve) -> None:
    """Other sizes count, and a batch that the items do not fill."""

    async def customers(desk: _Desk) -> list[Any]:
        return await _outcomes([desk.submit(f"item {number}") for number in range(7)])

    for size, wanted in ((3, "3 3 1"), (1, "1 1 1 1 1 1 1"), (100, "7")):
        desk, _ = _served(serve, customers, size)
        got = " ".join(str(len(batch)) for batch in desk.batches)
        grading.observe(
            f"seven at once, size {size}", got, wanted, got == wanted,
            "the argument `size` is to be used, whatever its value, and the last batch holds what "
            "is left",
        )  # fmt: skip


def _grade_alone(grading: Grading, serve: Serve) -> None:
    async def customers(desk: _Desk) -> tuple[float, list[Any]]:
        await asyncio.sleep(1)
        said = await _outcomes([desk.submit("alone")])
        return asyncio.get_running_loop().time() - 1, said

    _, (seconds, said) = _served(serve, customers)
    in_time = said == ["ALONE"] and seconds <= SECONDS + TOLERANCE
    got = f"{seconds:.4g} s" if said == ["ALONE"] else _word(said[0])
    grading.observe(
        "one alone is answered after", got, f"{SECONDS:g} s", in_time,
        "a single item waits for company: when nothing else is there, process what you have",
    )  # fmt: skip


def _grade_own(grading: Grading, serve: Serve) -> None:
    """Items that are equal, or no text, and results that are false."""
    results: list[Any] = [None, 0, "", [], {"error": "none"}]
    items = ["twin", "twin", *({"gives": result} for result in results), "twin"]
    said, wanted = _after(serve, items, size=5), [0, 1, *results, 2]
    good = sum(
        type(got) is type(each) and got == each for got, each in zip(said, wanted, strict=True)
    )
    grading.observe(
        "own results of items that are equal, or no text", good, len(wanted), good == len(wanted),
        f"{OWN}, whatever the items are: they may be equal, or no keys of a dictionary, and their "
        "results `None` or `0`",
    )  # fmt: skip


def _grade_failures(grading: Grading, serve: Serve) -> None:
    for what, bad in (("fails", "bad"), ("fails at once", "at once")):
        said = _after(serve, [bad, "w", "x", "y", "next"])
        errors = [isinstance(each, _Raised) and isinstance(each.error, ValueError) for each in said]
        grading.observe(
            f"callers of a batch that {what}", _summary(said[:SIZE]), "ValueError raised",
            all(errors[:SIZE]), _wrong_error(said[:SIZE]),
        )  # fmt: skip
        grading.observe(
            f"who comes after one that {what}", _word(said[SIZE]), "NEXT", said[SIZE] == "NEXT",
            "an error ends the loop, and whoever comes after it waits for ever: catch it, go on",
        )  # fmt: skip


def _wrong_error(said: list[Any]) -> str:
    if any(isinstance(each, BaseException) for each in said):
        return "the error is set as if it were a result: `set_exception`, not `set_result`"
    return "an error of `process_batch` belongs to the callers of that batch: `set_exception`"


def _grade_counts(grading: Grading, serve: Serve) -> None:
    for what, item in (("a result too few", "lost"), ("a result too many", "one more")):
        said = _after(serve, [item, "w", "x", "y", "next"])
        good = said[SIZE] == "NEXT" and all(isinstance(each, _Raised) for each in said[:SIZE])
        grading.observe(
            what, _summary(said), "an error for each, then NEXT", good,
            "when there are fewer or more results than items, nobody knows whose is missing: that "
            "is an error for the whole batch (`zip(..., strict=True)`, before any answer is set)",
        )  # fmt: skip


def _grade_leavers(grading: Grading, serve: Serve) -> None:
    wanted = ["W", "CancelledError", "X", "Y", "NEXT"]
    said = [_word(each) for each in _after(serve, ["w", "leaves", "x", "y", "next"])]
    grading.observe(
        "a caller leaves", ", ".join(said), ", ".join(wanted), said == wanted, LEFT
    )  # fmt: skip
    said = [_word(each) for each in _after(serve, ["bad", "leaves", "x", "y", "next"])]
    wanted = ["ValueError raised", "CancelledError", *["ValueError raised"] * 2, "NEXT"]
    grading.observe(
        "a caller leaves, and the batch fails", ", ".join(said), ", ".join(wanted), said == wanted,
        LEFT,
    )  # fmt: skip


LEFT = (
    "an answer that is done already, since its caller has left, cannot be set: look at "
    "`entry.answer.done()` first"
)


def _after(serve: Serve, items: list[Any], size: int = SIZE) -> list[Any]:
    """What became of the items, when those leave in the middle that are called so."""

    async def customers(desk: _Desk) -> list[Any]:
        answers = [desk.submit(item) for item in items]
        await asyncio.sleep(SECONDS / 2)
        for item, answer in zip(items, answers, strict=True):
            if item == "leaves":
                answer.cancel()
        return await _outcomes(answers)

    outcomes: list[Any] = _served(serve, customers, size)[1]
    return outcomes


def _grade_end(grading: Grading, serve: Serve) -> None:
    async def idle(_: _Desk) -> None:
        await asyncio.sleep(SECONDS)

    async def in_flight(desk: _Desk) -> None:
        desk.submit("under way").add_done_callback(_look_at)
        await asyncio.sleep(SECONDS / 2)

    for what, customers in (("while it waits", idle), ("while a batch is in flight", in_flight)):
        ended = _served(serve, customers)[0].ended
        grading.observe(
            f"when it is cancelled {what}", "ends" if ended else "goes on", "ends", ended,
            "it cannot be stopped: catch `Exception`, not `BaseException`. `CancelledError` must "
            "end the loop, also while it waits for `process_batch`",
        )  # fmt: skip


def _look_at(answer: asyncio.Future[Any]) -> None:
    """See an error that nobody waits for."""
    if not answer.cancelled():
        answer.exception()


def _word(said: Any) -> str:
    if said is SILENT:
        return "no answer"
    if isinstance(said, _Raised):
        return f"{type(said.error).__name__} raised"
    return type(said).__name__ if isinstance(said, BaseException) else str(said)


def _summary(said: list[Any]) -> str:
    return ", ".join(dict.fromkeys(map(_word, said)))
