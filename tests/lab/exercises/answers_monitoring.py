"""Notebook 5: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import contextlib
import itertools
import math
import time  # noqa: F401 - slips use it
from bisect import bisect_left
from collections import Counter, defaultdict
from functools import reduce
from statistics import fmean

import numpy as np
from exercise_support import BREAKS, breaks

from course_lib.monitoring import LoopLag, PerformanceMonitor, bottleneck, to_chrome_trace

# 5.1 -------------------------------------------------------------------------------------------


async def observed(call, record, clock, planned):
    start = clock()
    outcome = "error"
    try:
        result = await call()
        outcome = "ok"
        return result  # noqa: TRY300 - as learners write it
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


async def each_end_by_itself(call, record, clock, planned):
    start = clock()
    wait = max(0.0, start - planned)
    try:
        result = await call()
    except asyncio.CancelledError:
        record("cancelled", wait, clock() - start)
        raise
    except BaseException:
        record("error", wait, clock() - start)
        raise
    record("ok", wait, clock() - start)
    return result


async def with_a_context_manager(call, record, clock, planned):
    @contextlib.contextmanager
    def recorded():
        start, outcome = clock(), "ok"
        try:
            yield
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
            raise
        finally:
            record(outcome=outcome, wait=max(start - planned, 0), service=clock() - start)

    with recorded():
        return await call()


async def error_becomes_none(call, record, clock, planned):
    start, outcome, result = clock(), "error", None
    try:
        result = await call()
        outcome = "ok"
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except Exception:  # noqa: BLE001, S110 - the mistake
        pass
    record(outcome, max(0.0, start - planned), clock() - start)
    return result


async def call_never_made(call, record, clock, planned):
    """Look on."""


# 5.2 -------------------------------------------------------------------------------------------

FAR_OFF = BREAKS["5.2"]


def percentile(histograms, q):
    counts = Counter()
    for histogram in histograms:
        counts.update(histogram)
    seen = 0
    for bound in sorted(counts):
        seen += counts[bound]
        if seen >= q * counts.total():
            return bound
    return None


@breaks([{0.1: 99}, {50: 1}])
def with_accumulate(histograms, q):
    bounds = sorted({bound for histogram in histograms for bound in histogram})
    sums = [sum(each.get(bound, 0) for each in histograms) for bound in bounds]
    reached = itertools.accumulate(sums)
    return next(bound for bound, n in zip(bounds, reached, strict=True) if n / sum(sums) >= q)


@breaks([{0.001: 1, 0.002: 500}, {0.001: 3}, {10.0: 2}])
def by_rank(histograms, q):
    values = sorted(
        bound for each in histograms for bound, count in each.items() for _ in range(count)
    )
    return values[math.ceil(q * len(values)) - 1]


@breaks(FAR_OFF * 2)
def by_bisection(histograms, q):
    pairs = sorted(pair for histogram in histograms for pair in histogram.items())
    reached = list(itertools.accumulate(count for _, count in pairs))
    return pairs[bisect_left(reached, q * reached[-1])][0]


@breaks([{1: 1_000}, {2_000: 9, 3_000: 0}])
def with_numpy(histograms, q):
    bounds = np.array([bound for each in histograms for bound in each])
    counts = np.array([count for each in histograms for count in each.values()])
    order = np.argsort(bounds)
    reached = np.cumsum(counts[order])
    return float(bounds[order][np.searchsorted(reached, q * reached[-1])])


@breaks(FAR_OFF[::-1])
def merged_two_by_two(histograms, q):
    def merge(left, right):
        return {
            bound: left.get(bound, 0) + right.get(bound, 0) for bound in left.keys() | right.keys()
        }

    together = reduce(merge, histograms, {})
    wanted = q * sum(together.values())
    return min(
        bound
        for bound in together
        if sum(n for other, n in together.items() if other <= bound) >= wanted
    )


def down_from_the_slowest(histograms, q):
    counts = defaultdict(int)
    for histogram in histograms:
        for bound, count in histogram.items():
            counts[bound] += count
    total = left = sum(counts.values())
    answer = None
    for bound in sorted(counts, reverse=True):
        if left < q * total:
            break
        answer, left = bound, left - counts[bound]
    return answer


class Merged:
    def __init__(self, histograms):
        self.counts = sum((Counter(each) for each in histograms), Counter())

    def at(self, q):
        seen = 0
        for bound, count in sorted(self.counts.items()):
            seen += count
            if seen >= q * self.counts.total():
                return bound
        return None


@breaks([{0.02: 990}, {9.0: 9, 12.0: 1}])
def with_a_class(histograms, q):
    return Merged(histograms).at(q)


@breaks([{0.01: 100}])
def one_process_only(histograms, q):
    return percentile(histograms, q)


@breaks([{0.01: 100}, {0.011: 100}])
def nearly_alike(histograms, q):
    return percentile(histograms, q)


@breaks([[0.01, 0.02], [1.0]])
def durations_handed_over(histograms, q):
    return percentile(histograms, q)


@breaks(...)
def no_input(histograms, q):
    return percentile(histograms, q)


def average(histograms, q):
    return fmean(percentile([each], q) for each in histograms)


def weighted_average(histograms, q):
    calls = [sum(each.values()) for each in histograms]
    return fmean([percentile([each], q) for each in histograms], calls)


def maximum(histograms, q):
    return max(percentile([each], q) for each in histograms)


def stops_at_an_empty_one(histograms, q):
    least = min(min(histogram) for histogram in histograms)
    return max(least, percentile(histograms, q))


def added_into_the_first(histograms, q):
    first = histograms[0]
    for histogram in histograms[1:]:
        for bound, count in histogram.items():
            first[bound] = first.get(bound, 0) + count
    return percentile([first], q)


# 5.3 -------------------------------------------------------------------------------------------


def to_mend(report):
    return bottleneck(report).step


def if_saturated(report):
    found = bottleneck(report)
    return found.step if found.kind == "saturated" else None


def busiest_station(report):
    stations = bottleneck(report).stations.values()
    full = [each for each in stations if each.utilisation > 0.9]
    return max(full, key=lambda each: each.demand).step if full else None


def smallest_capacity(report):
    stations = bottleneck(report).stations
    arriving = report["chain"].count / max(s.start for s in report.spans if s.name == "chain")
    name = min(stations, key=lambda each: stations[each].capacity)
    return name if stations[name].capacity < arriving else None


def out_of_its_sentence(report):
    verdict, _, _ = str(bottleneck(report)).partition(". ")
    return None if verdict == "no bottleneck" else verdict.removeprefix("bottleneck: ")


def within_the_chain(report):
    return bottleneck(report, parent="chain").step


def by_how_much_times_grow(report):
    """From the first call, which finds nobody before it, to the longest, in shares of the first."""
    grown = {
        name: step.maximum / step.minimum for name, step in report.steps.items() if step.parents
    }
    name = max(grown, key=grown.get)
    return name if grown[name] > 1.5 else None


def by_the_trace(report):
    times = defaultdict(list)
    for event in to_chrome_trace(report)["traceEvents"]:
        if event["ph"] == "X" and event["name"] != "chain":
            times[event["name"]].append(event["dur"])
    ratio, name = max((max(each) / min(each), name) for name, each in times.items())
    return name if ratio > 1.5 else None


def by_the_spans(report):
    steps = {}
    for span in report.spans:
        if span.parent is not None:
            first, last = steps.get(span.name, (math.inf, 0.0))
            steps[span.name] = min(first, span.seconds), max(last, span.seconds)
    worst = max(steps, key=lambda name: steps[name][1] / steps[name][0])
    return worst if steps[worst][1] > 1.2 * steps[worst][0] else None


def largest_mean(report):
    return max(report.steps, key=lambda name: report[name].mean)


def largest_mean_of_a_step(report):
    steps = [name for name in report if report[name].parents]
    return max(steps, key=lambda name: report[name].mean)


def longest_wait(report):
    waits = {name: report[name].maximum - report[name].minimum for name in report}
    name = max((name for name in report if report[name].parents), key=waits.get)
    return name if waits[name] > 0.01 else None


def shortest(report):
    return min(report, key=lambda name: report[name].mean)


def largest_of_the_bottleneck(report):
    return bottleneck(report).largest


def always_none(report):
    """Name nothing."""


# 5.4 -------------------------------------------------------------------------------------------


async def blocking_step(chain, questions):
    monitor = PerformanceMonitor()
    config = {"callbacks": [monitor.callback]}
    async with LoopLag(monitor=monitor) as lag:
        await asyncio.gather(*(chain.ainvoke(question, config) for question in questions))
    return next(iter(lag.steps))


async def with_a_task_group(chain, questions):
    monitor = PerformanceMonitor()
    async with LoopLag(monitor=monitor) as lag, asyncio.TaskGroup() as group:
        for question in questions:
            group.create_task(chain.ainvoke(question, {"callbacks": [monitor.callback]}))
    return max(lag.steps, key=lag.steps.get)


async def by_abatch(chain, questions):
    monitor = PerformanceMonitor(keep_spans=0)
    async with LoopLag(monitor=monitor, budget=0.02) as lag:
        await chain.abatch(questions, config={"callbacks": [monitor.callback]})
    return list(lag.steps)[0]  # noqa: RUF015 - as learners write it


async def with_config(chain, questions):
    monitor = PerformanceMonitor()
    watched = chain.with_config(callbacks=[monitor.callback])
    async with LoopLag(monitor=monitor, interval=0.005) as lag:
        await asyncio.wait([asyncio.ensure_future(watched.ainvoke(each)) for each in questions])
    [name, *_] = lag.steps
    return name


async def by_blocks(chain, questions):
    monitor, seconds = PerformanceMonitor(), Counter()
    async with LoopLag(monitor=monitor) as lag:
        await chain.with_config(callbacks=[monitor.callback]).abatch(questions)
    for block in lag.blocks:
        seconds[block.step] += block.seconds
    del seconds[None]
    return seconds.most_common(1)[0][0]


async def as_they_come(chain, questions):
    monitor = PerformanceMonitor()
    config = {"callbacks": [monitor.callback]}
    async with LoopLag(monitor=monitor) as lag:
        for done in asyncio.as_completed([chain.ainvoke(each, config) for each in questions]):
            await done
    return Counter(lag.steps).most_common(1)[0][0]


class Watch:
    def __init__(self, chain):
        self.chain, self.monitor = chain, PerformanceMonitor()
        self.lag = LoopLag(monitor=self.monitor)

    async def ask(self, question):
        return await self.chain.ainvoke(question, {"callbacks": [self.monitor.callback]})

    async def run(self, questions):
        async with self.lag:
            await asyncio.gather(*map(self.ask, questions))
        return next(iter(self.lag.steps), None)


async def with_a_class_of_its_own(chain, questions):
    return await Watch(chain).run(questions)


async def each_in_a_block(chain, questions):
    """The monitor's own blocks tell which step is meant, without LangChain's callbacks."""
    monitor = PerformanceMonitor()

    async def one(value):
        for step in chain.steps:
            with monitor.measure(step.get_name()):
                value = await step.ainvoke(value)

    async with LoopLag(monitor=monitor) as lag:
        await asyncio.gather(*map(one, questions))
    return next(iter(lag.steps))


async def longest_on_average(chain, questions):
    monitor = PerformanceMonitor()
    await chain.abatch(questions, {"callbacks": [monitor.callback]})
    report = monitor.report()
    steps = [name for name in report if report[name].parents]
    return max(steps, key=lambda name: report[name].mean)


async def nobody_asked(chain, questions):
    return chain.steps[1].get_name()


RIGHT = {
    "5.1": (observed, each_end_by_itself, with_a_context_manager),
    "5.2": (
        percentile,
        with_accumulate,
        by_rank,
        by_bisection,
        with_numpy,
        merged_two_by_two,
        down_from_the_slowest,
        with_a_class,
    ),
    "5.3": (
        to_mend,
        if_saturated,
        busiest_station,
        smallest_capacity,
        out_of_its_sentence,
        within_the_chain,
        by_how_much_times_grow,
        by_the_trace,
        by_the_spans,
    ),
    "5.4": (
        blocking_step,
        with_a_task_group,
        by_abatch,
        with_config,
        by_blocks,
        as_they_come,
        with_a_class_of_its_own,
        each_in_a_block,
    ),
}
WAIT, SERVICE = "max(0.0, start - planned)", "clock() - start"
RECORD = f"record(outcome, {WAIT}, {SERVICE})"
CANCELLED, FAILED = f'record("cancelled", wait, {SERVICE})', f'record("error", wait, {SERVICE})'
COUNTED = "counts.update(histogram)"
RANK = "math.ceil(q * len(values)) - 1"
NEXT, ALL = (
    "next(iter(lag.steps))",
    "await asyncio.gather(*(chain.ainvoke(question, config) for question in questions))",
)

WRONG = {
    "5.1": {
        "failures_lost": (
            each_end_by_itself, {CANCELLED: "pass", FAILED: "pass"},
            "a call that fails is not recorded",
        ),
        "cancellation_lost": (
            each_end_by_itself,
            {CANCELLED: "pass", "except BaseException": "except Exception"},
            "`CancelledError` is no `Exception`",
        ),
        "error_swallowed": (
            observed, {"    finally": "    except Exception:\n        return None\n    finally"},
            "the error is swallowed",
        ),
        error_becomes_none: "the error is swallowed",
        "cancellation_swallowed": (
            observed, {'"cancelled"\n        raise': '"cancelled"'},
            "the cancellation is swallowed",
        ),
        "errors_are_ok": (
            observed, {'"error"': '"ok"', '"cancelled"': '"ok"'},
            'recorded as "ok", and was "error"',
        ),
        "cancelled_is_an_error": (
            observed, {'"cancelled"': '"error"'}, 'recorded as "error", and was "cancelled"',
        ),
        "errors_are_cancelled": (
            observed, {'"error"': '"cancelled"'}, 'recorded as "cancelled", and was "error"',
        ),
        "early_calls_wait_less_than_nothing": (
            observed, {WAIT: "start - planned"}, "0 s, not less",
        ),
        "early_calls_wait_as_late_ones": (
            observed, {WAIT: "abs(start - planned)"}, "start - planned",
        ),
        "wait_in_service": (
            observed, {SERVICE: "clock() - planned"}, "the wait is in the service as well",
        ),
        "wait_up_to_the_end": (
            observed, {WAIT: "max(0.0, clock() - planned)"}, "what passed before the call",
        ),
        "no_wait": (observed, {WAIT: "0.0"}, "what passed before the call"),
        "no_service": (
            observed,
            {'    outcome = "error"': '    end, outcome = clock(), "error"', SERVICE: "end - start"},
            "`clock()` at its end",
        ),
        "wall_clock": (observed, {"clock()": "time.time()"}, "another clock is looked at"),
        "clock_of_the_loop": (
            observed, {"clock()": "asyncio.get_running_loop().time()"},
            "another clock is looked at",
        ),
        "recorded_twice": (
            observed,
            {
                "    finally": f"    except Exception:\n        {RECORD}\n        raise\n"
                "    finally",
            },
            "more than once",
        ),
        "result_forgotten": (
            observed, {"return result": "pass"}, "return what `await call()` returned",
        ),
        "nothing_recorded": (observed, {RECORD: "pass"}, "nothing is recorded"),
        call_never_made: "the call is never made",
        "waits_for_the_plan": (
            observed,
            {"start = clock()": "await asyncio.sleep(planned - clock())\n    start = clock()"},
            "waits for the planned time",
        ),
        "shielded": (
            observed, {"await call()": "await asyncio.shield(call())"}, "goes on for nobody",
        ),
        "figures_as_text": (
            observed, {WAIT: f"str({WAIT})", SERVICE: f"str({SERVICE})"}, "are numbers",
        ),
        "a_word_of_its_own": (
            observed, {'"ok"': '"success"'}, 'recorded as "success", and was "ok"',
        ),
    },
    "5.2": {
        average: "the average of two percentiles",
        weighted_average: "weighted by the calls",
        maximum: "speaks for all",
        "not_sorted": (percentile, {"sorted(counts)": "counts"}, "go through them `sorted`"),
        "more_than": (
            percentile, {"seen >=": "seen >", "return None": "return max(counts)"},
            "*at least*, `>=`",
        ),
        "rank_one_too_far": (
            by_rank, {RANK: "min(int(q * len(values)), len(values) - 1)"}, "*at least*, `>=`",
        ),
        "rank_rounded_down": (
            by_rank, {RANK: "int(q * (len(values) - 1))"}, "do not round it down",
        ),
        "last_count_of_a_bound": (
            percentile, {COUNTED: "counts = Counter({**counts, **histogram})"},
            "only one of them is kept",
        ),
        "first_count_of_a_bound": (
            percentile, {COUNTED: "counts = Counter({**histogram, **counts})"},
            "only one of them is kept",
        ),
        stops_at_an_empty_one: "must not stop the others",
        "empty_ones_end_it": (
            percentile,
            {"in histograms": "in itertools.takewhile(bool, histograms)", "None": "0.0"},
            "must not stop the others",
        ),
        "bound_without_a_count": (
            percentile, {"if seen": "if not counts[bound] or seen"}, "adds nothing",
        ),
        added_into_the_first: "in one of your own",
        "only_the_first": (
            percentile, {"in histograms": "in histograms[:1]"}, "counts of all processes",
        ),
        "pair_of_both": (
            percentile, {"return bound": "return bound, seen"}, "return one of the bounds",
        ),
        "bound_not_returned": (percentile, {"return bound": "break"}, "returns None"),
        "asynchronous_percentile": (percentile, {"def ": "async def "}, "write `def`"),
        one_process_only: "one process alone is shown rightly",
        nearly_alike: "the dashboard is not far off here",
        durations_handed_over: "dicts from a bound in seconds",
        no_input: "hand over the histograms, too",
        "never_reached": (with_accumulate, {">= q": "> 1"}, "`next` found no bound"),
    },
    "5.3": {
        largest_mean: "is all steps together",
        largest_mean_of_a_step: "calls are there longest on average",
        longest_wait: "calls are there longest on average",
        largest_of_the_bottleneck: "calls are there longest on average",
        shortest: "for the shortest time",
        "never_none": (
            to_mend, {"bottleneck(report).step": "(found := bottleneck(report)).step or found.largest"},
            "Return None then",
        ),
        always_none: "lets 20 a second pass, and more arrive",
        "first_of_those_that_do_not_keep_up": (
            busiest_station,
            {"max(full, key=lambda each: each.demand)": "full[0]"},
            "of several steps",
        ),
        "its_capacity": (
            busiest_station, {".demand).step": ".demand).capacity"}, "return the name",
        ),
        "the_whole_answer": (to_mend, {".step": ""}, "return the name"),
        "asynchronous": (to_mend, {"def ": "async def "}, "write `def`"),
    },
    "5.4": {
        longest_on_average: "`LoopLag` does",
        nobody_asked: "not all questions are asked",
        "one_after_another": (
            blocking_step,
            {ALL: "for question in questions:\n            await chain.ainvoke(question, config)"},
            "ask all of them at once",
        ),
        "only_the_first": (
            blocking_step, {"in questions)": "in questions[:1])"}, "not all questions are asked",
        ),
        "asked_again_to_be_watched": (
            blocking_step,
            {"    async with": "    await chain.abatch(questions)\n    async with"},
            "more than once",
        ),
        "monitor_not_given_to_the_chain": (
            blocking_step, {"[monitor.callback]": "[]"}, "no step is known",
        ),
        "monitor_not_given_to_the_lag": (
            blocking_step, {"LoopLag(monitor=monitor)": "LoopLag()"}, "no step is known",
        ),
        "place_in_the_code": (
            blocking_step, {NEXT: "next(iter(lag.culprits))"}, "return the name of the step",
        ),
        "the_seconds": (
            blocking_step, {NEXT: "max(lag.steps.values())"}, "return the name of the step",
        ),
        "the_last_of_those_that_block": (
            blocking_step, {NEXT: "list(lag.steps)[-1]"}, "`lag.steps` has the worst first",
        ),
        "forgotten": (blocking_step, {f"return {NEXT}": "pass"}, "no step is known"),
    },
}  # fmt: skip
