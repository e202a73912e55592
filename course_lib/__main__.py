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
    doctor.add_argument("--report", action="store_true", help="print one line to send back")
    doctor.add_argument("--collect", type=Path, metavar="FILE", help="sum up such lines")
    reset = commands.add_parser(
        "reset", help="begin anew: put my/ aside and copy the notebooks again"
    )
    reset.add_argument("--zip", action="store_true", help="put it aside as one archive")
    commands.add_parser("grade", help="check submitted notebooks", add_help=False)
    commands.add_parser("room", help="for a workshop: a board for the room", add_help=False)
    options, flags = parser.parse_known_args(arguments)
    if options.command == "lab":
        return _or_complain(lambda: _open_lab(options.notebook, flags))
    if options.command == "room":
        return _or_complain(lambda: _run_room(flags))
    if options.command == "grade":
        return _or_complain(lambda: _grade(flags))
    if flags:
        parser.error(f"unrecognized arguments: {' '.join(flags)}")
    if options.command == "reset":
        return _or_complain(lambda: _reset(as_zip=options.zip))
    if options.command == "doctor" and (options.report or options.collect):
        return _or_complain(lambda: _report(options.collect))

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


def _grade(flags: list[str]) -> int:
    from course_lib.room import grade  # noqa: PLC0415 - likewise

    return grade.main(flags)


def _report(collected: Path | None) -> int:
    from course_lib.room import readiness  # noqa: PLC0415 - likewise

    said = (
        readiness.line() if collected is None else readiness.summary(collected.read_text("utf-8"))
    )
    sys.stdout.write(f"{said}\n")
    return 0


def _reset(*, as_zip: bool) -> int:
    aside = working_copy.reset(ROOT, as_zip=as_zip)
    kept = "" if aside is None else f"; the old ones, and their progress, are in {aside.name}"
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
