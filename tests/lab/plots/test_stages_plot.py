"""The stage breakdown: from a report or from numbers."""

import pytest

from course_lib.lab import plots
from course_lib.monitoring import PerformanceMonitor

STAGES = {"retrieve": (0.0, 0.04), "rerank": (0.51, 0.08), "generate": (0.0, 1.0)}


def report():
    """Two steps within an item, which waited once."""
    now = [0.0]
    monitor = PerformanceMonitor(timer=lambda: now[0])
    for _ in range(4):
        with monitor.measure("item"):
            planned = monitor.now()
            now[0] += 0.5
            with monitor.measure("rerank", planned=planned):
                now[0] += 0.25
            with monitor.measure("generate"):
                now[0] += 0.25
    return monitor.report()


def labels(picture):
    (axes,) = picture.figure.axes
    return [text.get_text() for text in axes.texts]


def test_the_longest_stage_is_in_the_title():
    """With its share of the whole; and every figure is in the alternative."""
    picture = plots.stages(STAGES)
    assert picture.figure.axes[0].get_title(loc="left") == "generate: 61% of an item's time"
    assert "rerank 510 ms waiting and 80 ms of service" in picture.alt


def test_each_bar_has_its_value():
    """Where something waited, both parts of it."""
    assert labels(plots.stages(STAGES)) == ["40 ms", "590 ms (510 ms + 80 ms)", "1 s"]


def test_a_report_is_drawn_by_its_steps():
    """Not by what they ran in, which would count them twice."""
    picture = plots.stages(report())
    (axes,) = picture.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rerank", "generate"]
    assert labels(picture) == ["750 ms (500 ms + 250 ms)", "250 ms"]
    assert picture.figure.axes[0].get_title(loc="left") == "rerank: 75% of an item's time"


def test_steps_may_be_chosen():
    """In the order given."""
    picture = plots.stages(report(), steps=["item"], title="The whole")
    assert labels(picture) == ["1 s"]
    assert picture.figure.axes[0].get_title(loc="left") == "The whole"


def test_the_picture_has_alternative_labels_and_edges():
    """As all pictures do."""
    picture = plots.stages({"a step with quite a long name": (2.0, 100.0), **STAGES})
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"]
    assert picture.figure.axes[0].get_xlabel()
    outline, (width, height) = picture.figure.get_tightbbox(), picture.figure.get_size_inches()
    assert min(outline.x0, outline.y0) >= -0.02
    assert outline.x1 <= width + 0.02
    assert outline.y1 <= height + 0.02


def test_the_figures_of_the_longest_bar_do_not_run_into_the_legend():
    """However wide they are, and however long the names."""
    picture = plots.stages({"a step with quite a long name": (2.222, 111.1), "b": (1.0, 1.0)})
    (axes,), (legend,) = picture.figure.axes, picture.figure.legends
    outline = legend.get_window_extent()
    assert not any(text.get_window_extent().overlaps(outline) for text in axes.texts)


@pytest.mark.parametrize("source", [{}, {"a": (0.0, 0.0)}, PerformanceMonitor().report()])
def test_no_time_is_an_error_that_says_so(source):
    """In place of an empty picture."""
    with pytest.raises(ValueError, match="no time to draw"):
        plots.stages(source)


def test_an_unknown_step_is_refused():
    """With those that there are."""
    with pytest.raises(ValueError, match="no step 'x' to draw: choose from retrieve"):
        plots.stages(STAGES, steps=["x"])
