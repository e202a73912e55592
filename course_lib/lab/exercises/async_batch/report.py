"""Exercise 1.1: somebody's slow report, made as fast as its slowest question."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from course_lib.lab.exercises.card import Grading
from course_lib.lab.exercises.virtual import Run, VirtualService, run_virtually

__all__ = ["grade_report"]

Search = Callable[[str], Awaitable[list[str]]]
Read = Callable[[str], Awaitable[Any]]
Report = Callable[[Search, Read, Sequence[str]], Awaitable[Any]]

SEARCHES = [0.1, 0.4, 0.2, 0.1, 0.3] * 60
"""Seconds of each search."""
PAGES = [3, 1, 0, 2, 4] * 60
"""Pages that each search finds: for some none."""
READS = [0.2, 0.1, 0.3, 0.1, 0.5, 0.1, 0.2, 0.1, 0.2, 0.1] * 60
"""Seconds to read each page. The slowest of them follow quick searches, and the other way round."""
EMPTY = {1: None, 3: "", 4: 0}
"""Pages by their position that are false: they are pages as well."""


async def grade_report(report: Report) -> Grading:
    """300 searches and 600 pages: what comes out, which calls were made, how long it took."""
    office = _Office()
    run = run_virtually(lambda: report(office.search, office.read, office.questions))
    grading = Grading()
    right = run.value == office.report and list(run.value) == office.questions
    grading.observe(
        "the report", _kind(run.value, office), "each question with its pages, in order",
        right, _wrong_report(run.value, office),
    )  # fmt: skip
    extra = office.extra_calls
    grading.observe(
        "calls that `report` does not make", extra, 0, extra == 0,
        "it asks for something more often than `report` does: each question and page once",
    )  # fmt: skip
    _grade_makespan(grading, run, office)
    value = run_virtually(lambda: report(office.search, office.read, [])).value
    grading.observe(
        "no questions", repr(value)[:40], "{}", value == {}, "without questions the report is empty: `{}`"
    )  # fmt: skip
    return grading


class _Office:
    """Searches and pages in virtual time, and what a report says of them."""

    def __init__(self) -> None:
        self._pages = VirtualService(READS, answers=EMPTY)
        ids = iter(self._pages.queries)
        found = {number: [next(ids) for _ in range(count)] for number, count in enumerate(PAGES)}
        self._searches = VirtualService(SEARCHES, answers=found)
        self.search, self.read = self._searches.search, self._pages.search
        self.questions = self._searches.queries
        self.report = {
            question: [self._pages.answer(page) for page in found[number]]
            for number, question in enumerate(self.questions)
        }
        reads = dict(zip(self._pages.queries, READS, strict=True))
        times = [[reads[page] for page in pages] for pages in found.values()]
        self.slow = round(sum(SEARCHES) + sum(READS), 9)
        pairs = zip(SEARCHES, times, strict=True)
        self.fast = max(seconds + max(pages, default=0) for seconds, pages in pairs)

    @property
    def extra_calls(self) -> int:
        """Calls beyond one for each question and page."""
        asked = [call.query for each in (self._searches, self._pages) for call in each.calls]
        return (
            len(asked) - len({*self._queries(self._searches)}) - len({*self._queries(self._pages)})
        )

    @property
    def waits_for_all_searches(self) -> bool:
        """Whether no page was read before the last search had ended."""
        last = max((call.end for call in self._searches.calls), default=0.0)
        return all(call.start >= last for call in self._pages.calls)

    @property
    def peak(self) -> int:
        """Searches in flight at once, at most."""
        return self._searches.peak_in_flight

    @staticmethod
    def _queries(service: VirtualService) -> list[str]:
        return [call.query for call in service.calls]


def _grade_makespan(grading: Grading, run: Run, office: _Office) -> None:
    gain = f", {office.slow / run.seconds:.0f}x as fast as `report`" if run.seconds else ""
    grading.observe(
        "makespan", f"{run.seconds:g} s{gain}", f"{office.fast:g} s, the slowest question's",
        run.seconds <= office.fast + 1e-9, _too_slow(office),
    )  # fmt: skip


def _too_slow(office: _Office) -> str:
    if office.peak == 1:
        return (
            "the questions wait for one another: `await` in a loop starts a question only when the "
            "one before is done. Write one coroutine for one question, and start all of them"
        )
    if office.waits_for_all_searches:
        return (
            "no page is read before the last search has ended: a question's pages need that "
            "question's search, and no other"
        )
    if office.peak < len(SEARCHES):
        return f"only {office.peak} questions are under way at once, of {len(SEARCHES)}: start all of them"
    return "the pages of a question wait for one another: start all of them before you wait for one"


def _kind(value: Any, office: _Office) -> str:
    if value == office.report and list(value) == office.questions:
        return "each question with its pages, in order"
    if isinstance(value, dict):
        return f"a dict of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong_report(value: Any, office: _Office) -> str:
    if not isinstance(value, dict):
        missing = "is a `return` missing?" if value is None else "map each question to its pages"
        return f"it returns {_kind(value, office)} in place of a dict: {missing}"
    pages = [page for each in value.values() if isinstance(each, Sequence) for page in each]
    if _close([*value.values(), *pages]):
        return "it holds coroutines or tasks, not their results: something is not awaited"
    if value == office.report or set(value) != set(office.questions):
        return "each question stands in the report, in their order, also one that finds nothing"
    wanted = office.report
    if any(isinstance(each, list) and len(each) < len(wanted[q]) for q, each in value.items()):
        return 'pages are missing: `None`, `0` and `""` are pages, too'
    return "the pages of a question are a list, in the order of their names"


def _close(items: list[Any]) -> bool:
    """Whether some are awaitable; coroutines among them are closed."""
    for item in items:
        if inspect.iscoroutine(item):
            item.close()
    return any(inspect.isawaitable(item) for item in items)
