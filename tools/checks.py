"""Run every check of the project, one after another, and sum up at the end.

A part that fails stops nothing: one run shows all that is wrong. With `--quick`: lint, types and
unit tests only. What the machine lacks is skipped with a line that says so; when CI=true, where
everything must run, that is a failure.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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


def quick() -> list[Part]:
    """Return the parts that take seconds."""
    return [
        Part("lint", ("-m", "ruff", "check", ".")),
        Part("format", ("-m", "ruff", "format", "--check", ".")),
        Part("types", ("-m", "mypy")),
        Part("unit tests", ("-m", "pytest", "tests", "--ignore=tests/e2e")),
    ]


def thorough(root: Path) -> list[Part]:
    """Return what runs notebooks, for those that `root` holds."""
    parts = []
    if list(root.glob("notebooks/sources/*.py")):
        parts.append(Part("notebook sources", ("tools/build_notebooks.py", "--check")))
    if list(root.glob("notebooks/*.ipynb")):
        parts.append(Part("notebooks", ("-m", "pytest", "--nbval", "notebooks")))
    if list(root.glob("tests/e2e/test_*.py")):
        browser = any(map(shutil.which, BROWSERS))
        lacking = "" if browser else "no Chromium here (Debian's package: chromium)"
        parts.append(Part("browser tests", ("-m", "pytest", "tests/e2e"), lacking))
    return parts


def run(part: Part, *, in_ci: bool) -> tuple[str, str]:
    """Run one part; return its status ("passed", "failed", "skipped") and a remark."""
    if part.lacking:
        return ("failed" if in_ci else "skipped"), part.lacking
    print(f"\n== {part.name}: python {' '.join(part.arguments)}", flush=True)
    start = time.monotonic()
    code = subprocess.run([sys.executable, *part.arguments], cwd=ROOT, check=False).returncode
    return ("failed" if code else "passed"), f"{time.monotonic() - start:.1f} s"


def main() -> int:
    """Run the parts and print the summary; 0 if none failed."""
    parts = quick() if "--quick" in sys.argv[1:] else quick() + thorough(ROOT)
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
