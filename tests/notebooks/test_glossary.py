"""The glossary and the notebooks agree: each term is linked where it is first needed."""

import re

from notebook_support import NOTEBOOKS, ROOT, read

ENTRY = re.compile(r"^## ([^\n]+)\n\n([^\n]+) \((\d)\)$", re.MULTILINE)
GLOSSARY = (ROOT / "docs/glossary.md").read_text("utf-8")
ENTRIES = {term: int(number) for term, _, number in ENTRY.findall(GLOSSARY)}


def linked():
    """The anchors of the glossary that each notebook's text links, by the notebook's number."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("0*.ipynb")):
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        found[int(path.name[:2])] = set(re.findall(r"docs/glossary\.md#([\w-]+)", text))
    return found


def anchor(term):
    """The anchor of a term's heading."""
    return re.sub(r"[^\w -]", "", term.lower()).replace(" ", "-")


def test_the_glossary_is_in_order_and_each_entry_names_a_notebook():
    """Every heading is an entry, which ends with the number of its notebook."""
    headings = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
    assert list(ENTRIES) == headings
    assert headings == sorted(headings, key=lambda term: re.sub(r"\W", "", term.lower()))


def test_each_term_is_linked_first_by_the_notebook_that_its_entry_names():
    """And no notebook links what is no entry."""
    first = {}
    for number, anchors in linked().items():
        for each in anchors:
            first.setdefault(each, number)
    assert first == {anchor(term): number for term, number in ENTRIES.items()}
