# %% [markdown]
# # 5 · Monitoring that finds the bottleneck
#
# An average says that all is well, while callers wait: measure what callers feel, and name the step that the pipeline waits for.
#
# ## What you'll do
#
# - take apart the timing wrapper that everybody writes, and count what it does not see
# - look at four loads with one mean, and add up the percentiles of two processes
# - measure one load from two starting points
# - watch a whole chain with one line of configuration
# - name the bottleneck before and after the mend, and find the step that blocks the loop
# - predict how far a service scales
# - point the monitor at a chain of your own
#
# ## What you'll learn
#
# - wait, service and response; closed and open loops; [coordinated omission](../docs/glossary.md#coordinated-omission)
# - why [percentiles](../docs/glossary.md#percentile) cannot be averaged, and what can be added up
# - demand and [utilisation](../docs/glossary.md#utilisation), and [Little's law](../docs/glossary.md#littles-law) as a check on your own figures
# - what the universal scalability law ([USL](../docs/glossary.md#usl)) tells of a sweep
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

# %% [markdown]
# **Recall questions** on the notebooks before. Answer each aloud, then open it.
#
# <details><summary>A hundred calls of equal length, ten at once: how many times as long as one call does the batch take?</summary>
#
# Ten times: ten waves of ten calls. A batch in waves takes at least its calls, divided by the places.
#
# </details>
#
# <details><summary>A provider answers 429. Who waits, and what do they hold meanwhile?</summary>
#
# All callers of that provider wait, for as long as <code>Retry-After</code> says. They hold no slot meanwhile, so that the slots are free for those who may go on.
#
# </details>
#
# <details><summary>Fixed chunks take longer than a sliding window of the same size. What do they wait for?</summary>
#
# Each chunk waits for the slowest of its items, and meanwhile its other places stand empty. In a window the next item starts as soon as any one is done.
#
# </details>

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
from course_lib.batching import amap
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
# Every project has one of these. Most of them call `time.time()`, which jumps when the machine's clock is set. This one reads the loop's clock, so that its other faults can be seen.

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
# A hundred calls are made, one after the other. Most are good. Some hang, and the caller gives up.

# %%
GOOD, PATIENCE, HANG = 0.05, 0.5, 0.3
print(f"a good call takes {GOOD * 1e3:.0f} ms, a hanging one is given up after {PATIENCE:g} s")
print(f"about {HANG:.0%} of the calls hang")

# %% [markdown]
# **Predict** the average that the wrapper reports:

# %%
reported = predict("average that the wrapper reports, ms", ..., "ms")  ### SOLUTION: 185
reported


# %%
def hanging():
    faults = service.Faults(hang=HANG, seed=2)
    return VirtualProvider(latency=service.Latency.constant(GOOD), faults=faults)


async def calls(search, count=100):
    for number in range(count):
        try:
            async with asyncio.timeout(PATIENCE):
                await search(f"question {number}")
        except TimeoutError:
            pass


# %%
timings.clear()
simulate(lambda: calls(timed("search", hanging().search)))
recorded = timings["search"]
reported.reveal(round(fmean(recorded) * 1e3, 1))

# %% [markdown]
# Where the number comes from: only a good call reaches the line that notes it, and every good call takes the same time. And what does a monitor say of the same hundred?


# %%
async def monitored_calls(monitor):
    search = hanging().search

    async def measured(question):
        with monitor.measure("search"):
            return await search(question)

    await calls(measured)
    return monitor.report()["search"]


# %%
true = simulate(lambda: monitored_calls(PerformanceMonitor())).value
print(f"wrapper: {len(recorded)} calls, mean {fmean(recorded) * 1e3:.0f} ms")
print(f"monitor: {true.count} calls, {true.cancelled} given up, mean {true.mean * 1e3:.0f} ms")
good, lost = len(recorded) * GOOD, true.cancelled * PATIENCE
print(f"({good:.2f} s of good calls + {lost:.2f} s of waiting in vain) / {true.count} calls")

# %%
lab.checklist(
    {
        "the wrapper misses the calls that were given up": len(recorded) < true.count == 100,
        "the true mean is more than twice the reported one": true.mean > 2 * fmean(recorded),
    }
)

# %% [markdown]
# When a call fails, the line after the `await` is not reached. So the report gets better as the service gets worse; in a total outage it is empty. `measure` is a `with` block: it counts whatever is raised as an error or a cancellation, and the caller still gets it.
#
# ### It measures the wrong thing
#
# Fifty calls are to be made, and there are six workers. The clock starts inside the worker:

# %%
WORK = 0.1
print(f"one call takes {WORK * 1e3:.0f} ms")


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
# Both are true. *Service* is how long the work took. *Wait* is how long the call waited before. *Response* is the sum, and that is what a caller feels. A monitor keeps the three apart. It has to be told when a call was *meant* to start: `measure(name, planned=...)`.
#
# ### It grows, and its report is not safe
#
# The wrapper keeps one list entry for each call, for ever. A histogram counts into buckets instead, and a call in a bucket that is there already needs no more memory.


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
lab.checklist({"the histogram takes less than a fifth": histogram_mb < list_mb / 5})

# %%
exact = sorted(samples)[int(0.99 * len(samples)) - 1]
counted = histogram.quantile(0.99)
print(f"p99 of the list {exact * 1e3:.0f} ms, of the histogram {counted * 1e3:.0f} ms")
lab.checklist({"the two agree within 1 %": abs(counted / exact - 1) < 0.01})

# %% [markdown]
# And this happens when another thread counts a new name while the report goes through the dictionary:


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
# Write `observed(call, record, clock, planned)`: it awaits `call()`, returns its result, and calls `record(outcome, wait, service)` exactly once, whatever happens. The outcome is `"ok"`, `"error"` or `"cancelled"`. The wait is from `planned` to the start, never below zero. The service is from the start to the end, by `clock()`. What was raised goes on to the caller. About 12 lines.


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
# Here are four services with the same mean. Their callers would not call them the same.

# %%
COUNT, MEAN = 1_000, 0.1


def with_mean(make, mean=MEAN, count=COUNT):
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
# A page is made of ten calls, side by side. **Predict**: what share of the pages meets at least one call of the slowest hundredth?

# %%
unlucky = predict("pages that meet the slowest 1 in 100, percent", ..., "%")  ### SOLUTION: 9.6
unlucky

# %%
values = with_mean(lambda draw: draw.expovariate(1), count=20_000)
limit = quantiles(values, n=100)[98]
pages = [max(values[at : at + 10]) for at in range(0, len(values), 10)]
unlucky.reveal(round(100 * sum(page > limit for page in pages) / len(pages), 1))

# %%
print(f"a page is lucky if all ten calls are: 1 - 0.99 ** 10 = {1 - 0.99**10:.1%}")

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
lab.checklist({"only the merged one is right": abs(together / truth - 1) < 0.01})

# %% [markdown]
# The average of two percentiles is the percentile of nothing. But histograms with the same buckets can be added, bucket by bucket. The result is what one histogram of all calls would have been.
#
# ### Exercise 5.2: what is wrong here?
#
# This stands in somebody's dashboard. A histogram is a dictionary: the upper bound of a bucket in seconds, and the calls in it. There is one for each process, and "the calls of each process weigh its percentile, so that big ones count more".


# %%
def dashboard(histograms, q):
    total = 0.0
    for histogram in histograms:
        seen, calls = 0, sum(histogram.values())
        for bound in sorted(histogram):
            seen += histogram[bound]
            if seen >= q * calls:
                total += bound * calls
                break
    return total / sum(sum(each.values()) for each in histograms)


print(f"p99 of one process: {dashboard([{0.01: 500, 0.1: 20}], 0.99):g} s, and that is right")

# %% [markdown]
# Hand over `breaks`, a list of histograms for which its p99 is wrong by more than a factor of two. Then mend it: `percentile(histograms, q)` returns the smallest bound such that at least the share `q` of *all* calls lies at or below it. A process that has recorded nothing adds nothing, and the histograms stay as they are. About 8 lines.

# %%
breaks = ...  ### SOLUTION: [{0.01: 9_800}, {1.0: 200}]


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
await exercise("5.2").check(percentile, breaks)

# %% [markdown] tags=["path-90"]
# ## Where time is measured from
#
# *On the 90-minute path.*
#
# This is a load test: one user asks again and again, at a fixed rate. Once the service stands still. These numbers are meant to be changed: change one, run the section again, and look.

# %% tags=["parameters"]
CALL, STALL = 0.01, 2.0  # seconds
RATE, SECONDS = 50, 20
print(f"a call takes {CALL * 1e3:.0f} ms; the service stands still for {STALL:g} s, once")
print(f"{RATE * SECONDS:,} calls, {RATE}/s")

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
met = sum(bucket.count for bucket in step.service.buckets() if bucket.upper > 2 * CALL)
print(f"{met} call of {step.count:,} met the stall; p99 leaves out the slowest {step.count // 100}")

# %%
curves = {
    "from the real start": plots.durations_of(test, of="service")["answer"],
    "from the planned start": plots.durations_of(test, of="response")["answer"],
}
real, felt = step.service.quantile(0.99), step.response.quantile(0.99)
plots.percentiles(curves, title=f"One run, two clocks: p99 {real * 1e3:.0f} ms or {felt:.1f} s")

# %% [markdown]
# **Explain.** The tester waits for the answer before it asks again: that is a *closed loop*. While the service stands still, the tester sends nothing, so the stall counts as one slow call. Users do not wait for each other, and would have asked meanwhile: that is an *open loop*. The plan knows when each call was due. Measured from there, everybody whom the stall hit can be seen. Leaving them out is called **coordinated omission**.

# %%
print(f"{RATE * STALL:.0f} users would have asked during the stall")
lab.checklist(
    {
        "from the real start, p99 is one undisturbed call": real < 1.01 * CALL,
        "from the planned start, it is most of the stall": felt > STALL / 2,
        "the slowest call had to wait for all of the stall": step.service.maximum >= STALL,
    }
)

# %% [markdown]
# ## One line instead of wrappers
#
# LangChain tells a callback handler about every step. `monitor.callback` in the `config` sees the whole chain, and each step under its name. It sees what fails, and which step runs inside which. Here are thirty questions, through three real endpoints:

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
await thirty()  # the provider has loaded its model, and read these questions
monitor.reset()
seen = await lab.measure(thirty, provider=provider)
report = monitor.report()


def line(step):
    times = [f"{seconds * 1e3:.0f} ms" for seconds in (step.mean, step.p50, step.p95)]
    return [step.name, f"{step.count}", f"{step.errors}", *times]


lab.Table(["step", "calls", "errors", "mean", "p50", "p95"], [*map(line, report.steps.values())])

# %%
STEPS = ("retrieve", "rerank", "generate")
counted = sum(report[name].count for name in STEPS)
print(f"{counted} calls by the monitor, {seen.ledger.requests} requests by the provider's ledger")

# %% [markdown]
# ### More than the sum of its steps
#
# Look at the first line of the table once more. The whole chain takes longer than its three steps together:

# %%
sequence = report["RunnableSequence"].mean
together_ms = sum(report[name].mean for name in STEPS) * 1e3
print(f"the sequence takes {sequence * 1e3:.0f} ms, its steps together {together_ms:.0f} ms")

# %%
ends = max(span.end for span in report.spans if span.name == "retrieve") - report.started
begins = min(span.start for span in report.spans if span.name == "rerank") - report.started
print(f"the last retrieve ends after {ends:.2f} s, the first rerank begins after {begins:.2f} s")
lab.checklist({"no rerank begins before all retrieves have ended": begins >= ends})

# %% [markdown]
# `abatch` of a chain goes step by step: first all questions through `retrieve`, then all through `rerank`, then all through `generate`. So a question that has been retrieved waits for the other twenty-nine, and these waits stand between its steps: no step's time shows them. (Notebook 3 meets the same barrier.) `amap` sends each question through the whole chain by itself, ten at once as before:


# %%
async def each_by_itself():
    async with ServiceClient(provider.url) as client:
        config = {"callbacks": [monitor.callback]}
        asked = amap(chain_of(client), lab.questions(30), limit=10, config=config)
        return [outcome async for outcome in asked]


# %%
monitor.reset()
own = await lab.measure(each_by_itself, provider=provider)
alone = monitor.report()
whole, parts_of_it = alone["RunnableSequence"].mean, sum(alone[name].mean for name in STEPS)
print(f"each by itself: the sequence {whole * 1e3:.0f} ms, its steps {parts_of_it * 1e3:.0f} ms")
lab.checklist(
    {
        "now the steps make up the sequence": parts_of_it > 0.8 * whole,
        "a question is done sooner": whole < sequence,
    }
)

# %% [markdown]
# ### Other tools
#
# Each call is a [span](../docs/glossary.md#span). Who ran when can be looked at in a trace viewer, such as [Perfetto](https://ui.perfetto.dev), which opens the file that `write_trace` writes. `to_prometheus`, `to_json_lines` and `report.to_dict()` serve other tools.

# %%
with tempfile.TemporaryDirectory() as folder:
    trace = json.loads(write_trace(report, Path(folder) / "trace.json").read_text())
complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
print(f"{len(complete)} events; the first is {min(complete, key=lambda e: e['ts'])['name']}")

# %% [markdown]
# ### What does it cost?
#
# A synchronous handler runs in the thread pool, and the two hops between threads cost more than the handler. An asynchronous handler runs in the loop, and so does one that says `run_inline = True`. A collector keeps a tree of everything.


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


async def cpu_of_a_call(callbacks, calls=60):
    step = as_runnable(nothing)
    start = time.process_time()
    for _ in range(calls):
        await step.ainvoke(0, {"callbacks": callbacks()})
    return (time.process_time() - start) / calls


# %%
HANDLERS = {
    "none": list,
    "PerformanceMonitor": lambda: [monitor.callback],
    "async handler": lambda: [Async()],
    "sync handler": lambda: [Sync()],
    "RunCollector": lambda: [RunCollectorCallbackHandler()],
}
monitor.reset()
rounds = [{name: await cpu_of_a_call(make) for name, make in HANDLERS.items()} for _ in range(7)]
cost = {name: min(each[name] for each in rounds) for name in HANDLERS}

# %%
added = {name: seconds - cost["none"] for name, seconds in cost.items() if name != "none"}
times = added["RunCollector"] / added["PerformanceMonitor"]
plots.magnitudes(
    {name: max(seconds, 1e-6) for name, seconds in added.items()},
    title=f"A collector costs {times:.0f}x what the monitor does",
    x="CPU added to a call of a Runnable",
)

# %%
cheaper = added["PerformanceMonitor"] < added["RunCollector"]
lab.checklist({"the monitor costs less than a collector": cheaper})

# %% [markdown] tags=["path-90"]
# ## Find the bottleneck
#
# *On the 90-minute path.*
#
# Now the question that monitoring is for: which step does the pipeline wait for, and which one should be mended? Of these three steps, one takes far longer than the others. Many questions come in at once. Change a number later, run the section again, and look at what becomes of the bottleneck.

# %% tags=["parameters"]
TIMES = {"retrieve": 0.04, "rerank": 0.08, "generate": 1.0}  # seconds for each call
SLOTS = {"retrieve": None, "rerank": 4, "generate": None}  # at once; the provider does not say this
QUESTIONS = 60

print(QUESTIONS, "questions;", {name: f"{each * 1e3:.0f} ms" for name, each in TIMES.items()})

# %%
PATHS = {"retrieve": "/search", "rerank": "/rerank", "generate": "/v1/chat/completions"}


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
async def all_at_once(chain):
    await asyncio.gather(*(chain.ainvoke(f"question {number}") for number in range(QUESTIONS)))


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
makespan, before = run(all_at_once)
before

# %%
largest = max(TIMES, key=lambda name: before[name].mean)
print(f"largest average: {largest}; the batch takes {makespan:.2f} s")

# %% [markdown]
# That is the step with the largest average. An experiment decides: make each step twice as fast, one at a time.


# %%
def twice_as_fast(name):
    return run(all_at_once, times=TIMES | {name: TIMES[name] / 2})[0]


halved = {name: twice_as_fast(name) for name in TIMES}
lab.Table(["twice as fast", "the batch takes"], [[n, f"{s:.2f} s"] for n, s in halved.items()])

# %%
best = min(halved, key=halved.get)
said = "nothing yet" if named is ... else named
print(f"you said {said}; the step to mend is {best}")

# %% [markdown]
# **Explain.** Any number of questions can be in `generate` at once, so its time passes for all of them together. `rerank` takes only a few at a time, and each question keeps its place for a while. That is its *demand*: the time of a call, divided by the places. Each question adds that much to the batch, and no average shows it. But the starts and ends of the calls do, and `bottleneck` looks at those to name the [bottleneck](../docs/glossary.md#bottleneck):

# %% tags=["readme"]
found = bottleneck(before)
said = f"Waiting for {found.step}, not for {largest}" if found.step else "Nothing is saturated"
plots.stages(found.times, title=said)

# %%
print(found)
lab.checklist(
    {
        "`bottleneck` names the step whose halving helped most": found.step == best,
        "that is not the step with the largest average": best != largest,
    }
)

# %% [markdown]
# Blue is work, and orange is the wait for it. Callers see the two as one. Now mend the step: give `rerank` more places. The bottleneck moves, or it goes:

# %%
mended, after = run(all_at_once, slots=SLOTS | {"rerank": 30})
print(f"{makespan:.2f} s before, {mended:.2f} s after")
print(bottleneck(after))

# %%
diff(before, after)

# %% [markdown]
# Play with it: which step is made twice as fast, and how many places has `rerank`? From how many places on does another step decide?


# %%
def batch(twice_as_fast="no step", places_for_rerank=SLOTS["rerank"]):
    times = {name: each / (1 + (name == twice_as_fast)) for name, each in TIMES.items()}
    seconds, seen = run(all_at_once, times, SLOTS | {"rerank": places_for_rerank})
    named = bottleneck(seen)
    title = f"{seconds:.2f} s; waiting for {named.step or 'nothing'}"
    return plots.stages(named.times, title=title)


most = 5 * SLOTS["rerank"]
lab.play(batch, twice_as_fast=["no step", *TIMES], places_for_rerank=(1, most, 1))

# %% [markdown]
# ### Under a steady load
#
# Now the questions come one by one. What do the places of `rerank` let through? A little below that rate nothing is saturated, and more places would buy nothing. A little above it they would.


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
capacity = SLOTS["rerank"] / TIMES["rerank"]
print(f"{SLOTS['rerank']} places / {TIMES['rerank'] * 1e3:.0f} ms = {capacity:g}/s")
for rate in (0.8 * capacity, 1.2 * capacity):
    _, steady = run(steadily(rate))
    print(f"{rate:g}/s: {bottleneck(steady)}")

# %% [markdown]
# ### Exercise 5.3: the step to mend
#
# You get a report of somebody else's chain under a steady load. It holds the whole chain (as `"chain"`) and its steps, and nobody tells you the places. Write `to_mend(report)`: it returns the name of the step for which twice the places make the last item end soonest. If all steps keep up, more places help nowhere, and it returns `None`. Use whatever you have seen here. One line is enough.


# %% tags=["exercise"] exercise="5.3"
def to_mend(report):
    ### BEGIN SOLUTION
    return bottleneck(report).step
    ### END SOLUTION


# %% tags=["check"]
await exercise("5.3").check(to_mend)

# %% [markdown]
# For each chain that has such a step, the card shows three times of a hundred items: as the chain is, with twice the places for the step that you named, and with twice the places for the best of the others.

# %% [markdown]
# ### Does the monitor count right?
#
# Little's law holds for any system that is left to itself: the mean number in flight is the throughput times the mean time, $L = \lambda W$. The monitor counts the three in different ways, so the law checks them against each other. Where it does not hold, calls were lost.

# %%
checks = littles_law(steady)
print(*checks.values(), sep="\n")
lab.checklist({f"the law holds for {name}": check.holds for name, check in checks.items()})

# %% [markdown]
# The sum of all times, divided by the time that passed, is often taken for a throughput or for a mean time. It is neither: it is $L$.

# %%
busiest = steady["generate"]
quotient = busiest.total / steady.seconds
print(f"{busiest.total:.0f} s of work in {steady.seconds:.1f} s: {quotient:.1f} in flight")
lab.checklist({"it is the mean in flight": abs(quotient / busiest.mean_in_flight - 1) < 0.01})

# %% [markdown]
# ## The step that blocks the loop
#
# This chain has three asynchronous steps, and one of them computes. While it computes, nothing else runs in this loop, and the time of *every* step grows. `LoopLag` watches the loop for its [lag](../docs/glossary.md#loop-lag). A heartbeat that comes late tells how long the loop stood still, and a look at the stack tells who held it.


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
lag_monitor.reset()
blocked = await lab.measure(watched, blocks=True)
lag, culprit = blocked.value, next(iter(blocked.value.steps), "nobody")
parse_seconds = lag_monitor.report()["parse"].mean
print(f"blocked for {lag.total:.2f} s, most of it by the step {culprit!r}")
print(f"{parse_seconds:.2f} s, says the report of parse; one call computes for {PARSING:g} s")

# %%
lab.checklist(
    {
        "the step that blocks is parse": culprit == "parse",
        "its time in the report is that of several calls": parse_seconds > 2 * PARSING,
        "the loop stood still for half of the calls and more": lag.total > 6 * PARSING,
    }
)

# %% [markdown]
# In the report alone it looks like waiting: twelve calls run side by side, and all of them are long. But no `await` in `parse` waits for anything. The calls took turns, and the time of each is the time of all. What waits, or releases Python's lock, belongs into `asyncio.to_thread`. What computes in Python belongs into another process.


# %%
async def parse_in_a_thread(item):
    await asyncio.to_thread(time.sleep, PARSING)
    return item


chain = as_runnable(fetch) | as_runnable(parse_in_a_thread, name="parse") | as_runnable(store)
unblocked = await lab.measure(watched)
print(f"{blocked.seconds:.2f} s before, {unblocked.seconds:.2f} s after")
lab.checklist({"the chain is faster": unblocked.seconds < blocked.seconds})

# %% [markdown]
# ### Exercise 5.4: the step that holds the loop
#
# You get a chain that answers slowly. Write `blocking_step(chain, questions)`: it asks the chain each of the questions once, all of them at once, and returns the name of the step that holds the event loop longest. A monitor and a `LoopLag` find it. About 6 lines.


# %% tags=["exercise"] exercise="5.4"
async def blocking_step(chain, questions):
    ### BEGIN SOLUTION
    monitor = PerformanceMonitor()
    config = {"callbacks": [monitor.callback]}
    async with LoopLag(monitor=monitor) as lag:
        await asyncio.gather(*(chain.ainvoke(question, config) for question in questions))
    return next(iter(lag.steps))
    ### END SOLUTION


# %% tags=["check"]
await exercise("5.4").check(blocking_step)

# %% [markdown]
# ### Your own chain
#
# Now point the monitor at something of yours. Any Runnable will do: put it in place of `chain`, and inputs that it takes in place of `INPUTS`.

# %%
YOURS, INPUTS = chain, list(range(60))
yours = PerformanceMonitor()

# %% tags=["nbval-ignore-output"]
async with LoopLag(monitor=yours) as lag:
    await YOURS.abatch(INPUTS, {"callbacks": [yours.callback], "max_concurrency": 20})
print(bottleneck(yours.report()))
print(lag)

# %% [markdown]
# ## How far will it scale?
#
# A service does most of its work in parallel, and some of it one at a time. And it has to agree on something with everyone who is there. Up to twelve users at once have been tried. What will sixty do?

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
said = f"a peak at {fit.peak:.0f} users and {fit.peak_throughput:.0f}/s"
print(f"from up to {max(TRIED)} users, {said} is predicted")

# %%
BEYOND = [16, 20, 24, 32, 40, 50, 60]
beyond = [simulate(lambda count=count: users(count)).value for count in BEYOND]
curve = list(range(1, max(BEYOND) + 1))

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
# That is the **universal scalability law**. What has to queue (contention) bends the curve. What has to agree (coherency) turns it down. Beyond the peak, more users get less done, all together.

# %%
errors = {n: abs(fit.predict(n) / seen - 1) for n, seen in zip(BEYOND, beyond, strict=True)}
print(f"contention {fit.contention:.3f}, coherency {fit.coherency:.5f}")
most = max(BEYOND)
print(f"off by {errors[peak]:.0%} at the peak of {peak} users")
print(f"off by {errors[most]:.0%} at {most} users, where at most {max(TRIED)} were tried")

# %% [markdown]
# ## Checklist

# %%
lab.checklist(
    {
        "Every call is counted, failed ones too": true.count == 100 and counted == 90,
        "A report of each run was made, in a table and as a trace": len(complete) > 0,
        "Time is measured from the planned start": felt > 10 * real,
        "Two processes' percentiles are merged, not averaged": abs(together / truth - 1) < 0.01,
        "The bottleneck is named, and mending it helped": found.step == best and mended < makespan,
        "The monitor's own figures obey Little's law": all(c.holds for c in checks.values()),
        "The step that blocks the loop is known": culprit == "parse",
        "My clock loses no call (5.1)": exercise("5.1").solved,
        "I showed what a dashboard gets wrong, and mended it (5.2)": exercise("5.2").solved,
        "I read the step to mend out of a report (5.3)": exercise("5.3").solved,
        "I found the step that holds the loop (5.4)": exercise("5.4").solved,
    }
)

# %%
lab.predictions()

# %% [markdown]
# ## Recap
#
# - Count every call, however it ends, from when it was meant to start.
# - A mean hides the tail. Percentiles cannot be averaged, but histograms can be merged.
# - A closed loop waits with the service, and so it leaves out those whom a stall would have hit.
# - One inline callback sees a whole chain, for a few microseconds a call.
# - `abatch` of a chain goes step by step, and the waits between the steps belong to no step.
# - The bottleneck is the largest demand, not the largest average. Name it, mend it, look again.
# - A blocked loop looks like waiting. `LoopLag` tells the two apart.
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
