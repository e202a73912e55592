"""A notebook on a beamer has larger type and pictures, until it has not."""

import io
import subprocess
import sys

from matplotlib.image import imread

from course_lib.lab import plots, projector


def width():
    """Pixels of a picture."""
    picture = plots.draw(lambda axes: str(axes.set_title("x")))
    return imread(io.BytesIO(picture.png)).shape[1]


def test_pictures_are_larger_while_it_is_on():
    """With the layout as it was: all of them by the same factor."""
    before = width()
    shown = projector()
    try:
        assert width() > 1.3 * before
        assert "--jp-code-font-size" in shown._repr_html_()
    finally:
        ended = projector(on=False)
    assert width() == before
    assert "--jp" not in ended._repr_html_()
    assert (repr(shown), repr(ended)) == (
        "projector on: larger type, larger pictures",
        "projector off",
    )


def test_the_bench_loads_no_matplotlib_for_it():
    """Not before it is asked for."""
    program = "import sys, course_lib.lab; print('matplotlib' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert said.stdout.strip() == "False"
