"""One concept, one file: no circle of imports, no way past a package's face, no file cut in parts."""

from pathlib import Path

import pytest
from import_graph import Package, circles

ROOT = Path(__file__).resolve().parents[1]
COURSE = Package(ROOT / "course_lib")


def report(problems):
    """Fail with all of them, one a line: the summary of a long list would leave most of it out."""
    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)


def named_by_number(package):
    """Files that are parts of something, not something themselves."""
    return [module for module in package.files if module.endswith(("_parts", ".parts"))]


def ways_past_a_face(package):
    """Imports of what another package does not export, as "module imports name".

    Modules directly below the package (the ground floor) have no inside.
    """
    return [
        f"{module} imports {each.full}"
        for module, found in package.imports.items()
        for each in found
        if each.base.partition(".")[0] == package.name
        if goes_past(package, package.part_of(module), each)
    ]


def goes_past(package, own_part, found):
    """Whether an import reaches behind the `__init__` of a part that is not the importer's own."""
    part = package.part_of(found.full)
    home = f"{package.name}.{part}"
    if part == own_part or home not in package.files or not package.is_package(home):
        return False
    if package.is_package(found.base) and found.name in package.exported(found.base):
        return False  # also where a module behind it has that name
    below = found.full in package.files and package.is_package(found.full)
    return not (below and package.exported(found.full))


def test_no_modules_need_each_other_when_they_run():
    """Not even where one of them imports late: in what order they are loaded does not matter."""
    report(circles(COURSE.graph(late=True)))


def test_no_modules_need_each_other_to_be_understood():
    """With the types that annotations name: of any two files one can be read without the other."""
    report(circles(COURSE.graph(late=True, typing=True)))


def test_no_package_reaches_into_another():
    """Other packages' names come from their `__init__`; lab, room, rag and types are no exception."""
    report(ways_past_a_face(COURSE))


def test_no_file_is_a_part_of_another():
    """A file that is named after a number of lines is no concept."""
    report(named_by_number(COURSE))


# --- the tests of these tests -----------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """Make a small package of files by path, with empty `__init__`s where none is given."""

    def make(files):
        root = tmp_path / "town"
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for folder in {root, *(file.parent for file in root.rglob("*.py"))}:
            (folder / "__init__.py").touch()
        return Package(root)

    return make


@pytest.mark.parametrize(
    ("files", "at_run_time", "with_types"),
    [
        ({"a.py": "from town import b", "b.py": "from town.a import x"}, 1, 1),
        ({"a.py": "from . import b", "b.py": "def f():\n    from .a import x"}, 1, 1),
        ({"a.py": "import town.b", "b.py": "if TYPE_CHECKING:\n    from town.a import x"}, 0, 1),
        ({"a.py": "import town.b", "b.py": "import town.c", "c.py": "import town.a"}, 1, 1),
        ({"p/__init__.py": "from town.p.a import x", "p/a.py": "from town.p import y"}, 1, 1),
        (
            {
                "p/__init__.py": "from town.p.a import x",
                "p/a.py": "from town.q import y",
                "q/__init__.py": "from town.q.b import y",
                "q/b.py": "from town.p import x",
            },
            1,
            1,
        ),
        ({"a.py": "import town.b", "b.py": "import asyncio", "c.py": "import town.a"}, 0, 0),
        ({"p/__init__.py": "from town.p.a import x", "p/a.py": "from town.p.b import y",
          "p/b.py": "x = 1"}, 0, 0),
    ],
)  # fmt: skip
def test_circles_are_found(write, files, at_run_time, with_types):
    """Short and long ones, late imports, those for types, and those through an `__init__`."""
    package = write(files)
    assert len(circles(package.graph(late=True))) == at_run_time
    assert len(circles(package.graph(late=True, typing=True))) == with_types


def test_a_circle_is_named_by_its_modules(write):
    """Those that lead into it and out of it are left out."""
    files = {"a.py": "import town.b", "b.py": "import town.c", "c.py": "import town.b, town.d"}
    package = write(files | {"d.py": ""})
    assert circles(package.graph()) == [["town.b", "town.c"]]


FACE = {
    "p/__init__.py": (
        "from town.p.inner import shown\nfrom town.p.inner import handed as handed\n"
        "from town.p.inner import kept\n__all__ = ['shown']"
    ),
    "p/inner.py": "shown = handed = kept = 1",
    "p/shown.py": "",
    "p/below/__init__.py": "__all__ = ['deep']\ndeep = 1",
    "p/bare/__init__.py": "",
    "p/bare/inner.py": "",
    "ground.py": "anything = 1",
}


@pytest.mark.parametrize(
    "line",
    [
        "from town.p.inner import shown",
        "from town.p import inner",
        "from town.p import kept",
        "import town.p.inner",
        "from ..p.inner import shown",
        "from town.p import bare",
        "from town.p.bare import inner",
        "from town.p.below import other",
        "def f():\n    from town.p.inner import shown",
        "if TYPE_CHECKING:\n    from town.p.inner import shown",
    ],
)
def test_a_way_past_a_face_is_found(write, line):
    """Modules and names that `__init__` does not export, imported early, late or for types."""
    assert len(ways_past_a_face(write(FACE | {"q/a.py": line}))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from town.p import shown",
        "from town.p import handed",
        "from ..p import shown",
        "from town import p",
        "import town.p",
        "from town.p.below import deep",
        "from town.p import below",
        "from town.ground import anything",
        "from town import ground",
        "from town.q.b import anything",
        "from elsewhere.p.inner import shown",
    ],
)
def test_what_a_package_exports_is_for_all(write, line):
    """`__all__`, `x as x`, packages below that export, the ground floor, and one's own insides."""
    assert ways_past_a_face(write(FACE | {"q/a.py": line, "q/b.py": ""})) == []


def test_files_that_are_parts_are_found(write):
    """By their names."""
    package = write({"a_parts.py": "", "p/parts.py": "", "p/partsof.py": ""})
    assert named_by_number(package) == ["town.a_parts", "town.p.parts"]
