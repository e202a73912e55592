"""Make `.venv` ready: locked dependencies and this package, once for each change of either.

The Makefile runs this with a Python that can serve the course. A stamp in `.venv` says what was
installed; while it matches, nothing happens and no network is needed. The stamp is written last,
and a mark is left there first, so that an interrupted set-up is known and starts over.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = "requirements.lock"
STAMP = "course-stamp"
UNFINISHED = "unfinished"
# The environment's own JupyterLab does not ask whether it may fetch news and look for updates.
LAB_CONFIG = "etc/jupyter/labconfig/page_config.json"
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


def fingerprint(root: Path) -> str:
    """Return what an environment is good for: this lock, this package, this Python, this place."""
    python = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(python.encode())
    for name in (LOCK, "pyproject.toml"):
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    return f"{root}\n{python} {digest.hexdigest()}"


def reusable(venv: Path, stamp: Path, *, needs_pip: bool) -> bool:
    """Say whether the dependencies can be installed into `venv` as it stands.

    One without a stamp was made by hand, and is kept if it works; one that set-up left unfinished,
    or that was moved here with its checkout, is not.
    """
    if stamp.exists() and stamp.read_text().splitlines()[0] != str(venv.parent):
        return False
    probe = "import sys; print(*sys.version_info[:2], sys.prefix)" + "; import pip" * needs_pip
    try:
        answer = subprocess.run(
            [venv / "bin/python", "-c", probe], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    major, minor, prefix = answer.stdout.strip().split(maxsplit=2)
    return (int(major), int(minor)) == sys.version_info[:2] and Path(prefix) == venv


def create(venv: Path, *, with_pip: bool) -> None:
    """Create `venv` anew from the Python that runs this."""
    if with_pip and importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"{sys.executable} has no ensurepip, so it cannot make a virtual environment.\n"
            f"On Debian and Ubuntu:  apt install python{version}-venv\n"
            "Or name another Python:  PYTHON=/path/to/python make lab"
        )
    # This may be running on the very environment that it replaces: use the Python beneath.
    python = getattr(sys, "_base_executable", None) or sys.executable
    options = [] if with_pip else ["--without-pip"]
    shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir(exist_ok=True)
    (venv / STAMP).write_text(UNFINISHED)
    run([python, "-m", "venv", *options, venv])


def install(root: Path, venv: Path, uv: str | None) -> None:
    """Install the lock, hash by hash, then the package as it lies in the checkout."""
    python = venv / "bin/python"
    with_uv = [uv or "uv", "pip", "install", "--python", python]
    # Compiling all of it takes a quarter of the time; like with uv, first use compiles what it needs.
    with_pip = [python, "-m", "pip", "install", "--no-compile"]
    pip = with_uv if uv else with_pip
    run([*pip, "--require-hashes", "-r", LOCK], cwd=root)
    run([*pip, "--no-deps", "--no-build-isolation", "-e", "."], cwd=root)


def run(command: list[str | Path], *, cwd: Path | None = None) -> None:
    """Run one step, its output shown as it comes."""
    # A user-wide `user = true` in pip's settings makes every install into an environment fail.
    environment = os.environ | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        subprocess.run(command, cwd=cwd, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"Set-up stopped: {error}\n"
            "The lines above say why. The first set-up, and one after a change of the lock, "
            "need the network;\nonce that is mended, run the same command again: it starts over."
        ) from error


def prepare(root: Path) -> None:
    """Bring `.venv` up to date, or leave it alone when it is."""
    venv = root / ".venv"
    stamp = venv / STAMP
    wanted = fingerprint(root)
    if stamp.exists() and stamp.read_text() == wanted and (venv / "bin/python").exists():
        return
    uv = shutil.which("uv")
    tool = "uv" if uv else "pip (a minute or two)"
    print(f"Setting up .venv for Python {sys.version.split()[0]} with {tool}.", flush=True)
    if not reusable(venv, stamp, needs_pip=uv is None):
        create(venv, with_pip=uv is None)
    stamp.write_text(UNFINISHED)
    install(root, venv, uv)
    (venv / LAB_CONFIG).parent.mkdir(parents=True, exist_ok=True)
    (venv / LAB_CONFIG).write_text(json.dumps(NO_NEWS))
    stamp.write_text(wanted)
    print("Set-up is done; the next call starts at once.", flush=True)


def main() -> int:
    """Prepare the environment, one call at a time, and report what a person can mend."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            prepare(ROOT)
        except SetupError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nSet-up was interrupted; the next call starts it over.", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
