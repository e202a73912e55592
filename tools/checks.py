"""Run the checks of the project, one part after another, and sum up at the end.

    python tools/checks.py check              lint, format, types, unit tests: executes no notebook
    python tools/checks.py check --part rag   the same with the tests of tests/rag alone
    python tools/checks.py test               and all notebooks, strictly, and a real browser
    python tools/checks.py nightly            what takes long: many examples of every property

A part that fails stops nothing: one run shows all that is wrong. What the machine lacks is skipped
with a line that says so; when CI=true, where everything must run, that is a failure. What measures
nothing (lint, types) runs beside the unit tests, and is shown after them.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORKERS = min(4, os.cpu_count() or 1)
# Whole files to a worker, so that what a module sets up is set up once, and a notebook's cells stay
# together.
BY_FILE = ("-n", str(WORKERS), "--dist", "loadfile")
SOLUTIONS = "notebooks/solutions"
# A unit test may well wait for a process that starts, and leave its core to another.
MORE = ("-n", str(WORKERS + 1))
# Where tests execute cells.
KERNELS = ("tests/notebooks", "tests/room", "tests/lab/test_hygiene.py")
# A night is too short for all that `make soak` runs.
LONG = {
    "contracts": ("tools/contracts.py",),
    "soak": ("tools/soak.py", "--runs=2", "--fuzzed"),
    "mutants": ("tools/mutants.py",),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One check: a Python module or script with its arguments.

    Attributes:
        name: What the summary calls it.
        arguments: What follows `python` on the command line.
        lacking: What this machine lacks to run it, "" if nothing.
        beside: Whether it may run beside the others, which measure times that it changes little.
        budget: Seconds that it should take on two quiet cores; the summary says when it took more.
    """

    name: str
    arguments: tuple[str, ...]
    lacking: str = ""
    beside: bool = False
    budget: float = math.inf


def pytest(name: str, *arguments: str, lacking: str = "", budget: float = math.inf) -> Part:
    """Return a part that runs pytest, its files shared out to several processes."""
    return Part(name, ("-m", "pytest", *BY_FILE, *arguments), lacking, budget=budget)


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
        Part("lint", ("-m", "ruff", "check", "."), beside=True, budget=5),
        Part("format", ("-m", "ruff", "format", "--check", "."), beside=True, budget=5),
        Part("types", ("-m", "mypy"), beside=True, budget=90),
        pytest("unit tests", *MORE, "-m", "not kernel", *tests, budget=40 if part else 180),
    ]


def in_browser(name: str, *arguments: str, budget: float = math.inf) -> Part:
    """Return a part of the tests that need a real browser, a test at a time to a process."""
    browser = any(map(shutil.which, BROWSERS))
    lacking = "" if browser else "no Chromium here (Debian's package: chromium)"
    chosen = ("--dist=worksteal", *arguments, "tests/e2e")
    return pytest(name, *chosen, lacking=lacking, budget=budget)


def test(root: Path) -> list[Part]:
    """Return all that must hold before a change is kept."""
    return [
        *check(root),
        Part("notebook sources", ("tools/build_notebooks.py", "--check"), beside=True, budget=15),
        pytest("kernels", "-m", "kernel and not nightly", *KERNELS, budget=60),
        pytest("notebooks", "--nbval", f"--cells-twice={SOLUTIONS}", "notebooks", budget=270),
        in_browser("browser tests", budget=150),
    ]


def nightly() -> list[Part]:
    """Return what is slow and need not run at every change."""
    longest = ("--hypothesis-profile=nightly", "--timeout=3600", "-m", "hypothesis or nightly")
    return [
        pytest("long tests", *longest, "tests", "--ignore=tests/e2e"),
        in_browser("long browser", "-m", "nightly"),
        *(Part(name, arguments) for name, arguments in LONG.items()),
    ]


def run(part: Part, *, in_ci: bool) -> tuple[str, str]:
    """Run one part; return its status ("passed", "failed", "skipped") and a remark."""
    if part.lacking:
        return ("failed" if in_ci else "skipped"), part.lacking
    start = time.monotonic()
    with tempfile.TemporaryFile() as kept:
        command = [sys.executable, *part.arguments]
        output = kept if part.beside else None
        title = f"\n== {part.name}: python {' '.join(part.arguments)}"
        if not part.beside:
            print(title, flush=True)
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=output
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if part.beside:
            kept.seek(0)
            print(f"{title}\n{kept.read().decode(errors='replace')}", end="", flush=True)
    seconds = time.monotonic() - start
    remark = f"{seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of CPU)"
    if seconds > part.budget:
        remark += f": its budget is {part.budget:g} s on two quiet cores"
    return ("failed" if process.returncode else "passed"), remark


def run_all(parts: list[Part], *, in_ci: bool) -> list[tuple[str, str]]:
    """Run the parts, those that may be beside the others in one thread; return what `run` did."""
    with ThreadPoolExecutor(1) as pool:
        beside = {part: pool.submit(run, part, in_ci=in_ci) for part in parts if part.beside}
        alone = {part: run(part, in_ci=in_ci) for part in parts if not part.beside}
        return [alone[part] if part in alone else beside[part].result() for part in parts]


def environment() -> dict[str, str]:
    """Return the environment for a part, in which compiled modules are kept.

    The tests start hundreds of processes. Where no bytecode may be written beside the sources, each
    would compile all that it imports, which doubles its time: then it is kept inside `.venv`.
    """
    found = dict(os.environ)
    if found.pop("PYTHONDONTWRITEBYTECODE", ""):
        found.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".venv/bytecode"))
    return found


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
    return test(ROOT) if asked.what == "test" else nightly()


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and print the summary; 0 if none failed."""
    parts = chosen(sys.argv[1:] if arguments is None else arguments)
    in_ci = os.environ.get("CI") == "true"
    try:
        results = run_all(parts, in_ci=in_ci)
    except KeyboardInterrupt:
        return 130
    print("\n== summary")
    for part, (status, remark) in zip(parts, results, strict=True):
        print(f"{status:<8} {part.name:<17} {remark}")
    statuses = [status for status, _ in results]
    counts = {status: statuses.count(status) for status in ("passed", "failed", "skipped")}
    print("parts: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return min(counts["failed"], 1)


if __name__ == "__main__":
    sys.exit(main())
