"""The bundle: what a target needs is worked out for the target, and what starts there says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bundle
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = bundle.read_lock((ROOT / "requirements.lock").read_text("utf-8"))
WINDOWS, LINUX = bundle.Target("windows-amd64", "3.13"), bundle.Target("linux-x86_64", "3.11")


def test_every_package_of_the_lock_is_read_with_its_hashes():
    """Also those that stand there twice, for different Pythons."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    entries = [each for several in LOCK.values() for each in several]
    assert len(entries) == sum(line[:1].isalnum() for line in text.splitlines())
    assert sum(each.lines.count("--hash=") for each in entries) == text.count("--hash=")
    assert all(";" not in each.bare and "--hash=" in each.bare for each in entries)


@pytest.mark.parametrize(
    ("line", "windows", "linux"),
    [
        ("colorama; sys_platform == 'win32'", True, False),
        ("pexpect; os_name != 'nt'", False, True),
        ("old; python_full_version < '3.11.5'", False, True),
        ("new; python_full_version >= '3.11.5'", True, True),
        ("numpy; python_version >= '3.12'", True, False),
        ("arm; platform_machine == 'aarch64'", False, False),
    ],
)
def test_markers_are_evaluated_for_the_target(line, windows, linux):
    """And not for the machine that makes the bundle."""
    requirement = Requirement(line)
    assert (WINDOWS.wants(requirement), LINUX.wants(requirement)) == (windows, linux)


def test_what_is_needed_is_followed_through_extras_and_circles():
    """A package is there once; an extra that nobody asked for brings nothing."""
    needs = {
        "course-lib": ["a[x]", "never; extra == 'other'"],
        "a": ["b; extra == 'x'", "c; extra == 'y'"],
        "b": ["a", "d; sys_platform == 'win32'"],
    }
    found = {
        target: bundle.needed(target, lambda name: needs.get(name, []), ["course-lib"])
        for target in (WINDOWS, LINUX)
    }
    assert found == {WINDOWS: {"a", "b", "d"}, LINUX: {"a", "b"}}


@pytest.mark.parametrize("target", [WINDOWS, LINUX], ids=lambda target: target.name)
def test_the_lock_has_what_the_course_needs(target):
    """As far as it is installed here; what only other systems have is read from its wheel."""
    names = bundle.needed(target, bundle.installed)
    assert {"jupyterlab", "nbval", "langchain-core", "hatchling"} <= names
    assert [name for name in names if name not in LOCK] == []
    assert not {"hypothesis", "mypy", "sphinx"} & names


def test_a_folder_that_is_in_use_is_refused(tmp_path, capsys):
    """Nothing in it is touched."""
    (tmp_path / "mine").touch()
    assert bundle.main(["--folder", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_a_machine_without_wheels_is_told_which_there_are(tmp_path):
    """Before anything is set up."""
    shutil.copy(ROOT / "tools/bundle_start.py", tmp_path / "start.py")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/amiga-3.11.txt").touch()
    command = [sys.executable, tmp_path / "start.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "there are: amiga-3.11" in result.stderr


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_it_starts_where_there_is_no_network(tmp_path):
    """Unpacked, set up, looked at by the doctor, and notebook 1 green: loopback alone is there."""
    folder = tmp_path / "bundle"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = f"linux-{os.uname().machine}"
    assert bundle.main(["--folder", str(folder), "--platforms", machine, "--pythons", python]) == 0
    assert len((folder / "README.txt").read_text("utf-8").strip().splitlines()) <= 12
    steps = (
        "ip link set lo up && sh start.sh --check && cd course && "
        "../.venv/bin/python -m pytest -q --nbval notebooks/01_async_batch.ipynb"
    )
    result = subprocess.run(
        ["unshare", "-rn", "sh", "-c", steps],
        cwd=folder, env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "This machine is ready." in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0, result.stdout
