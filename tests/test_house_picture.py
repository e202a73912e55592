"""The picture of the house shows the imports as they are."""

import subprocess
import sys

import pytest
from house_picture import BEGIN, END, PAGE, ROOT, Package, arrows, drawn, picture


def test_the_page_shows_the_house_as_it_is():
    """Drawn from the imports, not by hand."""
    page = PAGE.read_text("utf-8")
    if drawn(page, picture(Package(ROOT / "course_lib"))) != page:
        pytest.fail("not up to date: run python tools/house_picture.py", pytrace=False)


def test_arrows_lead_from_who_imports_to_who_is_imported(tmp_path):
    """Also late imports; what uses packages is no ground floor, and the package's face is no part."""
    files = {
        "__init__": "",
        "errors": "",
        "doctor": "from course.upper import b",
        "lower/__init__": "",
        "lower/a": "from course.errors import X",
        "upper/__init__": "",
        "upper/b": "def f():\n    from course.lower import a",
    }
    for name, text in files.items():
        file = tmp_path / "course" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert arrows(Package(tmp_path / "course")) == [
        ("lower", "ground floor"),
        ("upper", "lower"),
    ]


def test_a_page_without_its_marks_is_told():
    """Instead of losing the picture."""
    with pytest.raises(ValueError, match="needs one line"):
        drawn("no marks", "picture")
    assert drawn(f"a\n{BEGIN}old\n{END}\nb", "new\n") == f"a\n{BEGIN}new\n{END}\nb"


def test_the_command_finds_the_page_up_to_date():
    """As a contributor runs it."""
    command = [sys.executable, "tools/house_picture.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
