"""Every notebook opens, closes and is cut the same way."""

import re
import statistics

import pytest
from notebook_support import LEARNER, SOLVED, code, code_cells, each, markdown, notebook, read, tags

OPENING = ("What you'll do", "What you'll learn", "What you'll need")
CLOSING = ("Checklist", "Recap", "Further reading")
FEWEST_EXERCISES = 2
MEDIAN, MOST, LONGEST = 5, 12, 25  # lines of a cell: in the median, in 95 % of cells, in all


def headings(nb):
    """(level, text) of each heading, in order, with straight apostrophes."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^(#+) +(.+?) *$", text, re.MULTILINE)
    return [(len(marks), title.replace("\u2019", "'")) for marks, title in found]


def anatomy_problems(nb, number):
    """What the notebook's opening, sections and closing lack, one line each."""
    titles = [title for _, title in headings(nb)]
    sections = [title for level, title in headings(nb) if level == 2]
    body = [title for title in sections if title not in OPENING + CLOSING]
    if not re.fullmatch(rf"{number} · \S.*", titles[0] if titles else ""):
        yield f"the title is not `# {number} · ...`"
    yield from opening_problems(nb)
    if [title for title in titles if title in OPENING] != list(OPENING):
        yield f"the opening's headings are not {OPENING}"
    if tuple(sections[-3:]) != CLOSING:
        yield f"the last headings are not {CLOSING}"
    if not body:
        yield "there is no section between opening and closing"
    cells = code_cells(nb)
    if not cells or not re.search(r"\bhygiene\(\)", cells[-1].source):
        yield "the last code cell does not call hygiene()"


def opening_problems(nb):
    """What lacks between the title and the first section."""
    first = nb.cells[0].source if nb.cells else ""
    paragraphs = [part.strip() for part in first.split("\n\n")]
    lines = "\n".join(paragraphs).split("\n")[1:]
    text = [line for line in lines if line and not line.startswith("*The solved version")]
    sentence = " ".join(re.split(r"^#", "\n".join(text), maxsplit=1, flags=re.MULTILINE)[0].split())
    if len(re.findall(r"[.!?](?: |$)", sentence)) != 1:
        yield f"under the title stands not one sentence but {sentence!r}"
    whole = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    need = re.split(r"^#+ +What you['\u2019]ll need", whole, maxsplit=1, flags=re.MULTILINE)[-1]
    need = re.split(r"^#", need, maxsplit=1, flags=re.MULTILINE)[0]
    if not re.search(r"^\|.*\n\|[ :|-]+\n\|", need, re.MULTILINE):
        yield "What you'll need holds no table"
    if not re.search(r"\bmin(?:ute)?s?\b", need):
        yield "What you'll need does not say how many minutes"


def exercise_problems(nb, number):
    """Exercises that are not numbered in order, or not followed by their check, one line each."""
    marked = [cell for cell in code_cells(nb) if {"exercise", "check"} & set(tags(cell))]
    exercises = [cell for cell in marked if "exercise" in tags(cell)]
    if len(exercises) < FEWEST_EXERCISES:
        yield f"{len(exercises)} exercises, fewer than {FEWEST_EXERCISES}"
    wanted = [f"{number}.{k}" for k in range(1, len(exercises) + 1)]
    if [cell.metadata.get("exercise") for cell in exercises] != wanted:
        yield f"exercises are not numbered {wanted}"
    if ["exercise" if "exercise" in tags(c) else "check" for c in marked] != [
        "exercise",
        "check",
    ] * len(exercises):
        yield "exercise and check cells do not alternate"
    for cell, check in zip(marked[::2], marked[1::2], strict=False):
        name = cell.metadata.get("exercise")
        if f'exercise("{name}").check(' not in check.source:
            yield f"the check after exercise {name} is not its own"


def size_problems(nb):
    """Cells that are too long, by lines that are not blank."""
    sizes = [len([x for x in c.source.splitlines() if x.strip()]) for c in code_cells(nb)]
    if statistics.median(sizes) > MEDIAN:
        yield f"the median cell has {statistics.median(sizes)} lines, more than {MEDIAN}"
    if sum(size <= MOST for size in sizes) < 0.95 * len(sizes):
        yield f"more than 5 % of the cells are longer than {MOST} lines: {sorted(sizes)[-5:]}"
    if max(sizes) > LONGEST:
        yield f"a cell has {max(sizes)} lines, more than {LONGEST}"


def number_of(path):
    """The notebook's number, from its name."""
    return int(path.stem.partition("_")[0])


@each(LEARNER + SOLVED)
def test_opening_and_closing_are_there(path):
    """Title, one sentence, three headings, sections, three headings, hygiene."""
    assert list(anatomy_problems(read(path), number_of(path))) == []


@each(LEARNER + SOLVED)
def test_exercises_are_numbered_and_checked(path):
    """Each exercise is followed by its own check."""
    assert list(exercise_problems(read(path), number_of(path))) == []


@each(LEARNER)
def test_cells_are_short(path):
    """One idea a cell."""
    assert list(size_problems(read(path))) == []


def test_there_are_notebooks():
    """An empty folder does not pass for a sound one."""
    assert LEARNER
    assert [path.name for path in LEARNER] == [path.name for path in SOLVED]


NEED = "## What you'll need\n| Concept | Time |\n| --- | --- |\n| await | 20 minutes |"
PARTS = [
    markdown("# 1 · Title\n\nOne sentence, version 3.11.\n\n## What you'll do\nA.\n\n## What you'll learn\nB."),
    markdown(NEED),
    markdown("## The scenario"),
    code("def f(): ...", tags=["exercise"], exercise="1.1"),
    code('await exercise("1.1").check(f)', tags=["check"]),
    code("def g(): ...", tags=["exercise"], exercise="1.2"),
    code('await exercise("1.2").check(g)', tags=["check"]),
    markdown("## Checklist"),
    markdown("## Recap"),
    markdown("## Further reading"),
    code("lab.hygiene()"),
]  # fmt: skip


def problems(nb):
    """All that this module looks at."""
    return [*anatomy_problems(nb, 1), *exercise_problems(nb, 1), *size_problems(nb)]


def test_a_sound_notebook_has_no_problems():
    """The rules can be kept."""
    assert problems(notebook(*PARTS)) == []


@pytest.mark.parametrize(
    ("place", "cell", "found"),
    [
        (0, markdown(PARTS[0].source.replace("# 1 ·", "# 2 ·")), "the title"),
        (0, markdown(PARTS[0].source.replace("One sentence", "One. Two")), "one sentence"),
        (
            0,
            markdown(PARTS[0].source.replace("You'll learn", "x").replace("learn", "x")),
            "opening",
        ),
        (1, markdown("## What you'll need\nTwenty minutes."), "no table"),
        (1, markdown(NEED.replace("minutes", "m")), "how many minutes"),
        (2, markdown("The scenario"), "no section"),
        (3, code("def f(): ..."), "numbered"),
        (3, code("def f(): ...", tags=["exercise"], exercise="1.3"), "numbered"),
        (4, code("f"), "alternate"),
        (4, PARTS[6], "not its own"),
        (8, markdown("Recap"), "last headings"),
        (8, PARTS[7], "last headings"),
        (10, code("pass"), "hygiene"),
        (10, code("x\n" * 26 + "hygiene()"), "more than 25"),
        (10, code("x\n" * 13 + "hygiene()"), "longer than 12"),
    ],
)
def test_a_missing_part_is_found(place, cell, found):
    """Each rule fails on a notebook that breaks it alone."""
    nb = notebook(*PARTS[:place], cell, *PARTS[place + 1 :])
    assert any(found in problem for problem in problems(nb))


def test_long_cells_are_found_by_their_median():
    """Many cells of medium length are too much as well."""
    nb = notebook(*[code("x\n" * 6)] * 3, code("x"))
    assert any("median" in problem for problem in size_problems(nb))
