# %% [markdown]
# # 2 · Concurrency and rate limits
#
# A provider answers 429 when you ask too often: build a limit that is exact, fair and shared, and that survives cancellation.
#
# ## What you'll do
#
# - drown a provider, and count what it refuses
# - find out what a semaphore really bounds, and what it does not
# - mend the token bucket that everybody writes, and prove the mend in [virtual time](../docs/glossary.md#virtual-time)
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
# | Words | look them up | [Glossary](../docs/glossary.md) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 85 to 100 minutes | a run of all cells takes seconds |

# %% [markdown]
# **Three questions on notebook 1.** Answer each in your own words, then open it.
#
# <details><summary>Fifty calls of a sync function go through <code>abatch</code>, on a machine with six threads in the pool. How many waves are there, and which setting does not change that?</summary>
#
# Nine: fifty divided by six, rounded up. `max_concurrency` can only lower the number of calls at once. It does not make the pool larger.
#
# </details>
#
# <details><summary>One of fifty calls in <code>abatch</code> fails at once. What happens to the others?</summary>
#
# They go on, they are answered and paid for, and their answers are lost. `return_exceptions=True` keeps each outcome in its place. A `TaskGroup` cancels the rest.
#
# </details>
#
# <details><summary>Where does the timeout of a call belong: before or after its wait for a connection or a slot?</summary>
#
# After it. Otherwise calls time out that have only waited, although the provider answers each of them in time.
#
# </details>

# %%
import asyncio
import itertools
import math
import time

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, as_runnable, run_sync
from course_lib.errors import RateLimited
from course_lib.lab import VirtualProvider, exercise, plots, predict, simulate
from course_lib.rate_limiting import Aimd, Gate, TokenBucket, limited

# %% [markdown]
# **Change it and look.** These three numbers are meant to be changed, to half, double, or whatever you like. Then run the cells below again.

# %% tags=["parameters"]
RATE, BURST = 20, 10  # requests a second that the provider lets in, and at once after a pause
LATENCY = 0.05  # seconds that an answer takes

# %%
ANSWER_TIME = service.Latency.constant(LATENCY)
LIMIT = service.RateLimit(rate=RATE, burst=BURST)
provider = service.start(latency=ANSWER_TIME)


def now():
    return asyncio.get_running_loop().time()  # the loop's clock, real or virtual


# %% [markdown] tags=["path-90"]
# ## A storm
#
# *On the 90-minute path.*
#
# A hundred questions come at once, to a provider that has a limit. This is the provider's own page. In JupyterLab, right-click it and choose "Create New View for Output".

# %%
lab.live(provider)

# %%
SLOW = service.RateLimit(rate=0.2, burst=BURST)
provider.configure(rate_limit=SLOW)
print(f"the provider lets in {BURST} requests at once, then one every {1 / SLOW.rate:g} s")

# %% [markdown]
# **Predict**: how many answers?

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
print(f"{BURST} tokens for 100 questions: {provider.ledger().rejected} refused")
answers.reveal(provider.ledger().answered)

# %% [markdown]
# Everybody who was refused was told when to come back: [`Retry-After`](../docs/glossary.md#retry-after), in the error as `retry_after`. If they all obey, they all come back together.
#
# ### Goodput and offered load
#
# What gets through is [goodput](../docs/glossary.md#goodput). What you send is the [offered load](../docs/glossary.md#offered-load). To see how they depend on each other takes minutes of calls, so this is done in **virtual time**. `VirtualProvider` is the same provider without HTTP, and `simulate` lets its clock jump. The results are exact.


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
    provider = VirtualProvider(latency=ANSWER_TIME, rate_limit=LIMIT)
    simulate(lambda: offered(provider, rate))
    return provider.ledger()


LOADS = [math.ceil(RATE * share) for share in (0.25, 0.5, 1, 1.25, 2, 4)]
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
# Goodput stands still at the limit. Every further request costs you a connection, CPU and patience, and buys nothing. Many providers count refused requests as well.

# %% [markdown] tags=["path-90"]
# ## What a semaphore bounds
#
# *On the 90-minute path.*
#
# ### `max_concurrency` is per call
#
# The outer batch has `max_concurrency=3`, and so has the inner one. **Predict**: how many calls run at once?

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
print("3 outer calls * 3 inner calls")
at_once.reveal(nest.peak_in_flight)

# %% [markdown]
# The limit belongs to one call of `abatch`. Nested batches multiply, batches side by side add up. If a limit is to hold, it must be one object that all of them share.
#
# ### A semaphore of your own, shared by all: and by all loops?
#
# The usual place is the top of a module. It works until there is a second event loop: a second `asyncio.run`, a test, a web server's worker.

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
# Only those that had to *wait* failed. On a quiet day nobody notices.
#
# ### A semaphore is not a rate limit
#
# [Little's law](../docs/glossary.md#littles-law): the number [in flight](../docs/glossary.md#in-flight) is the rate times the time that each takes, $L = \lambda W$. So a semaphore of $L$ lets through $\lambda = L / W$ calls a second, whatever $W$ happens to be today. Hold it against the provider's limit:


# %%
async def through_semaphore(provider, slots, calls=100):
    semaphore = asyncio.Semaphore(slots)

    async def call():
        async with semaphore:
            return await provider.search("q")

    return await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)


# %%
def refusals(seconds, slots):
    latency = service.Latency.constant(seconds)
    provider = VirtualProvider(latency=latency, rate_limit=service.RateLimit(RATE, burst=RATE))
    simulate(lambda: through_semaphore(provider, slots))
    return provider.ledger().rejected


slots = math.ceil(RATE / 2)
for seconds in (0.02, 0.1, 0.5):
    refused = refusals(seconds, slots)
    print(f"{slots} slots / {seconds:g} s = {slots / seconds:g}/s: {refused} of 100 refused")

# %% [markdown]
# The same semaphore is far too wide for a fast provider and just right for a slow one. The law also says how many slots a rate needs: `rate * latency`, and some more for the spread.

# %% [markdown] tags=["path-90"]
# ## A token bucket by hand
#
# *On the 90-minute path.*
#
# What is needed is a rate limit. A [token bucket](../docs/glossary.md#token-bucket) fills with `rate` tokens a second, up to its `capacity`. A call takes one, or waits for it. This is how it is usually written:


# %%
class Refilled:
    def __init__(self, rate, capacity):
        self.rate, self.capacity = rate, capacity
        self.tokens, self.filled = capacity, self.time()
        self.lock = asyncio.Lock()

    def time(self):
        return now()

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
async def grant_times(make, callers=60):
    limiter, times = make(), []

    async def caller():
        await limiter.acquire()
        times.append(now())

    await asyncio.gather(*(caller() for _ in range(callers)))
    return times


# %% [markdown]
# **Predict.** The rate is 10 a second and the capacity 5. Sixty callers come at once. When does the last one have its token?

# %%
last = predict("seconds until the 60th token", ...)  ### SOLUTION: 5.5
last

# %%
naive = simulate(lambda: grant_times(lambda: NaiveBucket(10, 5))).value
print(f"as it should be: (60 - 5) / 10 = {(60 - 5) / 10:g} s")
print(f"as it is: of 55, every other one sleeps: {math.ceil(55 / 2)} * 0.1 s = {naive[-1]:g} s")
last.reveal(naive[-1])


# %%
def staircase(title, **granted):
    series = {name: (times, range(1, len(times) + 1)) for name, times in granted.items()}
    end = max(times[-1] for times in granted.values())
    allowed = ("capacity + rate * t", ([0, end], [5, 5 + 10 * end]))
    return plots.over_time(series, title=title, y="tokens given out", bound=allowed)


staircase("The naive bucket goes through its ceiling", naive=naive)

# %% [markdown]
# **Explain.** It gives out almost twice its rate. Follow one caller: it sleeps for the token that is missing and takes it. But the timestamp still stands *before* the sleep, so the next caller's refill counts the same seconds once more. In a test with a few calls the [burst](../docs/glossary.md#burst) hides it.
#
# Two mends come to mind. Each has a fault of its own:
#
# | bucket | what it changes | what is wrong with it |
# | --- | --- | --- |
# | `LateBucket` | after the sleep it moves the timestamp to now | a timer wakes a little late, and that time is lost, each time |
# | `DebtBucket` | it takes the token before the sleep, without a lock | who gives up still holds a place, and the others wait for it |


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
# A loop that polls "until there is enough" has another fault: what is missing may be so little that sleeping for it takes no time. `simulate` sees it, because its clock stands still:


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
# And if the *wall clock* is set back, a bucket that reads it stands still for as long:


# %%
class WallClockBucket(NaiveBucket):
    def time(self):
        return now() - (5 if now() >= 1 else 0)  # set back by five seconds


# %%
times = simulate(lambda: grant_times(lambda: WallClockBucket(10, 5))).value
longest = max(after - before for before, after in itertools.pairwise(times))
print(f"longest wait for a token: {longest:.1f} s, at a rate of 10/s")
assert longest >= 5, "nobody should be served while the clock is behind"

# %% [markdown]
# ### Half of the way: one caller at a time
#
# Before you mend the bucket for everybody, mend it for one caller. Fill in two places: how long it sleeps, and how many tokens are left when it takes one.


# %%
def missing(tokens, rate):
    return ...  ### SOLUTION: (1 - tokens) / rate


def left(tokens):
    return ...  ### SOLUTION: tokens - 1


# %%
class OneCaller(Refilled):
    async def acquire(self):
        self.refill()
        if self.tokens < 1:
            await asyncio.sleep(missing(self.tokens, self.rate))
            self.refill()
        self.tokens = left(self.tokens)


async def twenty_tokens():
    bucket = OneCaller(10, 2)
    for _ in range(20):
        await bucket.acquire()
    return now()


# %%
if ... in (missing(0.5, 10), left(1.5)):
    print("fill in both places, then run this cell again")
else:
    punctual, tardy = [simulate(twenty_tokens, lateness=by).seconds for by in (0, 0.07)]
    print(f"twenty tokens after {punctual:.2f} s; it should be (20 - 2) / 10 = 1.80 s")
    print(f"timers 0.07 s late: after {tardy:.2f} s; it should be 1.87 s at most")

# %% [markdown]
# ### Exercise 2.1: a bucket that keeps its rate
#
# Now many callers come at once, and some give up. `Bucket(rate, capacity)` has `await acquire()`, and inherits `refill` and a `lock`. About 6 lines. Graded, also with timers that wake late:
#
# - It starts full. At most `capacity + rate * t` tokens go out in *any* `t` seconds.
# - When saturated it gives exactly the rate, however late its wake-ups are. Nobody waits for longer than the missing token takes.
# - Callers are served in the order in which they come, also those who come when a token is just there.
# - Whoever is cancelled delays nobody, neither those who wait already nor those who come later.
# - It does not poll: a caller sleeps until the token is there.


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
assert ours[-1] == 5.5, "the 60th token should come after (60 - 5) / 10 seconds, exactly"
waited = simulate(lambda: wait_behind_deserters(Adapter(TokenBucket(10, 5)))).value
print(f"the 60th token after {ours[-1]} s; behind thirty who left, the next waits {waited} s")

# %% [markdown]
# **Play.** How long do callers wait when the load is below the rate, above it, or just at it? What does the capacity change, and what does it not?


# %%
async def arrive(bucket, load, came, served):
    async def caller():
        came.append(now())
        await bucket.aacquire()
        served.append(now())

    async with asyncio.TaskGroup() as group:
        for _ in range(load * 5):
            group.create_task(caller())
            await asyncio.sleep(1 / load)


# %%
def five_seconds(rate=20, capacity=10, load=30):
    came, served = [], []
    simulate(lambda: arrive(TokenBucket(rate, capacity), load, came, served))
    count = range(1, len(came) + 1)
    longest = max(after - before for before, after in zip(came, served, strict=True))
    steps = {"callers who came": (came, count), "tokens given out": (served, count)}
    ceiling = "capacity + rate * t", ([0, 5], [capacity, capacity + 5 * rate])
    title = f"{load}/s for five seconds: the longest wait is {longest:.2f} s"
    return plots.over_time(steps, title=title, y="callers", bound=ceiling)


lab.play(five_seconds, rate=(5, 60, 5), capacity=(1, 60, 1), load=(5, 60, 5))

# %% [markdown]
# `aiolimiter` is a leaky bucket with a burst as large as its rate: when it is asked for twenty a second, it lets nearly forty through within one. LangChain's own `InMemoryRateLimiter` polls ten times a second, by default, and lets one through each time. It reads the machine's clock, so it is measured in real time.

# %%
from aiolimiter import AsyncLimiter

theirs = simulate(lambda: grant_times(lambda: AsyncLimiter(20, 1), callers=40)).value
in_one_second = sum(when < 1 for when in theirs)
print(f"aiolimiter, asked for 20/s: {in_one_second} within the first second")
assert in_one_second > 30, "a burst and a second's refill should both get through"

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
assert exact > 10 * in_memory, "the poller should give one token a look, ten times a second"

# %% [markdown]
# A value that makes no sense is refused at once, and the message says what to do:


# %%
def refusal(**values):
    try:
        return TokenBucket(**values)
    except ValueError as error:
        return str(error)


# %%
print(refusal(rate=0, capacity=5), refusal(rate=10, capacity=0.5), sep="\n")

# %% [markdown] tags=["path-90"]
# ## One gate for everything
#
# *On the 90-minute path.*
#
# A [gate](../docs/glossary.md#gate), `Gate`, holds both limits, for everybody who shares it: nested calls, batches side by side, threads. The rate comes first and the slot last, so nobody occupies a slot while they wait for a token. Here are nested batches as above, through one gate of four:


# %%
async def through_gate(gate):
    async with ServiceClient(provider.url) as client:
        inner = limited(as_runnable(client.search), gate)
        batches = [inner.abatch(lab.questions(9), {"max_concurrency": 3}) for _ in range(3)]
        return await asyncio.gather(*batches)


# %%
provider.configure(rate_limit=None)
gated = await lab.measure(lambda: through_gate(Gate(concurrency=4)), provider=provider)
print(f"at once: {gated.peak_in_flight}, where three batches of 3 would make 9")

# %% [markdown]
# ### Exercise 2.2: patience that holds no slot
#
# Somebody wrote this for calls that share four slots. A refused call waits for `retry_after` and tries again:


# %%
async def impatient(search, query, slots, attempts):
    async with slots:
        for attempt in range(1, attempts + 1):
            try:
                return await search(query)
            except RateLimited as error:
                if attempt == attempts:
                    raise
                await asyncio.sleep(error.retry_after)


# %%
async def last_of_the_others(program, calls=40, slots=4, seconds=0.1):
    places, refused, done = asyncio.Semaphore(slots), set(), []

    async def search(query):
        await asyncio.sleep(seconds)
        if query < slots and query not in refused:  # the first four, once each
            refused.add(query)
            raise RateLimited("too many requests", retry_after=5)
        done.append((query, now()))

    await asyncio.gather(*(program(search, query, places, 3) for query in range(calls)))
    return max(when for query, when in done if query >= slots)


# %% [markdown]
# **Predict.** There are forty calls. The first four are refused once and told to come back after five seconds. When are the other thirty-six done?

# %%
others = predict("the last of 36 calls that nobody refused", ...)  ### SOLUTION: 1
others

# %%
slow = simulate(lambda: last_of_the_others(impatient)).value
print(f"refused 0.1 s, waiting 5 s, again 0.1 s, then 36 / 4 waves of 0.1 s: {slow:g} s")
others.reveal(slow)

# %% [markdown]
# The four slots are held by callers who only wait. **Change** it: write `patient(search, query, slots, attempts)`. About 9 lines. Graded:
#
# - It makes at most `attempts` calls, and returns the answer, whatever that is: `None` and `0` are answers, too.
# - After `RateLimited` it waits for the error's `retry_after` seconds, or up to a tenth longer, and tries again.
# - Each attempt takes a slot of the semaphore `slots` and gives it back. The wait takes none.
# - After the last attempt the error is raised, without another wait. Any other error is raised at once.


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
# **Measure again:**

# %%
if exercise("2.2").solved:
    fast = simulate(lambda: last_of_the_others(patient)).value
    print(f"the others are done after {fast:g} s, not {slow:g} s: {slow / fast:.1f}x as fast")
else:
    print("solve 2.2, then run this cell again")

# %% [markdown] tags=["path-90"]
# ### Retry-After: everyone alone, or all together
#
# *On the 90-minute path.*
#
# When one caller is told to wait, the others do not know it, and are refused as well. A gate's [cool-down](../docs/glossary.md#cool-down) tells everybody: nobody goes in before it is over. Two hundred questions come in, half as many again in each second as the provider lets in. **Predict**: how many refusals are there, if everyone waits alone?

# %%
herd = predict("refusals for 200 answers, everyone alone", ..., "")  ### SOLUTION: 200
herd


# %%
async def arrivals(ask, rate=1.5 * RATE, count=200):
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
    provider = VirtualProvider(latency=ANSWER_TIME, rate_limit=LIMIT)
    simulate(lambda: arrivals(make_ask(provider)))
    assert provider.ledger().answered == 200, "each of 200 questions should be answered once"
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
most = 200 - round(200 / 1.5) - BURST  # who wait when the last one has come
print(f"up to about {most} wait, half of them on average, and each is refused")
print(f"once for each token: about {most} / 2 * {200 - BURST} = {most * (200 - BURST) // 2:,}")
herd.reveal(counts["everyone alone"])

# %%
lab.Table(["who waits how", "refused"], [[name, f"{n:,}"] for name, n in counts.items()])

# %% [markdown]
# **Explain.** Alone, each refused caller comes back for the next token, and so do all the others: one gets it. A cool-down keeps newcomers out. When it ends, everybody who has a slot asks at once: with many slots it helps little, with few it helps much. [AIMD](../docs/glossary.md#aimd) makes them few by itself. And a bucket lets each in when its token is there: with the limit known, nothing is refused at all.

# %%
with_bucket = counts["one gate with a bucket"]
assert with_bucket == 0, "with a bucket of the provider's own rate and burst nobody is refused"

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
assert held.seconds >= 0.95 * (120 - 10) / 50, "faster than the provider's own limit"

# %% [markdown]
# ## A limit that finds its own level
#
# Some providers do not tell you their limit, and change it during the day. Then the concurrency has to find it: one slot more after each round of calls without a refusal, half of the slots after a refusal. That is AIMD, additive increase and multiplicative decrease. TCP shares a line in the same way.
#
# ### Exercise 2.3: a limit that finds its level
#
# Write `next_limit(limit, rejected, used)`. It returns the limit for the next round. It gets the limit of this one, how many calls were refused, and how many slots were in use. All are whole numbers, and a limit is at least 1. About 3 lines. Graded:
#
# - If any call was refused, however many, the limit is halved (rounded down), but not below 1. Whether all slots were in use does not matter.
# - If none was refused and all slots were in use, it grows by one, without a maximum.
# - Otherwise it stays: a limit that nobody reaches has not been tested.


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
# `Gate(policy=Aimd())` does this call by call, with one cut for each congestion event. The provider works on 8 calls at once and has no room for others to wait. After five seconds it grows to 24.

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
    provider = VirtualProvider(latency=ANSWER_TIME, capacity=ROOM_FOR_8)
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
MOST = 5 * (8 + 24) / LATENCY  # answers that the capacity allows


def row(name, ledger):
    return [name, f"{ledger.answered}", f"{ledger.rejected}", f"{ledger.answered / MOST:.0%}"]


lab.Table(["limit", "answered", "refused", "of capacity"], [row(*each) for each in rows])

# %%
lab.checklist(
    {
        "AIMD gets more answers than a limit that is too low": aimd.answered > low.answered,
        "and a tenth of the refusals of one that is too high": aimd.rejected < high.rejected / 10,
    }
)

# %% [markdown]
# A limit that is too low wastes the provider. One that is too high wastes your calls. AIMD pays a few refusals for what it learns, again and again. That is the price when nobody tells you the limit.

# %% [markdown]
# ## Who goes first
#
# A bulk job fills the queue. Then somebody asks a question and waits for the answer. With `priority` the question goes first. But if the urgent ones never end, the others [starve](../docs/glossary.md#starvation), unless waiting itself counts: [ageing](../docs/glossary.md#ageing).


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
plots.percentiles(waits, title="How long each waited: with ageing nobody waits for ever")

# %%
print(f"longest wait of the bulk: {max(bulk)} s without, {max(bulk_ageing)} s with ageing")

# %% [markdown]
# ## A limit in production
#
# ### Exercise 2.4: what is wrong here?
#
# This function went through review, and its test is green. It decides which requests are let in: at most `limit` a second. `times` are seconds, in rising order.


# %%
def let_in(times, limit):
    counts, inside = {}, []
    for moment in times:
        second = int(moment)
        if counts.get(second, 0) < limit:
            counts[second] = counts.get(second, 0) + 1
            inside.append(moment)
    return inside


let_in([0.0, 0.1, 0.2, 0.3, 1.5], limit=2)

# %% [markdown]
# Find the fault. `BREAKS` is a list of times with which the function lets in more than five requests within one second, at a `limit` of 5. Then mend it: write `mended(times, limit)`. About 5 lines. Graded:
#
# - With `BREAKS`, it lets in more than five within a second.
# - `mended` returns a list of the times that are let in, in their order.
# - A request is let in if fewer than `limit` were let in during the second before it, and only then. One that was let in exactly a second ago counts no more, and one that was refused does not count at all.


# %% tags=["exercise"] exercise="2.4"
BREAKS = ...  ### SOLUTION: [0.9] * 5 + [1.0] * 5


def mended(times, limit):
    ### BEGIN SOLUTION
    inside = []
    for moment in times:
        if sum(each > moment - 1 for each in inside) < limit:
            inside.append(moment)
    return inside
    ### END SOLUTION


# %% tags=["check"]
await exercise("2.4").check(mended, BREAKS)

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "A shared limit holds where max_concurrency multiplies": gated.peak_in_flight == 4,
        "With the limit known, nothing is refused": with_bucket == 0,
        "The real provider answered all, within its limit": held.ledger.answered == 120,
        "AIMD finds a capacity that nobody told it": aimd.answered > low.answered,
        "Nobody starves": max(bulk_ageing) < max(bulk),
        "2.1: my bucket keeps its rate, to the last token": exercise("2.1").solved,
        "2.2: my patience holds no slot": exercise("2.2").solved,
        "2.3: my limit finds its level": exercise("2.3").solved,
        "2.4: I found the fault, and mended it": exercise("2.4").solved,
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - A semaphore bounds how many; a bucket bounds how often. $L = \lambda W$ turns one into the other, as long as $W$ stays what it was.
# - `max_concurrency` belongs to one call. A limit that holds is one object, shared by all: a `Gate`.
# - Judge a limiter by its worst window, by its rate when saturated, and by what a cancelled caller leaves behind.
# - Wait for the rate first, for the slot last, and hold no slot while you wait for `Retry-After`. Cool down together.
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
