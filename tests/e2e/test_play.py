"""A learner moves a slider under an experiment, in JupyterLab, and the picture follows."""

import pytest
from howto_pages import FOLDER, blocks
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

(PROGRAM,) = blocks(FOLDER / "play-with-an-experiment.md", "python")
SOURCE = PROGRAM.replace("print(", "(").replace(").values)", "))")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
SHOWN = "text => document.querySelector('.jp-OutputArea-output img')?.alt.includes(text)"


def test_the_picture_follows_the_slider(lab):
    """The how-to page's experiment is drawn anew when a slider is moved by the keyboard."""
    lab.store("play.ipynb", new_notebook(cells=[new_code_cell(SOURCE)], metadata=KERNEL))
    with lab.open("play.ipynb") as notebook:
        assert notebook.run_all()["errors"] == []
        notebook.page.wait_for_function(SHOWN, arg="40 calls of 0.1 s, 8 at once: 0.5 s")
        handle = notebook.page.get_by_role("slider").nth(1)
        handle.press("ArrowRight")
        handle.press("ArrowRight")
        notebook.page.wait_for_function(SHOWN, arg="40 calls of 0.1 s, 10 at once: 0.4 s")
        assert notebook.page_errors == []
