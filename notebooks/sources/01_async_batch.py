# %% [markdown]
# # 1 · Async batches
#
# Fifty questions, one provider, and a pipeline that is far slower than it has to be: find out why, and mend it.
#
# ## What you'll do
#
# - run the LangChain pipeline that everybody writes first, against a real HTTP service on your own machine
# - predict what it costs, measure it, and find the thread pool that you never asked for
# - give it an async side with `RunnableLambda(func, afunc=...)` and measure again
# - spring the traps on the way: sessions, timeouts, blocked loops, failures, patched loops
#
# ## What you'll learn
#
# - to state a bound before you measure, and to tell a fast program from a lucky one
# - what `abatch` does with a sync function, and what `max_concurrency` does not do
# - when "async is ten times faster" is true, and when it is not
# - to write a call that tells the truth, and a batch in which one failure is one failure
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | `async` and `await` | necessary | [A conceptual overview of asyncio](https://docs.python.org/3/howto/a-conceptual-overview-of-asyncio.html) |
# | LangChain runnables | helpful | [RunnableLambda](https://reference.langchain.com/python/langchain_core/runnables/) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 60 to 75 minutes | a run of all cells takes seconds |

# %%
import asyncio
import math
import os
import textwrap
import time

import aiohttp
from langchain_core.runnables import RunnableLambda

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, SyncServiceClient, as_runnable, run_sync
from course_lib.lab import compare, exercise, measure, plots, predict

# %% [markdown]
# The provider is a process of its own. It searches a handbook of short passages, and takes for each answer as long as it is told to.

# %%
provider = service.start()

# %% [markdown]
# Change the numbers here, and run the cells again:

# %%
COUNT = 50  # questions
LATENCY = 0.1  # seconds that the provider takes for each answer

provider.configure(
    latency=service.Latency.constant(LATENCY), rate_limit=None, capacity=None, faults=None
)
QUESTIONS = lab.questions(COUNT)
print(f"{COUNT} questions, {LATENCY * 1000:.0f} ms each, such as: {QUESTIONS[0]}")

# %% [markdown]
# ## The pipeline that everybody writes first
#
# The client is synchronous, as most are. A `RunnableLambda` makes it a step of a pipeline, and the answer is a list of documents.

# %%
slow_client = SyncServiceClient(provider.url, timeout=5)
naive = RunnableLambda(slow_client.search)

best = naive.invoke("What does Little's law say?")[0]
print(best.metadata["title"], "", *textwrap.wrap(best.page_content, 90), sep="\n")

# %% [markdown]
# **Predict.** `abatch` promises to run a step over many inputs at once. How long will it take for all fifty questions? Write your guess, in seconds, in place of `...`; there is no penalty for being wrong, and much to be learned from it.

# %%
guess = predict("50 questions through naive.abatch", ...)  ### SOLUTION: 0.1
guess

# %% [markdown]
# **Measure.** `measure` runs the program once, and brings back what the provider saw.

# %%
slow = await measure(lambda: naive.abatch(QUESTIONS), provider=provider, name="naive.abatch")
guess.reveal(slow.seconds)

# %% tags=["readme"]
plots.timeline(slow.ledger.calls, title="naive.abatch, as the provider saw it")

# %% [markdown]
# **Explain.** Each bar is a call, each row a place at the provider's counter. The calls come in *waves*. A function that is not `async` cannot wait without holding a thread, so `ainvoke` sends it to the event loop's default pool, which has `min(32, cores + 4)` threads. With more calls than threads the rest wait, and the time is
#
# $$\left\lceil \frac{N}{\text{threads}} \right\rceil \times \text{latency}$$

# %%
threads = lab.default_threads()
bound = math.ceil(COUNT / threads) * LATENCY
print(f"{threads} threads here, {math.ceil(COUNT / threads)} waves")
print(f"bound {bound:.2f} s, measured {slow.seconds:.2f} s")
assert slow.peak_in_flight <= threads and slow.seconds >= bound

# %% [markdown]
# Does the formula hold for other batches? Shorter calls, other sizes, beside the curve:

# %%
SIZES = [1, threads, threads + 1, 2 * threads, 3 * threads]


async def batch_seconds(questions):
    return (await measure(lambda: naive.abatch(questions))).seconds


# %%
measured = {}
for ms in (15, 40):
    provider.configure(latency=service.Latency.constant(ms / 1000))
    times = [await batch_seconds(lab.questions(n)) for n in SIZES]
    measured[f"{ms} ms a call"] = SIZES, times


# %%
def staircase(ms):
    every = range(1, SIZES[-1] + 1)
    return every, [math.ceil(n / threads) * ms / 1000 for n in every]


curve = {f"{ms} ms a call": staircase(ms) for ms in (15, 40)}
labels = {"title": "A staircase: one step a wave", "x": "questions in the batch", "y": "seconds"}
plots.versus_model(measured, curve, steps=True, **labels)

# %% [markdown]
# The bound holds, and the steps are there. What lies above them is the client's own work for each call: the larger the batch and the shorter the call, the more it counts. It comes back below.
#
# ### What `max_concurrency` does, and does not do
#
# There is a setting that looks as if it were made for this: `max_concurrency`. **Predict** what `max_concurrency=50` makes of it.

# %%
provider.configure(latency=service.Latency.constant(0.02))
print(f"as it is: {math.ceil(COUNT / threads)} waves, 20 ms each")
at_50 = predict("50 questions with max_concurrency=50", ...)  ### SOLUTION: 0.2
at_50


# %%
async def with_config(name, config):
    return await measure(lambda: naive.abatch(QUESTIONS, config), provider=provider, name=name)


plain = await with_config("as it is", {})
asked_for_50 = await with_config("max_concurrency=50", {"max_concurrency": 50})
with lab.default_executor(50):
    pool_of_50 = await with_config("a pool of 50", {})

# %%
for run in (plain, asked_for_50, pool_of_50):
    print(f"{run.name}: at most {run.peak_in_flight} at once, {run.seconds:.2f} s")
assert asked_for_50.peak_in_flight <= threads
at_50.reveal(asked_for_50.seconds)

# %% [markdown]
# **Explain.** `max_concurrency` can only lower the number of calls at once: it bounds how many `abatch` *starts*, it does not make the pool any larger. A larger pool helps. It is the loop's, so it is changed for everything else in the process as well.

# %% [markdown]
# ### Who else uses that pool
#
# The look-up of a host name does. While your sync lambdas keep the pool busy, even an *async* client that has to look up `localhost` stands behind them in the queue.


# %%
async def search_at(host):
    async with ServiceClient(provider.url.replace("127.0.0.1", host)) as client:
        return await client.search("event loop")


# %%
async def seconds_beside_a_batch(host):
    batch = asyncio.create_task(naive.abatch(QUESTIONS))
    await asyncio.sleep(0.02)  # the batch is under way
    run = await measure(lambda: search_at(host))
    await batch
    return run.seconds


# %%
by_address = await seconds_beside_a_batch("127.0.0.1")
by_name = await seconds_beside_a_batch("localhost")
print(f"by address {by_address:.2f} s, by name {by_name:.2f} s")

# %% [markdown]
# ## An async side
#
# `RunnableLambda(func, afunc=...)` takes both: `invoke` and `batch` use the first, `ainvoke` and `abatch` the second. The async client waits for all its answers in one thread.


# %%
async def with_client(use):
    async with ServiceClient(provider.url) as client:
        return await use(RunnableLambda(slow_client.search, afunc=client.search))


# %%
twenty = QUESTIONS[:20]


async def one_by_one(chain):
    return [await chain.ainvoke(question) for question in twenty]


async def gathered(chain):
    return await asyncio.gather(*map(chain.ainvoke, twenty))


# %% [markdown]
# **Predict.** Five ways to ask twenty questions. How many times faster is the fastest than the sync function under `abatch`?

# %%
faster = predict("speed-up over sync abatch", ..., "x")  ### SOLUTION: 4
faster

# %%
variants = {
    "sync, abatch": lambda: naive.abatch(twenty),
    "afunc, loop of ainvoke": lambda: with_client(one_by_one),
    "afunc, gather": lambda: with_client(gathered),
    "afunc, abatch": lambda: with_client(lambda chain: chain.abatch(twenty)),
    "sync, batch of 20 threads": lambda: naive.batch(twenty, {"max_concurrency": 20}),
}

# %%
provider.configure(latency=service.Latency.constant(0.02))
ways = await compare(variants, bound=0.02, rounds=2, blocks=True)
ways

# %%
plots.bars(ways)

# %%
assert ways.values_agree
faster.reveal(max(ways.speedup(variant.name) for variant in ways.variants))

# %% [markdown]
# **Explain.** An `await` in a loop is as sequential as no `await` at all: one by one is the slowest of all, although every call is async. `gather` and `abatch` start all calls before they wait for the first. And `batch` with enough threads is nearly as fast: *the gain comes from concurrency, not from the word async*. What async buys is waiting that costs next to nothing, cancellation that works, and no pool to size.
#
# ### Is it "ten to twenty times faster"?
#
# That is often said, and the formula says when: `afunc` needs one latency, the pool `ceil(N / threads)` of them, so no speed-up can exceed the number of waves. Sweep both, and find the region.


# %%
async def speedup(count, ms):
    provider.configure(latency=service.Latency.constant(ms / 1000))
    questions = lab.questions(count)
    slow = lambda: naive.abatch(questions)
    fast = lambda: with_client(lambda chain: chain.abatch(questions))
    return (await compare({"slow": slow, "fast": fast}, rounds=1)).speedup("fast")


# %%
PER_THREAD, MILLISECONDS = [1, 4, 12], [2, 8, 30]
sweep = [[await speedup(k * threads, ms) for ms in MILLISECONDS] for k in PER_THREAD]
labels = {"x": "latency of a call", "y": "size of the batch", "region": (10, 20)}
plots.heatmap(
    sweep,
    rows=[f"{k * threads} calls, {k} a thread" for k in PER_THREAD],
    columns=[f"{ms} ms" for ms in MILLISECONDS],
    title="Speed-up by afunc, as measured here",
    **labels,
)

# %% [markdown]
# Short calls fall short of their waves, because the client's own work for each call is no longer small beside the wait. And a session opens at most 100 connections by default, so that a large batch has waves of its own. Put both into the model, with the work as just measured, and look at machines that you do not have:

# %%
fast = await measure(lambda: with_client(lambda chain: chain.abatch(QUESTIONS)))
work = fast.cpu / COUNT  # seconds of CPU for one call


def modelled(count, threads, latency=0.1, connections=100):
    sync_seconds = max(math.ceil(count / threads) * latency, count * work)
    return sync_seconds / max(math.ceil(count / connections) * latency, count * work)


# %%
POOLS, BATCHES = [5, 6, 8, 12, 20, 32], [50, 100, 200, 1000]
labels["x"] = "threads in the default pool: cores + 4, at most 32"
plots.heatmap(
    [[modelled(count, pool) for pool in POOLS] for count in BATCHES],
    rows=[f"{count} calls" for count in BATCHES],
    columns=[f"{pool}" for pool in POOLS],
    title="Speed-up at most, latency 100 ms; framed: 10 to 20 times",
    **labels,
)

# %% [markdown]
# So the claim is true for a belt of this map, and for nobody else. Say your bound, not your best run.
#
# ### Exercise 1.1: all at once, in order
#
# Write `fetch_all(search, queries)`: `await search(query)` once for every query, all of them **concurrently** and however many there are; return a list of the answers, in the order of the queries (without queries: `[]`). About 1 line. Graded in virtual time by makespan and peak in flight; `exercise("1.1").hint()` helps.


# %% tags=["exercise"] exercise="1.1"
async def fetch_all(search, queries):
    ### BEGIN SOLUTION
    return await asyncio.gather(*(search(query) for query in queries))
    ### END SOLUTION


# %% tags=["check"]
await exercise("1.1").check(fetch_all)

# %% [markdown]
# ## One session, or one for each call
#
# A session keeps its connections open between calls. `async with ServiceClient(...)` inside the function that asks one question looks harmless. **Predict** how many connections a hundred calls open that way, twenty-five at a time.


# %%
opened = predict("connections of 100 calls, a session each", ..., "")  ### SOLUTION: 100
opened


# %%
async def session_per_call():
    for _ in range(4):
        await asyncio.gather(*(search_at("127.0.0.1") for _ in range(25)))


async def one_session():
    async with ServiceClient(provider.url) as client:
        for _ in range(4):
            await asyncio.gather(*(client.search("event loop") for _ in range(25)))


# %%
provider.configure(latency=service.Latency.constant(0.01))
each, one = [await measure(run, provider=provider) for run in (session_per_call, one_session)]
print(f"connections: {each.ledger.connections} against {one.ledger.connections}")
print(f"CPU: {each.cpu / one.cpu:.1f}x as much; time: {each.seconds / one.seconds:.1f}x as long")
assert each.ledger.connections == 100 and one.ledger.connections == 25
opened.reveal(each.ledger.connections)

# %% [markdown]
# This is loopback without encryption, where a connection is nearly free. Across a network each new one costs a round trip before the first byte of the question, and TLS adds its handshake. And there is a wall: a process may have only so many files open, and a connection is one. The child process below may open 256.

# %%
STORM = """
import asyncio, resource, aiohttp
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

async def get(session):
    async with session.get(url) as response:
        return await response.read()

async def get_alone(_):
    async with aiohttp.ClientSession() as session:
        return await get(session)

async def failures(call, session):
    calls = (call(session) for _ in range(300))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return sum(isinstance(outcome, OSError) for outcome in outcomes)

async def main():
    async with aiohttp.ClientSession() as one:
        return await failures(get_alone, None), await failures(get, one)

result = asyncio.run(main())
"""

# %%
provider.configure(latency=service.Latency.constant(0.05))
url = f"{provider.url}/search?q=loop"
if os.name == "posix":
    own, shared = await lab.run_child(STORM, url=url)
    assert own > 0 == shared
    print("too many open files: some calls with a session each, none with one session")

# %% [markdown]
# ### A call that tells the truth
#
# Two more habits do their damage in silence. The first: the question is pasted into the URL.


# %%
async def pasted(session, question):
    async with session.get(f"{provider.url}/search?q={question}") as response:
        return await response.json()


# %%
provider.reset()
async with aiohttp.ClientSession() as session:
    for question in ("R&D budget", "C# tutorial", "a+b"):
        await pasted(session, question)
[call.query for call in provider.ledger().calls]

# %% [markdown]
# Three wrong questions, three confident answers, no error. The second habit: the status is never looked at. Here the provider lets through a few calls a second and refuses the rest, and a dashboard that averages all answers shows an *improvement*.


# %%
async def unchecked(session, question):
    start = time.perf_counter()
    async with session.get(provider.url + "/search", params={"q": question}) as response:
        body = await response.json()
    return "results" in body, time.perf_counter() - start


# %%
async def dashboard():
    async with aiohttp.ClientSession() as session:
        outcomes = await asyncio.gather(*(unchecked(session, each) for each in QUESTIONS))
    answered, seconds = zip(*outcomes, strict=True)
    return sum(answered), sum(seconds) / len(seconds)


# %%
provider.configure(latency=service.Latency.constant(0.2), rate_limit=None)
answered, average = await dashboard()
provider.configure(rate_limit=service.RateLimit(rate=0.01, burst=10))
answered_now, average_now = await dashboard()
provider.configure(rate_limit=None)
print(f"average: {average:.3f} s before, {average_now:.3f} s now")
print(f"answers: {answered} before, {answered_now} now")
assert answered_now == 10 and average_now < average

# %% [markdown]
# ### Exercise 1.2: a call that tells the truth
#
# Write `ask(session, url, query)`: `GET {url}/search` with the query encoded, over the `aiohttp` session that is given; an error for any status that is not 2xx; returns the list of the `id` of each of the `results`. About 4 lines. Graded by what a real provider receives.


# %% tags=["exercise"] exercise="1.2"
async def ask(session, url, query):
    ### BEGIN SOLUTION
    async with session.get(f"{url}/search", params={"q": query}) as response:
        response.raise_for_status()
        answer = await response.json()
    return [found["id"] for found in answer["results"]]
    ### END SOLUTION


# %% tags=["check"]
await exercise("1.2").check(ask)

# %% [markdown]
# `ServiceClient` does the same, with one small tree of errors (`course_lib.errors`), and a timeout that is worth reading: `??ServiceClient`.
#
# ## Traps
#
# ### A blocking call inside an async function
#
# The function is `async`, the call in it is not. Nothing else runs meanwhile: no other call, no timeout, no keystroke of yours.


# %%
async def search_blocking(question):
    return slow_client.search(question)


async def run_twenty(search):
    chain = as_runnable(search)
    return await measure(lambda: chain.abatch(twenty), provider=provider, blocks=True)


# %%
provider.configure(latency=service.Latency.constant(0.02))
blocking = await run_twenty(search_blocking)
plots.timeline(blocking.ledger.calls, title="Blocking", gaps=blocking.gaps)

# %% [markdown]
# One lane, and the loop stands still all the time. Mended with an async client, or, where there is none, with `asyncio.to_thread`:


# %%
async def search_in_thread(question):
    return await asyncio.to_thread(slow_client.search, question)


mended = await run_twenty(search_in_thread)
print(f"{mended.peak_in_flight} threads, {blocking.seconds / mended.seconds:.1f}x as fast")
assert blocking.peak_in_flight == 1 and mended.longest_gap < blocking.longest_gap

# %% [markdown]
# ### The placeholder
#
# `RunnableLambda` wants a `func`, so some give it `lambda x: x`. What does `.invoke` answer?

# %%
client = ServiceClient(provider.url)
placeholder = RunnableLambda(lambda question: question, afunc=client.search)

provider.reset()
print("invoke:", placeholder.invoke("What is a token bucket?"))
print("batch: ", placeholder.batch(["What is jitter?", "What is a barrier?"]))
asked = provider.ledger().requests
assert asked == 0

# %% [markdown]
# The questions, handed back as answers, and the provider was never asked. `as_runnable` makes a Runnable whose sync side is real (`func=`), or refuses:

# %%
try:
    as_runnable(client.search).invoke("What is a token bucket?")
except TypeError as error:
    print(error)

# %% [markdown]
# ### The pool that you *did* get
#
# An `aiohttp` session opens at most 100 connections at once, and its `total` timeout runs while a call waits for one. Four hundred calls, each of which the provider answers well within the timeout, which is the same for both clients:


# %%
TIMEOUT = 0.25  # seconds


async def timeouts(call):
    outcomes = await asyncio.gather(*(call() for _ in range(400)), return_exceptions=True)
    return sum(isinstance(outcome, TimeoutError) for outcome in outcomes)


# %%
async def with_bare_session():
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=limit) as session:

        async def call():
            async with session.get(url) as response:
                return await response.read()

        return await timeouts(call)


# %%
async def with_service_client():
    async with ServiceClient(provider.url, timeout=TIMEOUT) as client:
        return await timeouts(lambda: client.search("loop"))


# %%
provider.configure(latency=service.Latency.constant(0.1))
bare = await with_bare_session()
ours = await with_service_client()
print(
    "calls that timed out:",
    "many" if bare > ours else "few",
    "against",
    "few" if ours < bare else "many",
)
assert bare >= 100 and ours < bare

# %% [markdown]
# `ServiceClient` has the same limit, and starts a call's time only when the call has its connection. Keep your own limit at or below the pool's, and let timeouts begin after the wait.
#
# ### One failing question
#
# The provider refuses an empty question at once. Fifty good ones are with it in the batch. `abatch` raises: what happens to the others?


# %%
lost = predict("good answers that are paid for and thrown away", ..., "")  ### SOLUTION: 50
lost


# %%
async def fail_one(client, **options):
    before = asyncio.all_tasks()
    try:
        return await as_runnable(client.search).abatch(["", *QUESTIONS], **options)
    except Exception as error:
        await asyncio.wait(asyncio.all_tasks() - before)  # what goes on regardless
        return error


# %%
async def one_bad_apple(**options):
    async with ServiceClient(provider.url) as client:
        return await fail_one(client, **options)


provider.configure(latency=service.Latency.constant(0.04))
batch = await measure(one_bad_apple, provider=provider)
print("raised:", batch.value)
assert batch.ledger.answered == COUNT
lost.reveal(batch.ledger.answered)

# %% [markdown]
# The error came at once; the others went on, were answered, and thrown away. With a limit it is worse: calls *start* after the batch has failed.

# %%
few = {"max_concurrency": 10}
limited = await measure(lambda: one_bad_apple(config=few), provider=provider)
failed_at = min(call.end for call in limited.ledger.calls if call.status == 400)
late = [call for call in limited.ledger.calls if call.start > failed_at + 0.025]
assert late
plots.timeline(limited.ledger.calls, title="The first one failed")

# %% [markdown]
# `return_exceptions=True` keeps each failure in its place:

# %%
kept = await one_bad_apple(return_exceptions=True)
good = [answer for answer in kept if isinstance(answer, list)]
print(f"{type(kept[0]).__name__} in its place, {len(good)} answers")

# %% [markdown]
# A `TaskGroup` does the opposite: one failure, and all the others are cancelled and awaited. Decide which of the two you want.


# %%
async def all_or_nothing():
    async with ServiceClient(provider.url) as client, asyncio.TaskGroup() as group:
        for question in ["", *QUESTIONS]:
            group.create_task(client.search(question))


try:
    await all_or_nothing()
except* Exception as group:
    print("one error, nothing left running:", group.exceptions)

# %% [markdown]
# ### A timeout round something that cannot be cancelled
#
# A thread cannot be stopped. A timeout round the sync function returns on time, and everything goes on behind your back. When the provider hangs, its calls hold the pool, and nothing else that needs a thread runs: not even `x + 1`.


# %%
async def within(seconds, awaitable):
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        return "timed out"


# %%
HANG = service.Faults(hang=1.0)
one_more = RunnableLambda(lambda x: x + 1)


async def hang_in_threads(client):
    questions = lab.questions(threads)
    hanging = RunnableLambda(client.search).abatch(questions, return_exceptions=True)
    return await within(0.1, hanging), await within(0.2, one_more.ainvoke(1))


# %%
provider.configure(faults=HANG)
try:
    with SyncServiceClient(provider.url, timeout=0.8) as impatient:
        batch, sum_ = await hang_in_threads(impatient)
finally:  # also when this cell is interrupted
    provider.configure(faults=None)
print(f"the batch: {batch}, x + 1: {sum_}")
print("x + 1, when the hung threads have given up:", await one_more.ainvoke(1))

# %% [markdown]
# The async client is cancelled when it is told to be, on both sides: the provider sees the connection close, and lets go of the call.


# %%
async def hang_async():
    async with ServiceClient(provider.url) as client:
        return await within(0.1, as_runnable(client.search).abatch(twenty))


provider.configure(faults=HANG)
try:
    hung = await lab.measure(hang_async, provider=provider)
    await asyncio.sleep(0.2)  # the provider notices
finally:
    provider.configure(faults=None)
print("the batch:", hung.value)

# %%
ledger = provider.ledger()
print("calls that the provider still holds:", ledger.requests - len(ledger.calls))

# %% [markdown]
# ### Exercise 1.3: one bad call among many
#
# Write `outcomes(search, queries, limit, timeout)`: at most `limit` calls at once; each call has `timeout` seconds *from the moment it starts*; the result is a list with an answer (whatever it is, `None` as well) or an exception for each query, in order; nothing is left running, and when it is cancelled itself, it ends at once and leaves nothing running either. About 9 lines. Graded in virtual time: one call fails, one hangs.


# %% tags=["exercise"] exercise="1.3"
async def outcomes(search, queries, limit, timeout):
    ### BEGIN SOLUTION
    slots = asyncio.Semaphore(limit)

    async def outcome(query):
        async with slots:
            try:
                async with asyncio.timeout(timeout):
                    return await search(query)
            except Exception as error:
                return error

    return await asyncio.gather(*(outcome(query) for query in queries))
    ### END SOLUTION


# %% tags=["check"]
await exercise("1.3").check(outcomes)

# %% [markdown]
# ## Event loops in Jupyter
#
# A notebook runs its cells in an event loop that is running already. So a cell may `await`, and `asyncio.run`, which wants to start a loop, refuses:

# %%
pause = asyncio.sleep(0)
try:
    asyncio.run(pause)
except RuntimeError as error:
    print(error)
pause.close()  # it will never be awaited

# %% [markdown]
# There are three ways out. **Top-level `await`** is the one to use in a cell. For sync code that must call async code, **`run_sync`** runs it on a loop in a thread of its own. And **`nest_asyncio.apply()`** patches the running loop so that loops nest; this cannot be undone, so it is looked at in child processes.


# %%
def sync_code():
    return run_sync(asyncio.sleep(0.01, "from a loop of its own"))


sync_code()

# %%
COST = """
import asyncio, time
if patched:
    import nest_asyncio
    nest_asyncio.apply()

async def tasks():
    start = time.process_time()
    for _ in range(5_000):
        await asyncio.create_task(asyncio.sleep(0))
    return (time.process_time() - start) / 5_000

result = min(asyncio.run(tasks()) for _ in range(3))
"""

# %%
plain_cost, patched_cost = [await lab.run_child(COST, patched=patched) for patched in (0, 1)]
print(f"a task costs {plain_cost * 1e6:.1f} µs, patched {patched_cost * 1e6:.1f} µs")

# %% [markdown]
# The cost is the small part. Two nested runs under a patched loop are one stack: the outer one cannot return before the inner one does, whatever it waits for. And a timeout does not reach into a nested run.

# %%
NESTED = """
import asyncio, time, nest_asyncio
nest_asyncio.apply()
begin = time.monotonic()

async def nested(seconds):
    asyncio.get_event_loop().run_until_complete(asyncio.sleep(seconds))
    return time.monotonic() - begin

async def main():
    return await asyncio.gather(nested(0.02), nested(0.2))

result = asyncio.run(main())
"""

# %%
quick, _ = await lab.run_child(NESTED)
print(f"a nested run of 0.02 s came back after {quick:.2f} s, held up by one of 0.2 s")
assert quick >= 0.2

# %%
DEAF = """
import asyncio, contextlib, time, nest_asyncio
nest_asyncio.apply()
result = []

async def main():
    begin = time.monotonic()
    async with asyncio.timeout(0.02):
        asyncio.get_event_loop().run_until_complete(asyncio.sleep(0.2))
    result.append(time.monotonic() - begin)

with contextlib.suppress(asyncio.CancelledError):  # raised at the end by some Pythons
    asyncio.run(main())
"""

# %%
(ended_after,) = await lab.run_child(DEAF)
print(f"a timeout of 0.02 s ended its block after {ended_after:.2f} s, and raised nothing")
assert ended_after >= 0.2

# %% [markdown]
# `run_sync` blocks the loop that calls it just as long: no way of calling async code from sync code can avoid that. But it patches nothing, each call has a loop to run on that is not nested in another, and it takes a `timeout=` that works. Sync code that you cannot change, and that calls `asyncio.run` itself, runs unpatched in a thread: `await asyncio.to_thread(legacy)`. `nest_asyncio` is for what is left: such code, where it must stay on this thread.


# %%
def legacy():
    return asyncio.run(asyncio.sleep(0, "asyncio.run, in a thread of its own"))


await asyncio.to_thread(legacy)

# %%
start = time.perf_counter()
for _ in range(200):
    run_sync(asyncio.sleep(0))
print(f"run_sync: {(time.perf_counter() - start) / 200 * 1e6:.0f} µs a call")

# %% [markdown]
# ## Where the time goes when waiting is free
#
# With fifty calls in flight the wait is shared; what is left is the CPU of the client, and that is not. What does one Runnable call cost, beside the coroutine in it? **Predict** the CPU seconds of ten thousand calls of a chain of three steps that do nothing.

# %%
ten_thousand = predict("10,000 calls of a chain of three, CPU alone", ...)  ### SOLUTION: 5
ten_thousand


# %%
async def nothing(x):
    return x


async def cost_of(call, count=100, rounds=5):
    costs = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            await call(1)
        costs.append((time.process_time() - start) / count)
    return min(costs)  # a busy machine makes rounds dearer, never cheaper


# %%
one_step = RunnableLambda(nothing)
per_call = {
    "a coroutine": await cost_of(nothing),
    "a task": await cost_of(lambda x: asyncio.create_task(nothing(x))),
    "as_runnable": await cost_of(as_runnable(nothing).ainvoke),
    "a RunnableLambda": await cost_of(one_step.ainvoke),
    "a chain of three": await cost_of((one_step | one_step | one_step).ainvoke),
    "a search through a Runnable": work,
}


# %%
plots.magnitudes(per_call, title="What one call costs, layer by layer", x="CPU of one call")

# %%
ten_thousand.reveal(per_call["a chain of three"] * 10_000)

# %% [markdown]
# No number of connections makes these shorter. A process has one thread for its loop, so CPU per call is the ceiling of its throughput: few Runnables round plain async code, not a stack of them.
#
# `as_runnable` asks LangChain first whether anybody watches. Where nobody does, it skips what a `RunnableLambda` makes for each call: a run, its events, and a task. With a callback or with tracing it takes LangChain's way, event by event.

# %%
costs = list(per_call.values())[:4]
assert costs == sorted(costs)
print(f"at most {1 / per_call['a chain of three']:,.0f} calls/s through a chain of three")

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "I know which pool ran my sync function, and its bound": slow.seconds >= bound,
        "afunc beats it, and the answers are the same": ways.values_agree,
        "One session serves all calls": one.ledger.connections == 25,
        "A blocked loop shows on the timeline": blocking.gaps,
        "A placeholder's answer never reached the provider": asked == 0,
        "One failure is one failure": len(good) == COUNT,
    }
)

# %% [markdown]
# Your predictions, beside what came out:

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - A sync function under `abatch` runs in the loop's default pool, in `ceil(N / threads)` waves. `max_concurrency` does not size that pool.
# - `afunc` needs one latency for as many calls as there are connections; the speed-up is at most the number of waves, and the client's CPU caps it for short calls.
# - One session for the life of the client; `params=` for what goes into a URL; look at the status before the body; start a timeout after the wait for a slot.
# - A failure in `abatch` neither stops nor spares the other calls: choose `return_exceptions=True` or a `TaskGroup`.
# - `await` in cells, `run_sync` in sync code, `nest_asyncio` only where nothing else will do.
#
# Next: [notebook 2](02_rate_limiting.ipynb), limits on concurrency and rate that hold.
#
# ## Further reading
#
# - [asyncio: developing with asyncio](https://docs.python.org/3/library/asyncio-dev.html), on blocked loops and coroutines never awaited
# - [aiohttp: client quickstart and advanced usage](https://docs.aiohttp.org/en/stable/client_advanced.html), on sessions, limits and timeouts
# - the code behind this notebook: [async_batch](../course_lib/async_batch/client.py), [the clock of the exercises](../course_lib/lab/simulation.py)

# %%
provider.stop()
slow_client.close()
lab.hygiene()
