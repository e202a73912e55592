"""Start the course out of this folder, without a network: `start.sh` and `start.bat` run this.

    python start.py             set up if need be, and open JupyterLab with notebook 1
    python start.py --check     set up if need be, and say whether all is well
    python start.py 4           another notebook; more arguments go to `python -m course_lib lab`

It needs nothing but Python. What was set up is not set up again.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV, COURSE, WHEELS = HERE / ".venv", HERE / "course", HERE / "wheels"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "set-up"
SYSTEMS = {"Darwin": "macos"}


def target() -> str:
    """Return what the requirements for this machine are called."""
    system = platform.system()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{SYSTEMS.get(system, system.lower())}-{platform.machine().lower()}-{version}"


def set_up() -> None:
    """Make the environment; one that was not finished begins anew."""
    requirements = HERE / "requirements" / f"{target()}.txt"
    if not requirements.exists():
        there = sorted(path.stem for path in requirements.parent.glob("*.txt"))
        sys.exit(f"There are no wheels for {target()} here; there are: {', '.join(there)}")
    wanted = f"{target()}\n{HERE}\n"
    if STAMP.exists() and STAMP.read_text("utf-8") == wanted:
        return
    print("Setting up; this takes a minute or two, once.", flush=True)
    run([sys.executable, "-m", "venv", "--clear", VENV])
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", f"--find-links={WHEELS}"]
    run([*pip, "--require-hashes", "--no-compile", "-r", requirements])
    run([*pip, "--no-deps", "--no-build-isolation", "-e", COURSE])
    STAMP.write_text(wanted, "utf-8")


def run(command: list) -> None:
    """Run a step of the set-up, or end with what to do."""
    # Settings of somebody's own pip (another index, `user = true`) would get in the way.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if subprocess.run(command, check=False, env=environment).returncode:
        sys.exit(
            "The set-up stopped; the lines above say why.\n"
            "No module named ensurepip or venv: on Debian and Ubuntu, apt install python3-venv.\n"
            "No space: the course needs about 1.5 GB. Then start again: it begins anew."
        )


def main() -> int:
    """Set up, and start JupyterLab or the doctor."""
    set_up()
    arguments = ["doctor"] if sys.argv[1:] == ["--check"] else ["lab", *(sys.argv[1:] or ["1"])]
    try:
        return subprocess.run(
            [PYTHON, "-m", "course_lib", *arguments], cwd=COURSE, check=False
        ).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
