"""Each section runs after the set-up cells alone, or names the sections that have to run first.

A section that goes on from others says so below its heading, and the links name them:

    *Run first: [A storm](#A-storm), [What a semaphore bounds](#What-a-semaphore-bounds).*
"""

import copy
import re

import pytest
from nbtools.execution import execute
from notebook_support import NOTEBOOKS, SOLVED, code, label, markdown, notebook, read

pytestmark = pytest.mark.kernel

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
RUN_FIRST = re.compile(r"^\*Run first: (.+)\.\*$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(#([^)]+)\)")
DAILY = SOLVED[1::3]
SUMS_UP = {"Checklist", "Recap"}  # of what all sections measured


def sections(cells):
    """The cells before the first section, and each section's by its anchor.

    The first cell, with what the notebook is about, is no section.
    """
    setup, found = [], {}
    into = setup
    for cell in cells[1:]:
        heading = cell.cell_type == "markdown" and HEADING.search(cell.source)
        if heading:
            into = found[heading[1].replace(" ", "-")] = []
        into.append(cell)
    return setup, found


def needed(found, anchor):
    """The anchors of a section and of what it says to run first, in the notebook's order."""
    wanted, todo = set(), [anchor]
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            text = "\n".join(c.source for c in found[name] if c.cell_type == "markdown")
            todo += [link for line in RUN_FIRST.findall(text) for link in LINK.findall(line)]
    return [name for name in found if name in wanted]


def alone(path, anchor):
    """A solved notebook with its set-up, one section, and what that says to run first."""
    short = copy.deepcopy(read(path))
    setup, found = sections(short.cells)
    kept = [cell for name in needed(found, anchor) for cell in found[name]]
    short.cells = setup + kept
    return short


def cases():
    """Each section that has something to run; by day the middle one of two notebooks.

    What stands in the middle leans on others most easily.
    """
    for path in SOLVED:
        found = [
            anchor
            for anchor, cells in sections(read(path).cells)[1].items()
            if anchor not in SUMS_UP and any(cell.cell_type == "code" for cell in cells)
        ]
        for place, anchor in enumerate(found):
            daily = path in DAILY and place == len(found) // 2
            marks = () if daily else (pytest.mark.nightly,)
            yield pytest.param(path, anchor, id=f"{label(path)}-{anchor}", marks=marks)


@pytest.mark.parametrize(("path", "anchor"), list(cases()))
def test_a_section_runs_after_the_set_up(path, anchor):
    """A learner who comes back tomorrow runs the set-up and goes on where they were."""
    execute(alone(path, anchor), NOTEBOOKS)


def test_what_a_section_says_to_run_first_is_run_with_all_that_needs():
    """The sections named are found, those that they name, too, and stand in the notebook's order."""
    cells = [
        markdown("# A notebook\n\n## What you'll do"),
        code("1"),
        markdown("## One"),
        markdown("## Two words\n\n*Run first: [One](#One).*"),
        markdown("text\n\n## Three"),
        markdown("## Four\n\n*Run first: [Three](#Three), [Two words](#Two-words).*"),
    ]
    setup, found = sections(notebook(*cells).cells)
    assert [cell.source for cell in setup] == ["1"]
    assert needed(found, "Four") == ["One", "Two-words", "Three", "Four"]
    assert needed(found, "Three") == ["Three"]
