"""Run the checks of the project, one part after another, and sum up at the end.

    python tools/checks.py check              lint, format, types, unit tests: executes no notebook
    python tools/checks.py check --part rag   the same with the tests of tests/rag alone
    python tools/checks.py test               and all notebooks, strictly, and a real browser
    python tools/checks.py nightly            what takes long: many examples of every property

A part that fails stops nothing: one run shows all that is wrong. What the machine lacks is skipped
with a line that says so; when CI=true, where everything must run, that is a failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORKERS = min(4, os.cpu_count() or 1)
# Whole files to a worker, so that what a module sets up is set up once, and a notebook's cells stay
# together.
BY_FILE = ("-n", str(WORKERS), "--dist", "loadfile")
SOLUTIONS = "notebooks/solutions"
# What later parts of the project fill; what is not there is not run.
SLOTS = {"contracts": "tests/contracts", "soak": "tools/soak.py", "mutants": "tools/mutants.py"}


@dataclass(frozen=True, slots=True)
class Part:
    """One check: a Python module or script with its arguments.

    Attributes:
        name: What the summary calls it.
        arguments: What follows `python` on the command line.
        lacking: What this machine lacks to run it, "" if nothing.
    """

    name: str
    arguments: tuple[str, ...]
    lacking: str = ""


def pytest(name: str, *arguments: str, lacking: str = "") -> Part:
    """Return a part that runs pytest, its files shared out to several processes."""
    return Part(name, ("-m", "pytest", *BY_FILE, *arguments), lacking)


def folders(root: Path) -> list[str]:
    """Return the names that `--part` takes: the folders of tests that need no browser."""
    found = {
        path.relative_to(root / "tests").parts[0] for path in root.glob("tests/*/**/test_*.py")
    }
    return sorted(found - {"e2e"})


def check(root: Path, part: str | None = None) -> list[Part]:
    """Return what takes minutes, or seconds for one folder of tests."""
    tests = ["tests", "--ignore=tests/e2e"]
    if part:
        # Those at the root are about the package as a whole, so about each of its parts.
        whole = root.glob("tests/test_*.py") if (root / "course_lib" / part).is_dir() else ()
        tests = [f"tests/{part}", *sorted(f"tests/{path.name}" for path in whole)]
    return [
        Part("lint", ("-m", "ruff", "check", ".")),
        Part("format", ("-m", "ruff", "format", "--check", ".")),
        Part("types", ("-m", "mypy")),
        pytest("unit tests", *tests),
    ]


def test(root: Path) -> list[Part]:
    """Return all that must hold before a change is kept."""
    browser = any(map(shutil.which, BROWSERS))
    lacking = "" if browser else "no Chromium here (Debian's package: chromium)"
    return [
        *check(root),
        Part("notebook sources", ("tools/build_notebooks.py", "--check")),
        pytest("notebooks", "--nbval", f"--cells-twice={SOLUTIONS}", "notebooks"),
        pytest("browser tests", "--dist=load", "tests/e2e", lacking=lacking),
    ]


def nightly(root: Path) -> list[Part]:
    """Return what is slow and need not run at every change, as far as it is there."""
    longest = ("--hypothesis-profile=nightly", "--timeout=3600", "-m", "hypothesis or nightly")
    parts = [pytest("long tests", *longest, "tests", "--ignore=tests/e2e")]
    for name, path in SLOTS.items():
        if (root / path).is_dir():
            parts.append(pytest(name, path))
        elif (root / path).exists():
            parts.append(Part(name, (path,)))
    return parts


def run(part: Part, *, in_ci: bool) -> tuple[str, str]:
    """Run one part; return its status ("passed", "failed", "skipped") and a remark."""
    if part.lacking:
        return ("failed" if in_ci else "skipped"), part.lacking
    print(f"\n== {part.name}: python {' '.join(part.arguments)}", flush=True)
    start, busy = time.monotonic(), cpu_of_children()
    command = [sys.executable, *part.arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    took, busy = time.monotonic() - start, cpu_of_children() - busy
    return ("failed" if code else "passed"), f"{took:.1f} s ({busy:.1f} s of CPU)"


def environment() -> dict[str, str]:
    """Return the environment for a part, in which compiled modules are kept.

    The tests start hundreds of processes. Where no bytecode may be written beside the sources, each
    would compile all that it imports, which doubles its time: then it is kept inside `.venv`.
    """
    found = dict(os.environ)
    if found.pop("PYTHONDONTWRITEBYTECODE", ""):
        found.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".venv/bytecode"))
    return found


def cpu_of_children() -> float:
    """Return the seconds of CPU that child processes have used: what a busy machine leaves alone."""
    times = os.times()
    return times.children_user + times.children_system


def chosen(arguments: list[str]) -> list[Part]:
    """Return the parts that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("check", "test", "nightly"))
    parser.add_argument("--part", choices=folders(ROOT), help="a folder below tests")
    asked = parser.parse_args(arguments)
    if asked.part and asked.what != "check":
        parser.error("--part goes with check")
    if asked.what == "check":
        return check(ROOT, asked.part)
    return test(ROOT) if asked.what == "test" else nightly(ROOT)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and print the summary; 0 if none failed."""
    parts = chosen(sys.argv[1:] if arguments is None else arguments)
    in_ci = os.environ.get("CI") == "true"
    try:
        results = [(part.name, *run(part, in_ci=in_ci)) for part in parts]
    except KeyboardInterrupt:
        return 130
    print("\n== summary")
    for name, status, remark in results:
        print(f"{status:<8} {name:<17} {remark}")
    statuses = [status for _, status, _ in results]
    counts = {status: statuses.count(status) for status in ("passed", "failed", "skipped")}
    print("parts: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return min(counts["failed"], 1)


if __name__ == "__main__":
    sys.exit(main())
