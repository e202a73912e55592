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
# - make a slow program of somebody's fast, and find the fault in another
# - meet the traps: sessions, timeouts, blocked loops, failures
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
# | Words | look them up | [Glossary](../docs/glossary.md) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 85 to 100 minutes | a run of all cells takes seconds |

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
from course_lib.lab import compare, exercise, measure, plots, predict, simulate

# %% [markdown]
# The provider is a process of its own. It searches a handbook of short passages, and takes for each answer as long as it is told to. Its client is synchronous, as most are.

# %%
provider = service.start()
slow_client = SyncServiceClient(provider.url, timeout=5)


def answers_take(seconds):
    provider.configure(latency=service.Latency.constant(seconds), rate_limit=None, faults=None)


# %% [markdown]
# **Change it and look.** These two numbers are meant to be changed, to half, double, or whatever you like. Then run the cells below again.

# %% tags=["parameters"]
COUNT = 50  # questions
LATENCY = 0.1  # seconds that the provider takes for each answer

# %%
QUESTIONS = lab.questions(COUNT)
print(f"{COUNT} questions, {LATENCY * 1000:g} ms each, such as: {QUESTIONS[0]}")

# %% [markdown] tags=["path-90"]
# ## The pipeline that everybody writes first
#
# *On the 90-minute path.*
#
# A `RunnableLambda` makes the client's function a step of a pipeline. The answer is a list of documents.

# %%
naive = RunnableLambda(slow_client.search)

best = naive.invoke("What does Little's law say?")[0]
print(best.metadata["title"], "", *textwrap.wrap(best.page_content, 90), sep="\n")

# %% [markdown]
# **Predict.** `abatch` promises to run a step over many inputs at once. How long does it take for all questions? Write your guess, in seconds, in place of `...`. A wrong guess costs nothing and teaches much.

# %%
guess = predict(f"{COUNT} questions through naive.abatch", ...)  ### SOLUTION: 0.1
guess

# %% [markdown]
# **Watch.** This is the provider's own page. It shows each call while it happens. In JupyterLab, right-click it and choose "Create New View for Output".

# %%
lab.live(provider)

# %% [markdown]
# **Measure.** `measure` runs the program once, and brings back what the provider saw.

# %%
answers_take(LATENCY)
slow = await measure(lambda: naive.abatch(QUESTIONS), provider=provider, name="naive.abatch")
guess.reveal(slow.seconds)

# %% tags=["readme"]
plots.timeline(slow.ledger.calls, title="naive.abatch, as the provider saw it")

# %% [markdown]
# **Explain.** Each bar is a call. Each row is a place at the provider's counter. The calls come in *waves*: a function that is not `async` cannot wait without holding a thread, so `ainvoke` sends it to the [event loop](../docs/glossary.md#event-loop)'s default pool. That pool has `min(32, cores + 4)` threads. When there are more calls than threads, the rest wait, and the time is
#
# $$\left\lceil \frac{N}{\text{threads}} \right\rceil \times \text{latency}$$

# %%
threads = lab.default_threads()
waves = math.ceil(COUNT / threads)
bound = waves * LATENCY
print(f"{COUNT} questions, {threads} threads: {waves} waves, each {LATENCY:g} s")
print(f"bound {bound:.2f} s, measured {slow.seconds:.2f} s")
assert slow.peak_in_flight <= threads, f"more than {threads} calls at once"
assert slow.seconds >= bound, f"faster than {waves} waves"

# %% [markdown]
# Does the formula hold for other batches? Here are shorter calls and other sizes, beside the curve:

# %%
SIZES = [1, threads, threads + 1, 2 * threads, 3 * threads]


async def batch_seconds(questions):
    return (await measure(lambda: naive.abatch(questions))).seconds


# %%
measured = {}
for ms in (15, 40):
    answers_take(ms / 1000)
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
# The bound holds, and the steps are there. What lies above them is the client's own work for each call. It counts the more, the larger the batch and the shorter the call. It comes back below.
#
# **Play.** In [virtual time](../docs/glossary.md#virtual-time) the same experiment is exact and takes milliseconds. Move the sliders: when does one thread more help, and when does it not?


# %%
async def answered_at(at_once, calls, seconds):
    slots, done = asyncio.Semaphore(at_once), []

    async def call():
        async with slots:
            await asyncio.sleep(seconds)
        done.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(call() for _ in range(calls)))
    return done


# %%
def pool_and_afunc(threads=6, latency_ms=100, questions=50):
    run = lambda n: simulate(lambda: answered_at(n, questions, latency_ms / 1000))
    pool, free = run(threads), run(100)
    steps = {
        f"{threads} threads": ([0, *pool.value], range(questions + 1)),
        "100 connections": ([0, *free.value], range(questions + 1)),
    }
    title = f"The pool takes {pool.seconds:g} s, async calls take {free.seconds:g} s"
    return plots.over_time(steps, title=title, y="questions answered")


lab.play(pool_and_afunc, threads=(1, 32, 1), latency_ms=(5, 300, 5), questions=(1, 300, 1))

# %% [markdown] tags=["path-90"]
# ### What `max_concurrency` does, and does not do
#
# *On the 90-minute path.*
#
# One setting looks as if it were made for this: `max_concurrency`. **Predict** how long the questions take when it allows all of them at once, and each answer takes a fiftieth of a second.

# %%
SHORT = 0.02  # seconds
allowed = {"max_concurrency": COUNT}
print(f"as it is: {waves} waves, each {SHORT * 1000:g} ms")
with_limit = predict("the same, with max_concurrency for all of them", ...)  ### SOLUTION: 0.2
with_limit


# %%
async def with_config(name, config):
    return await measure(lambda: naive.abatch(QUESTIONS, config), provider=provider, name=name)


answers_take(SHORT)
plain = await with_config("as it is", {})
asked_for_all = await with_config("with max_concurrency", allowed)
with lab.default_executor(COUNT):
    larger_pool = await with_config("in a larger pool", {})

# %%
for run in (plain, asked_for_all, larger_pool):
    print(f"{run.name}: at most {run.peak_in_flight} at once, {run.seconds:.2f} s")
print(f"{waves} waves, each {SHORT:g} s: {waves * SHORT:.2f} s and the client's work")
with_limit.reveal(asked_for_all.seconds)

# %% [markdown]
# **Explain.** `max_concurrency` can only lower the number of calls at once. It bounds how many calls `abatch` *starts*, and makes the pool no larger. A larger pool helps, but it belongs to the loop: it is changed for everything else in the process as well.
#
# The sync method `batch` is different. It makes a pool of its own for each call, and there `max_concurrency` *does* set the number of threads:


# %%
async def in_own_pool(limit):
    config = {"max_concurrency": limit}
    return await measure(lambda: naive.batch(QUESTIONS, config), provider=provider, blocks=True)


for limit in (2, 10, 20):
    run = await in_own_pool(limit)
    assert run.peak_in_flight <= limit, f"more than max_concurrency={limit} at once"
    print(f"batch, max_concurrency={limit}: {run.seconds:.2f} s")

# %% [markdown]
# ### Who else uses that pool
#
# The look-up of a host name does. While your sync lambdas keep the pool busy, even an *async* client waits behind them when it has to look up `localhost`.


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

# %% [markdown] tags=["path-90"]
# ## An async side
#
# *Run first: [The pipeline that everybody writes first](#The-pipeline-that-everybody-writes-first).*
#
# *On the 90-minute path.*
#
# `RunnableLambda(func, afunc=...)` takes both: `invoke` and `batch` use the first, `ainvoke` and `abatch` the second. The async client waits for all its answers in one thread.


# %%
async def with_client(use):
    async with ServiceClient(provider.url) as client:
        return await use(RunnableLambda(slow_client.search, afunc=client.search))


# %%
twenty = lab.questions(20)


async def one_by_one(chain):
    return [await chain.ainvoke(question) for question in twenty]


async def gathered(chain):
    return await asyncio.gather(*map(chain.ainvoke, twenty))


# %% [markdown]
# **Predict.** There are five ways to ask twenty questions. How many times faster is the fastest than the sync function under `abatch`?

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
answers_take(0.02)
ways = await compare(variants, bound=0.02, rounds=2, blocks=True)
ways

# %%
plots.bars(ways)

# %%
assert ways.values_agree, "the five ways give different answers"
print(f"{math.ceil(20 / threads)} waves in the pool, one without: the speed-up is at most that")
faster.reveal(max(ways.speedup(variant.name) for variant in ways.variants))

# %% [markdown]
# **Explain.** An `await` in a loop is as sequential as no `await` at all. So "one by one" is the slowest, although every call is async. `gather` and `abatch` start all calls before they wait for the first. And `batch` with enough threads is nearly as fast: *the gain comes from concurrency, not from the word async*. Async buys three things: waiting that costs next to nothing, cancellation that works, and no pool whose size you have to choose.
#
# ### Exercise 1.1: a slow report of somebody's
#
# A colleague wrote this report. `search(question)` returns the names of pages, and `read(page)` returns the text of one:


# %%
async def report(search, read, questions):
    pages = {}
    for question in questions:
        names = await search(question)
        pages[question] = [await read(page) for page in names]
    return pages


# %%
async def search(question):
    await asyncio.sleep(0.2)
    return [f"{question} page {number}" for number in range(3)]


async def read(page):
    await asyncio.sleep(0.1)
    return f"text of {page}"


# %% [markdown]
# **Predict.** Each search finds three pages. How long does the report on twenty questions take?

# %%
slow_report = predict("the report on 20 questions", ...)  ### SOLUTION: 10
slow_report

# %%
reported = simulate(lambda: report(search, read, twenty))
print(f"20 * (0.2 s + 3 * 0.1 s) = {20 * (0.2 + 3 * 0.1):g} s")
slow_report.reveal(reported.seconds)

# %% [markdown]
# Nothing here has to wait for so long. Which call needs which? What is the shortest time that any program can take? Then **change** it: write `quick_report(search, read, questions)`. About 6 lines. The check **measures** the gain, in virtual time. Graded:
#
# - It returns what `report` returns: a dict with every question, in their order. The pages of a question are a list, in the order of their names, whatever they hold (`None`, `0` and `""` are pages, too).
# - It asks for nothing more often than `report` does.
# - It takes as long as its slowest question takes alone. However many questions and pages there are, none waits for another that it does not need.
#
# `exercise("1.1").hint()` helps.


# %% tags=["exercise"] exercise="1.1"
async def quick_report(search, read, questions):
    ### BEGIN SOLUTION
    async def pages(question):
        return await asyncio.gather(*(read(page) for page in await search(question)))

    found = await asyncio.gather(*(pages(question) for question in questions))
    return dict(zip(questions, found, strict=True))
    ### END SOLUTION


# %% tags=["check"]
await exercise("1.1").check(quick_report)

# %% [markdown]
# ### Is it "ten to twenty times faster"?
#
# That is often said. The formula says when: `afunc` needs one latency, the pool needs `ceil(N / threads)` of them. So no speed-up can exceed the number of waves. Sweep both, and find the region.


# %%
async def speedup(count, ms):
    answers_take(ms / 1000)
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
# For short calls the gain is smaller than the number of waves: the client's own work is no longer small beside the wait. In the corner of the smallest batch and the shortest call, `afunc` can even be *slower*. There is one wave either way, so there is nothing to gain, and the session has to be opened first:


# %%
async def one_wave(chain):
    return await chain.abatch(lab.questions(threads))


# %%
answers_take(0.001)
async with ServiceClient(provider.url) as client:
    open_chain = RunnableLambda(slow_client.search, afunc=client.search)
    single_wave = {
        "sync, abatch": lambda: one_wave(naive),
        "afunc, a session for the batch": lambda: with_client(one_wave),
        "afunc, a session that is open": lambda: one_wave(open_chain),
    }
    single = await compare(single_wave, rounds=5)
single

# %% [markdown]
# So keep one session open, and do not expect anything from `afunc` where the calls fit into one wave.
#
# A session opens at most 100 connections by default, so a large batch has waves of its own. Put both into the model, with the work as measured, and look at machines that you do not have:

# %%
fast = await measure(lambda: with_client(lambda chain: chain.abatch(QUESTIONS)))
work = fast.cpu / COUNT  # seconds of CPU for one call


def modelled(count, threads, connections=100):
    sync_seconds = max(math.ceil(count / threads) * LATENCY, count * work)
    return sync_seconds / max(math.ceil(count / connections) * LATENCY, count * work)


# %%
POOLS, BATCHES = [5, 6, 8, 12, 20, 32], [50, 100, 200, 1000]
labels["x"] = "threads in the default pool: cores + 4, at most 32"
plots.heatmap(
    [[modelled(count, pool) for pool in POOLS] for count in BATCHES],
    rows=[f"{count} calls" for count in BATCHES],
    columns=[f"{pool}" for pool in POOLS],
    title=f"Speed-up at most, latency {LATENCY * 1000:g} ms; framed: 10 to 20 times",
    **labels,
)

# %% [markdown]
# The claim is true for a belt of this map, and nowhere else. Say your bound, not your best run.

# %% [markdown]
# ## One session, or one for each call
#
# A session keeps its connections open between calls. `async with ServiceClient(...)` inside the function that asks one question looks harmless. **Predict** how many connections a hundred calls open that way, ten at a time.


# %%
opened = predict("connections of 100 calls, a session each", ..., "")  ### SOLUTION: 100
opened


# %%
async def ask_once():
    async with ServiceClient(provider.url) as client:
        return await client.search("event loop")


async def session_per_call():
    for _ in range(10):
        await asyncio.gather(*(ask_once() for _ in range(10)))


async def one_session():
    async with ServiceClient(provider.url) as client:
        for _ in range(10):
            await asyncio.gather(*(client.search("event loop") for _ in range(10)))


# %%
answers_take(0.01)
each, one = [await measure(run, provider=provider) for run in (session_per_call, one_session)]
print(f"connections: {each.ledger.connections} against {one.ledger.connections}")
print(f"CPU: {each.cpu / one.cpu:.1f}x as much; time: {each.seconds / one.seconds:.1f}x as long")
print("10 * 10 calls, a connection each; or 10 connections that are used 10 times")
opened.reveal(each.ledger.connections)

# %% [markdown]
# This is loopback without encryption, where a connection is nearly free. Across a network each new one costs a round trip before the first byte of the question, and TLS adds its handshake. There is a limit, too: a process may have only so many files open, and a connection is one. The child process below may open 256.

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
answers_take(0.05)
url = f"{provider.url}/search?q=loop"
if os.name == "posix":
    own, shared = await lab.run_child(STORM, url=url)
    print(f"too many open files, on this machine: {own} against {shared} of 300 calls")
    assert own > 0 == shared, "a session each should run out of files, one session should not"

# %% [markdown]
# ### A call that tells the truth
#
# Two more habits do damage and raise no error. The first: the question is pasted into the URL.


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
# Three wrong questions got three confident answers, and no error. The second habit: the status is never looked at. Here the provider lets a fifth of the calls in and refuses the rest. A dashboard that averages all answers shows an *improvement*.


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
answers_take(0.2)
answered, average = await dashboard()
few = max(1, COUNT // 5)
provider.configure(rate_limit=service.RateLimit(rate=0.01, burst=few))
answered_now, average_now = await dashboard()
answers_take(0.2)

# %%
print(f"average: {average:.3f} s before, {average_now:.3f} s now")
print(f"answers: {answered} before, {answered_now} now")
assert answered_now == few, f"{few} calls should get in, and no other"

# %% [markdown]
# ### Exercise 1.2: a call that tells the truth
#
# Write `ask(session, url, query)`. About 4 lines. Graded by what a real provider receives:
#
# - It sends one `GET {url}/search`, with the query encoded, over the `aiohttp` session that is given.
# - It returns the list of the `id` of each of the `results`.
# - It raises an error for any status that is not 2xx.


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

# %% [markdown]
# ## Traps
#
# ### A blocking call inside an async function
#
# The function is `async`, the call in it is not. While it waits, nothing else runs: no other call, no timeout, no keystroke of yours.


# %%
async def search_blocking(question):
    return slow_client.search(question)


async def run_twenty(search):
    chain, questions = as_runnable(search), lab.questions(20)
    return await measure(lambda: chain.abatch(questions), provider=provider, blocks=True)


# %%
answers_take(0.02)
blocking = await run_twenty(search_blocking)
plots.timeline(blocking.ledger.calls, title="Blocking", gaps=blocking.gaps)

# %% [markdown]
# There is one lane, and the loop stands still all the time. An async client mends it. Where there is none, `asyncio.to_thread` does:


# %%
async def search_in_thread(question):
    return await asyncio.to_thread(slow_client.search, question)


mended = await run_twenty(search_in_thread)
print(f"{mended.peak_in_flight} threads, {blocking.seconds / mended.seconds:.1f}x as fast")
assert blocking.peak_in_flight == 1, "a blocked loop should make one call at a time"
assert mended.longest_gap < blocking.longest_gap, "the loop should stand still for less long"

# %% [markdown]
# ### The placeholder
#
# `RunnableLambda` wants a `func`, so some give it `lambda x: x`. What does `.invoke` answer?

# %%
client = ServiceClient(provider.url)
placeholder = RunnableLambda(lambda question: question, afunc=client.search)

answers_take(0.02)
provider.reset()
print("invoke:", placeholder.invoke("What is a token bucket?"))
print("batch: ", placeholder.batch(["What is jitter?", "What is a barrier?"]))
asked = provider.ledger().requests
print("requests:", asked)

# %% [markdown]
# The questions came back as answers, and the provider was never asked. `as_runnable` makes a Runnable whose sync side is real (`func=`), or refuses:

# %%
try:
    as_runnable(client.search).invoke("What is a token bucket?")
except TypeError as error:
    print(error)

# %% [markdown]
# ### The pool that you *did* get
#
# An `aiohttp` session opens at most 100 connections at once, and its `total` timeout runs while a call waits for one. Below are four hundred calls. The provider answers each well within the timeout, which is the same for both clients:


# %%
TIMEOUT = 0.75  # seconds


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
answers_take(0.3)
url = f"{provider.url}/search?q=loop"
bare = await with_bare_session()
ours = await with_service_client()
print(f"calls that timed out, on this machine: {bare} against {ours}")
assert ours < bare, "fewer should time out where a call's time starts with its connection"

# %% [markdown]
# `ServiceClient` has the same limit. It starts a call's time only when the call has its connection. Keep your own limit at or below the pool's, and let timeouts begin after the wait.
#
# ### One failing question
#
# The provider refuses an empty question at once. Good questions are with it in the batch. `abatch` raises. What happens to the others? **Predict** how many good answers you pay for and never see.


# %%
lost = predict(f"answers thrown away, of {COUNT} good ones", ..., "")  ### SOLUTION: 50
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


answers_take(0.04)
batch = await measure(one_bad_apple, provider=provider)
print("raised:", batch.value)
print(f"{COUNT + 1} calls started, one failed, {batch.ledger.answered} answered for nobody")
lost.reveal(batch.ledger.answered)

# %% [markdown]
# The error came at once. The others went on, were answered, and thrown away. With a limit it is worse: calls *start* after the batch has failed.

# %%
fifth = {"max_concurrency": max(1, COUNT // 5)}
limited = await measure(lambda: one_bad_apple(config=fifth), provider=provider)
failed_at = min(call.end for call in limited.ledger.calls if call.status == 400)
late = sum(call.start > failed_at for call in limited.ledger.calls)
print(f"calls that started after the failure, on this machine: {late}")
plots.timeline(limited.ledger.calls, title="The first one failed")

# %% [markdown]
# `return_exceptions=True` keeps each failure in its place:

# %%
kept = await one_bad_apple(return_exceptions=True)
good = [answer for answer in kept if isinstance(answer, list)]
print(f"{type(kept[0]).__name__} in its place, {len(good)} answers")

# %% [markdown]
# A `TaskGroup` does the opposite: after one failure, all the others are cancelled and awaited. Decide which of the two you want.


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
# A thread cannot be stopped. A timeout round the sync function returns on time, and the thread goes on. When the provider hangs, its calls hold the pool. Then nothing else runs that needs a thread, not even `x + 1`.


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
    questions = lab.questions(lab.default_threads())
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
# The async client is cancelled when it is told to be, on both sides: the provider sees the connection close, and drops the call.


# %%
async def hang_async():
    async with ServiceClient(provider.url) as client:
        return await within(0.1, as_runnable(client.search).abatch(lab.questions(20)))


provider.configure(faults=HANG)
try:
    hung = await lab.measure(hang_async, provider=provider)
finally:
    provider.configure(faults=None)
print("the batch:", hung.value)


# %%
def still_held():
    ledger = provider.ledger()
    return ledger.requests - len(ledger.calls)


async with asyncio.timeout(5):
    while still_held():  # the provider notices, as soon as it has a processor
        await asyncio.sleep(0.02)
print("calls that the provider still holds:", still_held())

# %% [markdown]
# ### Exercise 1.3: one bad call among many
#
# Write `outcomes(search, queries, limit, timeout)`. About 9 lines. Graded in virtual time, where one call fails and one hangs:
#
# - The result is a list with an answer (whatever it is, `None` as well) or an exception for each query, in order.
# - At most `limit` calls run at once, and a free [slot](../docs/glossary.md#slot) goes to the next call.
# - Each call has `timeout` seconds *from the moment it starts*.
# - Nothing is left running. When the function is cancelled itself, it ends at once and leaves nothing running either.


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
# ### Exercise 1.4: what is wrong here?
#
# This function went through review, has a test, and is in production. It returns the answer to each question, without those that failed:


# %%
async def by_question(search, questions):
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    answers = [answer for answer in found if not isinstance(answer, Exception)]
    return dict(zip(questions, answers, strict=False))


# %%
async def echo(question):
    if not question:
        raise ValueError("q is missing or empty")
    return f"answer to {question!r}"


await by_question(echo, ["What is jitter?", "What is a gate?"])

# %% [markdown]
# Find the fault. `BREAKS` is a list of questions to which the function gives a wrong answer, where `search` answers as `echo` does. Then mend it: write `mended(search, questions)`. About 4 lines. Graded:
#
# - With `BREAKS`, the function above gives a wrong answer.
# - `mended` returns a dict: each question that was answered, with its own answer, whatever that is (`None`, `0` and `""` are answers). Those that failed are left out.
# - It asks each question once, and all of them at once.


# %% tags=["exercise"] exercise="1.4"
BREAKS = ...  ### SOLUTION: ["", "What is jitter?"]


async def mended(search, questions):
    ### BEGIN SOLUTION
    found = await asyncio.gather(*map(search, questions), return_exceptions=True)
    pairs = zip(questions, found, strict=True)
    return {question: answer for question, answer in pairs if not isinstance(answer, Exception)}
    ### END SOLUTION


# %% tags=["check"]
await exercise("1.4").check(mended, BREAKS)

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
# In a cell, use **top-level `await`**. In sync code that must call async code, use **`run_sync`**: it runs it on a loop in a thread of its own:


# %%
def sync_code():
    return run_sync(asyncio.sleep(0.01, "from a loop of its own"))


sync_code()

# %%
start = time.perf_counter()
for _ in range(200):
    run_sync(asyncio.sleep(0))
print(f"run_sync: {(time.perf_counter() - start) / 200 * 1e6:.0f} µs a call")

# %% [markdown]
# `run_sync` blocks the loop that calls it for as long as the work takes. No way of calling async code from sync code can avoid that. Some sync code cannot be changed and calls `asyncio.run` itself: run it in a thread.


# %%
def legacy():
    return asyncio.run(asyncio.sleep(0, "asyncio.run, in a thread of its own"))


await asyncio.to_thread(legacy)

# %% [markdown]
# A third way, `nest_asyncio`, patches the running loop. The appendix says what it costs.

# %% [markdown]
# ## Where the time goes when waiting is free
#
# Calls that are [in flight](../docs/glossary.md#in-flight) together share the wait. They do not share the CPU of the client. What does one Runnable call cost, beside the coroutine in it? **Predict** the CPU seconds of ten thousand calls of a chain of three steps that do nothing.

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
async def fifty_searches():
    async with ServiceClient(provider.url) as client:
        return await as_runnable(client.search).abatch(lab.questions(50))


answers_take(0.02)
one_step, searches = RunnableLambda(nothing), await measure(fifty_searches)

# %%
per_call = {
    "a coroutine": await cost_of(nothing),
    "a task": await cost_of(lambda x: asyncio.create_task(nothing(x))),
    "as_runnable": await cost_of(as_runnable(nothing).ainvoke),
    "a RunnableLambda": await cost_of(one_step.ainvoke),
    "a chain of three": await cost_of((one_step | one_step | one_step).ainvoke),
    "a search through a Runnable": searches.cpu / 50,
}

# %%
plots.magnitudes(per_call, title="What one call costs, layer by layer", x="CPU of one call")

# %%
chain_of_three = per_call["a chain of three"]
print(f"10,000 * {chain_of_three * 1e6:.0f} µs; at most {1 / chain_of_three:,.0f} calls/s")
ten_thousand.reveal(chain_of_three * 10_000)

# %% [markdown]
# No number of connections makes these shorter. A process has one thread for its loop, so CPU per call is the ceiling of its throughput. Put few Runnables round plain async code, not a stack of them.
#
# `as_runnable` asks LangChain first whether anybody watches. Where nobody does, it skips what a `RunnableLambda` makes for each call: a run, its events, and a task. With a callback or with tracing it takes LangChain's way, event by event.

# %% [markdown]
# ## Appendix: loops that nest
#
# `nest_asyncio.apply()` patches the running loop so that loops nest. This cannot be undone, so it is looked at in child processes. First, what a task costs:

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
# The cost is the small part. Two nested runs under a patched loop are one stack: the outer one cannot return before the inner one does. And a timeout does not reach into a nested run.

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
assert quick >= 0.2, "the outer run should come back after the inner one"

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
assert ended_after >= 0.2, "the timeout should not reach into the nested run"

# %% [markdown]
# `run_sync` patches nothing. Each call has a loop that is not nested in another, and it takes a `timeout=` that works. `nest_asyncio` is for what is left: sync code that you cannot change, that calls `asyncio.run`, and that must stay on this thread.

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "The pool's bound holds for the pipeline": slow.seconds >= bound,
        "afunc beats it, and the answers are the same": ways.values_agree,
        "One session serves all calls": one.ledger.connections == 10,
        "A blocked loop shows on the timeline": blocking.gaps,
        "A placeholder's answer never reached the provider": asked == 0,
        "One failure is one failure": len(good) == COUNT,
        "1.1: I made the slow report fast": exercise("1.1").solved,
        "1.2: my call tells the truth": exercise("1.2").solved,
        "1.3: my batch keeps one bad call to itself": exercise("1.3").solved,
        "1.4: I found the fault, and mended it": exercise("1.4").solved,
    }
)

# %% [markdown]
# Your predictions, beside what came out:

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - A sync function under `abatch` runs in the loop's default pool, in `ceil(N / threads)` waves. `max_concurrency` does not size that pool. It does size the pool of `batch`.
# - `afunc` needs one latency for as many calls as there are connections. The speed-up is at most the number of waves, and the client's CPU limits it for short calls.
# - Keep one session for the life of the client. Use `params=` for what goes into a URL. Look at the status before the body. Start a timeout after the wait for a slot.
# - A failure in `abatch` does not stop the other calls, and their answers are lost. Choose `return_exceptions=True` or a `TaskGroup`.
# - Use `await` in cells, `run_sync` in sync code, and `nest_asyncio` only where nothing else works.
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
