"""Takes a picture of a notebook in JupyterLab, as long as the notebook is.

    python tools/screenshot.py notebooks/01_async_batch.ipynb out.png

shows the notebook as stored, which is what a learner sees who opens it. With `--run` all cells are
executed first. A notebook higher than `--height` gives several files: out-1.png, out-2.png, ...
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nbtools.browser import running_lab
from nbtools.execution import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

HEIGHT = 12_000  # pixels; Chromium draws no surface of more than 16,384
PANEL = "window.jupyterapp.shell.currentWidget.node.querySelector('.jp-WindowedPanel-outer')"
MEASURE = """() => { const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
    return cells.at(-1).getBoundingClientRect().bottom - cells[0].getBoundingClientRect().top; }"""
SETTLE = 500  # milliseconds, for pictures and layout


def take(page: Page, out: Path, *, width: int, height: int) -> list[Path]:
    """Stores pictures of the whole notebook; returns their files."""
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_timeout(SETTLE)
    frame = 900 - int(page.evaluate(f"() => {PANEL}.clientHeight"))  # menus and bars
    total = math.ceil(page.evaluate(MEASURE)) + 40
    step = min(total, height)
    parts = math.ceil(total / step)
    files = []
    for part in range(parts):
        shown = min(step, total - part * step)
        page.set_viewport_size({"width": width, "height": shown + frame})
        page.evaluate(f"() => {{ {PANEL}.scrollTop = {part * step}; }}")
        page.wait_for_timeout(SETTLE)
        files.append(out if parts == 1 else out.with_stem(f"{out.stem}-{part + 1}"))
        page.screenshot(path=files[-1])
    return files


def main() -> int:
    """The command line; returns the exit status: 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path, help="a .png file")
    parser.add_argument("--width", type=int, default=1280, help="pixels")
    parser.add_argument("--height", type=int, default=HEIGHT, help="of one picture at most, pixels")
    parser.add_argument("--run", action="store_true", help="run all cells first")
    chosen = parser.parse_args()
    path = chosen.notebook.resolve().relative_to(ROOT).as_posix()
    with running_lab() as lab, lab.open(path, width=chosen.width) as notebook:
        errors = notebook.run_all()["errors"] if chosen.run else []
        files = take(notebook.page, chosen.out, width=chosen.width, height=chosen.height)
        print(*files, *errors, *notebook.page_errors, sep="\n")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
