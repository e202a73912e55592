"""Exercise 5.2: what is wrong here? A dashboard that averages percentiles."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from statistics import fmean
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import run_virtually

__all__ = ["dashboard", "grade_merged_p99"]

Histogram = dict[float, int]
Percentile = Callable[[list[Histogram], float], Any]

FAST, SLOW = 10_000, 100
QUICK, LONG = 0.01, 1.0
"""Seconds that a fast call and a slow one take, at most."""


SHARE, FAR = 0.99, 2
"""The percentile that the dashboard shows, and the factor by which it is to be wrong."""


def dashboard(histograms: list[Histogram], q: float) -> float:
    """Return what the notebook's faulty program returns."""
    total = 0.0
    for histogram in histograms:
        seen, calls = 0, sum(histogram.values())
        for bound in sorted(histogram):
            seen += histogram[bound]
            if seen >= q * calls:
                total += bound * calls
                break
    return total / sum(sum(each.values()) for each in histograms)


async def grade_merged_p99(percentile: Percentile, breaks: Any = ...) -> Grading:
    """Loads of one process and of several, by the mended program; then the learner's, by the old one."""
    grading = run_virtually(lambda: _graded(percentile)).value
    _grade_input(grading, breaks)
    return grading  # type: ignore[no-any-return]


def _grade_input(grading: Grading, breaks: Any) -> None:
    sound = _is_load(breaks)
    said = dashboard(breaks, SHARE) if sound else 0.0
    true = _true(breaks, SHARE) if sound else 0.0
    far = sound and not true / FAR <= said <= true * FAR
    grading.observe(
        "p99 of your histograms, by the dashboard",
        f"{said:.3g} s, true {true:.3g} s" if sound else "no histograms",
        f"wrong by more than a factor of {FAR}", far, _harmless(breaks, sound=sound),
    )  # fmt: skip


def _is_load(breaks: Any) -> bool:
    """Whether it is a list of histograms, of which each has counted something."""
    return (
        isinstance(breaks, list)
        and bool(breaks)
        and all(isinstance(each, dict) and _is_histogram(each) for each in breaks)
    )


def _is_histogram(counts: dict[Any, Any]) -> bool:
    pairs = all(
        isinstance(bound, int | float) and bound > 0 and type(count) is int and count >= 0
        for bound, count in counts.items()
    )
    return pairs and sum(counts.values()) > 0


def _true(histograms: list[Histogram], q: float) -> float:
    together: Counter[float] = Counter()
    for histogram in histograms:
        together.update(histogram)
    seen = 0
    for bound in sorted(together):
        seen += together[bound]
        if seen >= q * together.total():
            break
    return bound


def _harmless(breaks: Any, *, sound: bool) -> str:
    if breaks is ...:
        return "hand over the histograms, too: `breaks`, a list of dicts from bounds to counts"
    if not sound:
        return (
            "`breaks` is a list of histograms, one for each process: dicts from a bound in seconds to a "
            "whole number of calls, with one call at least"
        )
    if len(breaks) == 1:
        return "one process alone is shown rightly: it takes two whose calls differ"
    return (
        "the dashboard is not far off here: let a process with few calls be slow, so slow that its "
        "weight does not hide it"
    )


async def _graded(percentile: Percentile) -> Grading:
    grading = Grading()
    _grade_one(grading, percentile)
    _grade_long(grading, percentile)
    _grade_two(grading, percentile)
    _grade_equal_bounds(grading, percentile)
    _grade_empty(grading, percentile)
    return grading


def _asked(percentile: Percentile, histograms: list[Histogram], q: float) -> Any:
    """Return the answer, or the end of an iterator that it met."""
    try:
        value = percentile(histograms, q)
    except StopIteration as error:  # out of a coroutine it would come as a RuntimeError
        return error
    if inspect.iscoroutine(value):
        value.close()
    return value


def _observe(grading: Grading, what: str, got: Any, wanted: float, mistake: str) -> None:
    right = isinstance(got, int | float) and got == wanted
    grading.observe(what, _text(got), _text(wanted), right, _no_bound(got) or mistake)


def _text(got: Any) -> str:
    if isinstance(got, int | float):
        return f"{got:.3g} s"
    return "None" if got is None else type(got).__name__


def _no_bound(got: Any) -> str:
    """What is to be said of an answer that is no number; "" if it is one, or an error."""
    if got is None:
        return "it returns None: is a `return` missing?"
    if inspect.iscoroutine(got):
        return "it is called without `await`: write `def`, not `async def`"
    if isinstance(got, StopIteration):
        return (
            "`next` found no bound: at or below the last one lie all counts, so that one is there"
        )
    return (
        "" if isinstance(got, int | float | Exception) else "return one of the bounds, in seconds"
    )


def _grade_one(grading: Grading, percentile: Percentile) -> None:
    """The shares are quarters and thirds, so that rounding plays no part."""
    four, three = {0.01: 2, 0.1: 1, 1.0: 1}, {0.01: 1, 0.1: 1, 1.0: 1}
    _observe(
        grading, "p75 of 2 at 0.01 s, 1 at 0.1 s, 1 at 1 s", _asked(percentile, [four], 0.75), 0.1,
        "3 of 4 lie at or below 0.1 s, and that is the share already: *at least*, `>=`",
    )  # fmt: skip
    _observe(
        grading, "p75 of 1 at 0.01 s, 1 at 0.1 s, 1 at 1 s", _asked(percentile, [three], 0.75), 1.0,
        "only 2 of 3 lie at or below 0.1 s, fewer than the share: compare the count so far with "
        "`q` times the total, and do not round it down",
    )  # fmt: skip
    mixed = {1.0: 1, 0.01: 2, 0.1: 1}
    _observe(
        grading, "the same as the first, slowest first", _asked(percentile, [mixed], 0.75), 0.1,
        "a dict keeps the order in which bounds came into it: go through them `sorted`",
    )  # fmt: skip


def _grade_long(grading: Grading, percentile: Percentile) -> None:
    _observe(
        grading, "p50 of 2 at 2 s, 2 at 10 s", _asked(percentile, [{10.0: 2, 2.0: 2}], 0.5), 2.0,
        "2 s come before 10 s: sort the bounds as numbers, not as text",
    )  # fmt: skip


def _grade_two(grading: Grading, percentile: Percentile) -> None:
    got = _asked(percentile, [{QUICK: FAST}, {LONG: SLOW}], 0.99)
    _observe(
        grading, f"p99, {FAST:,} calls of {QUICK:g} s in one process, {SLOW} of {LONG:g} s in another",
        got, QUICK, _not_merged(got),
    )  # fmt: skip
    three = [{0.01: 500, 0.1: 20}, {0.02: 400, 0.2: 60}, {0.05: 10, 0.5: 5, 1.0: 5}]
    _observe(
        grading, "p95 of three processes, seven bounds", _asked(percentile, three, 0.95), 0.2,
        "930 of 1,000 lie at or below 0.1 s, 990 at or below 0.2 s: add the counts of all processes, and their totals",
    )  # fmt: skip


def _not_merged(got: Any) -> str:
    weighted = (FAST * QUICK + SLOW * LONG) / (FAST + SLOW)
    if not isinstance(got, int | float):
        return ""
    if abs(got - fmean([QUICK, LONG])) < QUICK / 1000:
        return (
            "that is the average of two percentiles, and no call took that long: add the counts, "
            "and take the percentile of the sum"
        )
    if abs(got - weighted) < QUICK / 1000:
        return (
            "that is an average as well, weighted by the calls: add the counts, and take the "
            "percentile of the sum"
        )
    if got == LONG:
        return (
            f"the slowest process speaks for all: fewer than 1 in 100 calls took {LONG:g} s. Add "
            "the counts, and take the percentile of the sum"
        )
    return "more than 99 in 100 of all calls lie at or below the first bound"


def _grade_equal_bounds(grading: Grading, percentile: Percentile) -> None:
    many, few = {QUICK: 100}, {QUICK: 1, LONG: 9}
    for what, both in (("the larger first", [many, few]), ("the smaller first", [few, many])):
        _observe(
            grading, f"p50, a bound in both, {what}", _asked(percentile, both, 0.5), QUICK,
            "both processes have a count for one bound, and only one of them is kept: add them "
            "(`|` and `update` of a dict replace, those of a `Counter` differ)",
        )  # fmt: skip


def _grade_empty(grading: Grading, percentile: Percentile) -> None:
    histograms: list[Histogram] = [{}, {0.001: 0, QUICK: 9, LONG: 1}, {}]
    try:
        got = _asked(percentile, histograms, 0.5)
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - said on the card, with what was right before it
        got = error
    _observe(
        grading, "p50, two of three have recorded nothing", got, QUICK,
        "a process that has recorded nothing yet has an empty histogram, or a count of 0: it adds "
        "nothing, and must not stop the others",
    )  # fmt: skip
    kept = copy.deepcopy(two := [{QUICK: 3}, {LONG: 1}])
    _asked(percentile, two, 0.5)
    same = two == kept
    grading.observe(
        "the histograms afterwards", "as before" if same else "changed", "as before", same,
        "counts are added into a histogram that was handed in, and count twice the "
        "next time: add them up in one of your own",
    )  # fmt: skip
