# %% [markdown]
# # 6 · A high-performance RAG system
#
# One system with all five techniques answers real questions from real text: it is measured against a naive one, broken on purpose, and accepted only within its budgets.
#
# ## What you'll do
#
# - measure the naive pipeline: one question after the other, with a client for each call
# - improve it one step at a time. You predict each step first, and you watch the quality
# - walk into nine traps. The provider's ledger is the witness
# - switch on faults and refusals while hundreds of questions are under way, and lose none
# - build a pipeline of your own in five steps. A harness with budgets accepts it
# - share one limit between processes, with Dask and Redis
# - ask documents of your own
#
# ## What you'll learn
#
# - which improvement pays when, and how to see it before you build it
# - why every speed-up needs a measure of quality beside it
# - what a pipeline gives up first when its time runs short
# - when a second process helps, and when it only costs
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebooks 1 to 4 | necessary | [Async batches](01_async_batch.ipynb), [limits](02_rate_limiting.ipynb), [batching](03_batching.ipynb), [caching](04_caching.ipynb) |
# | Notebook 5 | helpful | [Monitoring](05_monitoring.ipynb) |
# | Account, key, network | none | the provider runs on this machine; Redis and Dask, too |
# | Time | 90 to 120 minutes | a run of all cells takes half a minute |

# %% [markdown]
# **Recall questions** on the notebooks before. Answer each aloud, then open it.
#
# <details><summary>How many calls are in flight when a steady number arrives each second, and each takes a known time?</summary>
#
# The rate of arrivals times the time of each: Little's law. If the calls take twice as long, twice as many are in flight.
#
# </details>
#
# <details><summary>Fifty callers ask for the same thing at once, and the first of them leaves. What does single flight do?</summary>
#
# It makes one call, and that call goes on for the other forty-nine. Nobody's cancellation is anybody else's.
#
# </details>
#
# <details><summary>One step has the largest average time. Is it the bottleneck?</summary>
#
# Not if it works on any number at once. The bottleneck is the step with the largest demand: the time of a call, divided by the places.
#
# </details>

# %%
import asyncio
import random
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib import lab, rag, service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.batching import MicroBatcher
from course_lib.caching import AsyncCache, cached, stable_key
from course_lib.errors import RateLimited, Unavailable
from course_lib.lab import VirtualProvider, exercise, plots, predict, simulate
from course_lib.lab.exercises.rag import BUDGETS, Budgets, accept, bad_day, before_and_after
from course_lib.monitoring import PerformanceMonitor
from course_lib.rag.scale_out import RedisTokenBucket, Workers, running_server
from course_lib.rate_limiting import Gate, TokenBucket, limited

# %% [markdown]
# The provider searches a handbook, [reranks](../docs/glossary.md#reranking) passages with a small embedding model, and has a chat endpoint. *The chat endpoint stands in for a language model*: it draws its sentences from the passages in the prompt, and only its timing is that of a model. What you build here talks to any provider with this wire format.
#
# These numbers are meant to be changed: change one, run all cells again, and see which improvement pays then.

# %% tags=["parameters"]
SEARCH, RERANK = 10, 20  # ms that a call takes
SLOTS = {"rerank": 4, "generate": 4}  # the provider works on so many at once, and lets 4 wait

# %%
WRITES = service.Generation(first_token=0.03, tokens_per_second=3_000)
CHAT = "/v1/chat/completions"


def ms(milliseconds, slots=None, **parts):
    capacity = service.Capacity(slots, queue=4) if slots else None
    latency = service.Latency.constant(milliseconds / 1e3)
    return service.Behaviour(latency=latency, capacity=capacity, **parts)


# %%
NORMAL = {
    "/search": ms(SEARCH),
    "/v1/embeddings": ms(20),
    "/rerank": ms(RERANK, slots=SLOTS["rerank"]),
    CHAT: ms(0, slots=SLOTS["generate"], generation=WRITES),
}
provider = service.start(latency=None)
print(f"search {SEARCH} ms, rerank {RERANK} ms, first token {WRITES.first_token * 1e3:.0f} ms")

# %% [markdown]
# A hundred questions, some of them again and again, as in notebook 4.

# %%
CORPUS = resources.files("course_lib.service") / "corpus"
QUESTIONS = rag.read_questions(CORPUS / "questions.toml")[:40]
weights = [1 / rank for rank in range(1, len(QUESTIONS) + 1)]
drawn = random.Random(6).choices(QUESTIONS, weights, k=100)
LOAD = [question.text for question in drawn]
DISTINCT = list(dict.fromkeys(LOAD))
print(f"{len(LOAD)} questions, {len(DISTINCT)} different ones; the first: {LOAD[0]}")

# %% [markdown]
# And what several sections use: the course's pipeline with a gate for each stage, and a monitor.


# %%
def pipeline(stages=(), chat="openai", **options):
    gates = {stage: Gate(concurrency=slots) for stage, slots in SLOTS.items()}
    settings = options.pop("settings", rag.RagSettings(cached=stages))
    return rag.RagPipeline(provider.url, gates=gates, chat=chat, settings=settings, **options)


def now():
    return asyncio.get_running_loop().time()


provider.configure(endpoints=NORMAL)
monitor = PerformanceMonitor()
EVERYTHING = ("retrieve", "rerank", "generate")

# %% [markdown] tags=["path-90"]
# ## The naive pipeline
#
# *On the 90-minute path.*
#
# It searches, reranks and generates, one after the other, with a new client for each call. `??rag.naive_rag` shows it. It is short, most first versions look like it, and its answers are right. First it runs without any delay, and in threads, so that we have those answers: *no speed-up may change them*.


# %%
async def naive(question):
    [answer] = await asyncio.to_thread(rag.naive_rag, provider.url, [question])
    naive_answers.append(answer)
    return answer


# %%
naive_answers = []
provider.configure(endpoints={})
reference = await asyncio.gather(*map(naive, DISTINCT))
ANSWERS = {answer.question: answer.text for answer in reference}
provider.configure(endpoints=NORMAL)
print(reference[0].text)

# %%
work = np.mean([WRITES.work(answer.output_tokens) for answer in reference])
print(f"to write an answer takes {work * 1e3:.0f} ms on average")


# %% [markdown]
# **Predict**, from the times above: how many seconds for the hundred questions?

# %%
naive_seconds = predict("100 questions, one after the other", ..., "s")  ### SOLUTION: 8
naive_seconds


# %%
def same(question, answer):
    return answer.ok and answer.text == ANSWERS[question]


# %% [markdown]
# `accept` is this notebook's harness. It asks all questions at once, takes the time that each *waits* for its answer, checks the answer, and reads the provider's ledger. A dozen questions are enough here, since the others take as long.

# %%
naive_answers = []
provider.reset()
before = await accept(naive, LOAD[:12], right=same, ledger=provider.ledger, limit=1)
opened = provider.ledger().connections
print(f"{before.right} of {before.asked} right; {before.calls} calls")
print(f"connections opened, on this machine: {opened}")
naive_seconds.reveal(len(LOAD) / before.throughput)

# %%
one = SEARCH + RERANK + work * 1e3
print(f"{len(LOAD)} * ({SEARCH} + {RERANK} + {work * 1e3:.0f}) ms = {len(LOAD) * one / 1e3:.1f} s")
print("the rest is work: of this process, and of the provider")


# %%
def stage_times(answers):
    shown = {stage: [] for stage in ("retrieve", "rerank", "generate")}
    for answer in answers:
        for each in answer.timings:
            shown[each.stage].append((each.wait, each.service))
    return {stage: tuple(np.mean(times, axis=0)) for stage, times in shown.items() if times}


plots.stages(stage_times(naive_answers))

# %% [markdown]
# Hardly anything in this picture is work of the pipeline. It waits, and it could wait for many at once.

# %% [markdown] tags=["path-90"]
# ## One improvement at a time
#
# *On the 90-minute path.*
#
# *Run first: [The naive pipeline](#The-naive-pipeline).*
#
# ### All at once
#
# One client, three coroutines, one `gather`. The provider's own page shows the storm while it happens. In JupyterLab, right-click it and choose "Create New View for Output".

# %%
lab.live(provider)


# %%
async def answer_once(client, question):
    found = await client.search(question, k=20)
    best = await client.rerank(question, found, top_n=5)
    texts = "\n\n".join(f"[{each.id}] {each.page_content}" for each in best)
    return await client.chat(f"{texts}\n\nQuestion: {question}")


async def all_at_once():
    async with ServiceClient(provider.url) as client:
        calls = (answer_once(client, question) for question in LOAD)
        return await asyncio.gather(*calls, return_exceptions=True)


# %%
rush = await lab.measure(all_at_once, provider=provider)
served = sum(not isinstance(each, Exception) for each in rush.value)
failed = {type(each).__name__ for each in rush.value if isinstance(each, Exception)}
print(f"answered, on this machine: {served}; the others got {', '.join(sorted(failed))}")
lab.checklist({f"not all {len(LOAD)} got an answer": served < len(LOAD)})

# %% [markdown]
# It was over soon, and most questions got nothing: the provider lets a few in, and answers 429 to the rest. A provider that does *not* refuse makes it worse. Fifty questions arrive each second, and nobody limits anything. One day the language model takes four seconds, and not one. **Predict** how many calls are then in flight:

# %%
in_flight = predict("calls in flight, 50 arrivals a second, 4 s each", ..., "")  ### SOLUTION: 200
in_flight


# %%
async def arrivals(provider, rate=50, count=600):
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(provider.chat(f"question {number}"))
            await asyncio.sleep(1 / rate)


def in_flight_at(seconds):
    provider = VirtualProvider(latency=service.Latency.constant(seconds))
    simulate(lambda: arrivals(provider))
    return provider.ledger().peak_in_flight


# %%
quick, slow = in_flight_at(1), in_flight_at(4)
print(f"50/s for 1 s each: {quick} in flight; 50/s for 4 s each: 50 * 4 = {slow}")
in_flight.reveal(slow)

# %% [markdown]
# Little's law again: the calls in flight are the rate of arrivals times the time that each takes. No line of the code says so.
#
# ### A gate for each stage
#
# `RagPipeline` has a gate for each stage. It lets in as many as the provider works on, first come, first served. After a 429 all callers of that stage hold back together. The client is `ChatOpenAI` now, and it is built once. **Predict**: the provider writes a few answers at once, as many as it has slots, and you have seen how long one takes. How many answers a second can there be at most?

# %%
print(f"{SLOTS['generate']} slots")
ceiling = predict("answers a second, at most", ..., "/s")  ### SOLUTION: 80
ceiling

# %%
BOUND = SLOTS["generate"] / work
print(f"{SLOTS['generate']} slots / {work * 1e3:.0f} ms = {BOUND:.0f}/s")
ceiling.reveal(BOUND)


# %%
async def accepted(pipeline, load=LOAD, right=same):
    await pipeline.ainvoke(DISTINCT[-1])  # connections are open
    provider.reset()
    return await accept(pipeline.high_performance_rag, load, right=right, ledger=provider.ledger)


# %%
monitor.reset()
async with pipeline(monitor=monitor) as gated_pipeline:
    gated = await accepted(gated_pipeline)
print(f"{gated.right} of {gated.asked} right, {gated.rejected} refused")
print(f"{gated.throughput:.0f}/s, {gated.throughput / before.throughput:.1f}x the naive one")
twice = gated.throughput > 2 * before.throughput
lab.checklist({"all are right": gated.right == gated.asked, "it is twice as fast": twice})

# %% [markdown]
# The monitor saw every attempt, with its wait at the gate. Where do questions spend their time?

# %%
report = monitor.report()
plots.stages(report, steps=["retrieve", "rerank", "generate"])

# %% [markdown]
# They wait in line for a place in a gate, most of all where answers are written. To make another stage faster helps nobody now.
#
# Play with the gate, in virtual time: sixty questions go to a chat endpoint with some slots, and four more may wait there. The gate is yours. What happens when it is smaller than the slots, and when it is much larger?


# %%
async def sixty_chats(chats, places):
    answered = []

    async def ask(number):
        async with places.slot():
            with suppress(RateLimited):  # refused, and given up
                answered.append(await chats.chat(f"question {number}"))

    await asyncio.gather(*map(ask, range(60)))
    return len(answered)


# %%
def gate_and_slots(gate=4, slots=4):
    works = service.Behaviour(latency=service.Latency.constant(0.05))
    limit = service.Capacity(slots, queue=4)
    chats = VirtualProvider(endpoints={CHAT: works.updated(capacity=limit)})
    run = simulate(lambda: sixty_chats(chats, Gate(concurrency=gate)))
    title = f"{run.value / run.seconds:.0f}/s answered, bound {slots / 0.05:.0f}/s"
    return plots.timeline(chats.ledger().calls, title=title)


lab.play(gate_and_slots, gate=(1, 20, 1), slots=(1, 16, 1))

# %% [markdown]
# Below the slots, the provider stands idle. At the slots, the bound is reached. A little above, the provider's own queue fills, and nothing is gained. Further above, it refuses (red).
#
# ### Fewer calls: vectors, in batches
#
# With an index of its own, the pipeline needs neither `/search` nor `/rerank`: it embeds the question, and looks for near vectors. That is one call in place of two. It can be shared, too, since questions that come together are embedded together. **Predict**: a hundred questions come at once, at most 64 are in a batch, and two batches may be under way. How many calls?

# %%
batches = predict("embedding calls for 100 questions at once", ..., "")  ### SOLUTION: 2
batches


# %%
async def embedded():
    provider = VirtualProvider(endpoints=NORMAL)
    async with MicroBatcher(provider.embed, max_size=64, concurrency=2) as batcher:
        await asyncio.gather(*(batcher(question) for question in LOAD))
    return provider.ledger().requests


print(f"{len(LOAD)} questions = 64 + {len(LOAD) - 64}")
batches.reveal(simulate(embedded).value)


# %%
def body(document):
    """A passage without its heading, each paragraph on one line."""
    _, _, text = document.page_content.partition("\n\n")
    return "\n\n".join(" ".join(each.split("\n")) for each in text.split("\n\n"))


# %%
async def index(client):
    passages = rag.load_folder(CORPUS, suffixes=(".md",), anchors=True)
    documents = [Document(body(passage), id=passage.id) for passage in passages]
    # The fake is never asked: the vectors are the provider's.
    store = rag.MatrixVectorStore(DeterministicFakeEmbedding(size=384))
    vectors = await client.embed([document.page_content for document in documents])
    store.add_vectors(documents, vectors)
    return store


# %%
def right(question, answer):
    known = next(each for each in QUESTIONS if each.text == question)
    return answer.ok and rag.cites_rightly(answer.text, known)


VECTORS = rag.RagSettings(rerank=False, cached=())
async with ServiceClient(provider.url) as client:
    store = await index(client)
async with pipeline(settings=VECTORS, store=store) as dense_pipeline:
    dense = await accepted(dense_pipeline, right=right)

# %%
print(f"{dense.throughput:.0f}/s; calls, on this machine: {dense.calls} against {gated.calls}")
lab.checklist({"it makes fewer than half the calls": dense.calls < gated.calls / 2})

# %% [markdown]
# These are far fewer calls, and hardly any time is gained: the pipeline waits for another stage. The picture had said so.
#
# ### What was asked before
#
# **Predict**: how many chat calls do these hundred questions need, when answers are kept, and fetched once for all who ask at the same time?

# %%
chats = predict("chat calls for 100 questions, with a cache", ..., "")  ### SOLUTION: 40
chats

# %%
monitor.reset()
async with pipeline(EVERYTHING, monitor=monitor) as cached_pipeline:
    kept = await accepted(cached_pipeline)
    made = provider.ledger().path(CHAT).requests
    again = await accepted(cached_pipeline)

# %%
print(f"{kept.throughput:.0f}/s; the same again: {again.calls} calls, {again.seconds:.3f} s")
print(f"{len(LOAD)} questions, {len(DISTINCT)} different ones: one chat call for each of those")
chats.reveal(made + 1)  # and the one that opened the connections

# %%
right_ones = kept.right == len(LOAD)
lab.checklist({"all are right": right_ones, "the second time makes no call": again.calls == 0})

# %% [markdown]
# The second time costs nothing at all, because *every* stage is kept. If only some stages are in the cache (rerank is often forgotten), the others are paid for again. And here are a hundred *equal* questions at once:

# %%
async with pipeline(EVERYTHING, chat="lean") as fresh:
    provider.reset()
    await asyncio.gather(*(fresh.high_performance_rag(LOAD[0]) for _ in range(100)))
asked = {path: seen["requests"] for path, seen in sorted(provider.ledger().paths.items())}
print(asked)

# %% [markdown]
# One call each. Without single flight each of these would have been a hundred.
#
# ### The first words
#
# One wait is left that no cache can take away: the wait for a new answer. Readers begin with its first word. **Predict**, in milliseconds, when that comes. Search and rerank go before it.

# %%
first_word = predict("time to the first word", ..., "ms")  ### SOLUTION: 65
first_word

# %%
async with pipeline() as streaming:
    await streaming.ainvoke(LOAD[0])
    async with aclosing(streaming.astream(LOAD[1])) as pieces:
        *texts, whole = [piece async for piece in pieces]
print(f"the whole after {whole.seconds * 1e3:.0f} ms; pieces, on this machine: {len(texts)}")
first_word.reveal(whole.first_token * 1e3)

# %%
first = WRITES.first_token * 1e3
print(f"{SEARCH} + {RERANK} + {first:.0f} = {SEARCH + RERANK + first:.0f} ms, and some work")
lab.checklist(
    {
        "the pieces make up the answer": "".join(texts) == whole.text,
        "the first comes before the whole": whole.first_token < whole.seconds,
    }
)

# %% [markdown]
# ### The ladder
#
# All hundred are asked at once, and the dashed line is what the provider's writers allow. It is higher where fewer answers have to be written. For *all at once* only answers count: those who were refused waited for nothing.
#
# The ladder is *not* cumulative: a rung does not stand on the one before it. *A gate each* is the pipeline with words and rerank, and no cache. *Vectors, batches* has an index in place of both, and no cache either. *Caches* is the pipeline with words and rerank again, and keeps what every stage returned.

# %% tags=["readme"]
share = len(DISTINCT) / len(LOAD)
rungs = {
    "naive": plots.Rung(before.throughput, before.p95 * len(LOAD) / before.asked, BOUND),
    "all at once": plots.Rung(served / rush.seconds, rush.seconds, BOUND),
    "a gate each": plots.Rung(gated.throughput, gated.p95, BOUND),
    "vectors, batches": plots.Rung(dense.throughput, dense.p95, BOUND),
    "caches": plots.Rung(kept.throughput, kept.p95, BOUND / share),
}
plots.ladder(rungs)

# %%
lab.checklist(
    {
        "with caches it is five times as fast": kept.throughput > 5 * before.throughput,
        "each of the two shortens the wait": kept.p95 < gated.p95 < rungs["naive"].p95,
    }
)

# %% [markdown]
# ### And quality?
#
# The gated and the cached pipeline gave the naive one's answers, word for word. The one with vectors finds passages in another way, so its passages have to be measured:
#
# - [recall](../docs/glossary.md#recallk)@5: the share of the right passages among the first five
# - [MRR](../docs/glossary.md#mrr): how far up the first right one is
# - nDCG@10: both, in one figure
# - the share of answers that cite right passages and no others


# %%
async def retrieval(pipeline, rerank):
    found = as_runnable(partial(pipeline.retrieve, k=10, rerank=rerank), name="retrieve")
    return await rag.evaluate(found, QUESTIONS, k=5)


async with pipeline(EVERYTHING, chat="lean") as words, pipeline(store=store, chat="lean") as near:
    quality = {
        "words": await retrieval(words, rerank=False),
        "vectors": await retrieval(near, rerank=False),
        "words, then rerank": await retrieval(words, rerank=True),
    }

# %% tags=["nbval-ignore-output"]
rows = [[n, f"{q.recall:.2f}", f"{q.mrr:.2f}", f"{q.ndcg:.2f}"] for n, q in quality.items()]
lab.Table(["found by", "recall@5", "MRR", "nDCG@10"], rows)

# %%
known = {question.text: question for question in QUESTIONS}
cited = sum(rag.cites_rightly(ANSWERS[text], known[text]) for text in LOAD)
print(f"right citations of {len(LOAD)}, on this machine: {dense.right} against {cited}")
words_mrr = quality["words"].mrr
lab.checklist(
    {
        "vectors find more than words": quality["vectors"].mrr > words_mrr,
        "so does the rerank": quality["words, then rerank"].mrr > words_mrr,
        "vectors cite as well as the naive one, within 5 questions": dense.right >= cited - 5,
    }
)

# %% [markdown]
# Words alone find less. The *cascade* is a cheap search for twenty candidates, and then a better look at those. It comes close to vectors over everything, and it is the usual answer when everything is too much. This reranker is no cross-encoder: it compares embeddings, as the vector search does.
#
# ## Traps
#
# ### One failure takes the batch down
#
# A dozen questions go through `gather`, and one reranking fails. This is in virtual time, so that every count is exact:


# %%
async def batch_of(count, provider, fails="question 7"):
    async def one(question):
        found = await provider.search(question)
        if question == fails:
            raise Unavailable("rerank: 500")
        [best] = await provider.rerank(question, [found])
        return await provider.chat(best)

    try:
        await asyncio.gather(*(one(f"question {number}") for number in range(count)))
    except Unavailable as error:
        ended = asyncio.get_running_loop().time()
        await asyncio.sleep(10)
        return f"{error}, after {ended:.2f} s"


# %%
SLOW = VirtualProvider(endpoints={"/search": ms(100), "/rerank": ms(100), CHAT: ms(2_000)})
ended = simulate(lambda: batch_of(12, SLOW)).value
print(ended)
print(f"{SLOW.ledger().path(CHAT).answered} answers were written, paid for, and given to nobody")

# %%
plots.timeline(SLOW.ledger().calls, title="One reranking fails")

# %% [markdown]
# The caller had left when the long calls began: nobody cancelled them. `RagPipeline` never raises for a question: a failed one is an answer with `error`, which names stage and reason. Build the same.
#
# ### Exercise 6.1: an answer, whatever happens
#
# `stages` is a dictionary of coroutine functions by name. The first gets the question, and each other one gets what the stage before it returned. Write `answered(stages, question)`. It returns a dict:
#
# - `"answer"`: the last result
# - `"failed"`: the name of the stage that failed, and `"error"`: its exception (all three are `None` where they do not apply)
# - `"seconds"`: what each stage took for *this* question, by `now()`, also the one that failed
#
# No stage runs after a failure. An empty result is no failure, and goes to the next stage as it is. A cancelled caller gets no answer: the cancellation is raised. About 12 lines.


# %% tags=["exercise"] exercise="6.1"
async def answered(stages, question):
    ### BEGIN SOLUTION
    found, seconds = question, {}
    for name, stage in stages.items():
        start = now()
        try:
            found = await stage(found)
        except Exception as error:
            return {"answer": None, "failed": name, "error": error, "seconds": seconds}
        finally:
            seconds[name] = now() - start
    return {"answer": found, "failed": None, "error": None, "seconds": seconds}
    ### END SOLUTION


# %% tags=["check"]
await exercise("6.1").check(answered)

# %% [markdown]
# ### Everybody's metrics in each result
#
# A result should carry its own times. Some results carry a summary of *all* queries so far, which is computed anew each time. Here it is for two thousand queries, on the event loop:


# %%
def with_summaries(count):
    metrics, results = {"generate": []}, []
    for number in range(count):
        metrics["generate"].append(number / count)
        times = metrics["generate"]
        results.append({"mean": sum(times) / len(times), "worst": max(times)})
    return results


start = time.perf_counter()
results = with_summaries(2_000)
print(f"{time.perf_counter() - start:.2f} s for summaries, in which nothing else ran")
print("the first result knows its own time:", results[0] == results[-1])

# %% [markdown]
# Twice as many queries take four times as long. The summary belongs into a monitor, which is asked when somebody looks.
#
# ### Retries inside the client
#
# `ChatOpenAI` tries again by itself, twice. But it asks its `rate_limiter` only once. Here the provider fails each call, and counts:


# %%
def chat_model(**options):
    from langchain_openai import ChatOpenAI

    url, bucket = f"{provider.url}/v1", TokenBucket(rate=10, capacity=5)
    return ChatOpenAI(base_url=url, api_key="none", model="any", rate_limiter=bucket, **options)


async def failing_call(model):
    with suppress(Exception):  # whatever the client makes of a status of 500
        await model.ainvoke("a question")
    return model.rate_limiter.statistics().admitted


# %%
provider.configure(path=CHAT, faults=service.Faults(error=1.0))
try:
    eager = await lab.measure(lambda: failing_call(chat_model()), provider=provider)
    plain = await lab.measure(lambda: failing_call(chat_model(max_retries=0)), provider=provider)
finally:
    provider.configure(endpoints=NORMAL)

# %%
for run, how in ((eager, "as it comes"), (plain, "max_retries=0")):
    print(f"{how}: {run.value} permit, {run.ledger.requests} requests")

# %% [markdown]
# So there should be no retries inside the client. `limited` tries again outside, where a second attempt asks for a second permit.
#
# ### Exercise 6.2: a gate in front of a stage
#
# Write `guarded(call, slots, attempts)`: it returns a coroutine function of one argument that makes the call.
#
# - At most `slots` calls are under way.
# - A refusal (`RateLimited`) holds *all* callers back for its `retry_after`.
# - What was refused, or failed with `Unavailable`, is tried again, up to `attempts` calls in all. Meanwhile it holds no slot. After the last attempt its error is raised. Other errors are raised at once.
# - An empty result is a result. A caller who leaves gives the slot back. Each `guarded` has a gate of its own.
#
# Three lines with the library, about twenty by hand.


# %% tags=["exercise"] exercise="6.2"
def guarded(call, slots, attempts):
    ### BEGIN SOLUTION
    gate = Gate(concurrency=slots)
    step = limited(as_runnable(call), gate, attempts=attempts, retry_on=(Unavailable,))
    return step.ainvoke
    ### END SOLUTION


# %% tags=["check"]
await exercise("6.2").check(guarded)

# %% [markdown]
# ### One client, two event loops
#
# A script calls `asyncio.run` for each question, with one chat model. It runs in a process of its own:

# %%
TWO_LOOPS = """
    import asyncio
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=url + "/v1", api_key="none", model="any", max_retries=0)
    result = []
    for number in range(4):
        try:
            asyncio.run(chat.ainvoke("a question"))
            result.append("answered")
        except Exception as error:
            while error.__cause__ is not None:
                error = error.__cause__
            result.append(str(error))
"""
await lab.run_child(TWO_LOOPS, url=provider.url, patience=120)

# %% [markdown]
# langchain_openai keeps one HTTP client for all its models and all event loops. Its connections belong to the first loop. `RagPipeline` gives its chat model a client of its own, and closes it.
#
# By the way: because of that shared client, a new `ChatOpenAI` for each call opens no new connections. It costs only a little time of this machine.
#
# ### The client as the bottleneck
#
# A call through `ChatOpenAI` takes more CPU of this process than a bare HTTP call. **Predict** how many times as much.

# %%
heavier = predict("CPU of a ChatOpenAI call, times that of a lean one", ..., "x")  ### SOLUTION: 5
heavier

# %%
provider.configure(endpoints={})
PASSAGE = "One session for all calls keeps its connections open. " * 10
PROMPT = f"[passage] {PASSAGE}\n\nQuestion: {LOAD[0]}"
model = chat_model(max_retries=0).model_copy(update={"rate_limiter": None})


async def cpu_of(call, count=40):
    await call(PROMPT)
    start = time.process_time()
    for _ in range(count):
        await call(PROMPT)
    return (time.process_time() - start) / count


# %%
async with ServiceClient(provider.url) as client:
    CLIENTS = {"ChatOpenAI": model.ainvoke, "ServiceClient.chat": client.chat}
    rounds = [{name: await cpu_of(call) for name, call in CLIENTS.items()} for _ in range(3)]
provider.configure(endpoints=NORMAL)
cpu = {name: min(each[name] for each in rounds) for name in CLIENTS}

# %%
plots.magnitudes(
    cpu,
    title=f"A process makes {1 / cpu['ChatOpenAI']:.0f} calls/s through ChatOpenAI at most",
    x="CPU of this process for a call",
)

# %%
heavy, lean = (cpu[name] * 1e3 for name in ("ChatOpenAI", "ServiceClient.chat"))
print(f"{heavy:.2f} ms / {lean:.2f} ms = {heavy / lean:.1f}x")
heavier.reveal(heavy / lean)

# %% [markdown]
# At eighty answers a second nobody notices. At several hundred the pipeline waits for the client, and no gate, cache or provider helps. A lean client does (`chat="lean"`), or a second process.
#
# ### Pieces that were published apart
#
# Each step has a sync placeholder beside its `afunc`, and the steps are composed into a chain:


# %%
async def retrieve(question):
    return [Document("Two clocks.", id="clocks")]


async def generate(prompt):
    return f"answer to {prompt.splitlines()[-1]}"


chain = RunnableLambda(lambda x: x, afunc=retrieve) | RunnableLambda(lambda x: x, afunc=generate)

# %%
print("invoke:", chain.invoke("What do two clocks show?"))
try:
    await chain.ainvoke("What do two clocks show?")
except AttributeError as error:
    print("ainvoke:", error)

# %% [markdown]
# The question comes back as its own answer, since neither step is run. And the asynchronous side, which nobody had tried, fails. So test a chain as a chain. `RagPipeline.invoke` refuses, and says what to call:

# %%
try:
    pipeline(chat="lean").invoke("What do two clocks show?")
except TypeError as error:
    print(error)

# %% [markdown]
# ### A vector store on the event loop
#
# The in-memory store computes its scores in the loop, over Python lists. Here are four searches over five thousand passages:

# %%
PASSAGES = [Document(f"passage {number}", id=f"{number}") for number in range(5_000)]
matrix = np.random.default_rng(1).normal(size=(len(PASSAGES), 384))


def over_lists():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=384))
    for passage, vector in zip(PASSAGES, matrix.tolist(), strict=True):
        entry = {"id": passage.id, "vector": vector, "text": passage.page_content, "metadata": {}}
        store.store[passage.id] = entry
    return store


def over_a_matrix():
    store = rag.MatrixVectorStore(DeterministicFakeEmbedding(size=384))
    store.add_vectors(PASSAGES, matrix)
    return store


# %%
async def four_searches(store):
    question = matrix[17].tolist()
    searches = (store.asimilarity_search_by_vector(question) for _ in range(4))
    return [[each.id for each in found] for found in await asyncio.gather(*searches)]


async def searched(store):
    return await lab.measure(lambda: four_searches(store), blocks=True)


# %%
held, free = await searched(over_lists()), await searched(over_a_matrix())
gaps = {"over lists": held.longest_gap, "over a matrix": max(free.longest_gap, 1e-3)}
times = gaps["over lists"] / gaps["over a matrix"]
plots.magnitudes(
    gaps,
    title=f"The loop stands still {times:.0f}x as long over lists",
    x="longest stand-still of the event loop (1 ms or less counts as 1 ms)",
)

# %%
lab.checklist({"both find the same": held.value == free.value, "lists take longer": times > 1})

# %% [markdown]
# Stores without asynchronous methods of their own have another trap. LangChain runs them in the default pool, and of "twenty at once" only as many run as the pool has threads.


# %%
class SyncStore(rag.MatrixVectorStore):
    inside, peak = 0, 0

    def similarity_search(self, query, k=4, **kwargs):
        SyncStore.inside += 1
        SyncStore.peak = max(self.peak, self.inside)
        time.sleep(0.02)
        SyncStore.inside -= 1
        return []

    async def asimilarity_search(self, query, k=4, **kwargs):  # what LangChain does by default
        return await asyncio.to_thread(self.similarity_search, query, k, **kwargs)


# %%
with lab.default_executor(6):
    store_of_others = SyncStore(DeterministicFakeEmbedding(size=8))
    await asyncio.gather(*(store_of_others.asimilarity_search("clocks") for _ in range(20)))
print(f"20 searches at once in a pool of 6: at most {SyncStore.peak} at once")
lab.checklist({"no more at once than the pool has threads": SyncStore.peak <= 6})

# %% [markdown]
# ### Nothing found
#
# A question that no passage answers is asked ten times. First it meets the cache that everybody writes (`if found: return found`).


# %%
async def by_hand(client):
    found = {}
    for _ in range(10):
        if not found.get("xyzzy"):
            found["xyzzy"] = await client.search("xyzzy")


async with ServiceClient(provider.url) as client, pipeline(EVERYTHING, chat="lean") as patient:
    forgetful = await lab.measure(lambda: by_hand(client), provider=provider)
    mindful = await lab.measure(lambda: patient.batch_rag(["xyzzy"] * 10), provider=provider)
print(f"{forgetful.ledger.requests} calls by hand, {mindful.ledger.requests} by the pipeline")
print(mindful.value[0].text)

# %% [markdown]
# An empty list is an answer, and no language model needs to be asked about it.
#
# ### A key made with `hash()`
#
# Within one process such a key does no harm. In a cache that two processes share it finds nothing, since Python salts the hashes of texts in each process:

# %%
PASSAGE_IDS = ["gather-does-not-cancel", "little-law"]
first, second = [
    await lab.run_child("import os\nresult = [hash(text), os.getpid()]", patience=120, text=LOAD[0])
    for _ in range(2)
]
print("one hash in two processes:", first[0] == second[0])
print(stable_key(PASSAGE_IDS, namespace="rerank"))

# %% [markdown]
# ### Exercise 6.3: what is wrong here?
#
# Somebody's stage remembers what it has returned. "How a question is written must not matter", says its author:


# %%
def remembered_by_spelling(call, ttl):
    kept = {}

    async def ask(item):
        key = " ".join(str(item).lower().split())
        if key not in kept:
            kept[key] = asyncio.ensure_future(call(item))
        return await kept[key]

    return ask


# %% [markdown]
# Hand over `breaks`: a list of two different questions of which the second gets the answer to the first. Then write `remembered(call, ttl)`, which has this fault and the others no more. It returns a coroutine function of one argument (a text, a dict, a list).
#
# - It makes the call for an input once, and keeps the result for `ttl` seconds. A dict in another order is the same input. Different inputs are different questions, and each `remembered` keeps its own.
# - All who ask meanwhile wait for the one call.
# - Empty results are kept, and errors are not.
# - A caller who leaves takes nobody along: the one call goes on, for the others and for those who come then.
#
# Two lines with the library.

# %%
breaks = ...  ### SOLUTION: ["Who pays in the US?", "Who pays in the us?"]


# %% tags=["exercise"] exercise="6.3"
def remembered(call, ttl):
    ### BEGIN SOLUTION
    cache = AsyncCache(ttl=ttl, maxsize=1_000)
    return cached(as_runnable(call), cache).ainvoke
    ### END SOLUTION


# %% tags=["check"]
await exercise("6.3").check(remembered, breaks)

# %% [markdown]
# ## Under fire
#
# Five hundred questions are under way when a bad day begins. One call in twenty fails, some connections are cut, some calls hang, and the chat endpoint refuses what comes too fast. Each question has a budget of time. When it runs short, the pipeline leaves out the reranking first, then passages, then length. Answers are not kept, so that every question makes its calls.


# %%
def day(faults=None, rate_limit=None):
    return {
        "/search": ms(10, faults=faults),
        "/rerank": ms(40, slots=8, faults=faults),
        CHAT: ms(0, slots=16, generation=WRITES, faults=faults, rate_limit=rate_limit),
    }


FAULTS = service.Faults(error=0.05, drop=0.02, hang=0.01, seed=7)
BAD_DAY = day(FAULTS, service.RateLimit(150, burst=40))
PATIENT = rag.RagSettings(cached=("retrieve",), timeout=0.7, attempts=6, budget=1.2)


# %%
async def storm(monitor):
    gates = {"rerank": Gate(concurrency=8), "generate": Gate(concurrency=16)}
    options = {"chat": "lean", "monitor": monitor, "gates": gates, "settings": PATIENT}
    async with rag.RagPipeline(provider.url, **options) as pipeline:
        asking = asyncio.create_task(pipeline.batch_rag(LOAD * 5, limit=100))
        await asyncio.sleep(0.3)  # some are answered already
        await asyncio.to_thread(provider.configure, endpoints=BAD_DAY)
        return await asking


# %%
monitor.reset()
provider.configure(endpoints=day())
try:
    fire = await lab.measure(lambda: storm(monitor), provider=provider)
finally:
    provider.configure(endpoints=NORMAL)

# %%
answers, seen = fire.value, monitor.report()
lost = [answer for answer in answers if not answer.ok and not answer.error.reason]
right_or_reason = [not answer.ok or bool(answer.text) for answer in answers]
print(f"{len(answers)} answers or reasons, {len(lost)} lost")
again_and_again = sum(answer.retries > 0 for answer in answers)
print(f"tried again, on this machine: {again_and_again}")
p99 = sorted(answer.seconds for answer in answers)[-6]
print(f"p99 {p99:.1f} s; the budget was {PATIENT.budget:g} s")

# %% [markdown]
# What was left out, and what failed in the end? It differs from run to run, as it does in production:

# %% tags=["nbval-ignore-output"]
troubles = Counter(part for answer in answers for part in answer.degraded)
troubles |= Counter(f"{each.error.stage} failed" for each in answers if not each.ok)
lab.Table(["what", "answers"], [[what, str(count)] for what, count in troubles.most_common()])

# %%
paths = {"retrieve": "/search", "rerank": "/rerank", "generate": CHAT}
tallies = {stage: fire.ledger.path(path).requests for stage, path in paths.items()}
done = {stage: seen[stage].count - seen[stage].cancelled for stage in paths}
agree = all(done[stage] <= tallies[stage] <= seen[stage].count for stage in paths)
good = sum(answer.ok for answer in answers)
print(f"answered, on this machine: {good}; faults, on this machine: {fire.ledger.errors}")
lab.checklist(
    {
        "every question has a text or a reason": all(right_or_reason) and len(answers) == 500,
        "the provider did fail": fire.ledger.errors > 0,
        "two in five or more are answered": good > 200,
        "client and provider agree on what was not broken off": agree,
    }
)

# %% [markdown]
# What a budget breaks off may not have reached the provider yet. So the client may count more, by as many as it has cancelled.
#
# ### Exercise 6.4: an answer in time
#
# Extend 6.1: write `in_time(stages, optional, budget, question)`.
#
# - `optional` says for some stages how many seconds they may take. A stage that takes longer, or fails, is left out: the next stage gets what it would have got. Its name is added to the list under `"skipped"`. A late stage is cancelled. An empty result is neither late nor failed.
# - The whole has `budget` seconds. When they end, or when another stage fails, the answer is a failed one, with the stage and its error. At the end of the budget that error is a `TimeoutError`.
# - The result has `"answer"`, `"failed"`, `"error"` and `"skipped"`. A cancelled caller gets none: the cancellation is raised.
#
# About 14 lines.


# %% tags=["exercise"] exercise="6.4"
async def in_time(stages, optional, budget, question):
    ### BEGIN SOLUTION
    found, end, skipped = question, now() + budget, []
    result = {"answer": None, "failed": None, "error": None, "skipped": skipped}
    for name, stage in stages.items():
        limit = min(end, now() + optional.get(name, budget))
        try:
            async with asyncio.timeout_at(limit):
                found = await stage(found)
        except Exception as error:
            if name not in optional or now() >= end:
                return result | {"failed": name, "error": error}
            skipped.append(name)
    return result | {"answer": found}
    ### END SOLUTION


# %% tags=["check"]
await exercise("6.4").check(in_time)

# %% [markdown]
# ## Acceptance
#
# *Run first: [The naive pipeline](#The-naive-pipeline), [One improvement at a time](#One-improvement-at-a-time), [Traps](#Traps), [Under fire](#Under-fire).*
#
# "Fast enough, cheap enough, good enough" needs a number for each before the work begins. The harness asks a load, and compares.

# %%
budgets = Budgets(
    p95=5.0,  # seconds, all asked at once
    throughput=3 * before.throughput,  # on a machine that is busy with other things, too
    calls=2.0,  # for each question
    tokens=2_000,
    right=1.0,  # the naive pipeline's answers, word for word
)

# %%
kept.card(budgets, "RagPipeline")

# %%
before_and_after(before, kept)

# %% [markdown]
# ### Exercise 6.5: the whole, within its budgets
#
# Now yours, and it begins with a colleague's. Three coroutine functions are given. `search` takes a question. `rerank` takes what `search` returned, and returns the same with the best passage first. `chat` takes either, and returns the answer. This is the colleague's program, "with a limit of eight, as the provider asks":


# %%
def colleagues_rag(search, rerank, chat):
    async def ask(question):
        slots = asyncio.Semaphore(8)
        found = await rerank(await search(question))
        async with slots:
            answer = await chat(found)
        return {"answer": answer, "failed": None, "error": None, "skipped": []}

    return ask


# %% [markdown]
# It meets the provider's bad day, in virtual time: three hundred Zipf-distributed questions, a hundred and fifty each second. Chats fail, some rerankings hang, and the provider refuses whom it has no room for. It works on 8 chats at once. **Predict**: how many of the three hundred get a right answer?

# %%
lucky = predict("right answers of 300, the colleague's pipeline", ..., "")  ### SOLUTION: 60
lucky

# %%
theirs = bad_day(colleagues_rag)
print(
    f"{theirs.calls} calls, of which {theirs.rejected} were refused; {theirs.raised} questions raised"
)
lucky.reveal(theirs.right)

# %% [markdown]
# Where the number comes from: each question has a semaphore of its own, so nothing is limited. Nothing is tried again, either: a question gets an answer only if none of its calls is refused, fails or hangs. These are the budgets, and the colleague's figures beside them:

# %%
theirs.card(BUDGETS, "the colleague's pipeline")

# %% [markdown]
# Write `my_rag(search, rerank, chat)`: it returns a coroutine function that takes a question and returns the dict of 6.4. No question raises or fails, a dozen calls may be refused, and the budgets are kept. About 8 lines, with what you have built.


# %% tags=["exercise"] exercise="6.5"
def my_rag(search, rerank, chat):
    ### BEGIN SOLUTION
    stages = {
        "search": remembered(guarded(search, slots=20, attempts=5), ttl=60),
        "rerank": remembered(guarded(rerank, slots=4, attempts=5), ttl=60),
        "chat": remembered(guarded(chat, slots=8, attempts=8), ttl=60),
    }

    async def ask(question):
        return await in_time(stages, {"rerank": 0.3}, 3, question)

    return ask
    ### END SOLUTION


# %% tags=["check"]
await exercise("6.5").check(my_rag)

# %% [markdown]
# What did you gain?

# %%
try:
    gain = before_and_after(theirs, bad_day(my_rag))
except NotImplementedError:
    gain = "solve 6.5 first, and run this again"
gain

# %% [markdown]
# And here is yours on the real service, with real passages:


# %%
def steps_of(client):
    async def search(question):
        return question, await client.search(question, k=20)

    async def rerank(found):
        return found[0], await client.rerank(*found, top_n=5)

    async def chat(found):
        texts = "\n\n".join(f"[{each.id}] {each.page_content}" for each in found[1][:5])
        return (await client.chat(f"{texts}\n\nQuestion: {found[0]}")).content

    return search, rerank, chat


# %%
def there(question, result):
    return result["failed"] is None and bool(result["answer"])


try:
    async with ServiceClient(provider.url) as client:
        provider.reset()
        ask = my_rag(*steps_of(client))
        own = await accept(ask, LOAD, right=there, ledger=provider.ledger, limit=30)
    print("yours answers all:", own.right == own.asked)
except NotImplementedError:
    print("solve 6.5 first, and run this again")

# %% [markdown]
# ## Beyond one process
#
# Python runs on one core at a time, so a client that computes a lot gains from a second process. But a limit that each process keeps for itself is no limit for the provider: two processes ask twice as often. Here Dask starts two workers. The provider allows fifty chats each second.

# %%
RATE, QUERIES = 50.0, LOAD[:40]
LIMITED = NORMAL | {CHAT: ms(0, rate_limit=service.RateLimit(RATE, burst=12))}


# %%
@asynccontextmanager
async def worker_pipeline(url, redis):
    """Built in each worker, since clients cannot be sent there."""
    settings = rag.RagSettings(cached=("retrieve", "rerank"), attempts=99)
    with RedisTokenBucket(redis, "chat", rate=RATE, capacity=5) as shared:
        limits = {"each its own": TokenBucket(rate=RATE, capacity=5), "one in Redis": shared}
        async with rag.RagPipeline(url, chat="lean", settings=settings) as pipeline:

            async def ask(query):
                if query["limit"]:
                    await limits[query["limit"]].aacquire()
                return await pipeline.high_performance_rag(query["question"])

            yield ask


# %%
async def spread(workers, limit):
    provider.configure(endpoints=LIMITED if limit else {})
    provider.reset()
    start = time.perf_counter()
    queries = [{"question": question, "limit": limit} for question in QUERIES]
    outcomes = [outcome async for outcome in workers.map(queries)]
    good = sum(outcome.ok and outcome.value.ok for outcome in outcomes)
    return good, provider.ledger().rejected, time.perf_counter() - start


# %%
async def two_workers(redis):
    start = time.perf_counter()
    async with Workers(partial(worker_pipeline, provider.url, redis), n=2, chunk=10) as workers:
        starting = time.perf_counter() - start
        limits = ("each its own", "one in Redis", None)
        return starting, {limit: await spread(workers, limit) for limit in limits}


try:
    with running_server() as redis:
        starting, spread_out = await two_workers(redis.url)
finally:
    provider.configure(endpoints=NORMAL)

# %%
refusals = {limit: refused for limit, (_, refused, _) in spread_out.items()}
print({limit: good for limit, (good, _, _) in spread_out.items() if limit}, "answers")
of_each, of_both = refusals["each its own"], refusals["one in Redis"]
print(f"refused, on this machine: {of_each} against {of_both}")
lab.checklist(
    {
        "with a bucket each, the provider has to refuse": of_each > 0,
        "with one bucket for both, it never has to": of_both == 0,
    }
)

# %% [markdown]
# The counts are the provider's. (The bucket of a Redis that has just started is empty: a new server must not give away what the old one has given already.) `RedisStore` lets the workers share a cache in the same way. If a worker is killed, the others answer its questions.
#
# ### When it is not worth it
#
# The workers have answered the same forty questions without any limit, too. This process does the same:


# %%
async def here():
    settings = rag.RagSettings(cached=("retrieve", "rerank"))
    async with rag.RagPipeline(provider.url, chat="lean", settings=settings) as pipeline:
        return await pipeline.batch_rag(QUERIES)


provider.configure(endpoints={})
try:
    alone = await lab.measure(here)
finally:
    provider.configure(endpoints=NORMAL)

# %%
elsewhere = spread_out[None][2]
print(
    f"here {alone.seconds:.2f} s, by two workers {elsewhere:.2f} s; they start in {starting:.1f} s"
)
print(f"start and all: {(starting + elsewhere) / alone.seconds:.1f}x as long")
lab.checklist({"here it is done sooner": starting + elsewhere > alone.seconds})

# %% [markdown]
# Workers pay where this process is busy all the time, and for longer than they take to start. `make bench` shows two of them with a client that takes milliseconds of CPU for each call. For what waits, one event loop is enough.
#
# ## Your own documents
#
# So far the passages were the course's. Now take yours: name a folder of Markdown or text. Or name packages that are installed here: their docstrings are read from the source files, and nothing is imported or run.

# %%
FOLDER = None  # such as "~/notes"
PACKAGES = [f"asyncio.{name}" for name in ("queues", "tasks", "timeouts", "locks")]  # otherwise

# %%
if FOLDER:
    mine, about = rag.load_folder(Path(FOLDER).expanduser()), None
else:
    mine, about = rag.load_docstrings(PACKAGES), rag.name_and_summary
print("the first passage:", mine[0].id)

# %% [markdown]
# `about` says what of a passage is embedded. That is all of it, or of a docstring its name and first paragraph, which are about as long as a question. The whole passage is returned in either case.
#
# The provider makes the vectors, and they stay on disk. faiss searches them where it is installed. The matrix finds the same without it.

# %%
KEPT = TemporaryDirectory()
INDEX = KEPT.name  # yours: a folder that stays, such as "my-index"
STORE = rag.FaissVectorStore if find_spec("faiss") else rag.MatrixVectorStore


def embedding():
    from langchain_openai import OpenAIEmbeddings
    from openai import DefaultAsyncHttpxClient

    options = {"model": "default", "check_embedding_ctx_length": False}
    # A client of its own: the one that all share is closed in a task that nobody awaits.
    options["http_async_client"] = DefaultAsyncHttpxClient()
    return OpenAIEmbeddings(base_url=f"{provider.url}/v1", api_key="none", **options)


# %%
EMBEDDING = embedding()


async def opened():
    options = {"model_name": "minilm", "text": about, "make_store": STORE}
    return await rag.open_index(mine, EMBEDDING, INDEX, **options)


# %% [markdown]
# **Predict** how many embedding calls it takes to open this index a second time:

# %%
second_time = predict("embedding calls to open the index again", ..., "")  ### SOLUTION: 0
second_time

# %%
built = await lab.measure(opened, provider=provider)
reopened = await lab.measure(opened, provider=provider)
second_time.reveal(reopened.ledger.requests)

# %% [markdown]
# Nothing is new and nothing has changed, so there is nothing to embed: today and next week.
#
# Does it find anything? Measure it. Write down three questions of your own, each with the ids of the passages that answer it:

# %%
MINE = [
    rag.Question("How do I wait until a queue is worked off?", ("asyncio.queues.Queue.join",)),
    rag.Question("Wait for the first of several tasks", ("asyncio.tasks.wait",)),
    rag.Question("Protect a task from being cancelled", ("asyncio.tasks.shield",)),
]

# %%
FIRST = rag.RagSettings(rerank=False, passages=1, cached=())
async with pipeline(settings=FIRST, store=reopened.value, chat="lean") as own_pipeline:
    own_quality = await rag.evaluate_rag(own_pipeline, MINE)
    own_answers = await own_pipeline.batch_rag([question.text for question in MINE])

# %% tags=["nbval-ignore-output"]
for answer in own_answers:
    print(answer.question, "->", answer.text)

# %% tags=["nbval-ignore-output"]
found, said = own_quality.retrieval, own_quality.answers
print(f"recall@5 {found.recall:.2f}, MRR {found.mrr:.2f}")
print(f"right citations {said.citation_accuracy:.0%}")

# %% [markdown]
# This is a small model over short texts: all three passages are among the first five, but not all of them are on top. An answer can be no better than what it is made from. Now that there are figures, try something else: whole docstrings (`about = None`), more passages in the prompt, another provider's models.
#
# ## Checklist

# %%
lab.checklist(
    {
        "The pipeline gives the naive one's answers": gated.right == kept.right == len(LOAD),
        "It is at least five times as fast": kept.throughput > 5 * before.throughput,
        "What was asked before makes no call": again.calls == 0,
        "A hundred equal questions make one call of each kind": set(asked.values()) == {1},
        "Quality was measured, not assumed": quality["vectors"].mrr > quality["words"].mrr,
        "Under fire, nothing was lost": not lost and len(answers) == 500,
        "Client and provider agree on every call that was not broken off": agree,
        "One limit holds for two processes": spread_out["one in Redis"][1] == 0,
        "Your own documents are embedded once": reopened.ledger.requests == 0,
        "My answers say what failed (6.1)": exercise("6.1").solved,
        "My gate holds everybody back after a refusal (6.2)": exercise("6.2").solved,
        "I showed whom a key mixes up, and mended it (6.3)": exercise("6.3").solved,
        "My answers come in time (6.4)": exercise("6.4").solved,
        "My pipeline keeps its budgets (6.5)": exercise("6.5").solved,
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - Measure first, improve the stage that the pipeline waits for, and measure again. Measure the answers, too.
# - A gate lets in as many as the provider works on. What was refused or failed is tried again outside the client.
# - Keep the result of every stage, also an empty one, under keys that are the same everywhere. Fetch each once.
# - A failed question is an answer with a reason. A late one gives up what matters least, and says so.
# - What is kept on disk is embedded once. Three questions of your own tell whether it is found.
# - Set budgets before the work: time, throughput, calls, tokens, quality.
# - Use a second process for what computes, with limits and caches that all share. For what waits, one is enough.
#
# That is the course. The pipeline runs on other providers, too: set `COURSE_BASE_URL` and `COURSE_API_KEY`, and use `RagPipeline.from_environment`.
#
# ## Further reading
#
# - Lewis et al., [Retrieval-augmented generation for knowledge-intensive NLP tasks](https://arxiv.org/abs/2005.11401)
# - Dean and Barroso, [The tail at scale](https://research.google/pubs/the-tail-at-scale/)
# - Brooker, [Exponential backoff and jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)
# - [Dask distributed](https://distributed.dask.org/) and [Redis scripting](https://redis.io/docs/latest/develop/programmability/eval-intro/)
# - the code behind this notebook: [pipeline](../course_lib/rag/pipeline.py), [naive](../course_lib/rag/naive.py), [matrix](../course_lib/rag/matrix.py), [quality](../course_lib/rag/quality.py), [workers](../course_lib/rag/scale_out/workers.py), [redis_bucket](../course_lib/rag/scale_out/redis_bucket.py), and the [harness](../course_lib/lab/exercises/rag/acceptance.py)
# - one task a page: [your own documents](../docs/howto/ask-your-own-documents.md), [your own provider](../docs/howto/use-your-own-provider.md), [all others](../docs/howto/README.md)

# %%
provider.stop()
lab.hygiene()
