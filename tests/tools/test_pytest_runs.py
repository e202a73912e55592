"""Runs of pytest with this repository's settings: beside other people's plugins, and without ours."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_support import code, notebook, stream

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("conftest.py", "pyproject.toml", "tools/nbtools", "tests/notebooks/sanitize.cfg")
FILES = {
    "tests/one/test_same.py": "def test_passes(): ...\n",
    "tests/two/test_same.py": "from caching_support import answer\ndef test_helped(): answer()\n",
    "tests/caching/caching_support.py": "def answer(): ...\n",
    "tests/test_warns.py": "import warnings\ndef test_warns(): warnings.warn('in a test')\n",
    "tests/test_imports.py": "import warnings\nwarnings.warn('at import')\ndef test_a(): ...\n",
    "tests/test_hangs.py": "import time, pytest\n@pytest.mark.timeout(0.1)\n"
    "def test_hangs(): time.sleep(600)\n",
    "tests/test_late.py": "import pytest\n@pytest.mark.nightly\ndef test_late(): ...\n",
    # pytest-asyncio says so while it is set up, unless a setting of its own is made.
    "site/asks.py": "import warnings, pytest\ndef pytest_configure(config):\n    warnings.warn("
    "pytest.PytestDeprecationWarning('asyncio_default_fixture_loop_scope is unset'))\n",
    "elsewhere/my.cfg": "[x]\nregex: seven\nreplace: eight\n",
}
TWO_THAT_PASS = ["tests/one", "tests/two"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A folder with this repository's settings, some tests, and a plugin that warns."""
    folder = tmp_path_factory.mktemp("course")
    for name in SETTINGS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(folder, *arguments, plugins=("asks", "timeout"), **environment):
    """Run pytest in a folder with these plugins and no others; return what came of it."""
    named = [part for plugin in plugins for part in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *arguments]
    settings = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder / "site")}
    return subprocess.run(
        command, cwd=folder, env=os.environ | settings | environment, timeout=300,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(course):
    """What a run of all the tests said."""
    return run(course, "-v", "--continue-on-collection-errors").stdout


def counts(result):
    """The last line, such as "2 passed, 1 failed", without its time."""
    return result.stdout.splitlines()[-1].strip("= ").partition(" in ")[0]


def test_a_plugin_that_warns_ends_nothing(whole):
    """As pytest-asyncio does while it is set up: that is not ours to answer for."""
    assert "INTERNALERROR" not in whole
    assert "2 failed, 2 passed, 1 deselected, 1 error" in whole.splitlines()[-1]


def test_a_warning_is_an_error_in_a_test_and_where_it_is_imported(whole):
    """What our code warns of is seen."""
    assert "FAILED tests/test_warns.py::test_warns - UserWarning: in a test" in whole
    assert "ERROR tests/test_imports.py - UserWarning: at import" in whole


def test_warnings_can_be_allowed(course):
    """As for other versions of what we use."""
    result = run(course, "-W", "default", "tests/test_warns.py", "tests/test_imports.py")
    assert counts(result) == "2 passed, 2 warnings"


def test_two_test_files_may_have_one_name(whole):
    """And what they share is imported from any folder."""
    assert "tests/one/test_same.py::test_passes PASSED" in whole
    assert "tests/two/test_same.py::test_helped PASSED" in whole


def test_a_test_that_hangs_is_ended_and_named(whole):
    """Every test has a limit, also where none is asked for."""
    assert "timeout: 300.0s" in whole
    assert "FAILED tests/test_hangs.py::test_hangs - Failed: Timeout (>0.1s)" in whole


def test_what_takes_long_runs_where_it_is_asked_for(course):
    """`make nightly` asks."""
    result = run(course, "-m", "nightly", "tests/test_late.py", "tests/one")
    assert counts(result) == "1 passed, 1 deselected"


def test_it_starts_without_plugins_of_ours(course):
    """Who has pytest alone can run the tests that need no more."""
    for name in ("nbval", "xdist", "pytest_timeout"):
        (course / "missing" / name).mkdir(parents=True)
        (course / "missing" / name / "__init__.py").write_text("raise ImportError('not there')")
    result = run(course, *TWO_THAT_PASS, plugins=(), PYTHONPATH=str(course / "missing"))
    assert counts(result) == "2 passed", result.stdout + result.stderr


def test_sanitizers_of_ones_own_are_found_where_one_is(course):
    """And stand in place of this repository's."""
    other, took = code("print('seven')", stream("eight\n")), code("print('1 s')", stream("2 s\n"))
    nbformat.write(notebook(other, took), course / "elsewhere/a.ipynb")
    command = ["--nbval", "--nbval-sanitize-with=my.cfg", "a.ipynb"]
    paths = os.pathsep.join([str(course / "tools"), str(course / "site")])
    result = run(course / "elsewhere", *command, plugins=["nbval"], PYTHONPATH=paths)
    assert "FAILED a.ipynb::Cell 1" in result.stdout, result.stdout + result.stderr
    assert counts(result) == "1 failed, 1 passed"


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_tests_that_interrupt_pass_where_interrupts_are_ignored():
    """As with `nohup`, or in the background of a script."""
    files = ("async_batch/test_run_sync.py", "lab/test_simulation.py", "lab/test_interrupts.py")
    command = ["--timeout=60", "-k", "interrupt", *(f"tests/{file}" for file in files)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = run(ROOT, *command, plugins=["timeout"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.returncode == 0, result.stdout
    assert "passed" in result.stdout
