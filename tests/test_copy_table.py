"""What must be taken along when one name is copied: few files, and the README names them."""

import subprocess
import sys

import pytest
from copy_table import BEGIN, COPIED, END, README, ROOT, Package, copy_of, table, written

COURSE = Package(ROOT / "course_lib")
MOST = {
    "TokenBucket": 4,
    "Gate": 6,
    "amap": 8,
    "AsyncCache": 5,
    "SqliteStore": 1,
    "PerformanceMonitor": 7,
    "RagPipeline": 33,
}


def test_the_readme_has_the_table():
    """As the sources have it now."""
    readme = README.read_text("utf-8")
    if written(readme, table(COURSE)) != readme:
        pytest.fail("the table is not up to date: run python tools/copy_table.py", pytrace=False)


@pytest.mark.parametrize("name", COPIED)
def test_a_name_needs_few_files(name):
    """A name is taken with the concepts that it is made of, and no more."""
    files = copy_of(COURSE, COPIED[name], name).files
    if len(files) > MOST[name]:
        pytest.fail(f"{len(files)} files, more than {MOST[name]}: {files}", pytrace=False)


@pytest.mark.parametrize("name", ["Gate", "AsyncCache"])
def test_what_holds_no_langchain_needs_none(name):
    """A gate, and a cache without a store, can be used where LangChain is not installed."""
    assert not copy_of(COURSE, COPIED[name], name).langchain


def copied(modules, root):
    """Copy modules to a folder of another name, with the names that they import from `__init__`s."""
    texts = {COURSE.files[module]: COURSE.files[module].read_text("utf-8") for module in modules}
    for each in (each for module in modules for each in COURSE.imports[module] if not each.typing):
        face = COURSE.files.get(each.base)
        if face is not None and each.name in COURSE.exported(each.base):
            line = f"from {COURSE.origin(each.full)} import {each.name}\n"
            texts[face] = texts.get(face, "") + line * COURSE.is_package(each.base)
    for source, text in texts.items():
        file = root / source.relative_to(ROOT / "course_lib")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("course_lib", root.name), "utf-8")


def test_the_files_are_enough(tmp_path):
    """Each name can be imported from a copy of them alone, without LangChain where none is needed."""
    lines = {True: ["del sys.modules['langchain_core']"], False: []}
    for name, part in COPIED.items():
        copy = copy_of(COURSE, part, name)
        copied(copy.files, tmp_path / f"mine_{name}")
        own = COURSE.origin(f"course_lib.{part}.{name}").replace("course_lib", f"mine_{name}")
        lines[copy.langchain].append(f"from {own} import {name}")
    hidden = ["import sys", "sys.modules['langchain_core'] = None"]  # an ImportError for who asks
    program = [*hidden, *lines[False], *lines[True], "assert 'course_lib' not in sys.modules"]
    command = [sys.executable, "-c", "\n".join(program)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# --- the tests of these tests -----------------------------------------------------------------------

FILES = {
    "__init__.py": "",
    "clock.py": "import time",
    "part/__init__.py": "from town.part.thing import Thing\nfrom town.part.other import Other",
    "part/thing.py": (
        "import numpy, asyncio\nfrom town.clock import now\nfrom town.near import Near\n"
        "if TYPE_CHECKING:\n    from langchain_core import x\n    from town.part.other import Other\n"
        "def f():\n    from town.part.later import y\n    import aiohttp"
    ),
    "part/other.py": "import langchain_core.tools",
    "part/later.py": "import town.part.much_later",
    "part/much_later.py": "",
    "near/__init__.py": "from town.near.a import Near\nfrom town.near.b import Far",
    "near/a.py": "from town.near.b import Far",
    "near/b.py": "",
}


@pytest.fixture
def town(tmp_path):
    """A small package with each kind of import."""
    for name, text in FILES.items():
        file = tmp_path / "town" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Package(tmp_path / "town")


def test_what_is_loaded_is_taken(town):
    """Through each `__init__` to where a name is defined; types and what is loaded late are not."""
    copy = copy_of(town, "part", "Thing")
    assert copy.files == ["town.clock", "town.near.a", "town.near.b", "town.part.thing"]
    assert copy.late == ["town.part.later", "town.part.much_later"]
    assert copy.others == ["numpy"]
    assert not copy.langchain
    assert copy_of(town, "part", "Other").langchain


def test_a_name_that_is_not_there_is_no_empty_row(town):
    """A name that was moved away is found out."""
    with pytest.raises(LookupError, match="part has no Gone"):
        copy_of(town, "part", "Gone")


def test_a_table_is_written_between_its_marks():
    """Whatever stood there; the rest of the page stays."""
    page = f"above\n{BEGIN}old\n{END}\nbelow\n"
    assert written(page, "| new |\n") == f"above\n{BEGIN}| new |\n{END}\nbelow\n"
    with pytest.raises(ValueError, match="the README needs one line"):
        written("no marks", "| new |\n")
