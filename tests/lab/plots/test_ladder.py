"""The ladder of improvements."""

import pytest
from matplotlib import colors

from course_lib.lab.plots import Rung, ladder
from course_lib.lab.plots.picture import GREEN

RUNGS = {
    "naive": Rung(8.0, 9.5),
    "gates": Rung(55.0, 1.7, 60.0),
    "caches": Rung(160.0, 0.6, 171.0),
}


def test_the_gain_is_the_title_and_the_figures_are_the_alternative():
    """What is drawn can be read."""
    picture = ladder(RUNGS)
    assert picture.alt.startswith("caches: 20x the throughput of naive. ")
    assert "gates 55/s, allowed 60/s, p95 1.70 s" in picture.alt
    assert "naive 8/s, p95 9.50 s" in picture.alt


def test_each_rung_has_two_bars_and_its_bound():
    """In the order given, the best one in green, a line where the service ends."""
    left, right = ladder(RUNGS).figure.axes
    assert [bar.get_width() for bar in left.patches] == [8.0, 55.0, 160.0]
    assert [bar.get_width() for bar in right.patches] == [9.5, 1.7, 0.6]
    assert [label.get_text() for label in left.get_yticklabels()] == list(RUNGS)
    green = [colors.same_color(bar.get_facecolor(), GREEN) for bar in left.patches]
    assert green == [False, False, True]
    assert [line.get_xdata()[0] for line in left.lines] == [60.0, 171.0]
    assert left.yaxis_inverted()


def test_a_legend_is_there_where_a_bound_is():
    """And once."""
    [legend] = ladder(RUNGS).figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["what the service allows"]
    assert ladder({"naive": Rung(8.0, 1.0)}).figure.legends == []


@pytest.mark.parametrize("rungs", [{}, {"none": Rung(0.0, 1.0)}])
def test_nothing_measured_is_refused(rungs):
    """There is no gain to tell of."""
    with pytest.raises(ValueError, match="measure each rung"):
        ladder(rungs)
