"""The exercises of notebook 1, graded by behaviour."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from course_lib import service
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.virtual import VirtualService, run_virtually

__all__ = ["EXERCISES"]

Search = Callable[[str], Awaitable[str]]


# 1.1 -------------------------------------------------------------------------------------------

LATENCIES = [0.1, 0.4, 0.2, 0.1, 0.3, 0.1, 0.2, 0.1]


async def grade_fetch_all(fetch_all: Callable[[Search, Sequence[str]], Awaitable[Any]]) -> Grading:
    """Eight calls of different length: all at once, answers in the order of the questions."""
    provider = VirtualService(LATENCIES)
    run = run_virtually(provider, lambda: fetch_all(provider.search, provider.queries))
    grading, count, longest = Grading(), len(LATENCIES), max(LATENCIES)
    right = run.value == provider.answers
    grading.observe(
        "answers", _kind(run.value, provider), "all, in the order of the questions",
        right, _wrong_answers(run.value, provider),
    )  # fmt: skip
    grading.observe(
        "calls made", len(provider.calls), count, len(provider.calls) == count,
        "ask each question exactly once",
    )  # fmt: skip
    grading.observe(
        "peak in flight", provider.peak_in_flight, count, provider.peak_in_flight == count,
        "the calls wait for one another: `await` in a loop starts a call only when the one before "
        "has ended. Start them all, then wait for them together",
    )  # fmt: skip
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"{longest:g} s, the longest call",
        run.seconds == longest, "the batch should take as long as its longest call, no longer",
    )  # fmt: skip
    return grading


def _kind(value: Any, provider: VirtualService) -> str:
    if value == provider.answers:
        return "all, in the order of the questions"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong_answers(value: Any, provider: VirtualService) -> str:
    if value is None:
        return "it returns None: is a `return` missing?"
    if not isinstance(value, list):
        return f"it returns a {type(value).__name__}: return a list of the answers"
    if any(inspect.isawaitable(item) for item in value):
        _close(value)
        return "it returns coroutines or tasks, not their answers: something is not awaited"
    if sorted(map(str, value)) == sorted(provider.answers):
        return "the answers are in the order in which they came: keep the order of the questions"
    return "these are not the answers of `search`: return what it returns, one for each question"


def _close(items: list[Any]) -> None:
    for item in items:
        if inspect.iscoroutine(item):
            item.close()


# 1.2 -------------------------------------------------------------------------------------------

TRICKY = ["R&D budget", "C# tutorial", "a+b", "50% of p99?", "café at #1"]


async def grade_ask(ask: Callable[[aiohttp.ClientSession, str, str], Awaitable[Any]]) -> Grading:
    """Real requests to a real provider; its ledger says what arrived, and over what."""
    with service.running(latency=service.Latency.constant(0.0)) as provider:
        async with aiohttp.ClientSession() as session:
            answers = [await ask(session, provider.url, query) for query in TRICKY]
            ledger = provider.ledger()
            expected = [await _ids(session, provider.url, query) for query in TRICKY]
            raised = {}
            for name, change in _REFUSALS.items():
                provider.configure(**change)
                calls = [await _outcome(ask(session, provider.url, "event loop")) for _ in "12"]
                raised[name] = calls[-1]  # the first one uses up the burst
                provider.configure(faults=None, rate_limit=None)
        grading = Grading()
        _grade_requests(grading, [call.query for call in ledger.calls], ledger.connections)
        _grade_answers(grading, answers, expected, raised)
    return grading


_REFUSALS: dict[str, dict[str, Any]] = {
    "500": {"faults": service.Faults(error=1.0)},
    "429": {"rate_limit": service.RateLimit(rate=0.01, burst=1)},
}


def _grade_requests(grading: Grading, received: list[str], connections: int) -> None:
    wrong = [pair for pair in zip(TRICKY, received, strict=False) if pair[0] != pair[1]]
    example = "" if not wrong else f"{wrong[0][0]!r} arrived as {wrong[0][1]!r}: "
    grading.observe(
        "questions that arrived intact", f"{len(received) - len(wrong)} of {len(TRICKY)}",
        "all", received == TRICKY,
        f"{example}`&`, `#` and `+` mean something in a URL. Leave the encoding to the library: "
        "`params={'q': query}`",
    )  # fmt: skip
    grading.observe(
        "connections opened, calls one after another", connections, 1, connections == 1,
        "a new connection for each call: use the `session` that is given, and read each answer",
    )  # fmt: skip


def _grade_answers(
    grading: Grading, answers: list[Any], expected: list[list[str]], raised: dict[str, str]
) -> None:
    grading.observe(
        "answers", "ids, best first" if answers == expected else f"such as {answers[0]!r:.40}",
        "a list of the ids in `results`", answers == expected,
        'return the ids: `[found["id"] for found in answer["results"]]`',
    )  # fmt: skip
    for status, outcome in raised.items():
        grading.observe(
            f"status {status}", outcome, "an error", outcome == "an error",
            f"a {status} was taken for an answer: look at the status before the body "
            "(`response.raise_for_status()`)",
        )  # fmt: skip


async def _ids(session: aiohttp.ClientSession, url: str, query: str) -> list[str]:
    async with session.get(f"{url}/search", params={"q": query}) as response:
        return [found["id"] for found in (await response.json())["results"]]


async def _outcome(call: Awaitable[Any]) -> str:
    try:
        return f"{await call!r:.40}"
    except NotImplementedError:
        raise
    except aiohttp.ClientResponseError:
        return "an error"
    except Exception as error:  # noqa: BLE001 - any other error came from the body, too late
        named = type(error).__name__
        return "an error" if "status" in str(error).lower() else f"{named} from the error's body"


# 1.3 -------------------------------------------------------------------------------------------

LIMIT, TIMEOUT = 4, 0.5
MIXED = [0.1, 0.3, 0.1, 0.2, 0.4, 0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.2, 0.1, 0.4, 0.1]
FAILING, HANGING = 5, 9


async def grade_outcomes(
    outcomes: Callable[[Search, Sequence[str], int, float], Awaitable[Any]],
) -> Grading:
    """Sixteen calls, one fails, one hangs: every other answer stands, the limit holds."""
    provider = VirtualService(MIXED, failing={FAILING}, hanging={HANGING})
    program = lambda: outcomes(provider.search, provider.queries, LIMIT, TIMEOUT)  # noqa: E731
    run = run_virtually(provider, program)
    grading = Grading()
    _grade_items(grading, run.value, provider)
    grading.observe(
        "peak in flight", provider.peak_in_flight, LIMIT, provider.peak_in_flight == LIMIT,
        f"at most `limit` calls at once, and as many as that: a semaphore of {LIMIT}",
    )  # fmt: skip
    times = [min(seconds, TIMEOUT) for seconds in MIXED]
    times[HANGING] = TIMEOUT
    bound = round(sum(times) / LIMIT + max(times), 9)
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"at most {bound:g} s (total / limit + longest)",
        run.seconds <= bound,
        "slots stand empty: a chunk waits for its slowest call. Give a slot to the next call as "
        "soon as one is free",
    )  # fmt: skip
    grading.observe(
        "calls left running", run.left_running, 0, run.left_running == 0,
        "calls go on after the function has returned: wait for every task, or cancel it",
    )  # fmt: skip
    return grading


def _grade_items(grading: Grading, value: Any, provider: VirtualService) -> None:
    items = value if isinstance(value, list) else []
    good = [number for number in range(len(MIXED)) if number not in {FAILING, HANGING}]
    kept = [n for n in good if len(items) > n and items[n] == provider.answers[n]]
    timed_out = [n for n in good if len(items) > n and isinstance(items[n], TimeoutError)]
    grading.observe(
        "answers in their place", len(kept), len(good), kept == good,
        "calls timed out that were only waiting for their slot: start the timeout after the slot "
        "is taken" if timed_out else
        "return a list with an answer for each question, in the order of the questions",
    )  # fmt: skip
    placed = len(items) == len(MIXED)
    failed = items[FAILING] if placed else None
    hung = items[HANGING] if placed else None
    grading.observe(
        "the failed call", type(failed).__name__, "its error, in its place",
        isinstance(failed, Exception), "put the exception of a failed call in its place",
    )  # fmt: skip
    grading.observe(
        "the call that hangs", type(hung).__name__, "TimeoutError, in its place",
        isinstance(hung, TimeoutError), "end a call after `timeout` with `asyncio.timeout`",
    )  # fmt: skip


EXERCISES = (
    Exercise(
        "1.1",
        "all at once, in order",
        ("search", "queries"),
        grade_fetch_all,
        (
            "A coroutine does not run until it is awaited or made into a task.",
            "`asyncio.gather` runs what it is given concurrently and keeps the order.",
            "`await asyncio.gather(*(search(query) for query in queries))` returns a list.",
        ),
    ),
    Exercise(
        "1.2",
        "a call that tells the truth",
        ("session", "url", "query"),
        grade_ask,
        (
            'Look at `session.get(f"{url}/search", params=...)`: it encodes what it is given.',
            "`response.raise_for_status()` turns a 429 or 500 into an exception.",
            '`async with session.get(...) as response:`, then `(await response.json())["results"]`.',
        ),
    ),
    Exercise(
        "1.3",
        "one bad call among many",
        ("search", "queries", "limit", "timeout"),
        grade_outcomes,
        (
            "Write one coroutine for one question, that never raises; then gather all of them.",
            "Order matters: first the slot (`async with semaphore:`), inside it the timeout.",
            "`except Exception as error: return error` makes a value of an error; `CancelledError` is none.",
        ),
    ),
)
