"""Each picture: a PNG, the figure that matters in the title, an alternative in words."""

import io

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from course_lib.lab import plots
from course_lib.lab.comparison import Comparison, Variant
from course_lib.lab.experiment import Measured
from course_lib.lab.plots.picture import RED
from course_lib.service import Call


def comparison() -> Comparison:
    times = {"slow way": [4.0, 4.4], "fast way": [1.0, 1.2]}
    variants = (
        Variant(name, tuple(Measured(name, 1, t, 0.1, (), 0.0, None) for t in each))
        for name, each in times.items()
    )
    return Comparison(tuple(variants), 0.8)


CALLS = [Call("/search", "q", t / 10, t / 10 + 0.25, 200, 0) for t in range(6)]
FAILED = Call("/search", "q", 0.0, 0.1, 500, 0)

PICTURES = {
    "bars": lambda: plots.bars(comparison()),
    "timeline": lambda: plots.timeline([*CALLS, FAILED], gaps=[(0.1, 0.2)]),
    "one lane": lambda: plots.timeline(CALLS[:1]),
    "many lanes": lambda: plots.timeline([Call("/", "", 0.0, 1.0, 200, 0)] * 100),
    "magnitudes": lambda: plots.magnitudes(
        {"a call": 2.5e-7, "a request": 0.004, "a night": 3e4}, title="Title", x="time"
    ),
    "over_time": lambda: plots.over_time(
        {"a": ([0, 1, 2], [1, 2, 3]), "b": ([0], [2])}, title="Title", y="calls",
        bound=("bound", ([0, 2], [1, 3])),
    ),
    "percentiles": lambda: plots.percentiles({"a": [0.1] * 99 + [2.0], "b": [0.3]}),
    "versus_model": lambda: plots.versus_model(
        {"m": ([1, 2], [1.0, 2.0])}, {"m": ([1, 2], [1.0, 1.9])},
        title="Title", x="x in s", y="y in s", steps=True,
    ),
    "heatmap": lambda: plots.heatmap(
        [[1.0, 12.0], [3.0, 20.0]], rows=["a", "b"], columns=["c", "d"],
        title="Title", x="x", y="y", region=(10, 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_a_png_with_an_alternative(picture):
    """What a notebook stores: the image, its alternative as text and as alt."""
    data, metadata = picture()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert len(data["text/plain"]) > 20
    assert metadata["image/png"]["alt"] == data["text/plain"]


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_nothing_of_a_picture_reaches_beyond_its_edge(picture):
    """Titles, labels and legends are drawn whole."""
    figure = picture().figure
    outline = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert outline.x0 >= -0.02
    assert outline.y0 >= -0.02
    assert outline.x1 <= width + 0.02
    assert outline.y1 <= height + 0.02


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_axes_are_labelled_and_titled(picture):
    """Whoever sees only the picture knows what it says."""
    (axes,) = picture().figure.axes
    assert axes.get_title(loc="left")
    assert axes.get_xlabel()


def test_a_picture_drawn_twice_is_the_same_to_the_byte():
    """A rebuilt notebook does not differ for nothing."""
    assert plots.timeline(CALLS).png == plots.timeline(CALLS).png


def test_drawing_leaves_no_figure_open_and_no_setting_changed():
    """The learner's own plots look as they did."""
    before = dict(rcParams)
    plots.timeline(CALLS)
    assert plt.get_fignums() == []
    assert dict(rcParams) == before


def test_bars_name_the_fastest_and_the_bound():
    """With the ratio to the first."""
    picture = plots.bars(comparison())
    assert picture.figure.axes[0].get_title(loc="left") == "fast way: 3.8x as fast as slow way"
    assert "no program can beat 0.80 s" in picture.alt


def test_a_timeline_counts_from_the_records_that_assertions_read():
    """Calls, peak, failures and stand-stills."""
    alt = plots.timeline([*CALLS, FAILED], gaps=[(0.1, 0.2)]).alt
    assert "7 calls" in alt
    assert "at most 3 at once" in alt
    assert "1 of them got no good answer" in alt
    assert "stood still for 0.10 s" in alt


def test_a_refusal_is_in_sight_though_it_takes_no_time():
    """At least two columns of pixels of its colour left of the legend, also at the very start."""
    refused = Call("/search", "q", 0.0, 0.0, 429, 0)
    pixels = imread(io.BytesIO(plots.timeline([*CALLS, refused]).png))[:, :, :3]
    red = np.abs(pixels - to_rgb(RED)).max(axis=2) < 0.02
    assert red[:, : red.shape[1] // 2].any(axis=0).sum() >= 2


def test_only_cells_within_the_region_are_framed():
    """Both ends belong to it."""
    (axes,) = PICTURES["heatmap"]().figure.axes
    assert sorted(patch.get_xy() for patch in axes.patches) == [(0.53, -0.46), (0.53, 0.54)]


def test_heatmaps_of_one_scale_give_a_ratio_one_colour():
    """Or the smaller of two pictures would shout as loud as the larger."""
    limits = []
    for values in ([[1.0, 1.4]], [[1.0, 3.9]]):
        labels = {"rows": ["a"], "columns": ["b", "c"], "title": "", "x": "", "y": ""}
        (axes,) = plots.heatmap(values, scale=(1, 4), **labels).figure.axes
        limits.append(axes.images[0].get_clim())
    assert limits[0] == limits[1]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.timeline([]), "no calls to draw"),
        (lambda: plots.percentiles({}), "no durations"),
        (lambda: plots.over_time({"a": ([], [])}, title="", y=""), "no points to draw for"),
        (lambda: plots.magnitudes({"a": 0.0}, title="", x=""), "above 0"),
        (lambda: plots.percentiles({"a": []}), "no durations to draw for"),
        (
            lambda: plots.heatmap([[0.0]], rows=["a"], columns=["b"], title="", x="", y=""),
            "a ratio is above 0",
        ),
    ],
)
def test_nothing_to_draw_is_an_error_that_says_so(draw, message):
    """In place of an empty picture."""
    with pytest.raises(ValueError, match=message):
        draw()
