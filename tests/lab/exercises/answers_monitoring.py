"""Notebook 5: answers as learners give them, the wrong ones with what they are told."""

import asyncio
import contextlib
import itertools
import math
import time
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


async def failures_lost(call, record, clock, planned):
    start = clock()
    result = await call()
    record("ok", max(0.0, start - planned), clock() - start)
    return result


async def cancellation_lost(call, record, clock, planned):
    start = clock()
    try:
        result = await call()
    except Exception:
        record("error", max(0.0, start - planned), clock() - start)
        raise
    record("ok", max(0.0, start - planned), clock() - start)
    return result


async def error_swallowed(call, record, clock, planned):
    start, outcome = clock(), "error"
    try:
        result = await call()
        outcome = "ok"
        return result  # noqa: TRY300 - as learners write it
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except Exception:  # noqa: BLE001 - the mistake
        return None
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


async def cancellation_swallowed(call, record, clock, planned):
    start, outcome = clock(), "error"
    try:
        result = await call()
        outcome = "ok"
        return result  # noqa: TRY300 - as learners write it
    except asyncio.CancelledError:
        outcome = "cancelled"
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


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


async def errors_are_ok(call, record, clock, planned):
    start = clock()
    try:
        return await call()
    finally:
        record("ok", max(0.0, start - planned), clock() - start)


async def cancelled_is_an_error(call, record, clock, planned):
    start, outcome = clock(), "error"
    try:
        result = await call()
        outcome = "ok"
        return result
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


async def errors_are_cancelled(call, record, clock, planned):
    start, outcome = clock(), "cancelled"
    try:
        result = await call()
        outcome = "ok"
        return result
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


async def early_calls_wait_less_than_nothing(call, record, clock, planned):
    start, outcome = clock(), "error"
    try:
        result = await call()
        outcome = "ok"
        return result
    finally:
        record(outcome, start - planned, clock() - start)


async def early_calls_wait_as_late_ones(call, record, clock, planned):
    start = clock()
    result = await call()
    record("ok", abs(start - planned), clock() - start)
    return result


async def wait_in_service(call, record, clock, planned):
    start = clock()
    result = await call()
    record("ok", max(0.0, start - planned), clock() - planned)
    return result


async def wait_up_to_the_end(call, record, clock, planned):
    start = clock()
    result = await call()
    end = clock()
    record("ok", max(0.0, end - planned), end - start)
    return result


async def no_wait(call, record, clock, planned):
    start = clock()
    result = await call()
    record("ok", 0.0, clock() - start)
    return result


async def no_service(call, record, clock, planned):
    start, end = clock(), clock()
    result = await call()
    record("ok", max(0.0, start - planned), end - start)
    return result


async def wall_clock(call, record, clock, planned):
    return await observed(call, record, time.time, planned)


async def clock_of_the_loop(call, record, clock, planned):
    return await observed(call, record, asyncio.get_running_loop().time, planned)


async def recorded_twice(call, record, clock, planned):
    start, outcome = clock(), "ok"
    try:
        return await call()
    except Exception:
        outcome = "error"
        record(outcome, max(0.0, start - planned), clock() - start)
        raise
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        record(outcome, max(0.0, start - planned), clock() - start)


async def result_forgotten(call, record, clock, planned):
    await observed(call, record, clock, planned)


async def nothing_recorded(call, record, clock, planned):
    return await call()


async def call_never_made(call, record, clock, planned):
    """Look on."""


async def waits_for_the_plan(call, record, clock, planned):
    await asyncio.sleep(planned - clock())
    return await observed(call, record, clock, planned)


async def shielded(call, record, clock, planned):
    return await observed(lambda: asyncio.shield(call()), record, clock, planned)


async def figures_as_text(call, record, clock, planned):
    return await observed(call, lambda *figures: record(*map(str, figures)), clock, planned)


async def a_word_of_its_own(call, record, clock, planned):
    def recorded(outcome, wait, service):
        record(outcome.replace("ok", "success"), wait, service)

    return await observed(call, recorded, clock, planned)


# 5.2 -------------------------------------------------------------------------------------------


def added(histograms):
    counts = Counter()
    for histogram in histograms:
        counts.update(histogram)
    return counts


def percentile(histograms, q):
    counts = added(histograms)
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


def _found(pairs, q):
    pairs = list(pairs)
    total, seen = sum(count for _, count in pairs), 0
    for bound, count in pairs:
        seen += count
        if seen >= q * total:
            return bound
    return None


def not_sorted(histograms, q):
    return _found((pair for each in histograms for pair in each.items()), q)


def more_than(histograms, q):
    counts = added(histograms)
    seen = 0
    for bound in sorted(counts):
        seen += counts[bound]
        if seen > q * counts.total():
            return bound
    return max(counts)


def rank_rounded_down(histograms, q):
    values = sorted(added(histograms).elements())
    return values[int(q * (len(values) - 1))]


def rank_one_too_far(histograms, q):
    values = sorted(added(histograms).elements())
    return values[min(int(q * len(values)), len(values) - 1)]


def last_count_of_a_bound(histograms, q):
    merged = {}
    for histogram in histograms:
        merged |= histogram
    return _found(sorted(merged.items()), q)


def first_count_of_a_bound(histograms, q):
    merged = {}
    for histogram in histograms:
        for bound, count in histogram.items():
            merged.setdefault(bound, count)
    return _found(sorted(merged.items()), q)


def stops_at_an_empty_one(histograms, q):
    least = min(min(histogram) for histogram in histograms)
    return max(least, percentile(histograms, q))


def empty_ones_end_it(histograms, q):
    return percentile(itertools.takewhile(bool, histograms), q) or 0.0


def bound_without_a_count(histograms, q):
    counts = added(histograms)
    return min(counts) if 0 in counts.values() else percentile(histograms, q)


def added_into_the_first(histograms, q):
    first = histograms[0]
    for histogram in histograms[1:]:
        for bound, count in histogram.items():
            first[bound] = first.get(bound, 0) + count
    return _found(sorted(first.items()), q)


def only_the_first(histograms, q):
    return percentile(histograms[:1], q)


def pair_of_both(histograms, q):
    return percentile(histograms, q), sum(added(histograms).values())


def bound_not_returned(histograms, q):
    percentile(histograms, q)


async def asynchronous_percentile(histograms, q):
    return percentile(histograms, q)


def never_reached(histograms, q):
    return next(bound for bound in added(histograms) if bound > math.inf)


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


def _capacities(steps):
    return {name: (slots or math.inf) / seconds for name, (seconds, slots) in steps.items()}


def never_none(steps, rate):
    return min(_capacities(steps), key=_capacities(steps).get)


def also_when_it_just_keeps_up(steps, rate):
    name = never_none(steps, rate)
    return name if _capacities(steps)[name] <= rate else None


def always_none(steps, rate):
    """Name nothing."""


def first_below_the_rate(steps, rate):
    return next((name for name, each in _capacities(steps).items() if each < rate), None)


def last_below_the_rate(steps, rate):
    return next((n for n, each in reversed(_capacities(steps).items()) if each < rate), None)


def stops_at_none(steps, rate):
    capacity = {name: slots / seconds for name, (seconds, slots) in steps.items()}
    name = min(capacity, key=capacity.get)
    return name if capacity[name] < rate else None


def none_is_one(steps, rate):
    return limiting({name: (each, slots or 1) for name, (each, slots) in steps.items()}, rate)


def nothing_left_to_compare(steps, rate):
    capacity = {name: slots / seconds for name, (seconds, slots) in steps.items() if slots}
    name = min(capacity, key=capacity.get)
    return name if capacity[name] < rate else None


def its_capacity(steps, rate):
    return min(_capacities(steps).values())


def its_name_and_capacity(steps, rate):
    return min((each, name) for name, each in _capacities(steps).items())


async def asynchronous_limiting(steps, rate):
    return limiting(steps, rate)


RIGHT = {
    "5.1": (observed, each_end_by_itself, with_a_context_manager),
    "5.2": (percentile, with_accumulate, by_rank, by_bisection),
    "5.3": (limiting, by_demand, by_utilisation),
}
WRONG = {
    "5.1": {
        failures_lost: "a call that fails is not recorded",
        cancellation_lost: "`CancelledError` is no `Exception`",
        error_swallowed: "the error is swallowed",
        error_becomes_none: "the error is swallowed",
        cancellation_swallowed: "the cancellation is swallowed",
        errors_are_ok: 'recorded as "ok", and was "error"',
        cancelled_is_an_error: 'recorded as "error", and was "cancelled"',
        errors_are_cancelled: 'recorded as "cancelled", and was "error"',
        early_calls_wait_less_than_nothing: "0 s, not less",
        early_calls_wait_as_late_ones: "start - planned",
        wait_in_service: "the wait is in the service as well",
        wait_up_to_the_end: "what passed before the call",
        no_wait: "what passed before the call",
        no_service: "`clock()` at its end",
        wall_clock: "another clock is looked at",
        clock_of_the_loop: "another clock is looked at",
        recorded_twice: "more than once",
        result_forgotten: "return what `await call()` returned",
        nothing_recorded: "nothing is recorded",
        call_never_made: "the call is never made",
        waits_for_the_plan: "waits for the planned time",
        shielded: "goes on for nobody",
        figures_as_text: "are numbers",
        a_word_of_its_own: 'recorded as "success", and was "ok"',
    },
    "5.2": {
        average: "the average of two percentiles",
        weighted_average: "weighted by the calls",
        maximum: "speaks for all",
        not_sorted: "go through them `sorted`",
        more_than: "*at least*, `>=`",
        rank_one_too_far: "*at least*, `>=`",
        rank_rounded_down: "do not round it down",
        last_count_of_a_bound: "only one of them is kept",
        first_count_of_a_bound: "only one of them is kept",
        stops_at_an_empty_one: "must not stop the others",
        empty_ones_end_it: "must not stop the others",
        bound_without_a_count: "adds nothing",
        added_into_the_first: "in one of your own",
        only_the_first: "counts of all processes",
        pair_of_both: "return one of the bounds",
        bound_not_returned: "returns None",
        asynchronous_percentile: "write `def`",
        never_reached: "`next` found no bound",
    },
    "5.3": {
        longest: "one takes long there",
        fewest_slots: "only for a short time",
        largest_product: "divide by the seconds",
        largest_capacity: "the *largest* capacity",
        never_none: "return None unless",
        also_when_it_just_keeps_up: "return None unless",
        always_none: "does 20 a second, and more arrive",
        first_below_the_rate: "of several steps",
        last_below_the_rate: "of several steps",
        stops_at_none: "and never limits",
        none_is_one: "however long one takes",
        nothing_left_to_compare: "and never limits",
        its_capacity: "return the name",
        its_name_and_capacity: "return the name",
        asynchronous_limiting: "write `def`",
    },
}
