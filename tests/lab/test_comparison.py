"""Variants side by side."""

import asyncio
from itertools import pairwise

import pytest

from course_lib.lab import compare
from course_lib.lab.comparison import Comparison, Variant
from course_lib.lab.experiment import Measured


def run(seconds: float, value: object = None) -> Measured:
    return Measured("", value, seconds, seconds / 10, (), 0.0, None)


def comparison(bound: float | None = 1.0, **times: list[float]) -> Comparison:
    rows = (Variant(name, tuple(run(t) for t in each)) for name, each in times.items())
    return Comparison(tuple(rows), bound)


def test_rounds_are_interleaved_and_start_with_another_variant_each():
    """A busy moment hits all variants, and none is always first."""
    order: list[str] = []
    variants = {name: (lambda name=name: order.append(name)) for name in "abc"}
    asyncio.run(compare_all(variants, rounds=3))
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert all(sorted(order[i : i + 3]) == ["a", "b", "c"] for i in (0, 3, 6))


async def compare_all(variants, **options):
    return await compare(variants, **options)


def test_the_median_stands_for_a_variant_and_the_spread_is_kept():
    """One slow round does not decide."""
    variant = comparison(slow=[3.0, 1.0, 9.0])["slow"]
    assert variant.seconds == 3.0
    assert variant.spread == (1.0, 9.0)
    assert variant.cpu == 0.3


def test_speed_up_is_relative_to_the_first_or_to_a_named_variant():
    """Ratios of medians."""
    result = comparison(slow=[8.0], middle=[4.0], fast=[2.0])
    assert result.speedup("fast") == 4.0
    assert result.speedup("fast", over="middle") == 2.0


def test_an_unknown_variant_is_named_with_those_there_are():
    """A typing mistake shows at once."""
    with pytest.raises(KeyError, match="there are slow, fast"):
        _ = comparison(slow=[1.0], fast=[1.0])["fsat"]


def test_values_agree_only_if_every_variant_returned_the_same():
    """The fast program must give the slow one's answers."""
    same = [Variant("a", (run(1, [1]),)), Variant("b", (run(2, [1]),))]
    assert Comparison(tuple(same), None).values_agree
    other = Variant("c", (run(2, [2]),))
    assert not Comparison((*same, other), None).values_agree


def test_the_table_has_the_ratio_to_the_bound_only_where_one_is_given():
    """No invented bound."""
    assert "8.0x" in repr(comparison(slow=[8.0]))
    assert "of the bound" in repr(comparison(slow=[8.0]))
    assert "of the bound" not in repr(comparison(bound=None, slow=[8.0]))
    assert "<table>" in comparison(slow=[8.0])._repr_html_()


def test_columns_of_the_table_line_up():
    """Each row is as wide as the head."""
    lines = repr(comparison(slow=[8.0], a_much_longer_name=[12.5])).splitlines()
    assert all(len(a) == len(b) for a, b in pairwise(lines))


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": {}},
        {"variants": {"a": int}, "rounds": 0},
        {"variants": {"a": int}, "bound": 0.0},
    ],
)
def test_a_comparison_of_nothing_is_refused(wrong):
    """Before anything runs."""
    with pytest.raises(ValueError, match="at least one|bound"):
        asyncio.run(compare_all(**wrong))
