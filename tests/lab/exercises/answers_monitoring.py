"""Notebook 5: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import contextlib
import itertools
import math
import time  # noqa: F401 - slips use it
from bisect import bisect_left
from collections import Counter
from statistics import fmean

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


def with_accumulate(histograms, q):
    bounds = sorted({bound for histogram in histograms for bound in histogram})
    sums = [sum(each.get(bound, 0) for each in histograms) for bound in bounds]
    reached = itertools.accumulate(sums)
    return next(bound for bound, n in zip(bounds, reached, strict=True) if n / sum(sums) >= q)


def by_rank(histograms, q):
    values = sorted(
        bound for each in histograms for bound, count in each.items() for _ in range(count)
    )
    return values[math.ceil(q * len(values)) - 1]


def by_bisection(histograms, q):
    pairs = sorted(pair for histogram in histograms for pair in histogram.items())
    reached = list(itertools.accumulate(count for _, count in pairs))
    return pairs[bisect_left(reached, q * reached[-1])][0]


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


def limiting(steps, rate):
    capacity = {
        name: math.inf if slots is None else slots / seconds
        for name, (seconds, slots) in steps.items()
    }
    name = min(capacity, key=capacity.get)
    return name if capacity[name] < rate else None


def by_demand(steps, rate):
    demands = [(seconds / slots, name) for name, (seconds, slots) in steps.items() if slots]
    demand, name = max(demands, default=(0.0, None))
    return name if demand * rate > 1 else None


def by_utilisation(steps, rate):
    busiest, most = None, 1.0
    for name, (seconds, slots) in steps.items():
        if slots is not None and rate * seconds / slots > most:
            busiest, most = name, rate * seconds / slots
    return busiest


def longest(steps, rate):
    return max(steps, key=lambda name: steps[name][0])


def fewest_slots(steps, rate):
    return min(steps, key=lambda name: steps[name][1] or math.inf)


def largest_product(steps, rate):
    return max(steps, key=lambda name: steps[name][0] * (steps[name][1] or 0))


def largest_capacity(steps, rate):
    limited = {name: seconds / slots for name, (seconds, slots) in steps.items() if slots}
    return min(limited, key=limited.get)


def always_none(steps, rate):
    """Name nothing."""


RIGHT = {
    "5.1": (observed, each_end_by_itself, with_a_context_manager),
    "5.2": (percentile, with_accumulate, by_rank, by_bisection),
    "5.3": (limiting, by_demand, by_utilisation),
}
WAIT, SERVICE = "max(0.0, start - planned)", "clock() - start"
RECORD = f"record(outcome, {WAIT}, {SERVICE})"
CANCELLED, FAILED = f'record("cancelled", wait, {SERVICE})', f'record("error", wait, {SERVICE})'
COUNTED = "counts.update(histogram)"
RANK = "math.ceil(q * len(values)) - 1"
CAPACITY = "math.inf if slots is None else slots / seconds"
NAMED = "name if capacity[name] < rate else None"
LEAST = f"name = min(capacity, key=capacity.get)\n    return {NAMED}"

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
        "never_reached": (with_accumulate, {">= q": "> 1"}, "`next` found no bound"),
    },
    "5.3": {
        longest: "one takes long there",
        fewest_slots: "only for a short time",
        largest_product: "divide by the seconds",
        largest_capacity: "the *largest* capacity",
        "never_none": (limiting, {NAMED: "name"}, "return None unless"),
        "also_when_it_just_keeps_up": (limiting, {"< rate": "<= rate"}, "return None unless"),
        always_none: "does 20 a second, and more arrive",
        "first_below_the_rate": (
            limiting,
            {LEAST: "return next((name for name in capacity if capacity[name] < rate), None)"},
            "of several steps",
        ),
        "last_below_the_rate": (
            limiting,
            {LEAST: "return next((n for n in reversed(capacity) if capacity[n] < rate), None)"},
            "of several steps",
        ),
        "stops_at_none": (limiting, {CAPACITY: "slots / seconds"}, "and never limits"),
        "none_is_one": (limiting, {CAPACITY: "(slots or 1) / seconds"}, "however long one takes"),
        "nothing_left_to_compare": (
            limiting, {CAPACITY: "slots / seconds", "steps.items()": "steps.items() if slots"},
            "and never limits",
        ),
        "its_capacity": (limiting, {NAMED: "capacity[name]"}, "return the name"),
        "its_name_and_capacity": (limiting, {NAMED: "capacity[name], name"}, "return the name"),
        "asynchronous_limiting": (limiting, {"def ": "async def "}, "write `def`"),
    },
}  # fmt: skip
