"""`python -m course_lib lab` opens the course; `doctor` says whether this machine is ready for it."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from course_lib import working_copy

ROOT = Path(__file__).resolve().parents[1]
FIRST = "01_async_batch"
# Nothing leaves the machine: no news, no look for updates, no list of extensions.
LAB_FLAGS = (
    "--ServerApp.ip=127.0.0.1",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command named on the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m course_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="say whether this machine is ready")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    lab = commands.add_parser(
        "lab", help="open your own copy of a notebook in JupyterLab; other flags go to JupyterLab"
    )
    lab.add_argument("notebook", nargs="?", default=FIRST, help=f"such as {FIRST} (the default)")
    commands.add_parser("reset", help="begin anew: put my/ aside and copy the notebooks again")
    commands.add_parser("room", help="for a workshop: a board for the room", add_help=False)
    options, flags = parser.parse_known_args(arguments)
    if options.command == "lab":
        return _or_complain(lambda: _open_lab(options.notebook, flags))
    if options.command == "room":
        return _or_complain(lambda: _run_room(flags))
    if flags:
        parser.error(f"unrecognized arguments: {' '.join(flags)}")
    if options.command == "reset":
        return _or_complain(_reset)

    from course_lib import doctor as examination  # noqa: PLC0415 - `--help` needs none of it

    return examination.main(as_json=options.json)


def _open_lab(notebook: str, flags: list[str]) -> int:
    """Start JupyterLab on a learner's copy, and wait for its end."""
    for offer in working_copy.update(ROOT):
        sys.stdout.write(f"{offer}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "jupyterlab", *LAB_FLAGS, f"--ServerApp.root_dir={ROOT}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    copy = working_copy.find(ROOT, notebook)
    try:
        return subprocess.run([*command, *flags, copy], check=False).returncode  # noqa: S603
    except KeyboardInterrupt:  # JupyterLab has had it, too, and has said goodbye
        return 0


def _run_room(flags: list[str]) -> int:
    from course_lib.room import main as run  # noqa: PLC0415 - nothing of it loads unless asked for

    return run(flags)


def _reset() -> int:
    aside = working_copy.reset(ROOT)
    kept = "" if aside is None else f"; the old ones, and their progress, are in {aside.name}/"
    sys.stdout.write(f"New copies are in {working_copy.FOLDER}/{kept}.\n")
    return 0


def _or_complain(command: Callable[[], int]) -> int:
    try:
        return command()
    except (OSError, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
