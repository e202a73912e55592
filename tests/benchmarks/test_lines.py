"""The benchmark's lines: each is measured, and stands in the page that is written of them."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.compare import Comparison
from benchmarks.lines import Line, Result, measured
from benchmarks.overhead import GROUPS, LINES
from benchmarks.report import cells, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
LINE = Line("ours", "theirs", 2, "peer", why="it does less")


def test_each_line_is_measured_by_one_group():
    async def names():
        async with AsyncExitStack() as stack:
            return [name for group in GROUPS for name in await stack.enter_async_context(group())]

    assert asyncio.run(names()) == [line.name for line in LINES]


def test_the_page_has_the_lines_of_the_benchmark():
    rows = re.findall(r"^\| `?(.+?)`? \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows[2:] == [line.name for line in LINES]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_the_page_says_why_what_stands_beside_a_line_is_ahead(line):
    text = page([Result(line, 2e-6, 1e-6, 1e-5)], {})
    assert f"- {line.name}, 2.00 times {line.beside}: " in text


def test_a_line_holds_up_to_what_is_wanted():
    assert Result(LINE, 2e-6, 1e-6, 1e-5).holds
    assert not Result(LINE, 2.1e-6, 1e-6, 1e-5).holds
    assert "not reached" in cells(Result(LINE, 2.1e-6, 1e-6, 1e-5))


def test_a_result_is_the_median_of_rounds_in_which_all_are_measured():
    order, times = [], iter(range(1, 100))

    def costs(name):
        async def measure():
            order.append(name)
            return next(times)

        return measure

    [result] = asyncio.run(measured([LINE], {"ours": (costs("a"), costs("b"))}, costs("c"), 3))
    assert order == ["a", "b", "c"] * 3
    assert (result.ours, result.beside, result.asking) == (4, 5, 6)


@pytest.mark.parametrize(
    ("here", "verdict"),
    [
        ([2, 2, 2], "SLOWER"),
        ([0.5, 0.5, 0.5], "faster"),
        ([1, 1, 1], "as before"),
        ([0.5, 1.1, 2], "as before"),  # by less than the spread
    ],
)
def test_a_tree_is_slower_if_it_is_so_by_more_than_the_spread_of_the_rounds(here, verdict):
    assert Comparison("ours", base=[1, 1, 1], here=here).verdict == verdict


def test_what_slows_both_trees_in_a_round_makes_no_difference():
    compared = Comparison("ours", base=[1, 5, 2, 9], here=[2, 10, 4, 18])
    assert (compared.ratio, compared.spread) == (2, 0)
