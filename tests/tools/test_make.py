"""`make` sets up once, and repairs what was left half-done.

Python and the installer are stand-ins here: nothing is downloaded.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAKE_UV = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in *"{failing}"*) exit 1;; esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with a space in its name that holds what set-up reads."""
    folder = tmp_path / "a checkout"
    (folder / "tools").mkdir(parents=True)
    for name in ("Makefile", "tools/setup.py", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def programs(folder: Path, **scripts: str) -> Path:
    """Make a folder of executable scripts, with what recipes need beside them."""
    folder.mkdir(exist_ok=True)
    for name in ("make", "sh", "id"):
        if not (folder / name).exists():
            (folder / name).symlink_to(str(shutil.which(name)))
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def make_setup(checkout: Path, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `make setup` with nothing on PATH but `path`."""
    settings = {"PATH": str(path), "HOME": str(checkout.parent), **environment}
    return subprocess.run(
        ["make", "setup"], cwd=checkout, env=settings, capture_output=True, text=True, check=False
    )


def with_uv(checkout: Path, *, failing: str = "nothing fails") -> tuple[Path, Path]:
    """Put this Python and a stand-in for uv on a PATH; return that PATH and the stand-in's log."""
    log = checkout.parent / "uv.log"
    uv = FAKE_UV.format(log=log, failing=failing)
    python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    return programs(checkout.parent / "bin", uv=uv, python3=python), log


def test_setup_installs_the_lock_by_hash_then_the_package(checkout):
    """The two steps, in order: a hash for everything, then the checkout with no dependencies."""
    path, log = with_uv(checkout)
    result = make_setup(checkout, path)
    assert result.returncode == 0, result.stderr
    first, second = log.read_text().splitlines()
    assert "--require-hashes -r requirements.lock" in first
    assert second.endswith("--no-deps --no-build-isolation -e .")
    assert (checkout / ".venv/bin/python").exists()


def test_setup_turns_off_the_question_about_news(checkout):
    """JupyterLab neither asks about news nor looks for any: nothing leaves the machine."""
    path, _ = with_uv(checkout)
    make_setup(checkout, path)
    config = json.loads((checkout / ".venv/etc/jupyter/labconfig/page_config.json").read_text())
    assert config["disabledExtensions"]["@jupyterlab/apputils-extension:announcements"] is True


def test_second_setup_runs_nothing(checkout):
    """While the stamp is fresh, no installer is started."""
    path, log = with_uv(checkout)
    make_setup(checkout, path)
    before = log.read_text()
    result = make_setup(checkout, path)
    assert (result.returncode, result.stdout, log.read_text()) == (0, "", before)


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_setup_follows_a_change(checkout, changed):
    """A change of the lock or of the package's metadata installs again."""
    path, log = with_uv(checkout)
    make_setup(checkout, path)
    with (checkout / changed).open("a") as file:
        file.write("\n# changed\n")
    make_setup(checkout, path)
    assert len(log.read_text().splitlines()) == 4


def test_setup_follows_a_move(checkout):
    """An environment knows where its checkout lay: after a move it is made anew."""
    path, log = with_uv(checkout)
    make_setup(checkout, path)
    moved = checkout.rename(checkout.with_name("moved checkout"))
    left_over = moved / ".venv/left-over"
    left_over.touch()
    assert make_setup(moved, path).returncode == 0
    assert len(log.read_text().splitlines()) == 4
    assert not left_over.exists()


@pytest.mark.parametrize("failing", ["--require-hashes", "-e ."])
def test_failed_setup_starts_over(checkout, failing):
    """A set-up that stopped half-way says so, and the next call does not trust what it left."""
    path, log = with_uv(checkout, failing=failing)
    result = make_setup(checkout, path)
    assert result.returncode != 0
    assert "run the same command again" in result.stderr
    left_over = checkout / ".venv/left-over"
    left_over.touch()
    path, log = with_uv(checkout)
    log.unlink()
    assert make_setup(checkout, path).returncode == 0
    assert len(log.read_text().splitlines()) == 2
    assert not left_over.exists()


def test_setup_repairs_a_broken_environment(checkout):
    """A `.venv` whose Python does not run is replaced."""
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").write_text("not a program")
    path, _ = with_uv(checkout)
    assert make_setup(checkout, path).returncode == 0
    command = [checkout / ".venv/bin/python", "-c", "print('runs')"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "runs\n"


def test_setup_keeps_an_environment_made_by_hand(checkout):
    """A working `.venv` of the same Python is installed into, not thrown away."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    mine = checkout / ".venv/mine"
    mine.touch()
    path, _ = with_uv(checkout)
    assert make_setup(checkout, path).returncode == 0
    assert mine.exists()


def test_setup_passes_over_pythons_that_fail(checkout):
    """A version manager's shim that only prints an error is not taken for a Python."""
    path, _ = with_uv(checkout)
    programs(path, **{"python3.13": "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"})
    assert make_setup(checkout, path).returncode == 0


def test_setup_says_what_to_do_without_python(checkout):
    """Too old, broken, or absent: the message names what was tried and what to do."""
    path = programs(checkout.parent / "bin", python3="#!/bin/sh\nexit 1\n")
    result = make_setup(checkout, path)
    assert result.returncode != 0
    assert "No Python 3.11 or newer works here" in result.stderr
    assert "python3.13 python3.12 python3.11 python3" in result.stderr
    assert "PYTHON=/path/to/python make lab" in result.stderr


def test_setup_uses_the_python_it_is_told(checkout):
    """PYTHON= is used, also with a space in its path, and no other is tried in its place."""
    path, _ = with_uv(checkout)
    mine = programs(checkout.parent / "my bin", python=(path / "python3").read_text()) / "python"
    (path / "python3").unlink()
    assert make_setup(checkout, path, PYTHON=str(mine)).returncode == 0
    result = make_setup(checkout, path, PYTHON="no-such-python")
    assert result.returncode != 0
    assert "tried: no-such-python" in result.stderr


def test_setup_without_ensurepip_names_the_package(monkeypatch, tmp_path):
    """Debian's Python comes without ensurepip: the message says which package brings it."""
    spec = importlib.util.spec_from_file_location("course_setup", ROOT / "tools/setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    version = ".".join(map(str, sys.version_info[:2]))
    with pytest.raises(setup.SetupError, match=rf"apt install python{version}-venv"):
        setup.create(tmp_path / ".venv", with_pip=True)
