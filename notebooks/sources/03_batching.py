# %% [markdown]
# # 3 · Batching strategies
#
# Ten thousand items, a few slow ones among them, and a provider that works on eight at once: keep every place busy, and give each item its own answer.
#
# ## What you'll do
#
# - send ten thousand questions at once, and look at what piles up where
# - watch chunks wait for their slowest item, and replace them by a window that slides
# - find the barrier inside a chain, and take it out
# - let batch sizes follow the load of this machine, then follow the service, and compare
# - build a loop that answers many callers in batches, urgent ones first, and survives its errors
# - make a slow program of somebody's fast, and find the fault in another
#
# ## What you'll learn
#
# - makespan, its lower bound, and why a sliding window stays close to it
# - what head-of-line blocking costs, by the spread of the latencies
# - which signal shows that a service is full
# - what ageing, bisection and micro-batching are for
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebooks 1 and 2 | necessary | [Async batches](01_async_batch.ipynb), [Concurrency and rate limits](02_rate_limiting.ipynb) |
# | `heapq`, `asyncio.Queue` | helpful | [Queues](https://docs.python.org/3/library/asyncio-queue.html) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 85 to 100 minutes | a run of all cells takes seconds |
#
# ## What you still know
#
# <details><summary>A provider lets fifty calls in each second, and a call takes a fifth of a second. How many are in flight?</summary>
#
# Ten: the rate times the time that a call stays, by Little's law.
#
# </details>
#
# <details><summary>Two batches run side by side, each with <code>max_concurrency=10</code>. How many calls are in flight?</summary>
#
# Up to twenty. `max_concurrency` belongs to one call of `abatch`. A limit that is to hold is one object, shared by all.
#
# </details>
#
# <details><summary>A call was refused, and it waits for <code>Retry-After</code>. What should it give back meanwhile?</summary>
#
# Its slot. Others can use it while the call waits.
#
# </details>

# %%
import asyncio
import heapq
import itertools
import random
import tracemalloc
from dataclasses import dataclass, field

import psutil

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.batching import CpuSignal, LatencySignal, MicroBatcher, PriorityBatchProcessor
from course_lib.batching import adaptive_batch, amap, batch_in_chunks
from course_lib.lab import VirtualProvider, exercise, plots, predict, simulate

# %% [markdown]
# **Change it and look.** These numbers are meant to be changed, to half, double, or whatever you like. Then run the cells below again.

# %% tags=["parameters"]
ITEMS, LIMIT = 48, 8  # questions, and how many of them are worked on at once
MEDIAN, P99 = 0.1, 1.0  # seconds that an answer takes: half take less, one in a hundred takes more

# %%
SPREAD = service.Latency.lognormal(p50=MEDIAN, p99=max(P99, MEDIAN), seed=5)
LATENCY = service.Latency.constant(0.02)

provider = service.start(latency=LATENCY)
print("the provider takes any number of calls at once, for now")


# %%
def now():
    return asyncio.get_running_loop().time()


# %% [markdown] tags=["path-90"]
# ## All at once
#
# *On the 90-minute path.*
#
# Notebook 1 started all calls together. Now there are ten thousand calls, and the provider works on a hundred at a time. **Predict**: how many of them wait in the provider's queue?

# %%
MANY, SLOTS = 10_000, 100
waiting = predict("questions in the provider's queue", ..., "")  ### SOLUTION: 9_900
waiting


# %%
async def all_at_once(provider, items):
    return await asyncio.gather(*(provider.search(f"question {item}") for item in items))


# %%
def weighed(program):
    provider = VirtualProvider(latency=LATENCY, capacity=service.Capacity(SLOTS))
    tracemalloc.start()
    simulate(lambda: program(provider, range(MANY)), patience=120)  # counting memory is slow
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return provider.ledger(), peak / 1e6


# %%
flood, flood_mb = weighed(all_at_once)
print(f"{MANY:,} in flight - {SLOTS} worked on = {MANY - SLOTS:,} waiting")
waiting.reveal(flood.peak_in_flight - flood.peak_working)

# %% [markdown]
# Each of them holds a task here and a place in the queue there. The last one has waited for all the others. That is long enough for a timeout, and then the provider works for nobody.
#
# `max_concurrency` bounds the *calls*. But what is made for them? **Predict** how many tasks there are when the first of two thousand calls starts, with `max_concurrency=10`:

# %%
tasks = predict("tasks, 2,000 questions, max_concurrency=10", ..., "")  ### SOLUTION: 2_000
tasks

# %%
seen = []


async def look_round(item):
    if not seen:
        seen.append(len(asyncio.all_tasks()))


# %%
async def two_thousand():
    await as_runnable(look_round).abatch(range(2_000), {"max_concurrency": 10})


simulate(two_thousand)
tasks.reveal(seen[0])

# %% [markdown]
# `abatch` makes a task for every item before the first one runs (around a plain `RunnableLambda`, one more for each call under way). And it needs to know how many there are: a generator, or a file read line by line, is refused.

# %%
try:
    await as_runnable(look_round).abatch(number for number in range(3))
except TypeError as error:
    print(error)

# %% [markdown] tags=["path-90"]
# ## Chunks
#
# *Run first: [All at once](#All-at-once).*
#
# *On the 90-minute path.*
#
# The usual remedy is to cut the list into chunks, and to run one chunk after the other. Most questions are quick, and some are slow.


# %%
async def drain(results):
    return [outcome.value async for outcome in results]


def on_spread(batch, **limit):
    provider = VirtualProvider(latency=SPREAD)
    run = simulate(lambda: drain(batch(provider.search, range(ITEMS), ordered=True, **limit)))
    return run, provider.ledger()


# %%
chunks, chunks_ledger = on_spread(batch_in_chunks, size=LIMIT)
plots.timeline(chunks_ledger.calls, title=f"Chunks of {LIMIT}")

# %% [markdown]
# Each bar is a call. The white in each row is a place that stands empty while its chunk waits for the slowest call: **[head-of-line blocking](../docs/glossary.md#head-of-line-blocking)**. No program can be faster than all the work divided by the number of places. No program can be faster than the longest call either. The larger of the two is the *lower bound* of the [makespan](../docs/glossary.md#makespan).


# %%
def bound(seconds, limit):
    return max(*seconds, sum(seconds) / limit)


lengths = [call.end - call.start for call in chunks_ledger.calls]
print(f"chunks: {chunks.seconds:.2f} s, lower bound {bound(lengths, LIMIT):.2f} s")

# %% [markdown]
# ### How much, by the spread
#
# A [chunk](../docs/glossary.md#chunk) lasts as long as its slowest item. When the latencies are exponential, the slowest of ten lasts $1 + \frac{1}{2} + \dots + \frac{1}{10}$ times the mean: the tenth harmonic number. **Predict**: how many times longer than needed are chunks of ten?

# %%
longer = predict("times longer than the bound", ..., "x")  ### SOLUTION: 2.93
longer

# %%
draw = random.Random(3)
exponential = [draw.expovariate(10) for _ in range(10_000)]
in_tens = sum(max(exponential[at : at + 10]) for at in range(0, 10_000, 10))
harmonic = sum(1 / number for number in range(1, 11))
print(f"the tenth harmonic number, 1 + 1/2 + ... + 1/10, is {harmonic:.2f}")
longer.reveal(round(in_tens / bound(exponential, 10), 2))


# %% [markdown]
# Other latencies and other sizes: each cell is a batch of 200 items in virtual time, against the bound for as many places.


# %%
def draws(make, count=200):
    draw = random.Random(1)
    return [make(draw) for _ in range(count)]


SPREADS = {
    "constant": draws(lambda draw: 0.1),
    "lognormal, narrow": draws(lambda draw: draw.lognormvariate(-2.3, 0.5)),
    "lognormal, wide": draws(lambda draw: draw.lognormvariate(-2.3, 1.0)),
    "exponential": draws(lambda draw: draw.expovariate(10)),
    "heavy tail": draws(lambda draw: 0.05 * draw.paretovariate(1.5)),
}


# %%
def ratio(batch, seconds, **limit):
    async def call(item):
        await asyncio.sleep(seconds[item])

    run = simulate(lambda: drain(batch(call, range(len(seconds)), **limit)))
    return run.seconds / bound(seconds, *limit.values())


# %%
SIZES = [2, 5, 10, 20, 50]


def grid(batch, name):
    return [[ratio(batch, each, **{name: size}) for size in SIZES] for each in SPREADS.values()]


def picture(values, title, x):
    labels = {"rows": list(SPREADS), "columns": list(map(str, SIZES))}
    return plots.heatmap(values, title=title, x=x, y="latencies", scale=(1, 4), **labels)


# %%
by_chunks = grid(batch_in_chunks, "size")
worst = max(itertools.chain(*by_chunks))
picture(by_chunks, f"Chunks take up to {worst:.1f}x the bound", "items in a chunk")

# %% [markdown]
# With constant latencies chunks cost nothing: that is why they pass their tests. The more the latencies spread, and the larger the chunk, the more places stand empty.
#
# But look at the last two columns: where the spread is wide, chunks of fifty are *nearer* to the bound than chunks of twenty. Did they become better?


# %%
def why(size, seconds):
    parts = [seconds[at : at + size] for at in range(0, len(seconds), size)]
    took, work = sum(map(max, parts)), sum(seconds) / size
    figures = (f"{took:.2f} s", f"{work:.2f} s", f"{max(seconds):.2f} s")
    return [f"{size}", f"{len(parts)}", *figures, f"{took / bound(seconds, size):.1f}x"]


lab.Table(
    ["size", "chunks", "they take", "work / places", "longest item", "of the bound"],
    [why(size, SPREADS["heavy tail"]) for size in SIZES],
)

# %% [markdown]
# The bound is the larger of two figures. With more places the work for each place shrinks, but the longest item does not. From some size on that item alone is the bound. It is longer than the work for each place, so nobody can finish sooner, with chunks or without. And only four chunks of fifty are left, so there are only four slowest items to wait for. The chunks did not become better; the places became useless.
#
# ### Exercise 3.1: a window that slides
#
# A colleague's program asks in chunks. Twelve questions take these seconds, and four may be asked at once:


# %%
async def in_chunks(search, queries, limit):
    answers, queries = [], list(queries)
    for at in range(0, len(queries), limit):
        chunk = queries[at : at + limit]
        answers += await asyncio.gather(*(search(query) for query in chunk))
    return answers


# %%
TWELVE = [0.1, 0.9, 0.1, 0.1, 0.2, 0.1, 0.6, 0.1, 0.1, 0.2, 0.1, 0.1]


async def search_twelve(number):
    await asyncio.sleep(TWELVE[number])
    return f"answer {number}"


# %% [markdown]
# **Predict**: how many seconds does `in_chunks` take?

# %%
colleague = predict("seconds for twelve questions in chunks of four", ...)  ### SOLUTION: 1.7
colleague

# %%
in_fours = simulate(lambda: in_chunks(search_twelve, range(12), 4)).seconds
slowest = [max(TWELVE[at : at + 4]) for at in range(0, 12, 4)]
print(f"the slowest of each chunk: {' + '.join(map(str, slowest))} = {sum(slowest):g} s")
print(f"lower bound: {bound(TWELVE, 4):g} s")
colleague.reveal(in_fours)

# %% [markdown]
# **Change it**: write `window(search, queries, limit)`, which takes the chunks' place. The check **measures** the gain. About 9 lines. Graded:
#
# - At most `limit` calls are in flight, and the next one starts as soon as *any* of them ends, in the order given.
# - `queries` is any iterable, perhaps without an end: take from it only what you have a place for (one may be at hand).
# - Return a list with an answer to each query, in their order, also if a query is empty or comes twice, and whatever the answer is.
# - If a call fails, cancel the others and let the error through at once.


# %% tags=["exercise"] exercise="3.1"
async def window(search, queries, limit):
    ### BEGIN SOLUTION
    answers, source = {}, enumerate(queries)

    async def worker():
        for number, query in source:
            answers[number] = await search(query)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return [answers[number] for number in range(len(answers))]
    ### END SOLUTION


# %% tags=["check"]
await exercise("3.1").check(window)

# %% [markdown]
# ### `amap`
#
# The [window](../docs/glossary.md#window) of this course is `amap`. It takes any Runnable or coroutine function and any iterable, also an asynchronous one. It gives an `Outcome` for each item as it ends: its index, its value or error, how long it waited and how long it ran. Here are the same questions as in the first picture:

# %% tags=["readme"]
slid, slid_ledger = on_spread(amap, limit=LIMIT)
plots.timeline(slid_ledger.calls, title=f"A sliding window of {LIMIT}")

# %%
print(
    f"chunks {chunks.seconds:.2f} s, window {slid.seconds:.2f} s, "
    f"{bound(lengths, LIMIT):.2f} s bound"
)
assert slid.value == chunks.value, "the window should give the answers of the chunks"
assert slid.seconds <= chunks.seconds, "the window should never be later than the chunks"

# %%
by_window = grid(amap, "limit")
worst_window = max(itertools.chain(*by_window))
picture(by_window, f"The window takes at most {worst_window:.1f}x the bound", "places")

# %% [markdown]
# What remains is the end of the batch, when nothing is left to fill a free place with. Graham proved in 1966 that it cannot be much: a window is done after the work divided by the places and the longest item, at most, so within twice the bound.
#
# **Play** with it: chunks or a window, how many places there are, and how long the slowest call in a hundred takes. When are chunks as good?


# %%
def a_batch(way="chunks", places=8, slowest=1.0):
    provider = VirtualProvider(latency=service.Latency.lognormal(p50=0.1, p99=slowest, seed=5))
    batch, size = (batch_in_chunks, "size") if way == "chunks" else (amap, "limit")
    simulate(lambda: drain(batch(provider.search, range(48), **{size: places})))
    calls = provider.ledger().calls
    least = bound([call.end - call.start for call in calls], places)
    return plots.timeline(calls, title=f"{way}, {places} places, bound {least:.2f} s")


lab.play(a_batch, way=["chunks", "window"], places=(2, 24, 1), slowest=(0.1, 3.0, 0.1))

# %%
assert worst_window < 2, "Graham: a window is done within twice the bound"
assert worst_window < worst, f"chunks take {worst:.1f}x, and a window should take less"

# %% [markdown]
# And a window holds what is in flight, not what is to come:


# %%
async def through_amap(provider, items):
    questions = (f"question {item}" for item in items)
    async for outcome in amap(provider.search, questions, limit=SLOTS):
        outcome.value


# %%
steady, steady_mb = weighed(through_amap)
print(f"all at once: {flood_mb:.0f} MB, {flood.peak_in_flight:,} at the provider")
print(f"amap: {steady_mb:.1f} MB (the provider's notes, mostly), {steady.peak_in_flight} there")
assert steady.answered == flood.answered and steady_mb < flood_mb / 3

# %% [markdown]
# ## A chain has barriers, too
#
# *Run first: [Chunks](#Chunks).*
#
# Now each item goes through three steps, and each step has its slow moments. Most items are quick. **Predict**: when does `chain.abatch` give you the first result?

# %%
first = predict("seconds until the first result of chain.abatch", ...)  ### SOLUTION: 5
first


# %%
def three_steps():
    provider = VirtualProvider(latency=SPREAD)
    step = as_runnable(provider.search)
    return step | step | step


# %%
async def by_abatch():
    await three_steps().abatch(range(ITEMS), {"max_concurrency": LIMIT})
    return [now()] * ITEMS  # all of them, when the last is done


async def by_amap():
    return [now() async for _ in amap(three_steps(), range(ITEMS), limit=LIMIT)]


# %%
at_once = simulate(by_abatch).value
flowing = simulate(by_amap).value
print(f"it gives all {len(at_once)} results at {at_once[-1]:.2f} s, when the last one is done")
first.reveal(round(at_once[0], 2))


# %%
def staircase(times):
    return [0, *times], list(range(len(times) + 1))


gain = f"{flowing[0]:.2f} s instead of {at_once[0]:.2f} s"
plots.over_time(
    {"chain.abatch": staircase(at_once), "amap(chain)": staircase(flowing)},
    title=f"Items that flow: the first result after {gain}",
    y="results there",
)

# %% [markdown]
# **Explain.** `RunnableSequence.abatch` runs the first step for the *whole* batch, then the second, then the third. That makes two more barriers, and each waits for its slowest item. An item that is quick stands still meanwhile. `amap(chain)`, or a `gather` over `chain.ainvoke`, lets each item go through all steps at its own pace.
#
# Two more things about batches of chains are easily missed. With `return_exceptions=True` a chain's `abatch` takes a *cancellation* for an error like any other. So it swallows a timeout around it, and the caller gets a list that looks like a result:


# %%
async def with_timeout():
    async with asyncio.timeout(0.05):
        return await three_steps().abatch(range(3), return_exceptions=True)


simulate(with_timeout).value


# %%
async def window_with_timeout():
    async with asyncio.timeout(0.05):
        return await drain(amap(three_steps(), range(3), limit=3, return_exceptions=True))


try:
    simulate(window_with_timeout)
except TimeoutError:
    print("amap: TimeoutError, as asked for")

# %% [markdown]
# The second thing is leaving early. A caller who needs only the first good answer breaks out of the loop. Who tells the others?


# %%
async def first_only(provider):
    batch = as_runnable(provider.search).abatch_as_completed(range(40), {"max_concurrency": 4})
    async for _ in batch:
        break
    await asyncio.sleep(10)


async def first_of_window(provider):
    async with amap(provider.search, range(40), limit=4) as outcomes:
        async for _ in outcomes:
            break
    await asyncio.sleep(10)


# %%
def calls_made(program):
    provider = VirtualProvider(latency=LATENCY)
    simulate(lambda: program(provider))
    return provider.ledger().requests


left_going, stopped = calls_made(first_only), calls_made(first_of_window)
print(f"calls made for one answer: abatch_as_completed {left_going}, amap {stopped}")
assert stopped < left_going == 40

# %% [markdown]
# ### Against the real provider
#
# Three hundred questions go over HTTP, and one call in twenty fails. `amap` tries those again. While an item waits for its next attempt, another one has its place. The provider's ledger says whether the sums are right.

# %%
COUNT = 300
provider.configure(faults=service.Faults(error=0.05, seed=1))


async def with_faults():
    async with ServiceClient(provider.url) as client:
        questions = lab.questions(COUNT)
        return [each async for each in amap(client.search, questions, limit=20, attempts=5)]


# %%
try:
    real = await lab.measure(with_faults, provider=provider)
finally:
    provider.configure(faults=None)
outcomes, attempts = real.value, sum(outcome.attempts for outcome in real.value)
print(f"{len(outcomes)} outcomes, {attempts} attempts, {real.ledger.errors} of them failed")

# %%
assert sorted(outcome.index for outcome in outcomes) == list(range(COUNT))
assert attempts == real.ledger.requests == COUNT + real.ledger.errors
assert real.peak_in_flight <= 20

# %% [markdown]
# ## How large a batch? Ask the right one
#
# *Run first: [Chunks](#Chunks).*
#
# The limit was given above. Often nobody gives it, and programs look for a signal. The one at hand is the load of the processor: `psutil.cpu_percent()`. It is often called without an interval, and then it tells the load since it was last called. What does it say to a program that computes, and calls it again and again?

# %%
readings = [psutil.cpu_percent() for _ in range(200)]
idle = sum(reading == 0.0 for reading in readings)
print(f"readings of 200 that call a busy core idle, on this machine: {idle}")
assert idle > 20

# %% [markdown]
# The counters behind it move in steps, and between two steps there is nothing to see. `CpuMeter` of this course waits for the next step. But suppose that the load is read well: what does a program read that waits for a service? This is the time that the process computed, in a run against the real provider:


# %%
async def hundred():
    async with ServiceClient(provider.url) as client:
        return await drain(amap(client.search, lab.questions(100), limit=4))


run = await lab.measure(hundred, provider=provider)
load = run.cpu / run.seconds / psutil.cpu_count()
print(f"busy, on this machine: {100 * load:.0f} %")

# %% [markdown]
# So the program reads "idle" and doubles its chunks, whatever the service does. But the service may be full: this one works on eight at once, has room for eight more to wait, and refuses the rest. A good signal finds the eight. `LatencySignal` looks at the service instead: at answers a second, divided by their latency.

# %%
FULL_AT_8 = service.Capacity(slots=8, queue=8)


async def adapt(provider, signal, history):
    batch = adaptive_batch(provider.search, range(800), signal=signal, return_exceptions=True)
    async for _ in batch:
        history.append((now(), signal.size))


# %%
def adapted(signal):
    history = []
    provider = VirtualProvider(latency=service.Latency.constant(0.1), capacity=FULL_AT_8)
    run = simulate(lambda: adapt(provider, signal, history))
    return run.seconds, provider.ledger(), history


# %%
signals = {
    "CPU, idle": adapted(CpuSignal(most=64, load=lambda: load)),
    "CPU, busy neighbour": adapted(CpuSignal(most=64, load=lambda: 0.95)),
    "latency": adapted(LatencySignal(most=64)),
}

# %%
UNTIL = 20  # seconds that are drawn


def drawn(history):
    times, sizes = zip(*[point for point in history if point[0] < UNTIL], strict=True)
    return [*times, UNTIL], [*sizes, sizes[-1]]


plots.over_time(
    {name: drawn(history) for name, (_, _, history) in signals.items()},
    title="Only the latency finds the eight places of the service",
    y="items in a chunk",
    bound=("capacity", ([0, UNTIL], [8, 8])),
)


# %%
async def fixed(provider):
    return await drain(amap(provider.search, range(800), limit=8, return_exceptions=True))


full = VirtualProvider(latency=service.Latency.constant(0.1), capacity=FULL_AT_8)
seconds = simulate(lambda: fixed(full)).seconds


# %%
def row(name, seconds, ledger):
    return [name, f"{ledger.answered}", f"{ledger.rejected}", f"{ledger.answered / seconds:.0f}/s"]


rows = [row(name, seconds, ledger) for name, (seconds, ledger, _) in signals.items()]
rows.append(row("a window of 8", seconds, full.ledger()))
lab.Table(["chunk size by", "answered", "refused", "answers a second"], rows)

# %% [markdown]
# The load of this machine says how busy *this machine* is. It is the right signal for work that this machine computes. A refusal takes no time and no CPU, so to this signal it looks like speed; most of the questions were thrown away. When something else keeps the machine busy, this signal makes the program slow for nothing. The service's own latency and answers show where its places end.

# %%
_, by_cpu, _ = signals["CPU, idle"]
_, by_latency, _ = signals["latency"]
follows_service = by_latency.rejected < by_cpu.rejected / 5
assert by_latency.answered > by_cpu.answered and follows_service
assert full.ledger().rejected == 0

# %% [markdown]
# ## Urgent ones first
#
# There are many callers, and a service that takes batches. The urgent calls should go first. This is how it is usually written, with a heap, and an `add` that starts the work:


# %%
class HandMade:
    def __init__(self, process_batch, size=4):
        self.process_batch, self.size = process_batch, size
        self.heap, self.busy = [], False

    async def add(self, item, priority=0):
        heapq.heappush(self.heap, (-priority, item))
        if not self.busy:
            await self.process()

    async def process(self):
        self.busy = True
        while self.heap:
            count = min(self.size, len(self.heap))
            await self.process_batch([heapq.heappop(self.heap)[1] for _ in range(count)])
        self.busy = False


# %%
class Service:
    def __init__(self):
        self.batches = []

    async def process(self, items):
        self.batches.append(items)
        await asyncio.sleep(0.1)
        if "bad" in items:
            raise ValueError("a bad item in the batch")
        return [f"answer to {item}" for item in items]


# %% [markdown]
# Twelve items come, with three levels of priority, in batches of four. **Predict**: how many batches are there?

# %%
batches = predict("batches for twelve items, four at a time", ..., "")  ### SOLUTION: 12
batches

# %%
twelve = [(f"{level}{number}", "abc".index(level)) for number in range(4) for level in "abc"]


async def add_twelve(desk):
    for item, priority in twelve:
        await desk.add(item, priority)
    return desk


# %%
by_hand = Service()
simulate(lambda: add_twelve(HandMade(by_hand.process)))
print(f"{len(twelve)} items / {len(by_hand.batches[0])} in a batch = {len(by_hand.batches)}")
batches.reveal(len(by_hand.batches))

# %%
by_hand.batches

# %% [markdown]
# The batches hold one item each, in the order in which they came: `add` works off the heap before the second item is in it. And the callers got no results. When they come all at once, the first one works for everybody:


# %%
async def when_back(desk, item, priority):
    await desk.add(item, priority)
    return round(now(), 3)


async def together(desk):
    return await asyncio.gather(*(when_back(desk, *each) for each in twelve))


# %%
back = simulate(lambda: together(HandMade(Service().process))).value
print(f"the first caller is back after {back[0]} s, the others after {max(back[1:])} s")
assert back[0] > 0.1 and max(back[1:]) == 0

# %% [markdown]
# Where priorities are equal, the heap compares the *items*. Then strings go by the alphabet, not by arrival, and dictionaries cannot be compared:


# %%
async def ties(desk, items):
    desk.busy = True  # as if a batch were in flight
    for item in items:
        await desk.add(item)


desk = HandMade(Service().process)
simulate(lambda: ties(desk, ["zebra", "apple"]))
print("first out:", heapq.heappop(desk.heap)[1])

# %%
desk = HandMade(Service().process)
try:
    simulate(lambda: ties(desk, [{"text": "one"}, {"text": "two"}]))
except TypeError as error:
    print(error)
print(f"{len(desk.heap)} in the heap: who tries again after the error has it done twice")

# %% [markdown]
# One error stops the desk for good. A first caller who gives up does the same. The flag stays set, so nobody starts the work again.


# %%
async def afterwards(desk, give_up):
    first = asyncio.create_task(desk.add("first" if give_up else "bad"))
    await asyncio.sleep(0.05)
    if give_up:
        first.cancel()
    for number in range(5):
        await desk.add(f"later {number}")
    await asyncio.wait([first])
    await asyncio.sleep(60)
    return len(desk.heap), first.cancelled() or bool(first.exception())


# %%
for give_up in (False, True):
    desk = HandMade(Service().process)
    stuck, failed = simulate(lambda: afterwards(desk, give_up)).value
    print(
        f"a minute after {'a cancellation' if give_up else 'an error'}, {stuck} items wait for ever"
    )
    assert stuck == 5 and failed

# %% [markdown]
# ### Exercise 3.2: one loop that answers everybody
#
# Callers put an `Entry` into a queue and wait for its `answer`, a future. One loop serves them all. Here is a first step. The loop below serves one caller at a time, and it has faults. What happens to the caller when `process_batch` raises? And to the loop, when a caller has left?


# %%
async def serve_one(queue, process_batch):
    while True:
        entry = await queue.get()
        (result,) = await process_batch([entry.item])
        entry.answer.set_result(result)


# %% [markdown]
# Now write the whole loop: `serve(queue, process_batch, size)`. About 14 lines. Graded:
#
# - It takes the first entry, and what else waits, in the queue's order, up to `size`. It does not wait for company.
# - Each caller gets its own result, by its place in the batch. Items may be equal, or no keys of a dictionary, such as a `dict`; results may be `None`.
# - An error of `process_batch` goes to the callers of that batch, with `set_exception`, and the loop goes on.
# - A wrong number of results is an error for the whole batch.
# - A caller may have left: then `answer.done()`, and the others get their results.
# - It runs until it is cancelled, and then it ends at once, also while a batch is in flight.


# %%
@dataclass(order=True)
class Entry:
    rank: tuple  # (-priority, number): equals in the order they came, items never compared
    item: object = field(compare=False)
    answer: asyncio.Future = field(compare=False)


# %% tags=["exercise"] exercise="3.2"
async def serve(queue, process_batch, size):
    ### BEGIN SOLUTION
    while True:
        batch = [await queue.get()]
        while len(batch) < size and not queue.empty():
            batch.append(queue.get_nowait())
        try:
            results = await process_batch([entry.item for entry in batch])
            pairs = list(zip(batch, results, strict=True))
        except Exception as error:
            pairs = [(entry, error) for entry in batch]
        for entry, result in pairs:
            if not entry.answer.done():
                failed = isinstance(result, Exception)
                (entry.answer.set_exception if failed else entry.answer.set_result)(result)
    ### END SOLUTION


# %% tags=["check"]
await exercise("3.2").check(serve)

# %% [markdown]
# ### Exercise 3.3: a bad item fails alone
#
# In that loop, a bad item still takes its whole batch along. Which one was it? Halve the batch, and call again: the half that fails is halved again. Write `isolate(process_batch, items)`. About 8 lines. Graded:
#
# - It returns a list with the result of each item (whatever it is), or its `ValueError`, in the order of the items. Their number may be odd.
# - A batch without a bad item takes one call, and a bad item is found by halves.
# - Other errors are no item's fault: let them through, also from a half, and do not call again.


# %% tags=["exercise"] exercise="3.3"
async def isolate(process_batch, items):
    ### BEGIN SOLUTION
    try:
        return await process_batch(items)
    except ValueError as error:
        if len(items) == 1:
            return [error]
    half = len(items) // 2
    first = await isolate(process_batch, items[:half])
    return first + await isolate(process_batch, items[half:])
    ### END SOLUTION


# %% tags=["check"]
await exercise("3.3").check(isolate)

# %% [markdown]
# ### `PriorityBatchProcessor`
#
# It does both, and it has what else such a loop needs: a bounded queue, several batches in flight, ageing, and an end that loses nobody. Here are the same twelve items:


# %%
async def submit_twelve(service):
    async with PriorityBatchProcessor(service.process, batch_size=4) as desk:
        return await asyncio.gather(*(desk.submit(*each) for each in twelve))


# %%
ordered = Service()
answers = simulate(lambda: submit_twelve(ordered)).value
ordered.batches

# %%
assert answers == [f"answer to {item}" for item, _ in twelve]
assert [len(batch) for batch in ordered.batches] == [4, 4, 4]


# %% [markdown]
# Now one of twelve items is bad, and the others are dictionaries of equal priority:


# %%
async def with_a_bad_one(service):
    items = ["bad", *({"text": number} for number in range(11))]
    async with PriorityBatchProcessor(service.process, batch_size=4) as desk:
        tasks = [desk.submit(item) for item in items]
        return await asyncio.gather(*tasks, return_exceptions=True)


# %%
bad, *good = simulate(lambda: with_a_bad_one(Service())).value
print(f"failed: {bad!r}; answered: {sum(isinstance(each, str) for each in good)}")
assert isinstance(bad, ValueError) and len(good) == 11

# %% [markdown]
# ### Starvation, and ageing
#
# For twenty seconds more urgent work comes in than the service can do. Now and then an ordinary item comes. How long does it wait?


# %%
async def ordinary(desk, waits):
    start = now()
    await desk.submit("ordinary")
    waits.append((start, now() - start))


async def overload(ageing, waits):
    async with (
        PriorityBatchProcessor(Service().process, batch_size=4, ageing=ageing) as desk,
        asyncio.TaskGroup() as group,
    ):
        for number in range(1_000):
            group.create_task(desk.submit("urgent", priority=1))
            if number % 50 == 0:
                group.create_task(ordinary(desk, waits))
            await asyncio.sleep(0.02)


# %%
def waits_with(ageing):
    waits = []
    simulate(lambda: overload(ageing, waits))
    return tuple(zip(*sorted(waits), strict=True))


starving, ageing = waits_with(None), waits_with(2.0)
plots.over_time(
    {"no ageing": starving, "ageing, 2 s a step": ageing},
    title=f"Ageing: nobody waits longer than {max(ageing[1]):.1f} s, instead of {max(starving[1]):.0f} s",
    y="seconds in line, by arrival",
)

# %% [markdown]
# Without ageing an ordinary item waits until the rush is over: who comes first waits longest. With ageing, two seconds in line count as much as one step of priority. So an ordinary item goes before the urgent ones that came two seconds later.

# %%
assert max(ageing[1]) < max(starving[1]) / 2

# %% [markdown]
# ## Micro-batching
#
# An [embedding](../docs/glossary.md#embedding) model takes a batch in little more time than a single text: most of the cost is the call's. Single calls come from everywhere in a program. `MicroBatcher` gathers them into [micro-batches](../docs/glossary.md#micro-batch): what comes while a batch is in flight makes up the next one. It has two knobs: the largest batch, and how long the first in a batch waits for company.

# %% tags=["parameters"]
CALL, TEXT = 0.020, 0.001  # seconds that a call takes, and each text in it

# %%
print(f"a call {CALL * 1e3:.0f} ms, and {TEXT * 1e3:.0f} ms for each text in it")


async def embed_batch(texts):
    await asyncio.sleep(CALL + TEXT * len(texts))
    return [len(text) for text in texts]


# %%
async def arrivals(batcher, rate, count=400):
    draw, waits = random.Random(7), []

    async def caller():
        start = now()
        await batcher("a text")
        waits.append(now() - start)

    async with batcher, asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(caller())
            await asyncio.sleep(draw.expovariate(rate))
    return sorted(waits)


# %%
def p95_and_calls(max_size, max_wait, rate=100):
    batcher = MicroBatcher(embed_batch, max_size=max_size, max_wait=max_wait)
    waits = simulate(lambda: arrivals(batcher, rate)).value
    return waits[len(waits) * 95 // 100], batcher.statistics().calls


# %% [markdown]
# A hundred texts come in each second, more than single calls can carry. **Predict**: how many texts must a batch hold, so that more would not help?

# %%
enough = predict("texts in a batch that carry the load", ..., "")  ### SOLUTION: 4
enough

# %%
MOST, WAITS = [1, 2, 4, 8, 16, 32], [0.0, 0.01, 0.03, 0.1]
swept = {(wait, most): p95_and_calls(most, wait)[0] for wait in WAITS for most in MOST}
best = min(swept.values())
at_once_is_best = min(swept[0.0, most] for most in MOST) < 1.1 * best
carried = {most: most / (CALL + TEXT * most) for most in MOST}
print(", ".join(f"{most}: {rate:.0f}/s" for most, rate in carried.items()), "can be carried")
enough.reveal(min(most for (_, most), p95 in swept.items() if p95 < 1.1 * best))

# %%
plots.heatmap(
    [[swept[wait, most] / best for most in MOST] for wait in WAITS],
    rows=[f"{wait * 1e3:g} ms" for wait in WAITS],
    columns=list(map(str, MOST)),
    title=f"p95 of a call against the best, {best * 1e3:.0f} ms: framed, the sweet spot",
    x="texts in a batch, at most",
    y="max_wait",
    region=(1.0, 1.1),
)

# %% [markdown]
# If the batch is too small, the queue grows as long as the load lasts. Beyond the size that carries the load, a larger limit changes nothing: batches are as large as they have to be. Patience gains nothing here, because under load there is company anyway; much of it only adds the wait. Where calls come in a trickle, patience buys something else, fewer calls:


# %%
def trickle(wait):
    p95, calls = p95_and_calls(32, wait, rate=20)
    return [f"{wait * 1e3:g} ms", f"{calls}", f"{p95 * 1e3:.0f} ms"]


lab.Table(["max_wait", "calls for 400 texts", "p95 of a call"], [trickle(wait) for wait in WAITS])

# %% [markdown]
# So latency is paid for fewer calls. That is worth it where a call costs money or counts against a limit.
#
# A batcher is a Runnable, so it can be a step of a chain. Sixty-four items go through the chain one by one, and the batcher calls the model for many at a time:


# %%
async def clean(text):
    await asyncio.sleep(0.01)
    return text.strip()


async def through_chain(batcher):
    async with batcher:
        chain = as_runnable(clean) | batcher
        return [each.value async for each in amap(chain, [" a text "] * 64, limit=64)]


# %%
batcher = MicroBatcher(embed_batch, max_size=32)
lengths_of = simulate(lambda: through_chain(batcher)).value
print(f"{len(lengths_of)} texts in {batcher.statistics().calls} calls")
assert lengths_of == [len("a text")] * 64, "each text should get its own length"
assert batcher.statistics().calls < 8, "64 texts should share a few calls"

# %% [markdown]
# ### Exercise 3.4: what is wrong here?
#
# A colleague's program embeds texts in batches. `texts` may be any iterable, also a file that is read line by line:


# %%
async def embed_all(embed, texts, size):
    source, vectors = iter(texts), []
    while text := next(source, None):
        batch = [text, *itertools.islice(source, size - 1)]
        vectors += await embed(batch)
    return vectors


# %%
async def length_and_blanks(texts):
    return [[len(text), text.count(" ")] for text in texts]


await embed_all(length_and_blanks, ["one text", "another one", "a third"], size=2)

# %% [markdown]
# Find the fault. `BREAKS` is a list of texts for which the program, with a `size` of 3, returns fewer vectors than there are texts. Then mend it: write `embedded(embed, texts, size)`. About 5 lines. Graded:
#
# - With `BREAKS` and a `size` of 3, `embed_all` returns too few vectors.
# - `embedded` returns a list with the vector of each text, in their order, whatever the text is.
# - Each call embeds `size` texts, and the last call what is left. No call gets an empty batch.
# - It takes from `texts` only the batch that it is about to embed.


# %% tags=["exercise"] exercise="3.4"
BREAKS = ...  ### SOLUTION: ["a", "b", "c", "", "e"]


async def embedded(embed, texts, size):
    ### BEGIN SOLUTION
    source, vectors = iter(texts), []
    while batch := list(itertools.islice(source, size)):
        vectors += await embed(batch)
    return vectors
    ### END SOLUTION


# %% tags=["check"]
await exercise("3.4").check(embedded, BREAKS)

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "The window gives what the chunks give, no later": slid.seconds <= chunks.seconds,
        "Ten thousand items never were more than a hundred tasks": steady.peak_in_flight == SLOTS,
        "The first result of a chain does not wait for the last": flowing[0] < at_once[0],
        "Attempts and failures agree with the provider's ledger": attempts == real.ledger.requests,
        "The batch size follows the service, not this machine": follows_service,
        "Urgent ones go first, and nobody starves": max(ageing[1]) < max(starving[1]),
        "The sweet spot of the micro-batcher needs no patience": at_once_is_best,
        "3.1: my window takes the chunks' place": exercise("3.1").solved,
        "3.2: my loop answers everybody": exercise("3.2").solved,
        "3.3: my bad item fails alone": exercise("3.3").solved,
        "3.4: I found the fault, and mended it": exercise("3.4").solved,
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - Judge a batch by its makespan against the bound: the work divided by the places, or the longest item.
# - Chunks have a barrier after each, chains under `abatch` one after each step. Items that flow have none.
# - A window holds what is in flight. It reads its source no faster than it works, ends cleanly, and gives each item its own outcome.
# - The signal for a batch size comes from the one who is to do the work.
# - One loop owns the queue; callers own only their futures. Whoever leaves, fails, or sends a bad item harms nobody else.
# - Batches fill by themselves under load. Patience buys fewer calls; under load it buys nothing.
#
# Next: [notebook 4](04_caching.ipynb), caching and memoisation.
#
# ## Further reading
#
# - R. L. Graham, [Bounds for certain multiprocessing anomalies](https://onlinelibrary.wiley.com/doi/10.1002/j.1538-7305.1966.tb01709.x), 1966
# - the [universal batching trade-off in practice](https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/batcher.html): Triton's dynamic batcher has the same two knobs
# - the code behind this notebook: [window](../course_lib/batching/window.py), [priority](../course_lib/batching/priority.py), [micro](../course_lib/batching/micro.py), [signals](../course_lib/batching/signals.py)

# %%
provider.stop()
lab.hygiene()
