# %% [markdown]
# # 5 · Monitoring that finds the bottleneck
#
# An average says that all is well, while callers wait: measure what they feel, and name the step that the pipeline waits for.
#
# ## What you'll do
#
# - take a timing wrapper apart, as everybody writes it, and count what it does not see
# - look at four loads with one mean, and add up percentiles of two processes
# - measure one and the same load from two starting points
# - watch a whole chain with one line of configuration
# - name the bottleneck before and after the mend, find the step that blocks the loop, and predict how far a service scales
#
# ## What you'll learn
#
# - wait, service and response; closed and open loops; coordinated omission
# - why histograms can be merged, and percentiles cannot
# - demand and utilisation, and Little's law as a check on your own figures
# - what the universal scalability law tells of a sweep
#
# ## What you'll need
#
# | What | How much | Notes |
# | --- | --- | --- |
# | Notebooks 1 and 2 | necessary | [Async batches](01_async_batch.ipynb), [Concurrency and rate limits](02_rate_limiting.ipynb) |
# | Notebook 3 | helpful | [Batching strategies](03_batching.ipynb) |
# | Percentiles | helpful | [quantiles](https://docs.python.org/3/library/statistics.html#statistics.quantiles) |
# | Account, key, network | none | the provider runs on this machine |
# | Time | 75 to 90 minutes | a run of all cells takes seconds |

# %%
import asyncio
import json
import random
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from statistics import fmean, quantiles

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from course_lib import lab, service
from course_lib.async_batch import ServiceClient, as_runnable
from course_lib.lab import VirtualProvider, exercise, plots, predict, simulate
from course_lib.monitoring import Histogram, LoopLag, PerformanceMonitor
from course_lib.monitoring import bottleneck, diff, fit_usl, littles_law, write_trace

# %%
provider = service.start(latency=service.Latency.lognormal(p50=0.02, p99=0.1, seed=1))
print("the provider searches, reranks and answers")


# %%
def now():
    return asyncio.get_running_loop().time()


# %% [markdown]
# ## A wrapper and an average
#
# Every project has one of these. (The original calls `time.time()`, which jumps when the machine's clock is set; here it is the loop's clock, so that everything else can be seen.)

# %%
timings = {}


def timed(name, function):
    async def wrapper(*args):
        start = now()
        result = await function(*args)
        timings.setdefault(name, []).append(now() - start)
        return result

    return wrapper


# %% [markdown]
# ### It loses failed calls
#
# A hundred calls, one after the other. Most are good; some hang, and are given up.

# %%
GOOD, PATIENCE = 0.05, 0.5
HANGING = {"latency": service.Latency.constant(GOOD), "faults": service.Faults(hang=0.3, seed=2)}
print(f"a good call takes {GOOD * 1e3:.0f} ms, a hanging one is given up after {PATIENCE:g} s")

# %% [markdown]
# **Predict** the average that the wrapper reports:

# %%
reported = predict("average that the wrapper reports, ms", ..., "ms")  ### SOLUTION: 185
reported


# %%
async def calls(search, count=100):
    for number in range(count):
        try:
            async with asyncio.timeout(PATIENCE):
                await search(f"question {number}")
        except TimeoutError:
            pass


# %%
timings.clear()
simulate(lambda: calls(timed("search", VirtualProvider(**HANGING).search)))
recorded = timings["search"]
reported.reveal(round(fmean(recorded) * 1e3, 1))


# %%
async def monitored_calls(monitor):
    search = VirtualProvider(**HANGING).search

    async def measured(question):
        with monitor.measure("search"):
            return await search(question)

    await calls(measured)
    return monitor.report()["search"]


# %%
true = simulate(lambda: monitored_calls(PerformanceMonitor())).value
print(f"wrapper: {len(recorded)} calls, mean {fmean(recorded) * 1e3:.0f} ms")
print(f"monitor: {true.count} calls, {true.cancelled} given up, mean {true.mean * 1e3:.0f} ms")
assert true.count == 100 > len(recorded) and true.mean > 2 * fmean(recorded)

# %% [markdown]
# A line after the `await` is not reached when the call fails: the worse the service, the better the report. In a total outage it is empty. `measure` is a `with` block: whatever is raised is counted, as an error or a cancellation, and goes on to the caller.
#
# ### It measures the wrong thing
#
# Fifty calls of a tenth of a second, and six workers to make them. The clock starts inside the worker:

# %%
WORK = 0.1


async def worker_call(slots, note):
    planned = now()
    async with slots:
        start = now()
        await asyncio.sleep(WORK)
        note(start - planned, now() - start)


# %%
async def fifty(note):
    slots = asyncio.Semaphore(6)
    await asyncio.gather(*(worker_call(slots, note) for _ in range(50)))


waits, services = [], []
simulate(lambda: fifty(lambda wait, work: (waits.append(wait), services.append(work))))
response = [wait + work for wait, work in zip(waits, services, strict=True)]

# %%
print(f"inside the worker: {fmean(services) * 1e3:.0f} ms on average")
print(f"for the callers: {fmean(response) * 1e3:.0f} ms on average, {max(response):.1f} s at most")

# %% [markdown]
# Both are true. *Service* is how long the work took, *wait* how long it waited before, *response* the two together: what a caller feels. A monitor keeps the three apart, and needs to be told when a call was *meant* to start: `measure(name, planned=...)`.
#
# ### It grows, and its report is not safe
#
# One list entry a call, for ever; a histogram counts into buckets instead, and a bucket that is there already costs nothing more.


# %%
def memory_of(record, count=50_000):
    draw = random.Random(1)
    tracemalloc.start()
    for _ in range(count):
        record(draw.expovariate(10))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / 1e6


# %%
samples, histogram = [], Histogram()
list_mb, histogram_mb = memory_of(samples.append), memory_of(histogram.record)
print(f"{histogram.count:,} calls: a list {list_mb:.2f} MB, a histogram {histogram_mb:.2f} MB")
assert histogram_mb < list_mb / 5

# %%
exact = sorted(samples)[int(0.99 * len(samples)) - 1]
print(
    f"p99 of the list {exact * 1e3:.0f} ms, of the histogram {histogram.quantile(0.99) * 1e3:.0f} ms"
)
assert abs(histogram.quantile(0.99) / exact - 1) < 0.01

# %% [markdown]
# And when another thread counts a new name while the report goes through the dictionary:


# %%
def slow_average(samples):
    other = threading.Thread(target=lambda: timings.setdefault(f"step {len(timings)}", [0.1]))
    other.start()  # as any thread might, at this moment
    other.join()
    return fmean(samples)


# %%
try:
    {name: slow_average(samples) for name, samples in timings.items()}
except RuntimeError as error:
    print(error)

# %% [markdown]
# ### Exercise 5.1: a clock that loses nothing
#
# Write `observed(call, record, clock, planned)`: it awaits `call()`, returns its result, and calls `record(outcome, wait, service)` exactly once, whatever happens. The outcome is `"ok"`, `"error"` or `"cancelled"`; the wait is from `planned` to the start, never below zero; the service is from the start to the end, by `clock()`. What was raised goes on to the caller. About 12 lines.


# %% tags=["exercise"] exercise="5.1"
async def observed(call, record, clock, planned):
    ### BEGIN SOLUTION
    start, outcome = clock(), "error"
    try:
        result = await call()
        outcome = "ok"
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)
    return result
    ### END SOLUTION


# %% tags=["check"]
await exercise("5.1").check(observed)

# %% [markdown]
# ## Averages lie
#
# Four services with the same mean, a tenth of a second. Their callers would not call them the same.

# %%
COUNT = 1_000


def with_mean(make, mean=0.1, count=COUNT):
    draw = random.Random(4)
    values = [make(draw) for _ in range(count)]
    factor = mean * count / sum(values)
    return [value * factor for value in values]


# %%
loads = {
    "constant": with_mean(lambda draw: 1.0),
    "exponential": with_mean(lambda draw: draw.expovariate(1)),
    "lognormal, wide": with_mean(lambda draw: draw.lognormvariate(0, 1.5)),
    "1 in 50 hangs": with_mean(lambda draw: 250.0 if draw.random() < 0.02 else 1.0),
}


# %%
def figures(values):
    cuts = quantiles(values, n=100)
    shown = (fmean(values), cuts[49], cuts[94], cuts[98])
    return [f"{value * 1e3:.0f} ms" for value in shown]


rows = [[name, *figures(values)] for name, values in loads.items()]
lab.Table(["load", "mean", "p50", "p95", "p99"], rows)

# %%
p99s = [quantiles(values, n=100)[98] for values in loads.values()]
plots.percentiles(loads, title=f"One mean, p99 from {min(p99s):.1f} s to {max(p99s):.1f} s")

# %% [markdown]
# A page is made of ten calls, side by side. **Predict**: what share of the pages meets at least one of the slowest hundredth?

# %%
unlucky = predict("pages that meet the slowest 1 in 100, percent", ..., "%")  ### SOLUTION: 9.6
unlucky

# %%
values = with_mean(lambda draw: draw.expovariate(1), count=20_000)
limit = quantiles(values, n=100)[98]
pages = [max(values[at : at + 10]) for at in range(0, len(values), 10)]
unlucky.reveal(round(100 * sum(page > limit for page in pages) / len(pages), 1))

# %% [markdown]
# ### Percentiles cannot be added up
#
# Two processes serve the same users. The first answers many calls quickly, the second a few slowly.

# %%
first, second = PerformanceMonitor(), PerformanceMonitor()
draw = random.Random(5)
quick = [draw.uniform(0.01, 0.02) for _ in range(9_800)]
slow = [draw.uniform(1.0, 2.0) for _ in range(200)]

# %%
for monitor, durations in ((first, quick), (second, slow)):
    for duration in durations:
        monitor.record("search", duration)

# %%
parts = [monitor.report()["search"].p99 for monitor in (first, second)]
together = first.report().merge(second.report())["search"].p99
truth = sorted(quick + slow)[int(0.99 * 10_000) - 1]
print(f"average of the two p99 {fmean(parts):.2f} s, merged {together:.2f} s, true {truth:.2f} s")
assert abs(together / truth - 1) < 0.01 < abs(fmean(parts) / truth - 1)

# %% [markdown]
# The average of two percentiles is the percentile of nothing. Histograms with the same buckets can be added, bucket by bucket, and the result is what one histogram of all calls would have been.
#
# ### Exercise 5.2: percentiles that can be added
#
# A histogram is a dictionary here: the upper bound of a bucket in seconds, and its count. Write `percentile(histograms, q)`: the smallest bound such that at least the share `q` of *all* calls lies at or below it. About 8 lines.


# %% tags=["exercise"] exercise="5.2"
def percentile(histograms, q):
    ### BEGIN SOLUTION
    together = {}
    for histogram in histograms:
        for bound, count in histogram.items():
            together[bound] = together.get(bound, 0) + count
    total, seen = sum(together.values()), 0
    for bound in sorted(together):
        seen += together[bound]
        if seen >= q * total:
            return bound
    ### END SOLUTION


# %% tags=["check"]
await exercise("5.2").check(percentile)

# %% [markdown]
# ## Where time is measured from
#
# A load test: one user asks fifty times a second, for twenty seconds. Once the service stands still.

# %%
CALL, STALL, RATE, SECONDS = 0.01, 2.0, 50, 20
print(f"a call takes {CALL * 1e3:.0f} ms; the service stands still for {STALL:g} s, once")

# %% [markdown]
# **Predict** the 99th percentile that the test reports:

# %%
tested = predict("p99 by the load test, ms", ..., "ms")  ### SOLUTION: 10
tested


# %%
async def answer():
    if 5 <= now() < 5 + STALL:
        await asyncio.sleep(5 + STALL - now())
    await asyncio.sleep(CALL)


# %%
async def load_test(monitor):
    begin = monitor.now()
    for number in range(RATE * SECONDS):
        planned = begin + number / RATE
        await asyncio.sleep(max(0, planned - monitor.now()))
        with monitor.measure("answer", planned=planned):
            await answer()
    return monitor.report()


# %%
test = simulate(lambda: load_test(PerformanceMonitor())).value
step = test["answer"]
tested.reveal(round(step.service.quantile(0.99) * 1e3, 1))

# %%
curves = {
    "from the real start": plots.durations_of(test, of="service")["answer"],
    "from the planned start": plots.durations_of(test, of="response")["answer"],
}
real, felt = step.service.quantile(0.99), step.response.quantile(0.99)
plots.percentiles(curves, title=f"One run, two clocks: p99 {real * 1e3:.0f} ms or {felt:.1f} s")

# %% [markdown]
# **Explain.** The tester waits for the answer before it asks again: a *closed loop*. While the service stands still, it sends nothing, so the stall counts as one slow call among a thousand. Users do not wait for each other: a hundred of them would have asked in those two seconds, an *open loop*. The plan knows when; measured from there, the stall is seen by all whom it hit. Leaving them out is called **coordinated omission**.

# %%
assert real < 0.02 and felt > 1.5
assert step.service.maximum >= STALL

# %% [markdown]
# ## One line instead of wrappers
#
# LangChain tells a callback handler about every step. `monitor.callback` in the `config` sees the whole chain, each step under its name, also what fails, and what runs inside what. Thirty questions, through three real endpoints:

# %%
monitor = PerformanceMonitor()


def chain_of(client):
    async def retrieve(question):
        return question, await client.search(question, k=10)

    async def rerank(found):
        question, documents = found
        return question, await client.rerank(question, documents, top_n=3)

    async def generate(found):
        question, documents = found
        texts = "\n".join(f"[{each.id}] {each.page_content}" for each in documents)
        return (await client.chat(f"{texts}\n\nQuestion: {question}")).content

    steps = [as_runnable(step, name=step.__name__) for step in (retrieve, rerank, generate)]
    return steps[0] | steps[1] | steps[2]


# %%
async def thirty():
    async with ServiceClient(provider.url) as client:
        config = {"callbacks": [monitor.callback], "max_concurrency": 10}
        return await chain_of(client).abatch(lab.questions(30), config)


# %%
monitor.reset()
seen = await lab.measure(thirty, provider=provider)
report = monitor.report()


def line(step):
    times = [f"{seconds * 1e3:.0f} ms" for seconds in (step.mean, step.p50, step.p95)]
    return [step.name, f"{step.count}", f"{step.errors}", *times]


lab.Table(["step", "calls", "errors", "mean", "p50", "p95"], [*map(line, report.steps.values())])

# %%
assert seen.ledger.requests == sum(
    report[name].count for name in ("retrieve", "rerank", "generate")
)
assert report["retrieve"].parents == ("RunnableSequence",) and report["retrieve"].errors == 0

# %% [markdown]
# The monitor's counts and the provider's agree. Who ran when can be looked at in a trace viewer, such as [Perfetto](https://ui.perfetto.dev), which opens the file that `write_trace` writes; `to_prometheus`, `to_json_lines` and `report.to_dict()` serve other tools.

# %%
with tempfile.TemporaryDirectory() as folder:
    trace = json.loads(write_trace(report, Path(folder) / "trace.json").read_text())
complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
print(f"{len(complete)} events; the first is {min(complete, key=lambda e: e['ts'])['name']}")

# %% [markdown]
# ### What does it cost?
#
# A synchronous handler runs in the thread pool, and two hops between threads cost more than the handler. An asynchronous one runs in the loop, and so does one that says `run_inline = True`. A collector keeps a tree of everything.


# %%
class Sync(BaseCallbackHandler):
    def on_chain_start(self, *args, **kwargs): ...
    def on_chain_end(self, *args, **kwargs): ...


class Async(AsyncCallbackHandler):
    async def on_chain_start(self, *args, **kwargs): ...
    async def on_chain_end(self, *args, **kwargs): ...


# %%
async def nothing(item):
    return item


async def seconds_a_call(callbacks, calls=60):
    step = as_runnable(nothing)
    start = time.perf_counter()
    for _ in range(calls):
        await step.ainvoke(0, {"callbacks": callbacks()})
    return (time.perf_counter() - start) / calls


# %%
HANDLERS = {
    "none": list,
    "PerformanceMonitor": lambda: [monitor.callback],
    "async handler": lambda: [Async()],
    "sync handler": lambda: [Sync()],
    "RunCollector": lambda: [RunCollectorCallbackHandler()],
}
monitor.reset()
rounds = [{name: await seconds_a_call(make) for name, make in HANDLERS.items()} for _ in range(7)]
cost = {name: min(each[name] for each in rounds) for name in HANDLERS}

# %%
added = {name: seconds - cost["none"] for name, seconds in cost.items() if name != "none"}
times = added["RunCollector"] / added["PerformanceMonitor"]
plots.magnitudes(
    {name: max(seconds, 1e-6) for name, seconds in added.items()},
    title=f"A collector costs {times:.0f}x what the monitor does",
    x="added to a call of a Runnable",
)

# %%
assert added["PerformanceMonitor"] < added["RunCollector"]

# %% [markdown]
# ## Find the bottleneck
#
# Now the question that monitoring is for. The code of this chain suggests an answer: of the three steps, one takes far longer than the others. Sixty questions come in at once.

# %%
TIMES = {"retrieve": 0.04, "rerank": 0.08, "generate": 1.0}
PATHS = {"retrieve": "/search", "rerank": "/rerank", "generate": "/v1/chat/completions"}
SLOTS = {"retrieve": None, "rerank": 4, "generate": None}  # the provider does not say this

print({name: f"{seconds * 1e3:.0f} ms" for name, seconds in TIMES.items()})


# %%
def station(name, times, slots):
    return service.Behaviour(
        latency=service.Latency.constant(times[name]),
        capacity=service.Capacity(slots[name]) if slots[name] else None,
    )


def virtual(times, slots):
    return VirtualProvider(
        endpoints={path: station(name, times, slots) for name, path in PATHS.items()}
    )


# %%
def pipeline(provider):
    async def retrieve(question):
        return question, [await provider.search(question)]

    async def rerank(found):
        return found[0], await provider.rerank(*found)

    async def generate(found):
        return await provider.chat(found[0])

    steps = [as_runnable(step, name=step.__name__) for step in (retrieve, rerank, generate)]
    return steps[0] | steps[1] | steps[2]


# %%
async def sixty(chain):
    await asyncio.gather(*(chain.ainvoke(f"question {number}") for number in range(60)))


def run(arrive, times=TIMES, slots=SLOTS):
    monitor = PerformanceMonitor()
    chain = pipeline(virtual(times, slots)).with_config(callbacks=[monitor.callback])
    seconds = simulate(lambda: arrive(chain)).seconds
    return seconds, monitor.report()


# %% [markdown]
# **Name it first**: which step does this batch wait for, `"retrieve"`, `"rerank"` or `"generate"`?

# %%
named = ...  ### SOLUTION: "generate"

# %%
makespan, before = run(sixty)
before

# %%
largest = max(TIMES, key=lambda name: before[name].mean)
print(f"largest average: {largest}; the batch takes {makespan:.2f} s")

# %% [markdown]
# By the largest average it is `generate`. An experiment decides: make each step twice as fast, one at a time.


# %%
def twice_as_fast(name):
    return run(sixty, times=TIMES | {name: TIMES[name] / 2})[0]


halved = {name: twice_as_fast(name) for name in TIMES}
lab.Table(["twice as fast", "the batch takes"], [[n, f"{s:.2f} s"] for n, s in halved.items()])

# %%
best = min(halved, key=halved.get)
said = "nothing yet" if named is ... else named
print(f"you said {said}; the step to mend is {best}")

# %% [markdown]
# **Explain.** Any number of questions can be in `generate` at once, so that its second passes for all of them together. `rerank` takes four at a time, and each keeps its place for a while: a *demand* of time / places. That is what each question adds to the batch, and no average shows it. The calls do show it, to who looks at when they start and end:

# %% tags=["readme"]
found = bottleneck(before)
plots.stages(found.times, title=f"Waiting for {found.step}, not for {largest}")

# %%
print(found)
assert found.step == best == "rerank" != largest == found.largest

# %% [markdown]
# Blue is work, orange the wait for it; callers see the two as one. Now mend it: more places for `rerank`. The bottleneck moves, or goes:

# %%
mended, after = run(sixty, slots=SLOTS | {"rerank": 30})
print(f"{makespan:.2f} s before, {mended:.2f} s after")
print(bottleneck(after))

# %%
diff(before, after)

# %% [markdown]
# ### Under a steady load
#
# The same chain, when questions come one by one. Its four places for rerank let through fifty a second. At forty nothing is saturated, and then more places would buy nothing; at sixty they would.


# %%
def steadily(rate, count=300):
    async def arrive(chain):
        draw = random.Random(8)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(chain.ainvoke(f"question {number}"))
                await asyncio.sleep(draw.expovariate(rate))

    return arrive


# %%
for rate in (40, 60):
    _, steady = run(steadily(rate))
    print(f"{rate}/s: {bottleneck(steady)}")

# %% [markdown]
# ### Exercise 5.3: the step that cannot keep up
#
# `steps` is a dictionary: for each name the seconds that an item takes there, and how many are worked on at once (`None` for any number). Write `limiting(steps, rate)`: the name of the step with the smallest capacity, if that is below the rate at which items arrive; otherwise `None`. About 4 lines.


# %% tags=["exercise"] exercise="5.3"
def limiting(steps, rate):
    ### BEGIN SOLUTION
    capacity = {name: slots / seconds for name, (seconds, slots) in steps.items() if slots}
    slowest = min(capacity, key=capacity.get, default=None)
    return slowest if slowest and capacity[slowest] < rate else None
    ### END SOLUTION


# %% tags=["check"]
await exercise("5.3").check(limiting)

# %% [markdown]
# ### Does the monitor count right?
#
# Little's law holds for any system that is left to itself: the mean number in flight is the throughput times the mean time, $L = \lambda W$. The monitor counts the three in different ways, so the law checks them against each other. Where it does not hold, calls were lost.

# %%
checks = littles_law(steady)
print(*checks.values(), sep="\n")
assert all(check.holds for check in checks.values())

# %% [markdown]
# A figure that is often taken for a throughput, or for a mean time: the sum of all times, divided by the time that passed. It is $L$.

# %%
busiest = steady["generate"]
print(
    f"{busiest.total:.0f} s of work in {steady.seconds:.1f} s: {busiest.total / steady.seconds:.1f} in flight"
)
assert abs(busiest.total / steady.seconds / busiest.mean_in_flight - 1) < 0.01

# %% [markdown]
# ## The step that blocks the loop
#
# A chain of three asynchronous steps; one of them computes, for longer than it looks. While it does, nothing else runs in this loop, and *every* step's time grows. `LoopLag` watches the loop: a heartbeat that comes late tells for how long it stood still, and a look at the stack tells by whom.


# %%
async def fetch(item):
    await asyncio.sleep(0.02)
    return item


PARSING = 0.06


async def parse(item):
    time.sleep(PARSING)  # stands for computing; `await` is nowhere
    return item


async def store(item):
    await asyncio.sleep(0.02)
    return item


# %%
lag_monitor = PerformanceMonitor()
steps = [as_runnable(step, name=step.__name__) for step in (fetch, parse, store)]
chain = steps[0] | steps[1] | steps[2]


async def watched():
    config = {"callbacks": [lag_monitor.callback]}
    async with LoopLag(monitor=lag_monitor) as lag:
        await asyncio.gather(*(chain.ainvoke(number, config) for number in range(12)))
    return lag


# %%
lag = (await lab.measure(watched, blocks=True)).value
parse_seconds = lag_monitor.report()["parse"].mean
print(f"blocked for {lag.total:.2f} s, most of it by the step {next(iter(lag.steps))!r}")
print(f"{parse_seconds:.2f} s, says the report of that step; one call computes for {PARSING:g} s")

# %%
assert next(iter(lag.steps)) == "parse"
assert parse_seconds > 2 * PARSING and lag.total > 6 * PARSING

# %% [markdown]
# In the report alone it looks like waiting: twelve calls, side by side, all of them long. But no `await` in there waits for anything. Each call took its turn, and each one's time is the time of all. The mend is `asyncio.to_thread` for what waits or releases Python's lock, and a process for what computes in Python.
#
# ## How far will it scale?
#
# A service does most of its work in parallel, some of it one at a time, and with everyone who is there it has to agree on something. Up to twelve users at once have been tried. What will sixty do?

# %%
PARALLEL, ONE_AT_A_TIME, AGREE = 0.02, 0.001, 0.00006


class Shared:
    def __init__(self):
        self.lock, self.inside, self.draw = asyncio.Lock(), 0, random.Random(9)

    async def call(self):
        self.inside += 1
        work = PARALLEL + AGREE * self.inside * (self.inside - 1)
        await asyncio.sleep(self.draw.expovariate(1 / work))
        async with self.lock:
            await asyncio.sleep(self.draw.expovariate(1 / ONE_AT_A_TIME))
        self.inside -= 1


# %%
async def users(count, seconds=10):
    shared, done = Shared(), 0

    async def user():
        nonlocal done
        while now() < seconds:
            await shared.call()
            done += 1

    await asyncio.gather(*(user() for _ in range(count)))
    return done / now()


# %%
TRIED = [1, 2, 3, 4, 6, 8, 10, 12]
tried = [simulate(lambda count=count: users(count)).value for count in TRIED]
fit = fit_usl(TRIED, tried)
print(
    f"from up to 12 users, a peak at {fit.peak:.0f} users and {fit.peak_throughput:.0f}/s is predicted"
)

# %%
BEYOND = [16, 20, 24, 32, 40, 50, 60]
beyond = [simulate(lambda count=count: users(count)).value for count in BEYOND]
curve = list(range(1, 61))

# %%
peak = BEYOND[beyond.index(max(beyond))]
plots.versus_model(
    {"tried": (TRIED, tried), "checked": (BEYOND, beyond)},
    {"tried": (curve, [fit.predict(count) for count in curve])},
    title=f"Peak predicted at {fit.peak:.0f} users, found at about {peak}",
    x="users at once",
    y="calls per second",
)

# %% [markdown]
# That is the **universal scalability law**: what has to queue (contention) bends the curve, what has to agree (coherency) turns it down. Beyond the peak, more users get less done, all together.

# %%
errors = {n: abs(fit.predict(n) / seen - 1) for n, seen in zip(BEYOND, beyond, strict=True)}
print(f"contention {fit.contention:.3f}, coherency {fit.coherency:.5f}")
print(
    f"off by {errors[peak]:.0%} at the peak, and by {errors[60]:.0%} at five times what was tried"
)

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "Every step is timed, failed ones too": true.count == 100 and report["rerank"].count == 30,
        "A report of each run was made, in a table and as a trace": len(complete) > 0,
        "Time is measured from the planned start": felt > 10 * real,
        "Two processes' percentiles are merged, not averaged": abs(together / truth - 1) < 0.01,
        "The bottleneck is named, and mending it helped": found.step == best and mended < makespan,
        "The monitor's own figures obey Little's law": all(c.holds for c in checks.values()),
        "The step that blocks the loop is known": next(iter(lag.steps)) == "parse",
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - Count every call, however it ends, from when it was meant to start.
# - A mean hides the tail. Percentiles cannot be averaged; histograms can be merged.
# - A closed loop waits with the service, and so leaves out those whom a stall would have hit.
# - One inline callback sees a whole chain, for a few microseconds.
# - The bottleneck is the largest demand, not the largest average. Name it, mend it, look again.
# - If $L \neq \lambda W$, mistrust the figures first.
#
# Next: [notebook 6](06_rag_capstone.ipynb), the five techniques in one system.
#
# ## Further reading
#
# - Gil Tene, [How NOT to measure latency](https://www.youtube.com/watch?v=lJ8ydIuPFeU), and [HdrHistogram](https://hdrhistogram.github.io/HdrHistogram/)
# - Brendan Gregg, [the USE method](https://www.brendangregg.com/usemethod.html)
# - Lazowska et al., [Quantitative System Performance](https://homes.cs.washington.edu/~lazowska/qsp/)
# - the code behind this notebook: [monitor](../course_lib/monitoring/monitor.py), [histogram](../course_lib/monitoring/histogram.py), [bottleneck](../course_lib/monitoring/bottleneck.py), [loop_lag](../course_lib/monitoring/loop_lag.py), [usl](../course_lib/monitoring/usl.py)

# %%
provider.stop()
lab.hygiene()
