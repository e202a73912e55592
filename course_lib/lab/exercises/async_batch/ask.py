"""Exercise 1.2: a call that tells the truth, graded by what a real provider receives."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp

from course_lib import service
from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import PATIENCE

__all__ = ["grade_ask"]

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
