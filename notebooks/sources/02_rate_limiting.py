# %% [markdown]
# # 2 · Concurrency and rate limits
#
# A provider answers 429 when you ask too often: build a limit that is exact, fair and shared, and that survives cancellation.
#
# ## What you'll do
#
# - drown a provider, and count what it refuses
# - find out what a semaphore really bounds, and what it does not
# - mend the token bucket that everybody writes, and prove the mend in virtual time
# - share one gate between nested calls, cool down together, and let the limit find its own level
#
# ## What you'll learn
#
# - to turn a rate into a concurrency and back, with Little's law
# - to check a limiter over *every* window, not over the average
# - where to wait: for the rate first, for the slot last, and for `Retry-After` with no slot at all
# - why adaptive limits grow by one and shrink by half
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebook 1 | necessary | [Async batches](01_async_batch.ipynb) |
# | `asyncio.Semaphore`, `asyncio.Lock` | helpful | [Synchronization primitives](https://docs.python.org/3/library/asyncio-sync.html) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 75 to 90 minutes | a run of all cells takes seconds |

# %%
import asyncio
import itertools
import time

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, as_runnable, run_sync
from course_lib.errors import RateLimited
from course_lib.lab import VirtualProvider, exercise, plots, predict, simulate
from course_lib.rate_limiting import Aimd, Gate, TokenBucket, limited

# %%
RATE, BURST = 20, 10  # requests a second, and at once after a pause
LATENCY = service.Latency.constant(0.05)
LIMIT = service.RateLimit(rate=RATE, burst=BURST)

provider = service.start(latency=LATENCY, rate_limit=service.RateLimit(rate=0.2, burst=BURST))
print(f"the provider lets in {BURST} requests at once after a pause, and few after that")

# %% [markdown]
# ## A storm
#
# A hundred questions, all at once, at a provider that has a limit. **Predict**: how many answers?

# %%
answers = predict("answers to 100 questions at once", ..., "")  ### SOLUTION: 10
answers


# %%
async def storm(count):
    async with ServiceClient(provider.url) as client:
        chain = as_runnable(client.search)
        return await chain.abatch(lab.questions(count), return_exceptions=True)


# %%
outcomes = await storm(100)
refused = [outcome for outcome in outcomes if isinstance(outcome, RateLimited)]
print(f"refused, by the provider's own count: {provider.ledger().rejected > 80}")
answers.reveal(provider.ledger().answered)

# %% [markdown]
# Everybody who was refused was told when to come back: `Retry-After`, in the error as `retry_after`. If they all obey, they all come back together.
#
# ### Goodput and offered load
#
# What gets through is *goodput*, what you send is the *offered load*. To see how they depend on each other takes minutes of calls, so this is done in **virtual time**: `VirtualProvider` is the same provider without HTTP, and `simulate` lets its clock jump. The results are exact.


# %%
async def offered(provider, rate, seconds=10):
    async def call():
        try:
            return await provider.search("q")
        except RateLimited:
            return None

    async with asyncio.TaskGroup() as group:
        for _ in range(rate * seconds):
            group.create_task(call())
            await asyncio.sleep(1 / rate)


# %%
def ledger_at(rate):
    provider = VirtualProvider(latency=LATENCY, rate_limit=LIMIT)
    simulate(lambda: offered(provider, rate))
    return provider.ledger()


LOADS = [5, 10, 20, 25, 40, 80]
ledgers = [ledger_at(rate) for rate in LOADS]

# %%
goodput = [ledger.answered / 10 for ledger in ledgers]
wasted = [ledger.rejected / 10 for ledger in ledgers]

# %%
plots.versus_model(
    {"goodput": (LOADS, goodput), "refused": (LOADS, wasted)},
    {"goodput": (LOADS, [min(load, RATE + BURST / 10) for load in LOADS])},
    title="Past the limit, more load is only more refusals",
    x="offered load, requests/s",
    y="requests/s",
)

# %% [markdown]
# Goodput stands still at the limit. Every further request costs you a connection, CPU and patience, and buys nothing; many providers count refused requests as well.
#
# ## What a semaphore bounds
#
# ### `max_concurrency` is per call
#
# `max_concurrency=3` in the outer batch, the same config in the inner one: how many calls at once?

# %%
at_once = predict("calls at once, two nested batches of 3", ..., "")  ### SOLUTION: 9
at_once


# %%
async def ask_three(client, question):
    three = [f"{question} {n}" for n in range(3)]
    return await as_runnable(client.search).abatch(three, {"max_concurrency": 3})


# %%
async def nested():
    async with ServiceClient(provider.url) as client:

        async def outer(question):
            return await ask_three(client, question)

        return await as_runnable(outer).abatch(lab.questions(9), {"max_concurrency": 3})


# %%
provider.configure(rate_limit=None)
nest = await lab.measure(nested, provider=provider)
at_once.reveal(nest.peak_in_flight)

# %% [markdown]
# The limit belongs to one call of `abatch`. Nested batches multiply, batches side by side add up. A limit that is to hold must be an object that all of them share.
#
# ### A semaphore of your own, shared by all: and by all loops?
#
# The usual place is the top of a module. It works, until a second event loop comes along: a second `asyncio.run`, a test, a web server's worker.

# %%
shared = asyncio.Semaphore(2)


async def use(count=10):
    async def one():
        async with shared:
            await asyncio.sleep(0.001)

    return await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)


# %%
here = await use()
elsewhere = run_sync(use())  # a loop of its own
failed = [outcome for outcome in elsewhere if isinstance(outcome, RuntimeError)]
print(f"failed here: {sum(isinstance(o, RuntimeError) for o in here)}, elsewhere: {len(failed)}")
print(str(failed[0]).split(">")[-1])

# %% [markdown]
# Only those that had to *wait* failed: on a quiet day nobody notices.
#
# ### A semaphore is not a rate limit
#
# Little's law: the number in flight is the rate times the time that each takes, $L = \lambda W$. So a semaphore of $L$ lets through $\lambda = L / W$ calls a second, whatever $W$ happens to be today. Hold it against the provider's limit:


# %%
async def through_semaphore(provider, slots, calls=100):
    semaphore = asyncio.Semaphore(slots)

    async def call():
        async with semaphore:
            return await provider.search("q")

    return await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)


# %%
def refusals(seconds, slots=10):
    latency = service.Latency.constant(seconds)
    provider = VirtualProvider(latency=latency, rate_limit=service.RateLimit(rate=20, burst=20))
    simulate(lambda: through_semaphore(provider, slots))
    return provider.ledger().rejected


for seconds in (0.02, 0.1, 0.5):
    print(f"10 slots / {seconds:g} s = {10 / seconds:g}/s: {refusals(seconds)} of 100 refused")

# %% [markdown]
# The same semaphore is far too wide for a fast provider and just right for a slow one. Turned round, the law says how many slots a rate needs: `rate * latency`, and some more for the spread.
#
# ## A token bucket by hand
#
# So a rate limit it is. A bucket fills with `rate` tokens a second, up to its `capacity`; a call takes one, or waits for it. This is how it is usually written:


# %%
class Refilled:
    def __init__(self, rate, capacity):
        self.rate, self.capacity = rate, capacity
        self.tokens, self.filled = capacity, self.time()
        self.lock = asyncio.Lock()

    def time(self):
        return asyncio.get_running_loop().time()

    def refill(self):
        passed = self.time() - self.filled
        self.tokens = min(self.capacity, self.tokens + passed * self.rate)
        self.filled = self.time()


# %%
class NaiveBucket(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            if self.tokens >= 1:
                self.tokens -= 1
            else:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.tokens = 0


# %%
def now():
    return asyncio.get_running_loop().time()


# %%
async def grant_times(make, callers=60):
    limiter, times = make(), []

    async def caller():
        await limiter.acquire()
        times.append(now())

    await asyncio.gather(*(caller() for _ in range(callers)))
    return times


# %% [markdown]
# **Predict.** A rate of 10 a second, a capacity of 5, and sixty callers at once. When has the last one its token?

# %%
last = predict("seconds until the 60th token", ...)  ### SOLUTION: 5.5
last

# %%
naive = simulate(lambda: grant_times(lambda: NaiveBucket(10, 5))).value
last.reveal(naive[-1])


# %%
def staircase(title, **granted):
    series = {name: (times, range(1, len(times) + 1)) for name, times in granted.items()}
    end = max(times[-1] for times in granted.values())
    allowed = ("capacity + rate * t", ([0, end], [5, 5 + 10 * end]))
    return plots.over_time(series, title=title, y="tokens given out", bound=allowed)


staircase("The naive bucket goes through its ceiling", naive=naive)

# %% [markdown]
# **Explain.** It gives out almost twice its rate. Follow one caller: it sleeps for the token that is missing and takes it. But the timestamp still stands *before* the sleep, so the next caller's refill counts the same seconds once more. In a test with a few calls the burst hides it.
#
# The mends that come to mind have faults of their own. Move the timestamp only, and every late wake-up is lost; book the debt without a lock, and those who give up still hold their places:


# %%
class LateBucket(Refilled):
    async def acquire(self):
        async with self.lock:
            self.refill()
            self.tokens -= 1
            if self.tokens < 0:
                await asyncio.sleep(-self.tokens / self.rate)
                self.tokens, self.filled = 0, self.time()  # however late it is


# %%
late = await grant_times(lambda: LateBucket(500, 1), callers=100)
print(f"asked for 500/s: {99 / (late[-1] - late[0]):.0f}/s, each wake-up a little late")


# %%
class DebtBucket(Refilled):
    async def acquire(self):
        self.refill()
        self.tokens -= 1
        if self.tokens < 0:
            await asyncio.sleep(-self.tokens / self.rate)


# %%
async def desert(bucket):
    deserters = [asyncio.create_task(bucket.acquire()) for _ in range(30)]
    await asyncio.sleep(0.001)
    for task in deserters:
        task.cancel()
    await asyncio.wait(deserters)


# %%
async def wait_behind_deserters(bucket):
    await asyncio.gather(*(bucket.acquire() for _ in range(5)))
    await desert(bucket)
    start = now()
    await bucket.acquire()
    return round(now() - start, 3)


# %%
async def main():
    return await wait_behind_deserters(DebtBucket(10, 5))


print(f"the next caller waits {simulate(main).value} s, behind thirty who have left")

# %% [markdown]
# A loop that polls "until there is enough" has another: what is missing may be so little that sleeping for it takes no time. `simulate` sees it, because its clock stands still:


# %%
async def poll():
    tokens = 0
    for _ in range(10):
        tokens += 0.1  # ten tenths are not quite one
    while tokens < 1:
        await asyncio.sleep((1 - tokens) / 10)


# %%
try:
    simulate(poll)
except lab.Livelock as error:
    print(str(error).split(":")[0])

# %% [markdown]
# And a bucket that reads the *wall clock* stands still for as long as the clock is set back:


# %%
class WallClockBucket(NaiveBucket):
    def time(self):
        return now() - (5 if now() >= 1 else 0)  # set back by five seconds


# %%
times = simulate(lambda: grant_times(lambda: WallClockBucket(10, 5))).value
longest = max(after - before for before, after in itertools.pairwise(times))
print(f"longest wait for a token: {longest:.1f} s, at a rate of 10/s")
assert longest >= 5

# %% [markdown]
# ### Exercise 2.1: a bucket that keeps its rate
#
# Mend it. `Bucket(rate, capacity)` has `await acquire()`: at most `capacity + rate * t` tokens in *any* `t` seconds, exactly the rate when saturated, first come first served, and whoever is cancelled delays nobody. It inherits `refill`. About 6 lines.


# %% tags=["exercise"] exercise="2.1"
class Bucket(Refilled):
    async def acquire(self):
        ### BEGIN SOLUTION
        async with self.lock:
            self.refill()
            if self.tokens < 1:
                await asyncio.sleep((1 - self.tokens) / self.rate)
                self.refill()
            self.tokens -= 1
        ### END SOLUTION


# %% tags=["check"]
await exercise("2.1").check(Bucket)

# %% [markdown]
# ### The bucket of this course, and others
#
# `TokenBucket` is a LangChain rate limiter, so a chat model takes it as `rate_limiter=`. It keeps the promises of the exercise for callers in several threads and event loops as well, with weights, and without polling: `??TokenBucket`.


# %%
class Adapter:
    def __init__(self, limiter):
        self.acquire = limiter.aacquire


# %%
ours = simulate(lambda: grant_times(lambda: Adapter(TokenBucket(rate=10, capacity=5)))).value
staircase("TokenBucket stays under its ceiling, and touches it", ours=ours)

# %%
assert ours[-1] == 5.5  # (60 - 5) / 10, exactly
assert simulate(lambda: wait_behind_deserters(Adapter(TokenBucket(10, 5)))).value <= 0.1

# %% [markdown]
# `aiolimiter` is a leaky bucket with a burst as large as its rate: asked for twenty a second, it lets nearly forty through within one. LangChain's own `InMemoryRateLimiter` polls ten times a second, by default, and lets one through each time; since it reads the machine's clock, it is measured in real time.

# %%
from aiolimiter import AsyncLimiter

theirs = simulate(lambda: grant_times(lambda: AsyncLimiter(20, 1), callers=40)).value
in_one_second = sum(when < 1 for when in theirs)
print(f"aiolimiter, asked for 20/s: {in_one_second} within the first second")
assert in_one_second > 30

# %%
from langchain_core.rate_limiters import InMemoryRateLimiter

polling = InMemoryRateLimiter(requests_per_second=1_000)

# %%
start = time.perf_counter()
for _ in range(6):
    await polling.aacquire()
in_memory = 6 / (time.perf_counter() - start)

# %%
bucket = TokenBucket(rate=1_000, capacity=10, initial=0)
start = time.perf_counter()
for _ in range(200):
    await bucket.aacquire()
exact = 200 / (time.perf_counter() - start)
print(f"asked for 1,000/s: InMemoryRateLimiter gives {in_memory:.0f}/s, TokenBucket {exact:.0f}/s")
assert exact > 10 * in_memory

# %% [markdown]
# Values that make no sense are refused at once, with what to do:


# %%
def refusal(**values):
    try:
        return TokenBucket(**values)
    except ValueError as error:
        return str(error)


# %%
print(refusal(rate=0, capacity=5), refusal(rate=10, capacity=0.5), sep="\n")

# %% [markdown]
# ## One gate for everything
#
# `Gate` holds both limits, for everybody who shares it: nested calls, batches side by side, threads. First comes the rate, last the slot, so nobody occupies a slot while they wait for a token. The nested batches from above, through one gate of four:


# %%
async def through_gate(gate):
    async with ServiceClient(provider.url) as client:
        inner = limited(as_runnable(client.search), gate)
        batches = [inner.abatch(lab.questions(9), {"max_concurrency": 3}) for _ in range(3)]
        return await asyncio.gather(*batches)


# %%
gated = await lab.measure(lambda: through_gate(Gate(concurrency=4)), provider=provider)
print(f"at once: {gated.peak_in_flight}, where three batches of 3 would make 9")
assert gated.peak_in_flight == 4

# %% [markdown]
# ### Exercise 2.2: patience that holds no slot
#
# A refused call waits for `retry_after` and tries again. Write `patient(search, query, slots, attempts)`: each attempt takes a slot of the semaphore `slots`, the wait takes none; after the last attempt the error goes to the caller, and so does any other error at once. About 9 lines.


# %% tags=["exercise"] exercise="2.2"
async def patient(search, query, slots, attempts):
    ### BEGIN SOLUTION
    for attempt in range(1, attempts + 1):
        try:
            async with slots:
                return await search(query)
        except RateLimited as error:
            if attempt == attempts:
                raise
            await asyncio.sleep(error.retry_after)
    ### END SOLUTION


# %% tags=["check"]
await exercise("2.2").check(patient)

# %% [markdown]
# ### Retry-After: everyone alone, or all together
#
# When one caller is told to wait, the others do not know, and run into the same wall. A gate's *cool-down* tells everybody: nobody goes in before it is over. Two hundred questions come in, thirty a second, at a provider that lets in twenty. **Predict**: how many refusals, if everyone waits alone?

# %%
herd = predict("refusals for 200 answers, everyone alone", ..., "")  ### SOLUTION: 200
herd


# %%
async def arrivals(ask, rate=30, count=200):
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(ask(f"question {number}"))
            await asyncio.sleep(1 / rate)


# %%
async def alone(search, question):
    while True:
        try:
            return await search(question)
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)


# %%
def rejections(make_ask):
    provider = VirtualProvider(latency=LATENCY, rate_limit=LIMIT)
    simulate(lambda: arrivals(make_ask(provider)))
    assert provider.ledger().answered == 200
    return provider.ledger().rejected


# %%
def everyone_alone(provider):
    return lambda question: alone(provider.search, question)


# %%
def through(gate):
    def ask(provider):
        return limited(as_runnable(provider.search), gate, attempts=10_000, seed=0).ainvoke

    return ask


# %%
def gates():
    return {
        "one gate, 50 slots": Gate(concurrency=50),
        "one gate, 4 slots": Gate(concurrency=4),
        "one gate, AIMD": Gate(concurrency=4, policy=Aimd()),
        "one gate with a bucket": Gate(concurrency=50, bucket=TokenBucket(RATE, BURST)),
    }


# %%
counts = {"everyone alone": rejections(everyone_alone)}
counts |= {name: rejections(through(gate)) for name, gate in gates().items()}
herd.reveal(counts["everyone alone"])

# %%
lab.Table(["who waits how", "refused"], [[name, f"{n:,}"] for name, n in counts.items()])

# %% [markdown]
# **Explain.** Alone, each refused caller comes back for the next token, and so do all the others: one gets it. A cool-down keeps newcomers out, but when it ends, everybody who has a slot rushes in: with many slots it helps little, with few it helps much. AIMD makes them few by itself. And a bucket lets each in when its token is there: with the limit known, nothing is refused at all.

# %%
alone_count, _, four_slots, adaptive, with_bucket = counts.values()
assert with_bucket == 0 < adaptive < four_slots < alone_count

# %% [markdown]
# The same against the real provider: a limit of 50 a second with a burst of 10, and 120 calls.

# %%
provider.configure(rate_limit=service.RateLimit(rate=50, burst=10))


async def real(gate):
    async with ServiceClient(provider.url) as client:
        chain = limited(as_runnable(client.search), gate)
        return await chain.abatch(lab.questions(120))


# %%
gate = Gate(concurrency=20, bucket=TokenBucket(rate=50, capacity=10))
held = await lab.measure(lambda: real(gate), provider=provider)
print(f"{held.seconds:.2f} s, bound {(120 - 10) / 50:.2f} s")
assert held.ledger.answered == 120 and held.seconds >= 0.95 * (120 - 10) / 50

# %% [markdown]
# ## A limit that finds its own level
#
# Some limits are not told to you, and change during the day. Then the concurrency has to find them: one slot more for each round of calls without a refusal, half of them at the first refusal. That is AIMD, additive increase and multiplicative decrease, and it is how TCP shares a line.
#
# ### Exercise 2.3: a limit that finds its level
#
# Write `next_limit(limit, rejected, used)`: the limit for the next round, from the limit of this one, how many calls were refused, and how many slots were in use. It grows only if all of them were: a limit that nobody reaches has not been tested. About 3 lines.


# %% tags=["exercise"] exercise="2.3"
def next_limit(limit, rejected, used):
    ### BEGIN SOLUTION
    if rejected:
        return max(1, limit // 2)
    return limit + 1 if used == limit else limit
    ### END SOLUTION


# %% tags=["check"]
await exercise("2.3").check(next_limit)

# %% [markdown]
# `Gate(policy=Aimd())` does this call by call, with one cut for each congestion event. The provider works on 8 calls at once and has no room for others to wait; after five seconds it grows to 24.

# %%
ROOM_FOR_8 = service.Capacity(slots=8, queue=0)
ROOM_FOR_24 = service.Capacity(slots=24, queue=0)


# %%
async def worker(provider, gate, history):
    chain = limited(as_runnable(provider.search), gate, attempts=1_000, seed=0)
    while now() < 10:
        await chain.ainvoke("q")
        history.append((now(), gate.concurrency))


# %%
async def workers(provider, gate, history):
    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(worker(provider, gate, history))
        await asyncio.sleep(5)
        provider.configure(capacity=ROOM_FOR_24)


# %%
def run_workers(gate):
    history = []
    provider = VirtualProvider(latency=LATENCY, capacity=ROOM_FOR_8)
    simulate(lambda: workers(provider, gate, history))
    return provider.ledger(), history


# %%
aimd, history = run_workers(Gate(concurrency=4, policy=Aimd(maximum=60)))
times, limits = zip(*history, strict=True)
series = {"limit": (times, limits)}
capacity = ("capacity", ([0, 5, 5, 10], [8, 8, 24, 24]))
plots.over_time(series, title="AIMD: a saw-tooth under the capacity", y="slots", bound=capacity)

# %%
low, _ = run_workers(Gate(concurrency=4))
high, _ = run_workers(Gate(concurrency=40))
rows = [("fixed, 4", low), ("fixed, 40", high), ("AIMD", aimd)]

# %%
MOST = 5 * 8 / 0.05 + 5 * 24 / 0.05  # answers that the capacity allows


def row(name, ledger):
    return [name, f"{ledger.answered}", f"{ledger.rejected}", f"{ledger.answered / MOST:.0%}"]


lab.Table(["limit", "answered", "refused", "of capacity"], [row(*each) for each in rows])

# %%
assert low.answered < aimd.answered
assert aimd.rejected < high.rejected / 10

# %% [markdown]
# Too low wastes the provider, too high wastes your calls. AIMD pays a few refusals for the knowledge, again and again: that is the price of not being told.
#
# ## Who goes first
#
# A bulk job fills the queue; then somebody asks a question and waits for the answer. With `priority` the question goes first. But if the urgent ones never end, the others starve, unless waiting itself counts: `ageing`.


# %%
async def call(gate, priority, waits):
    start = now()
    async with gate.slot(priority=priority):
        waits.append(round(now() - start, 3))
        await asyncio.sleep(0.1)


# %%
async def two_classes(gate, bulk, urgent):
    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(call(gate, 0, bulk))
        for _ in range(200):  # urgent work, more than there are slots for
            group.create_task(call(gate, 1, urgent))
            await asyncio.sleep(0.05 / 1.2)


# %%
def waits_with(ageing):
    bulk, urgent = [], []
    simulate(lambda: two_classes(Gate(concurrency=2, ageing=ageing), bulk, urgent))
    return bulk, urgent


bulk, urgent = waits_with(ageing=None)
bulk_ageing, urgent_ageing = waits_with(ageing=2.0)

# %%
waits = {"bulk": bulk, "bulk, ageing": bulk_ageing}
waits |= {"urgent": urgent, "urgent, ageing": urgent_ageing}
plots.percentiles(waits, title="Seconds in line: ageing lets nobody wait for ever")

# %%
print(f"longest wait of the bulk: {max(bulk)} s without, {max(bulk_ageing)} s with ageing")
assert max(bulk_ageing) < max(bulk)

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "A shared limit holds where max_concurrency multiplies": gated.peak_in_flight == 4,
        "My bucket keeps its rate, to the last token": ours[-1] == 5.5,
        "Refusals are counted, and with the limit known there are none": with_bucket == 0,
        "The real provider was held to its limit": held.ledger.answered == 120,
        "The limit finds a capacity that nobody told it": aimd.answered > low.answered,
        "Nobody starves": max(bulk_ageing) < max(bulk),
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - A semaphore bounds how many; a bucket bounds how often. $L = \lambda W$ turns one into the other, as long as $W$ stays what it was.
# - `max_concurrency` belongs to one call. A limit that is to hold is one object, shared by all: a `Gate`.
# - Judge a limiter by its worst window, by its rate when saturated, and by what a cancelled caller leaves behind.
# - Rate first, slot last, and no slot while waiting for `Retry-After`. Cool down together.
# - Where the limit is unknown: one more each round, half at a refusal, and no growth while the limit is not in use.
#
# Next: [notebook 3](03_batching.ipynb), batching strategies.
#
# ## Further reading
#
# - [RFC 9110, Retry-After](https://www.rfc-editor.org/rfc/rfc9110#field.retry-after), and [RFC 5681](https://www.rfc-editor.org/rfc/rfc5681), TCP's congestion control
# - the code behind this notebook: [token_bucket](../course_lib/rate_limiting/token_bucket.py), [gate](../course_lib/rate_limiting/gate.py), [aimd](../course_lib/rate_limiting/aimd.py)

# %%
provider.stop()
lab.hygiene()
