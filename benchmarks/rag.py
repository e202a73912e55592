"""The naive pipeline against RagPipeline on one service in one run, and a storm of 10,000 queries.

The service's chat endpoint writes 8 answers at once, 300 ms each: no client gets more than 27 of them
a second, and each different question has to be answered once. That is the bound. The naive pipeline
answers 100 questions; for 1,000 its time is taken to be ten times that, since it goes through them
one by one, whatever they are.
"""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import psutil

from course_lib import service
from course_lib.rag import (
    RagAnswer,
    RagPipeline,
    RagSettings,
    naive_rag,
    quality_of,
    read_questions,
)
from course_lib.rag.settings import STAGES
from course_lib.rate_limiting import Aimd, Gate
from course_lib.service import Behaviour, Capacity, Faults, Latency, RateLimit
from course_lib.table import Table

CHAT = "/v1/chat/completions"
SLOTS, WRITING = 8, 0.3
IN_LINE = (
    4  # calls that wait at the provider, so that a slot is never free while the next one comes
)
BEFORE = 0.02 + 0.04  # seconds of search and rerank, before the first answer can be written
ENDPOINTS = {
    "/search": Behaviour(Latency.constant(0.02)),
    "/rerank": Behaviour(Latency.constant(0.04), capacity=Capacity(16)),
    CHAT: Behaviour(Latency.constant(WRITING), capacity=Capacity(SLOTS)),
}
FEW, MANY = 100, 1_000
KINDS = 300  # different questions behind those drawn by Zipf's law
TIMES, SHARE = 10, 0.9  # what is promised: times the naive throughput (Zipf), share of the bound

STORM = 10_000
WINDOW = 200
EVERY = 1_000  # answers between two looks at the memory
WEATHER = 2.0  # seconds of a limit of 100 calls a second, and then as many without
GROWTH = 1.1  # of the memory, at most, from the second thousand answers to the last
MIB = 2**20

QUESTIONS = read_questions(Path(service.__file__).parent / "corpus" / "questions.toml")
TEXTS = [question.text for question in QUESTIONS]


@dataclass(frozen=True, slots=True)
class Run:
    """What a pipeline did with some questions."""

    seconds: float
    answers: Sequence[RagAnswer]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds


def distinct(count: int) -> list[str]:
    """Questions, all different: the handbook's, and the same again with a number."""
    rounds = range(count // len(TEXTS) + 1)
    return [f"{each} (case {n})" if n else each for n in rounds for each in TEXTS][:count]


def zipf(count: int) -> list[str]:
    """Questions drawn by Zipf's law (exponent 1), as users ask."""
    weights = list(accumulate(1 / rank for rank in range(1, KINDS + 1)))
    return random.Random(0).choices(distinct(KINDS), cum_weights=weights, k=count)


LOADS = {
    f"{FEW} distinct": distinct(FEW),
    f"{FEW} Zipf": zipf(FEW),
    f"{MANY:,} distinct": distinct(MANY),
    f"{MANY:,} Zipf": zipf(MANY),
}


def bound(questions: Sequence[str]) -> float:
    """The least seconds: each different question is written once, 8 at a time."""
    waves = -(-len(set(questions)) // SLOTS)
    return BEFORE + waves * WRITING


def naive(url: str, questions: Sequence[str]) -> Run:
    start = time.perf_counter()
    answers = naive_rag(url, questions)
    return Run(time.perf_counter() - start, answers)


async def piped(url: str, questions: Sequence[str]) -> Run:
    """Open a pipeline, with a gate of the provider's size and an empty cache, and ask it."""
    gates = {"generate": Gate(concurrency=SLOTS + IN_LINE)}
    async with RagPipeline(url, gates=gates) as pipeline:
        start = time.perf_counter()
        answers = await pipeline.batch_rag(questions)
        return Run(time.perf_counter() - start, answers)


async def compared(url: str) -> None:
    """Print throughputs, and whether they are what is promised."""
    await piped(url, zipf(MANY))  # imports are done, and the provider's model has seen the passages
    baselines = {name: naive(url, load) for name, load in LOADS.items() if len(load) == FEW}
    rows, verdicts = [], []
    for name, load in LOADS.items():
        base = baselines[name.replace(f"{MANY:,}", str(FEW))]
        run = await piped(url, load)
        share = bound(load) / run.seconds
        times = run.rate / base.rate
        calls = len(set(load))
        figures = (f"{base.rate:.1f}", f"{run.rate:.1f}", f"{times:.0f}x", f"{share:.1%}")
        rows.append([name, f"{calls:,}", *figures])
        verdicts.append((f"{name}: {share:.1%} of the bound: {SHARE:.0%}", share >= SHARE))
        if "Zipf" in name:
            verdicts.append((f"{name}: {times:.0f} times naive: {TIMES}", times >= TIMES))
        if len(load) == FEW and "distinct" in name:
            verdicts.append(("quality is equal or better", as_good(run, base)))
    headings = ["questions", "different", "naive a second", "RagPipeline", "", "of the bound"]
    print(Table(headings, rows))
    print(f"(naive with {MANY:,}: extrapolated from {FEW})\n")
    for claim, holds in verdicts:
        say(claim, holds)


def as_good(run: Run, base: Run) -> bool:
    """Whether the quality on the handbook's questions is no worse; prints both."""
    asked = len(QUESTIONS)
    mine, theirs = (quality_of(each.answers[:asked], QUESTIONS) for each in (run, base))
    for name, each in (("naive", theirs), ("RagPipeline", mine)):
        found, said = each.retrieval, each.answers
        print(
            f"{name}: recall@5 {found.recall:.3f}, MRR {found.mrr:.3f}, "
            f"answers {said.answer_accuracy:.3f}, citations {said.citation_accuracy:.3f}"
        )
    return mine.as_good_as(theirs)


def say(claim: str, holds: bool) -> None:  # noqa: FBT001 - a verdict
    print(f"{'  holds' if holds else 'DOES NOT HOLD'}: {claim}")


@asynccontextmanager
async def weather(provider: service.Provider) -> AsyncIterator[None]:
    """Switch a limit of 100 calls a second on and off, again and again."""

    async def change() -> None:
        limit = RateLimit(rate=100, burst=20)
        while True:
            for now in (limit, None):
                await asyncio.to_thread(provider.configure, rate_limit=now)
                await asyncio.sleep(WEATHER)

    task = asyncio.create_task(change())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def stormed(provider: service.Provider) -> None:
    """Ask 10,000 questions of a provider that fails, hangs and refuses; nothing is kept."""
    provider.configure(endpoints={}, latency=Latency.constant(0.01))
    provider.configure(faults=Faults(error=0.05, hang=0.02))
    provider.reset()
    process, memory, outcomes, retries = psutil.Process(), [], Counter[str](), 0
    settings = RagSettings(cached=(), attempts=6, timeout=1.0)
    gates = {stage: Gate(concurrency=8, policy=Aimd(maximum=32)) for stage in STAGES}
    questions = (TEXTS[number % len(TEXTS)] for number in range(STORM))
    start = time.perf_counter()
    async with (
        RagPipeline(provider.url, chat="lean", settings=settings, gates=gates) as pipeline,
        weather(provider),
        aclosing(pipeline.answers(questions, limit=WINDOW)) as answers,
    ):
        async for answer in answers:
            outcomes[str(answer.error and (answer.error.stage, answer.error.kind))] += 1
            retries += answer.retries
            if outcomes.total() % EVERY == 0:
                gc.collect()
                memory.append(process.memory_info().rss / MIB)
        passed = [gate.statistics() for gate in gates.values()]
    seconds, seen = time.perf_counter() - start, provider.ledger()
    print(f"\n{STORM:,} queries in a storm, {seconds:.0f} s: {seen!r}")
    print(f"answered {outcomes.pop('None', 0):,}, tried again {retries:,}, failed {dict(outcomes)}")
    print("MiB after each thousand: " + " ".join(f"{each:.0f}" for each in memory))
    admitted = sum(each.admitted for each in passed)
    rejected = sum(each.rejected for each in passed)
    say(f"{len(memory) * EVERY:,} answers or reasons", len(memory) * EVERY == STORM)
    say(f"client {admitted:,}, provider {seen.requests:,} calls", admitted == seen.requests)
    say(f"client {rejected:,}, provider {seen.rejected:,} rejections", rejected == seen.rejected)
    say("memory is flat", memory[-1] <= GROWTH * memory[1])


async def run(provider: service.Provider) -> None:
    await compared(provider.url)
    await stormed(provider)


def main() -> None:
    with service.running(latency=None, endpoints=ENDPOINTS) as provider:
        asyncio.run(run(provider))
