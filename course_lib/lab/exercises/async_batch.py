"""The exercises of notebook 1, graded by behaviour."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp

from course_lib import service
from course_lib.errors import Unavailable
from course_lib.lab.clock import simulate
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.engine import Exercise
from course_lib.lab.exercises.virtual import PATIENCE, Run, VirtualService, run_virtually

__all__ = ["EXERCISES"]

Search = Callable[[str], Awaitable[str]]


# 1.1 -------------------------------------------------------------------------------------------

LATENCIES = [0.1, 0.4, 0.2, 0.1, 0.3, 0.1, 0.2, 0.1]


async def grade_fetch_all(fetch_all: Callable[[Search, Sequence[str]], Awaitable[Any]]) -> Grading:
    """Eight calls of different length: all at once, answers in the order of the questions."""
    provider = VirtualService(LATENCIES)
    run = run_virtually(lambda: fetch_all(provider.search, provider.queries))
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
        _too_few(provider.peak_in_flight),
    )  # fmt: skip
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"{longest:g} s, the longest call",
        run.seconds == longest, "the batch should take as long as its longest call, no longer",
    )  # fmt: skip
    return grading


def _too_few(peak: int) -> str:
    if peak > 1:
        return f"only {peak} calls run at once: start all of them before you wait for the first"
    return (
        "the calls wait for one another: `await` in a loop starts a call only when the one before "
        "has ended. Start them all, then wait for them together"
    )


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


REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("event loop", {"faults": service.Faults(error=1.0)}),
    "429": ("event loop", {"rate_limit": service.RateLimit(rate=0.01, burst=1)}),
    "400": ("", {}),
}
"""Questions and behaviours that get each status."""


async def grade_ask(ask: Callable[[aiohttp.ClientSession, str, str], Awaitable[Any]]) -> Grading:
    """Real requests to a real provider; its ledger says what arrived, and over what."""
    with service.running(latency=service.Latency.constant(0.0)) as provider:
        async with asyncio.timeout(2 * PATIENCE), aiohttp.ClientSession() as session:
            answers = [await ask(session, provider.url, query) for query in TRICKY]
            ledger = provider.ledger()
            wanted = [await _ids(session, provider.url, query) for query in TRICKY]
            raised = {}
            for status, (query, change) in REFUSALS.items():
                provider.configure(**change)
                for _ in "12":  # the first call uses up the burst
                    raised[status] = await _outcome(ask(session, provider.url, query))
                provider.configure(faults=None, rate_limit=None)
    grading = Grading()
    _grade_requests(grading, [call.query for call in ledger.calls], ledger.connections)
    _grade_answers(grading, answers, wanted, raised)
    return grading


def _grade_requests(grading: Grading, received: list[str], connections: int) -> None:
    grading.observe(
        "requests for 5 questions", len(received), len(TRICKY), len(received) == len(TRICKY),
        "send one request to `/search` for each question",
    )  # fmt: skip
    intact = sum(pair[0] == pair[1] for pair in zip(TRICKY, received, strict=False))
    grading.observe(
        "questions that arrived intact", f"{intact} of {len(TRICKY)}", "all",
        received == TRICKY, _garbled(received),
    )  # fmt: skip
    grading.observe(
        "connections opened, calls one after another", connections, 1, connections == 1,
        "a new connection for each call: use the `session` that is given, and read each answer",
    )  # fmt: skip


def _garbled(received: list[str]) -> str:
    if not any(received):
        return "the question did not arrive: its parameter is called `q`"
    pairs = list(zip(TRICKY, received, strict=False))
    if all(got in {quote(sent), quote_plus(sent), sent} for sent, got in pairs):
        return "the question is encoded twice: hand it to `params` as it is"
    wrong = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return (
        f"{wrong[0]!r} arrived as {wrong[1]!r}: `&`, `#` and `+` mean something in a URL. Leave "
        "the encoding to the library: `params={'q': query}`"
    )


def _grade_answers(
    grading: Grading, answers: list[Any], wanted: list[list[str]], raised: dict[str, str]
) -> None:
    grading.observe(
        "answers", "ids, best first" if answers == wanted else f"such as {answers[0]!r:.40}",
        "a list of the ids in `results`", answers == wanted,
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
    except (LookupError, TypeError, AttributeError, json.JSONDecodeError) as error:
        return f"{type(error).__name__} from the error's body"  # looked into it as an answer
    except Exception:  # noqa: BLE001 - whatever a learner raises on purpose
        return "an error"


# 1.3 -------------------------------------------------------------------------------------------

LIMIT, TIMEOUT = 4, 0.5
MIXED = [0.1, 0.3, 0.1, 0.2, 0.4, 0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.2, 0.1, 0.4, 0.1]
FAILING, HANGING = 5, 9


Outcomes = Callable[[Search, Sequence[str], int, float], Awaitable[Any]]


async def grade_outcomes(outcomes: Outcomes) -> Grading:
    """Sixteen calls, one fails, one hangs: every other answer stands, the limit holds."""
    provider, run = _run_outcomes(outcomes, LIMIT, TIMEOUT)
    grading = Grading()
    _grade_items(grading, run.value, provider)
    grading.observe(
        "peak in flight", provider.peak_in_flight, LIMIT, provider.peak_in_flight == LIMIT,
        f"at most `limit` calls at once, and as many as that: a semaphore of {LIMIT}",
    )  # fmt: skip
    hung = max(call.end - call.start for call in provider.calls)
    grading.observe(
        "longest call", f"{hung:g} s", f"{TIMEOUT:g} s, the timeout", round(hung, 9) == TIMEOUT,
        "each call has `timeout` seconds from the moment it starts",
    )  # fmt: skip
    times = [TIMEOUT if number == HANGING else seconds for number, seconds in enumerate(MIXED)]
    bound = round(sum(times) / LIMIT + max(times), 9)
    grading.observe(
        "makespan", f"{run.seconds:g} s", f"at most {bound:g} s (total / limit + longest)",
        run.seconds <= bound,
        "slots stand empty: a chunk waits for its slowest call. Give a slot to the next call as "
        "soon as one is free",
    )  # fmt: skip
    grading.observe(
        "tasks left running", run.left_running, 0, run.left_running == 0,
        "tasks go on after the function has returned: wait for every one, or cancel it",
    )  # fmt: skip
    _grade_arguments(grading, outcomes)
    return grading


def _run_outcomes(outcomes: Outcomes, limit: int, timeout: float) -> tuple[VirtualService, Run]:
    provider = VirtualService(MIXED, failing={FAILING}, hanging={HANGING})
    return provider, run_virtually(
        lambda: outcomes(provider.search, provider.queries, limit, timeout)
    )


def _grade_arguments(grading: Grading, outcomes: Outcomes) -> None:
    """Other arguments count, and so does a cancellation."""
    provider, _ = _run_outcomes(outcomes, 2, 0.25)
    longest = round(max(call.end - call.start for call in provider.calls), 9)
    grading.observe(
        "with limit 2, timeout 0.25 s", f"{provider.peak_in_flight} at once, {longest:g} s",
        "2 at once, 0.25 s", (provider.peak_in_flight, longest) == (2, 0.25),
        "the arguments `limit` and `timeout` are to be used, whatever their values",
    )  # fmt: skip
    provider = VirtualService(MIXED)

    async def cancel() -> bool:
        task = asyncio.ensure_future(outcomes(provider.search, provider.queries, 2, 10.0))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled() and len(provider.calls) == LIMIT // 2

    stops = simulate(cancel, patience=PATIENCE).value
    grading.observe(
        "when cancelled", "stops" if stops else "goes on", "stops", stops,
        "a cancellation is taken for a failure and the work goes on: catch `Exception`, not "
        "`BaseException` or everything",
    )  # fmt: skip


def _grade_items(grading: Grading, value: Any, provider: VirtualService) -> None:
    items = value if isinstance(value, list) else []
    good = [number for number in range(len(MIXED)) if number not in {FAILING, HANGING}]
    kept = [n for n in good if len(items) > n and items[n] == provider.answers[n]]
    grading.observe(
        "answers in their place", len(kept), len(good), kept == good, _misplaced(items, provider)
    )  # fmt: skip
    placed = len(items) == len(MIXED)
    failed = items[FAILING] if placed else None
    hung = items[HANGING] if placed else None
    grading.observe(
        "the failed call", type(failed).__name__, "its error, in its place",
        isinstance(failed, Unavailable), "put the exception of a failed call in its place",
    )  # fmt: skip
    grading.observe(
        "the call that hangs", type(hung).__name__, "TimeoutError, in its place",
        isinstance(hung, TimeoutError), "end a call after `timeout` with `asyncio.timeout`",
    )  # fmt: skip


def _misplaced(items: list[Any], provider: VirtualService) -> str:
    good = [a for n, a in enumerate(provider.answers) if n not in {FAILING, HANGING}]
    if len(items) == len(MIXED) and all(answer in items for answer in good):
        return "the answers are in the order in which they came: keep the order of the questions"
    if sum(isinstance(item, TimeoutError) for item in items) > 1:
        return (
            "calls timed out that were only waiting for their slot: start the timeout after the "
            "slot is taken"
        )
    return "return a list with an answer for each question, in the order of the questions"


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
