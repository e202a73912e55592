# %% [markdown]
# # 4 · Caching and memoisation
#
# The fastest request is the one that nobody makes: build a cache that keeps its promises when values are empty, callers give up, and time passes.
#
# ## What you'll do
#
# - measure what repeated questions cost, and predict what a cache of a given size saves
# - count the damage of the caches that everybody writes: `lru_cache` on a coroutine, a dict, a dict with times
# - let fifty callers ask one question at once, and cancel the one that all the others wait for
# - restart a process that remembers, find the price of a hit, and set a budget for stale answers
# - make a slow program of somebody's fast, and find the fault in another
#
# ## What you'll learn
#
# - to tell from the popularity of questions how large a cache has to be
# - what a key must hold, and what it must not be made of
# - single flight, early refresh and jitter: three cures for three kinds of stampede
# - why a cache in a pipeline belongs in front of `abatch`, not inside it
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebook 1 | necessary | [Async batches](01_async_batch.ipynb) |
# | Notebook 3 | helpful | [Batching](03_batching.ipynb) |
# | `functools.lru_cache` | helpful | [its documentation](https://docs.python.org/3/library/functools.html#functools.lru_cache) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 75 to 90 minutes | a run of all cells takes seconds |
#
# ## What you still know
#
# <details><summary>Why do places stand empty when a list is worked off in chunks?</summary>
#
# The next chunk begins when the slowest item of the last one is done. All other places wait for it. A window fills each place at once.
#
# </details>
#
# <details><summary>A chain of three steps gets fifty items by <code>abatch</code>. When does the second step begin?</summary>
#
# When the first step is done for all fifty. `amap` over the chain lets each item go on at its own pace.
#
# </details>
#
# <details><summary>Fifty calls of a sync function go through <code>abatch</code>. What bounds how many run at once?</summary>
#
# The threads of the event loop's default pool, six on a machine with two cores.
#
# </details>

# %%
import asyncio
import functools
import itertools
import logging
import os
import random
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.runnables import RunnableLambda

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.caching import AsyncCache, CacheAdapter, SqliteStore, cached, stable_key
from course_lib.lab import VirtualProvider, exercise, measure, plots, predict, simulate

# %% [markdown]
# **Change it and look.** These numbers are meant to be changed, to half, double, or whatever you like. Then run the cells below again.

# %% tags=["parameters"]
LATENCY = 0.02  # seconds that the provider takes for each answer
RATE, SECONDS, SLOW = (
    300,
    6,
    0.1,
)  # requests a second, for how long, and seconds to compute an answer
SIZES = [16, 64, 128, 256, 512, 1024]  # answers that a cache has room for
BUDGET = 5  # % of all answers may be stale


# %%
def now():
    return asyncio.get_running_loop().time()


def zipf(catalogue, exponent, count):
    weights = [1 / rank**exponent for rank in range(1, len(catalogue) + 1)]
    return random.Random(1).choices(catalogue, weights, k=count)


ASKED = zipf(lab.questions(30), exponent=1.0, count=600)  # the notebook's first section says why

# %%
provider = service.start(latency=service.Latency.constant(LATENCY))

# %% [markdown] tags=["path-90"]
# ## The same questions again
#
# *On the 90-minute path.*
#
# Questions are not asked equally often. The most popular one comes about twice as often as the second, and three times as often as the third: in proportion to $1 / r^s$ for rank $r$, with $s$ near one. That is *Zipf's law*, and words, web pages and search queries come close to it.


# %%
popular = [times for _, times in Counter(ASKED).most_common()]
print(f"{len(ASKED)} requests for {len(popular)} questions; the three most popular: {popular[:3]}")

# %% [markdown]
# **Predict.** There are six hundred requests. How many of them does the provider *have* to answer?

# %%
needed = predict("requests that must reach the provider, of 600", ..., "")  ### SOLUTION: 100
needed


# %%
async def ask_all(in_front=lambda search: search):
    async with ServiceClient(provider.url) as client:
        search = in_front(as_runnable(client.search))
        return await search.abatch(ASKED, {"max_concurrency": 20})


# %%
def with_cache(search):
    return cached(search, AsyncCache(ttl=60, maxsize=1_000))


# %%
every_time = await measure(ask_all, provider=provider)
once = await measure(lambda: ask_all(with_cache), provider=provider)
faster = every_time.seconds / once.seconds
print(f"{every_time.seconds:.2f} s without a cache, {faster:.0f}x as long as with one")
assert once.value == every_time.value and every_time.ledger.requests == len(ASKED)
print(f"{len(set(ASKED))} questions are among them, and each is asked once")
needed.reveal(once.ledger.requests)

# %% [markdown]
# This notebook shows how `cached` does it, and how it is usually done wrong.
#
# ### How large must it be?
#
# Thirty answers fit anywhere. With a catalogue of thousands a cache has to choose what to keep. Most keep what was *used last* ([LRU](../docs/glossary.md#lru): the least recently used entry goes first). **Predict** the share of hits of a cache that holds 128 of 5,000 answers, with $s = 1$.

# %%
KEYS = range(5_000)
share = predict("hits of an LRU of 128, 5,000 keys, Zipf 1.0", ..., "%")  ### SOLUTION: 20
share


# %%
def hit_ratio(requests, size):
    look_up = functools.lru_cache(size)(lambda key: key)
    half = len(requests) // 2
    list(map(look_up, requests[:half]))  # until it is full
    filled = look_up.cache_info().hits
    list(map(look_up, requests[half:]))
    return (look_up.cache_info().hits - filled) / (len(requests) - half)


# %%
requests = {s: zipf(KEYS, s, 100_000) for s in (0.8, 1.0, 1.2)}
share.reveal(100 * hit_ratio(requests[1.0], 128))

# %% [markdown]
# The cache holds less than three per cent of the keys, and answers nearly half of the requests. That can be predicted without any cache. *Che's approximation* says: a key stays for about $T$ requests after it was used, the same $T$ for all keys. Then key $i$, of popularity $p_i$, is there with probability $1 - e^{-p_i T}$, and $T$ is such that these probabilities add up to the size $C$:
#
# $$\sum_i \left(1 - e^{-p_i T}\right) = C, \qquad \text{hits} = \sum_i p_i \left(1 - e^{-p_i T}\right)$$


# %%
def che(exponent, size):
    popularity = 1 / np.arange(1, len(KEYS) + 1) ** exponent
    popularity /= popularity.sum()
    low, high = 0.0, 1e9
    for _ in range(80):  # bisection for T
        middle = (low + high) / 2
        there = 1 - np.exp(-popularity * middle)
        low, high = (middle, high) if there.sum() < size else (low, middle)
    return float(popularity @ there)


# %%
def curve(ratio):
    return {f"Zipf {s}": (SIZES, [100 * ratio(s, n) for n in SIZES]) for s in requests}


measured = curve(lambda s, size: hit_ratio(requests[s], size))

# %%
middle = SIZES[len(SIZES) // 2 - 1]
in_the_middle = [measured[name][1][SIZES.index(middle)] for name in measured]
said = " / ".join(f"{value:.0f} %" for value in in_the_middle)
plots.versus_model(
    measured,
    curve(che),
    title=f"Room for {middle} of {len(KEYS):,} answers: {said} hits",
    x="size of the cache, answers",
    y="hits, % of requests",
)

# %%
off = max(abs(v - 100 * che(s, middle)) for s, v in zip(requests, in_the_middle, strict=True))
print(f"Che's approximation is off by at most {off:.1f} % of the requests")

# %% [markdown]
# Each doubling of the size brings less than the one before, and the popularity of the questions matters more than the size. Draw this curve from your own log before you buy memory.
#
# LRU has an enemy: a program that goes through more keys than there is room for, again and again. **Predict** the share of *misses* for 129 keys in a circle.

# %%
circle = predict("misses of an LRU of 128, 129 keys in a circle", ..., "%")  ### SOLUTION: 1
circle

# %%
in_a_circle = list(range(129)) * 100
print("128 other keys come between two uses of a key, and push it out")
print(f"with room for one more: {100 * hit_ratio(in_a_circle, 129):.0f} % hits")
circle.reveal(100 - 100 * hit_ratio(in_a_circle, 128))

# %% [markdown]
# Each key is dropped just before it is needed. When a cache seems useless, look for a scan that goes through it, and give the scan a cache of its own.

# %% [markdown]
# ## `functools.lru_cache`
#
# Python brings an LRU along. For a pure function in synchronous code nothing is simpler, and it is right:


# %%
@functools.lru_cache
def words(text):
    return frozenset(text.lower().split())


for question in ASKED:
    words(question)
words.cache_info()

# %% [markdown]
# Now put it on a function that is slow, and call it from threads, as `abatch` does with a sync function. Fifty equal questions go to six threads. **Predict**: how many computations are there?

# %%
in_threads = predict("computations of 50 equal questions in 6 threads", ..., "")  ### SOLUTION: 1
in_threads


# %%
def slow_function(computed):
    inside = threading.Barrier(6)

    @functools.lru_cache
    def search(question):
        inside.wait(timeout=10)
        computed.append(question)
        return f"answer to {question}"

    return search


# %%
computed = []
search = slow_function(computed)
with lab.default_executor(6):
    await asyncio.gather(*(asyncio.to_thread(search, "the same") for _ in range(50)))
print("all six threads begin before the first has an answer; the others find it kept")
in_threads.reveal(len(computed))

# %% [markdown]
# `lru_cache` keeps values. It knows nothing of a computation that is under way, so everybody who comes before the first is done computes as well. (The barrier stands for a slow answer: all six are inside before the first comes out.)
#
# On an `async def` it goes wrong in another way. Such a function returns a coroutine, and the coroutine is kept:


# %%
@functools.lru_cache
async def search_once(question):
    return f"answer to {question}"


print(await search_once("the same"))
try:
    await search_once("the same")
except RuntimeError as error:
    print(error)

# %% [markdown]
# The first call works, so every test passes that calls once. Some keep a task in its place. That mends this fault, and then failed and cancelled tasks are kept for ever, too.

# %% [markdown] tags=["path-90"]
# ## A dict by hand
#
# *On the 90-minute path.*
#
# So most of us write a few lines ourselves. These are the usual lines:


# %%
def by_hand(search):
    answers = {}

    async def ask(question):
        answer = answers.get(question)
        if answer:
            return answer
        answers[question] = await search(question)
        return answers[question]

    return ask


# %%
def by_cache(search):
    cache = AsyncCache(ttl=60, maxsize=1_000)
    return lambda question: cache.get_or_compute(question, lambda: search(question))


# %% [markdown]
# **Predict.** A question that no passage answers is asked ten times, one after another. How many requests are there?

# %%
empty = predict("requests for 10 questions without an answer, by hand", ..., "")  ### SOLUTION: 1
empty


# %%
async def ten_times(remember, question):
    async with ServiceClient(provider.url) as client:
        ask = remember(client.search)
        return [await ask(question) for _ in range(10)]


# %%
nothing = await measure(lambda: ten_times(by_hand, "xyzzy"), provider=provider)
kept = await measure(lambda: ten_times(by_cache, "xyzzy"), provider=provider)
print(f"answers: {nothing.value[0]}; requests with AsyncCache: {kept.ledger.requests}")
print(f"{nothing.value[0]} is false, so it is asked again each time")
empty.reveal(nothing.ledger.requests)

# %% [markdown]
# **Explain.** `if answer:` asks whether the answer is *true*, not whether it is *there*. `[]`, `""`, `0`, `None` and `False` are computed every time, and a question without an answer is repeated like any other. Ask with a default that nobody else has: `answers.get(question, MISSING) is MISSING`.
#
# ### Whose answer is it?
#
# A cache finds what was put under the key, so the key has to hold all that the answer depends on. With one dict at the top of a module, the key does not even hold the function:

# %%
answers = {}


def remembered(function):
    def ask(text):
        if text not in answers:
            answers[text] = function(text)
        return answers[text]

    return ask


# %%
count_words, shout = remembered(lambda text: len(text.split())), remembered(str.upper)
count_words("two clocks"), shout("two clocks")

# %% [markdown]
# Some put `hash(...)` of the arguments into the key. For a text, and within one process, that does no harm. But a second process that reads the same cache has other hashes, some numbers share a hash, and lists have none:

# %%
os.environ.pop("PYTHONHASHSEED", None)  # some set it for their tests
first, second = [await lab.run_child('result = hash("two clocks")') for _ in range(2)]
print("the same hash in two processes:", first == second)
print("the same hash for -1 and -2:", hash(-1) == hash(-2))
assert first != second

# %%
try:
    hash(["a", "list"])
except TypeError as error:
    print(error)

# %% [markdown]
# ### Exercise 4.1: a key that holds everywhere
#
# Write `make_key(name, arguments)`: a text, from the name of a function and a dict of its arguments, which stays as it is.
#
# - Equal arguments have equal keys: whatever their order, at every depth, in every process.
# - Different questions have different keys: another function, an argument of another name (one may be called `name`), another value, be it long, empty or `None`, in whatever alphabet. `1`, `"1"` and `True` are three questions, and the order of a list counts.
# - What cannot be written down (an object, a set) raises a `TypeError`, and is not left out.
#
# About 2 lines, with the import that you need.


# %% tags=["exercise"] exercise="4.1"
def make_key(name, arguments):
    ### BEGIN SOLUTION
    import json

    return f"{name}:{json.dumps(arguments, sort_keys=True)}"
    ### END SOLUTION


# %% tags=["check"]
await exercise("4.1").check(make_key)

# %% [markdown]
# `stable_key` does the same, takes messages and documents too, and refuses what JSON would change on the way:

# %%
print(stable_key({"q": "two clocks", "k": 5}, namespace="search"))
try:
    stable_key({1: "one"}, namespace="search")  # JSON would make it {"1": "one"}
except TypeError as error:
    print(error)

# %% [markdown]
# ### Whose list is it?
#
# What is handed out is the very object that is kept. Three callers each take the best document off the list:


# %%
async def take_best(cache):
    async def search():
        return ["best", "second", "third"]

    return (await cache.get_or_compute("question", search)).pop(0)


# %%
shared = AsyncCache(ttl=60, maxsize=10)
copied = AsyncCache(ttl=60, maxsize=10, copy=list)
print("shared:", [await take_best(shared) for _ in range(3)])
print("copied:", [await take_best(copied) for _ in range(3)])

# %% [markdown]
# A copy costs time at each hit. Keep what cannot be changed (a tuple in place of a list), and nobody needs a copy.
#
# ### A dict with times
#
# Values get old, so each is kept with the time when it came. This is how a cache with a time to live ([TTL](../docs/glossary.md#ttl)) is usually written:


# %%
class TtlDict:
    def __init__(self, ttl, clock=now):
        self.ttl, self.clock, self.entries = ttl, clock, {}

    async def get_or_compute(self, key, compute):
        if key in self.entries:
            value, stored = self.entries[key]
            if self.clock() - stored < self.ttl:
                return value
        value = await compute()
        self.entries[key] = value, self.clock()
        return value


# %% [markdown]
# It never serves an old value. But who takes it out? Two and a half thousand questions come, fifty a second, and nobody repeats one. Each answer is good for ten seconds:


# %%
async def stream(cache, count=2_500):
    async def answer():
        return bytes(1_000)

    for number in range(count):
        await cache.get_or_compute(f"question {number}", answer)
        await asyncio.sleep(1 / 50)
    return cache


# %%
def megabytes_after(make):
    tracemalloc.start()
    try:
        cache = simulate(lambda: stream(make())).value
        return cache, tracemalloc.get_traced_memory()[0] / 1e6
    finally:
        tracemalloc.stop()


# %%
ttl_dict, grown = megabytes_after(lambda: TtlDict(ttl=10))
bounded, steady = megabytes_after(lambda: AsyncCache(ttl=10, maxsize=1_000))
print(f"a dict with times: {len(ttl_dict.entries):,} entries, {grown:.1f} MB")
print(f"AsyncCache: {bounded.statistics().size:,} entries, {steady:.1f} MB")
assert len(ttl_dict.entries) == 2_500 and steady < grown / 2

# %% [markdown]
# Four in five of the dict's entries are dead. With each new entry `AsyncCache` drops up to two entries whose time is over. So they go faster than they come, and `maxsize` holds whatever happens.
#
# Another detail is the clock. `time.time()` is the wall clock, and somebody can set it. Here it is set back by a day, five seconds after the value was kept:


# %%
def wall_clock():
    return now() - (24 * 3600 if now() >= 5 else 0)


async def renewed_after(cache):
    async def stamp():
        return now()

    while await cache.get_or_compute("key", stamp) == 0:  # the first one
        await asyncio.sleep(10)
    return now()


# %%
clocks = {"wall clock": wall_clock, "loop's clock": now}
late = {
    name: simulate(lambda: renewed_after(TtlDict(ttl=10, clock=clock)), limit=1e6).value
    for name, clock in clocks.items()
}
for name, seconds in late.items():
    print(f"ttl 10 s, by the {name}: renewed after {seconds:,.0f} s")
assert late["wall clock"] > 24 * 3600 and late["loop's clock"] == 10

# %% [markdown]
# ### Exercise 4.2: a cache with a time to live
#
# Write `get_or_compute(key, compute)`. About 8 lines. Graded by calls made and stale answers served:
#
# - It returns the value that is kept, if there is one and it is not older than `ttl` seconds on the loop's clock (`now()`); otherwise `await compute()`. Any value is one, also an empty one.
# - Errors go to the caller and are not kept, and no old value stands in for them.
# - Of more than `maxsize` entries, and only then, the least recently *used* goes. What is renewed was just used.
# - Two caches share nothing.


# %% tags=["exercise"] exercise="4.2"
class TtlCache:
    def __init__(self, ttl, maxsize):
        self.ttl, self.maxsize = ttl, maxsize
        self.entries = {}

    async def get_or_compute(self, key, compute):
        ### BEGIN SOLUTION
        value, expires = self.entries.pop(key, (None, 0))
        if now() >= expires:
            value = await compute()
            expires = now() + self.ttl
        self.entries[key] = value, expires  # as the last one
        while len(self.entries) > self.maxsize:
            self.entries.pop(next(iter(self.entries)))
        return value
        ### END SOLUTION


# %% tags=["check"]
await exercise("4.2").check(TtlCache)

# %% [markdown] tags=["path-90"]
# ## Fifty callers, one question
#
# *Run first: [A dict by hand](#A-dict-by-hand).*
#
# *On the 90-minute path.*
#
# A popular answer has just expired, and fifty callers come before the new one is there. **Predict** how many requests the dict with times makes of them.

# %%
herd = predict("requests of 50 callers, a dict with times", ..., "")  ### SOLUTION: 1
herd


# %%
async def crowd(cache, count=50):
    async with ServiceClient(provider.url) as client:
        ask = lambda: client.search("What is a cache stampede?")
        calls = (cache.get_or_compute("question", ask) for _ in range(count))
        return await asyncio.gather(*calls)


# %%
stampede = await measure(lambda: crowd(TtlDict(ttl=60)), provider=provider)
single = await measure(lambda: crowd(AsyncCache(ttl=60, maxsize=10)), provider=provider)
print(f"requests: {stampede.ledger.requests} against {single.ledger.requests}")
assert stampede.value == single.value and single.ledger.requests == 1
print("the answer takes time, and all fifty came before it was there")
herd.reveal(stampede.ledger.requests)

# %% [markdown]
# That is a *[stampede](../docs/glossary.md#stampede)*: all who come within one computation compute. *[Single flight](../docs/glossary.md#single-flight)* keeps not only values, but also what is under way: the first caller begins, and the others wait for the same computation.
#
# ### Who owns the computation?
#
# A colleague's single flight works like this: the first caller computes, and hands the others what it finds. Then the first caller is cancelled, by a timeout or a closed browser. **Predict** how many of the fifty get no answer.


# %%
def inline_flight():
    flights = {}

    async def run(key, compute):
        if key in flights:
            return await asyncio.shield(flights[key])
        flight = flights[key] = asyncio.get_running_loop().create_future()
        try:
            flight.set_result(await compute())
            return flight.result()
        finally:
            flights.pop(key).cancel()  # without effect if it has its result

    return run


# %%
unanswered = predict("callers of 50 left without an answer", ..., "")  ### SOLUTION: 1
unanswered


# %%
async def first_one_leaves(run, leaving=1):
    provider = VirtualProvider(latency=service.Latency.constant(0.1))
    ask = lambda: provider.search("question")
    callers = [asyncio.create_task(run("question", ask)) for _ in range(50)]
    await asyncio.sleep(0.05)
    for caller in callers[:leaving]:
        caller.cancel()
    await asyncio.wait(callers)
    return sum(caller.cancelled() for caller in callers), provider.ledger().answered


# %%
inline, _ = simulate(lambda: first_one_leaves(inline_flight())).value
print("one who left, and all who waited for what that one computed")
unanswered.reveal(inline)

# %% [markdown]
# All of them get none: they waited for somebody who has gone. The computation must belong to nobody.
#
# ### Exercise 4.3: one computation, whoever leaves
#
# Write `run(key, compute)`. About 5 lines. Graded:
#
# - All who ask for a key at once get one computation, though each brings a `compute` of its own. Two instances share nothing.
# - The computation goes on when any of them is cancelled, also the first. Who is cancelled ends at once, and who comes after that waits for it like the others.
# - Its value (an empty one, too) or its error reaches everybody who waits.
# - When it has ended, the next call computes anew.


# %% tags=["exercise"] exercise="4.3"
class SingleFlight:
    def __init__(self):
        self.flights = {}

    async def run(self, key, compute):
        ### BEGIN SOLUTION
        if key not in self.flights:
            task = self.flights[key] = asyncio.create_task(compute())
            task.add_done_callback(lambda _: self.flights.pop(key))
        return await asyncio.shield(self.flights[key])
        ### END SOLUTION


# %% tags=["check"]
await exercise("4.3").check(SingleFlight)

# %%
if exercise("4.3").solved:  # measured again, with yours
    mine, _ = simulate(lambda: first_one_leaves(SingleFlight().run)).value
    print(f"without an answer when the first one leaves: {inline} before, {mine} with mine")

# %% [markdown]
# `AsyncCache` does this, too. It also counts who waits: when all fifty have left, it cancels the computation, and the provider answers nobody.


# %%
def cache_run():
    return AsyncCache(ttl=60, maxsize=10).get_or_compute


one_left = simulate(lambda: first_one_leaves(cache_run())).value
all_left = simulate(lambda: first_one_leaves(cache_run(), leaving=50)).value
print(f"the first leaves: {one_left[0]} without an answer, {one_left[1]} computation")
print(f"all of them leave: {all_left[0]} without an answer, {all_left[1]} computations")
assert one_left == (1, 1) and all_left == (50, 0)

# %% [markdown]
# ### The spike at each expiry
#
# Now over time: one popular question is asked by hundreds each second. Its answer takes a while to compute, and is good for a second. There are three caches: the dict with times, single flight, and single flight with *[early refresh](../docs/glossary.md#early-refresh)*, by the method called XFetch. At each hit XFetch draws whether to start a new computation in the background: the closer the end and the dearer the computation, the likelier it is. Meanwhile everybody gets the old value, which is still good.


# %%


async def request(cache, search, waits):
    start = now()
    await cache.get_or_compute("question", lambda: search("question"))
    waits.append((start, now() - start))


# %%
async def steady_load(cache, provider, waits):
    async with asyncio.TaskGroup() as group:
        for _ in range(RATE * SECONDS):
            group.create_task(request(cache, provider.search, waits))
            await asyncio.sleep(1 / RATE)


# %%
def run_load(make):
    provider, waits = VirtualProvider(latency=service.Latency.constant(SLOW)), []
    simulate(lambda: steady_load(make(), provider, waits))
    return provider.ledger(), [seconds for start, seconds in waits if start > 5 * SLOW]


loads = {
    "dict with times": run_load(lambda: TtlDict(ttl=1)),
    "single flight": run_load(lambda: AsyncCache(ttl=1, maxsize=10)),
    "early refresh": run_load(lambda: AsyncCache(ttl=1, maxsize=10, early=1)),
}


# %%
def row(name, ledger, waits):
    counts = ledger.requests, ledger.peak_in_flight, sum(seconds > 0 for seconds in waits)
    return [name, *map(str, counts), f"{max(waits):.2f} s"]


head = ["cache", "computations", "at once", "callers who waited", "longest wait"]
lab.Table(head, [row(name, *load) for name, load in loads.items()])


# %%
def in_flight(calls):
    changes = sorted([(call.start, 1) for call in calls] + [(call.end, -1) for call in calls])
    times, steps = zip(*changes, strict=True)
    return times, list(itertools.accumulate(steps))


# %% tags=["readme"]
naive, early = loads["dict with times"][0], loads["early refresh"][0]
lines = {"dict with times": in_flight(naive.calls), "early refresh": in_flight(early.calls)}
plots.over_time(
    lines,
    title=f"At each expiry {naive.peak_in_flight} computations at once; early refresh: {early.peak_in_flight}",
    y="computations in flight",
)

# %% [markdown]
# Single flight takes the load off the provider, but everybody who comes at an expiry still waits. With early refresh nobody waits, for a few computations more. (The very first callers are left out here: nothing can help them.) How high the spikes are needs no simulation: it is the rate of requests times the time of a computation, Little's law once more.

# %%
print(f"{RATE} a second * {SLOW:g} s = {RATE * SLOW:g} computations at once")
lab.checklist(
    {
        "Early refresh: one computation at a time": early.peak_in_flight == 1,
        "Early refresh: nobody waits": not max(loads["early refresh"][1]),
        "Single flight: a computation for each expiry, not for each caller": naive.requests
        > 0.5 * RATE * SLOW * loads["single flight"][0].requests,
    }
)

# %% [markdown]
# ### Many keys that expire together
#
# A third kind of stampede has nothing to do with one popular question. A process starts and fills its cache with five hundred answers, which are good for half a minute. They all came together, so they will all go together. Five thousand requests come each second. **Predict** how many misses the worst tenth of a second sees.

# %%
worst = predict("misses in the worst 0.1 s, 500 keys warmed together", ..., "")  ### SOLUTION: 50
worst


# %%
async def visits(cache, seconds, rate):
    misses, draw = [], random.Random(1)

    async def compute():
        misses.append(round(100 * now()) // 10)

    for key in range(500):
        await cache.set(key, None)
    for _ in range(100 * seconds):
        for key in draw.choices(range(500), k=rate // 100):
            await cache.get_or_compute(key, compute)
        await asyncio.sleep(0.01)
    counted = Counter(misses)
    return [counted[tenth] for tenth in range(10 * seconds)]


# %%
def misses_with(jitter, seconds=32, rate=5_000):
    cache = AsyncCache(ttl=30, maxsize=None, jitter=jitter)
    return simulate(lambda: visits(cache, seconds, rate), patience=60).value


spread = {f"{jitter:.0%} jitter": misses_with(jitter) for jitter in (0, 0.1, 0.5)}
print(f"500 keys, 500 draws: 500 * (1 - 1/e) = {500 * (1 - np.exp(-1)):.0f} keys are asked for")
worst.reveal(max(spread["0% jitter"]))

# %%
tenths = [tenth / 10 for tenth in range(320)]
none, some, much = map(max, spread.values())
plots.over_time(
    {name: (tenths, misses) for name, misses in spread.items()},
    title=f"Misses in the worst 0.1 s: {none}, with jitter {some} or {much}",
    y="misses in 0.1 s",
)

# %% [markdown]
# *[Jitter](../docs/glossary.md#jitter)* shortens each value's time by a share that is drawn for it alone, up to the one given. The misses come one by one now. But values live less long on average, so there are more misses. How many more, over ten lifetimes?

# %%
totals = {j: sum(misses_with(j, seconds=300, rate=1_000)) for j in (0, 0.1, 0.5)}
head = ["jitter", "mean lifetime", "misses in 300 s", "more"]
rows = [
    [f"{j:.0%}", f"{30 * (1 - j / 2):g} s", f"{n:,}", f"{n / totals[0] - 1:+.0%}"]
    for j, n in totals.items()
]
lab.Table(head, rows)

# %% [markdown]
# With a jitter $j$ a value lives $1 - j/2$ of its time on average, so there are about $1 / (1 - j/2)$ times as many misses. A tenth of jitter is enough to spread them, and costs little. With half of it the table shows what the last bit of smoothness costs.
#
# **Play** with all three: the size of the cache, how long an answer lives, and the jitter. A thousand keys are asked for by Zipf's law, five hundred times a second, after a start that warmed the most popular ones.


# %%
async def a_minute(cache, size):
    draw, misses = random.Random(1), Counter()
    weights = list(itertools.accumulate(1 / rank for rank in range(1, 1_001)))

    async def compute():
        misses[int(now())] += 1

    for key in range(size):
        await cache.set(key, None)
    for _ in range(60 * 20):
        for key in draw.choices(range(1_000), cum_weights=weights, k=25):
            await cache.get_or_compute(key, compute)
        await asyncio.sleep(0.05)
    return [misses[second] for second in range(60)]


def misses_over_time(size=1_000, ttl=20, jitter_percent=0):
    cache = AsyncCache(ttl=ttl, maxsize=size, jitter=jitter_percent / 100)
    misses = simulate(lambda: a_minute(cache, size)).value
    title = f"{sum(misses):,} misses in a minute, {max(misses)} in the worst second"
    return plots.over_time({"misses": (range(60), misses)}, title=title, y="misses in a second")


lab.play(misses_over_time, size=(50, 1_000, 50), ttl=(5, 60, 5), jitter_percent=(0, 90, 10))

# %% [markdown]
# ### Exercise 4.4: what is wrong here?
#
# A colleague remembers the results of a search for each user:


# %%
def remember(search):
    kept = {}

    async def ask(user, query, filters=()):
        key = f"{user}:{query}:{filters}"
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask


# %%
async def mail_of(user, query, filters):
    return f"{user}'s mail about {query}"


ask = remember(mail_of)
[await ask("Ada", "rent"), await ask("Bob", "rent"), await ask("Ada", "rent")]

# %% [markdown]
# Find the fault. `BREAKS` is a list of two questions, each a tuple of a user and a query, both texts, for which the second user gets the first one's results. Then mend it: write `remember_each(search)`. About 6 lines. Graded:
#
# - After the first question of `BREAKS`, `remember` answers the second one without a search.
# - `remember_each` returns an async function of a user, a query and `filters` (a tuple of texts, empty if it is not given). Different questions are searched for one by one, whatever stands in the texts.
# - The same question, with the same filters, is searched for once, also if its result is empty or `None`.
# - What `search` gets are the user, the query and the filters, as they were given.
# - Two functions that `remember_each` returned share nothing.


# %% tags=["exercise"] exercise="4.4"
BREAKS = ...  ### SOLUTION: [("Ada", "x:rent"), ("Ada:x", "rent")]


def remember_each(search):
    ### BEGIN SOLUTION
    kept = {}

    async def ask(user, query, filters=()):
        key = user, query, filters
        if key not in kept:
            kept[key] = await search(user, query, filters)
        return kept[key]

    return ask
    ### END SOLUTION


# %% tags=["check"]
await exercise("4.4").check(remember_each, BREAKS)

# %% [markdown] tags=["path-90"]
# ## Two tiers
#
# *On the 90-minute path.*
#
# Memory is fast, and gone when the kernel restarts. Behind it `AsyncCache` takes any LangChain store as a second tier. `SqliteStore` is a store in a file, which several processes may share. A miss in memory asks the file, and a miss in both asks the provider. These are all of its arguments:
#
# | Argument | What it decides | By default |
# | --- | --- | --- |
# | `ttl` | seconds that a value is handed out, in every tier; `None`: for ever | you say |
# | `maxsize` | values in memory at most, the least recently used goes first; `None`: any number | you say |
# | `jitter` | share by which each lifetime is shortened at random, at most | 0 |
# | `early` | how eagerly a value is computed anew before it ends; 1 is usual | 0: never |
# | `negative_ttl` | seconds that an error is kept and raised again | 0: not at all |
# | `copy` | makes the copy that each caller gets | none: all get the same object |
# | `store` | a second tier: a LangChain store of bytes | none |
# | `store_timeout` | seconds that the store may take for a call | 1 |
# | `codec` | writes values for the store | JSON |
# | `timer` | the clock | the event loop's |

# %%
folder = tempfile.TemporaryDirectory()


async def work(file):
    with SqliteStore(file) as store:
        cache = AsyncCache(ttl=3600, maxsize=1_000, store=store)
        async with ServiceClient(provider.url) as client:
            search = cached(as_runnable(client.search), cache, namespace="search")
            await search.abatch(ASKED)
    return cache.statistics()


# %% [markdown]
# `namespace=` says whose answers these are, since another process cannot see that its `client.search` is the same as this one. Now a program does the same in a process of its own. **Predict** how many of the thirty answers it finds without a request.

# %%
RESTARTED = """
import asyncio
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.caching import AsyncCache, SqliteStore, cached

async def work():
    with SqliteStore(file) as store:
        cache = AsyncCache(ttl=3600, maxsize=1_000, store=store)
        async with ServiceClient(url) as client:
            search = cached(as_runnable(client.search), cache, namespace="search")
            await search.abatch(asked)
    return cache.statistics().store_hits

result = asyncio.run(work())
"""

# %%
restart = predict("answers of 30 that a restarted process still has", ..., "")  ### SOLUTION: 1
restart

# %%
file = Path(tempfile.mkdtemp(dir=folder.name)) / "answers.sqlite3"
cold = await measure(lambda: work(file), provider=provider)
warm = await measure(
    lambda: lab.run_child(RESTARTED, file=str(file), url=provider.url, asked=ASKED),
    provider=provider,
)
print(f"requests: {cold.ledger.requests}, after the restart {warm.ledger.requests}")
print("all of them: the file outlives the process")
restart.reveal(warm.value)

# %% [markdown]
# Somebody wrote what is on disk: an older version, a crash, another program. `SqliteStore` reads it as JSON and never unpickles it. What cannot be read is a miss. Here the whole file is rubbish:

# %%
logging.getLogger("course_lib.caching").setLevel("ERROR")  # it warns; see what it does
file = Path(tempfile.mkdtemp(dir=folder.name)) / "answers.sqlite3"
file.write_bytes(b"rubbish " * 1_000)
repaired = await measure(lambda: work(file), provider=provider)
print(f"requests: {repaired.ledger.requests}, errors: {repaired.value.store_errors}")
print(f"set aside: {any('aside' in path.name for path in file.parent.iterdir())}")

# %% [markdown]
# ### Answers of a model
#
# Chat models take a cache of their own kind, `cache=`. `CacheAdapter` makes one of an `AsyncCache`, with single flight: of twenty equal prompts one is generated. (This model hands out another draft at each call, as if it were creative.)


# %%
async def generations(**options):
    drafts = iter([f"draft {number}" for number in range(20)])
    model = GenericFakeChatModel(messages=drafts, **options)
    messages = await asyncio.gather(*(model.ainvoke("What is jitter?") for _ in range(20)))
    return len({message.content for message in messages})


# %%
adapter = CacheAdapter(AsyncCache(ttl=3600, maxsize=1_000))
uncached, generated = await generations(cache=False), await generations(cache=adapter)
print(f"drafts for 20 equal prompts: {uncached} without, {generated} with a cache")
assert generated == 1

# %% [markdown]
# So where you *want* twenty different drafts, a cache is a mistake.

# %% [markdown] tags=["path-90"]
# ## What a hit costs
#
# *Run first: [Two tiers](#Two-tiers).*
#
# *On the 90-minute path.*
#
# A hit should cost a look-up. In a pipeline it often costs far more. This is a cache inside a `RunnableLambda`, in which every question is there already. **Predict** the CPU time of ten thousand hits through its `abatch`.

# %%
hits = predict("10,000 hits through a caching lambda, CPU", ...)  ### SOLUTION: 0.1
hits

# %%
ITEMS = [f"question {number}" for number in range(500)]
known = dict.fromkeys(ITEMS, "answer")


async def look_up(question):
    return known[question]


inside = RunnableLambda(look_up)
in_front = cached(as_runnable(look_up), AsyncCache(ttl=60, maxsize=2_000))


# %%
async def cost(run, count=500):
    await run()  # from now on all are hits
    costs = []
    for _ in range(3):
        start = time.process_time()
        await run()
        costs.append((time.process_time() - start) / count)
    return min(costs)


# %%
async def plain_dict():
    return [known[question] for question in ITEMS]


async def from_disk():
    with SqliteStore(file) as store:
        cache = AsyncCache(ttl=60, maxsize=1, store=store)  # memory for one: each asks the file
        for question in ITEMS[:100]:
            await cache.get_or_compute(question, lambda: look_up(question))


# %%
per_hit = {
    "a dict": await cost(plain_dict),
    "cached(...), abatch": await cost(lambda: in_front.abatch(ITEMS)),
    "cached(...), ainvoke": await cost(lambda: in_front.ainvoke(ITEMS[0]), count=1),
    "a caching lambda, abatch": await cost(lambda: inside.abatch(ITEMS)),
    "a file, one by one": await cost(from_disk, count=100),
    "the provider": LATENCY,
}

# %%
cheaper = per_hit["a caching lambda, abatch"] / per_hit["cached(...), abatch"]
plots.magnitudes(
    per_hit, title=f"A hit in front of abatch: {cheaper:.0f}x cheaper than inside", x="one answer"
)

# %%
assert cheaper > 50
print("10,000 hits, each for what a hit in the caching lambda costs")
hits.reveal(10_000 * per_hit["a caching lambda, abatch"])

# %% [markdown]
# **Explain.** `RunnableLambda.abatch` makes a task, a config and a callback manager for each input before it calls your function, even if all that the function does is look into a dict. `cached` overrides `abatch`: it looks up all keys first, hands only the misses on, one by one, and computes duplicates once. The price is that callbacks do not see hits: count them with `cache.statistics()`.

# %% [markdown] tags=["path-90"]
# ## What not to cache
#
# *On the 90-minute path.*
#
# - **What depends on more than the key.** Who may see what, which version of the prompt, which language: if it is not in the key, the next caller gets an answer that was made for somebody else. (What a config holds as `configurable`, `cached` puts into the key by itself, unless `ignore=` names it.)
# - **What is wanted anew each time**: drafts, samples, the time of day.
# - **Errors**, except for seconds (`negative_ttl`), to protect a provider that is down.
# - **What is not asked for twice**: then a cache is only memory.
#
# The first one is a data leak. `key=` chooses what the answer depends on. Here it chooses too little:


# %%
async def inbox(request):
    return f"mail of {request['user']}"


async def two_users(**options):
    chain = cached(as_runnable(inbox), AsyncCache(ttl=60, maxsize=10), **options)
    return [await chain.ainvoke({"user": user, "q": "new mail"}) for user in ("Ada", "Bob")]


# %%
print(await two_users(key=lambda request: request["q"]))
print(await two_users())

# %% [markdown]
# ### How stale is too stale?
#
# A TTL is a promise about the data: an answer may be wrong for so long, and no longer. Let each of a hundred answers be asked for once in ten seconds, and change once in five minutes, on average. The longer the TTL $T$, the more hits there are, and the more of them are stale. With $\lambda$ requests and $\mu$ changes a second for a key, each miss is followed by $\lambda T$ hits on average, and a value of age $a$ is stale with probability $1 - e^{-\mu a}$:
#
# $$\text{hits} = \frac{\lambda T}{1 + \lambda T}, \qquad \text{stale} = \frac{\lambda}{1 + \lambda T}\left(T - \frac{1 - e^{-\mu T}}{\mu}\right)$$

# %%
ASKS, CHANGES = 1 / 10, 1 / 300  # of each answer, in a second


def model(ttl):
    hits = ASKS * ttl / (1 + ASKS * ttl)
    wrong_for = ttl - (1 - np.exp(-CHANGES * ttl)) / CHANGES
    return 100 * hits, 100 * ASKS * wrong_for / (1 + ASKS * ttl)


# %%
def world(count=20_000, keys=100):
    draw, clock = random.Random(7), 0.0
    for _ in range(count):
        clock += draw.expovariate(keys * (ASKS + CHANGES))
        change = draw.random() < CHANGES / (ASKS + CHANGES)
        yield clock, draw.randrange(keys), change


# %% [markdown]
# `world` draws requests and changes as they come. The cache goes by the clock of that world (`timer=`):

# %%
WORLD = list(world())


# %%
def served(ttl, tell=False):
    clock, truth, stale = 0.0, Counter(), 0
    cache = AsyncCache(ttl=ttl, maxsize=None, timer=lambda: clock)
    for moment, key, change in WORLD:
        clock = moment
        if change:
            truth[key] += 1
            if tell:
                cache.invalidate_sync(key)
        else:
            stale += cache.get_or_compute_sync(key, lambda: truth[key]) != truth[key]
    done = cache.statistics()
    return 100 * done.hit_ratio, 100 * stale / done.requests


# %%
longest = max(ttl for ttl in range(1, 300) if model(ttl)[1] <= BUDGET)
hits_then, stale_then = served(longest)
print(f"longest ttl within the budget: {longest} s")
print(f"measured with it: {hits_then:.0f} % hits, {stale_then:.1f} % stale")

# %%
TTLS, every = [5, 15, 30, 60, 120, 180], range(1, 181)
names = ["hits", "stale answers"]
points = {n: (TTLS, v) for n, v in zip(names, zip(*map(served, TTLS), strict=True), strict=True)}
lines = {n: (every, v) for n, v in zip(names, zip(*map(model, every), strict=True), strict=True)}
plots.versus_model(
    points,
    lines,
    title=f"At most {BUDGET} % stale: a ttl of {longest} s, and {hits_then:.0f} % hits",
    x="ttl, seconds",
    y="% of all answers",
)

# %% [markdown]
# The curve of hits bends where the TTL reaches the time between two requests for a key, but staleness goes on growing. So set the budget first, and take the TTL from it. Where somebody *tells* you of changes, invalidate, and keep the TTL as a net for the messages that get lost:

# %%
hits_told, stale_told = served(ttl=3600, tell=True)
print(f"told of each change: {hits_told:.0f} % hits, {stale_told:.0f} % stale")

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "The hits of a cache can be predicted from its size": off < 2,
        "Retrieval: an empty answer is asked for once": kept.ledger.requests == 1,
        "Retrieval: fifty callers, one request": single.ledger.requests == 1,
        "A caller who leaves takes nobody along": one_left == (1, 1),
        "Early refresh: no expiry makes anybody wait": not max(loads["early refresh"][1]),
        "Generation: equal prompts are generated once": generated == 1,
        "A restarted process asks nothing again": warm.ledger.requests == 0,
        "Stale answers stay within their budget": stale_then <= 1.1 * BUDGET,
        "4.1: my key holds everywhere": exercise("4.1").solved,
        "4.2: my cache lets old values go": exercise("4.2").solved,
        "4.3: my computation belongs to nobody": exercise("4.3").solved,
        "4.4: I found the fault, and mended it": exercise("4.4").solved,
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - Popularity decides what a cache brings. Che's approximation tells the hits of an LRU from it. A scan through more keys than there is room for brings none.
# - A key holds all that the answer depends on, as text that is the same in every process. A value is there or not there; whether it is *true* is another question.
# - Bound the size and the time, by a clock that nobody sets.
# - Three stampedes, three cures: one key asked by many, *single flight*; one key that expires under load, *early refresh*; many keys that expire together, *jitter*.
# - A computation that many callers wait for belongs to none of them.
# - Put the cache in front of `abatch`. And set the budget for stale answers before the TTL.
#
# Next: [notebook 5](05_monitoring.ipynb), what to measure when it is all running.
#
# ## Further reading
#
# - H. Che, Y. Tung, Z. Wang, [Hierarchical Web caching systems](https://doi.org/10.1109/JSAC.2002.801752), IEEE JSAC 20(7), 2002; and why the approximation is so good: C. Fricker, P. Robert, J. Roberts, [A versatile and accurate approximation for LRU cache performance](https://arxiv.org/abs/1202.3974), 2012
# - L. Breslau and others, [Web caching and Zipf-like distributions: evidence and implications](https://doi.org/10.1109/INFCOM.1999.749260), INFOCOM 1999
# - A. Vattani, F. Chierichetti, K. Lowenstein, [Optimal probabilistic cache stampede prevention](https://www.vldb.org/pvldb/vol8/p886-vattani.pdf), PVLDB 8(8), 2015
# - [RFC 5861](https://www.rfc-editor.org/rfc/rfc5861), stale content in HTTP caches
# - the code behind this notebook: [cache](../course_lib/caching/cache.py), [single_flight](../course_lib/caching/single_flight.py), [cached](../course_lib/caching/cached.py), [stores](../course_lib/caching/sqlite_store.py)

# %%
provider.stop()
folder.cleanup()
lab.hygiene()
