"""Run what shows its faults only after a long time, and say how much was run and what was found.

    python tools/soak.py                   everything: hours
    python tools/soak.py --runs 2          all notebooks twice, once of it with every core busy
    python tools/soak.py --notebooks notebooks/01_async_batch.ipynb --runs 4 --operations 1000
    python tools/soak.py --report          and write docs/reliability.md

Four parts: storms in virtual time, faults of a real provider, the notebooks strictly compared with
their stored outputs again and again, and inputs that hypothesis makes up. A part given 0 is left
out. What is found is printed as soon as it is, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from checks import environment
from storms import BAD, COLUMNS, FAULTS, STORMS, storm, survive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs/reliability.md"
# Whatever a stranger may send: to the provider, to the clients, to what reads files and errors.
FUZZED = (
    "tests/service/test_fuzz.py",
    "tests/test_two_parsers.py",
    "tests/test_errors.py",
    "tests/test_secrets.py",
    "tests/async_batch/test_wire.py",
    "tests/caching/test_codec.py",
    "tests/caching/test_sqlite_store.py",
    "tests/rag/test_vector_file.py",
)
BURN = "import sys, threading\nthreading.Thread(target=lambda: (sys.stdin.read(), __import__('os')._exit(0))).start()\nwhile True: pass"
EXAMPLES = re.compile(r"(\d+) passing.*?, (\d+) failing.*?, (?:and )?(\d+) invalid")

PROMISES = """## What is not promised

- **A machine that is switched off.** A cache's second tier is on disk, but what had not been written is lost, and so is every call in flight.
- **Exactly once.** A call that broke off may have been answered: whoever tries again may have it done twice. Calls that must not be are not to be tried again (`attempts=1`).
- **Fairness between processes.** A gate serves in turn within its process. Processes that share a limit in Redis come in the order in which Redis sees them.
- **A server that lies.** An answer in the right form is taken for true.
- **Upper limits on time.** The course asserts ratios and lower bounds; how long a thing takes is the machine's affair.
- **A cell that is flaky once in a thousand runs** is most likely not seen in as many runs as stand above.
"""


@dataclass
class Runs:
    """Notebooks run again and again.

    Attributes:
        quiet: How often with nothing beside.
        busy: How often with every core kept busy.
        cells: Cells that were run, over all runs.
        failures: How often each cell failed, by its name and by whether the cores were busy.
        broken: Runs that ended without a result, and what they said.
    """

    quiet: int = 0
    busy: int = 0
    cells: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def read(self, report: Path, state: str) -> None:
        """Add what one run reported, which had its cores "quiet" or "busy"."""
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
            self.cells += 1
            if case.find("failure") is not None or case.find("error") is not None:
                self.failures[f"{case.get('classname')} {case.get('name')}", state] += 1


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    """Keep each core busy for the length of a `with` block; what does it ends when we do."""
    cores = os.cpu_count() or 1
    burning = [
        subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE) for _ in range(cores)
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.communicate()


def notebooks(paths: Sequence[str], runs: int) -> Runs:
    """Compare notebooks with their stored outputs `runs` times, half of them with cores busy."""
    found = Runs()
    for number in range(runs):
        busy = number % 2 == 1
        beside = all_cores_busy() if busy else contextlib.nullcontext()
        with tempfile.TemporaryDirectory() as folder, beside:
            report = Path(folder) / "report.xml"
            said = _pytest("--nbval", f"--junit-xml={report}", *paths)
            if report.exists():
                found.read(report, "busy" if busy else "quiet")
            else:
                found.broken.append(said[-500:])
        found.quiet, found.busy = found.quiet + (not busy), found.busy + busy
        print(
            f"notebooks, run {number + 1} of {runs}: {sum(found.failures.values())} failures so far",
            flush=True,
        )
    return found


def fuzzed(paths: Sequence[str], profile: str) -> list[list[str]]:
    """Return a row for each file: its properties, examples that passed, failed, were no input."""
    rows = []
    for path in paths:
        said = _pytest(
            "-m",
            "hypothesis",
            "--hypothesis-show-statistics",
            f"--hypothesis-profile={profile}",
            path,
        )
        counts = [tuple(map(int, found)) for found in EXAMPLES.findall(said)]
        sums = [sum(column) for column in zip(*counts, strict=True)] or [0, 0, 0]
        broken = re.findall(r"^(?:FAILED|ERROR) \S+", said, re.MULTILINE)
        sums[1] = max(sums[1], len(broken), 0 if counts else 1)
        rows.append([path, str(len(counts)), *map(str, sums)])
        print(f"fuzzed: {' '.join(rows[-1])}", flush=True)
    return rows


def _pytest(*arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *arguments,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def storms(operations: int) -> list[list[str]]:
    """Return a row for each technique: operations, and what became of them."""
    rows = []
    for name, one in STORMS.items():
        ends = storm(one, operations)
        rows.append([name, str(operations), *(str(ends[each]) for each in COLUMNS)])
        print(f"storm: {' '.join(rows[-1])}", flush=True)
    return rows


def faults(calls: int) -> list[list[str]]:
    """Return a row for each fault: calls, and what their callers were told."""
    rows = []
    for fault in FAULTS:
        ends = asyncio.run(survive(fault, calls))
        rows.append(
            [fault.name, str(calls), *(str(ends[each]) for each in ("right", "told", "wrong"))]
        )
        print(f"fault: {' '.join(rows[-1])}", flush=True)
    return rows


@dataclass(frozen=True)
class Soak:
    """What was run, and what was found; a part that was not run is empty."""

    storms: list[list[str]]
    faults: list[list[str]]
    runs: Runs
    fuzzed: list[list[str]]
    seconds: float

    def troubles(self) -> list[str]:
        """Return what is wrong, a line each."""
        bad = COLUMNS.index(BAD[0]) + 2
        found = [f"storm: {row}" for row in self.storms if any(map(int, row[bad:]))]
        found += [f"fault: {row}" for row in self.faults if int(row[-1])]
        found += [
            f"cell: {cell} failed {n} times ({state})"
            for (cell, state), n in self.runs.failures.items()
        ]
        found += [f"notebooks: {said}" for said in self.runs.broken]
        return found + [f"fuzzed: {row}" for row in self.fuzzed if int(row[3])]

    def page(self) -> str:
        """Return the report, in Markdown."""
        today = dt.datetime.now(dt.UTC).date()
        where = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        found = [
            "# Reliability\n",
            "What was run again and again to find what goes wrong once in a while. `make soak REPORT=1` wrote this page; its numbers are those of that one run.\n",
            f"{today:%d %B %Y}, {where}; {self.seconds / 60:.0f} minutes.\n",
        ]
        if self.storms:
            found += [
                "## Storms\n",
                STORM_TEXT,
                table(["technique", "operations", *COLUMNS], self.storms),
            ]
        if self.faults:
            found += [
                "## Faults survived\n",
                FAULT_TEXT,
                table(
                    [
                        "fault",
                        "calls",
                        "answered rightly",
                        "told by an error of the tree",
                        "anything else",
                    ],
                    self.faults,
                ),
            ]
        if self.runs.quiet or self.runs.busy:
            found += ["## Notebooks\n", self._notebooks()]
        if self.fuzzed:
            found += [
                "## Inputs made up\n",
                FUZZ_TEXT,
                table(["tests", "properties", "passed", "failed", "no input"], self.fuzzed),
            ]
        return "\n".join([*found, PROMISES])

    def _notebooks(self) -> str:
        runs = self.runs
        said = (
            f"All of them compared strictly with their stored outputs, **{runs.quiet + runs.busy} times**, "
            f"{runs.busy} of these with every core kept busy by another program: {runs.cells} cells in all.\n"
        )
        if runs.broken:
            said += f"\n{len(runs.broken)} runs ended without a result.\n"
        if not runs.failures:
            return said + ("" if runs.broken else "\nNo cell failed.\n")
        rows = [[cell, state, str(n)] for (cell, state), n in sorted(runs.failures.items())]
        return said + "\n" + table(["cell that failed", "cores", "times"], rows)


STORM_TEXT = """Callers come at random moments, a fifth of them gives up at a random moment, a tenth is to fail, and meanwhile limits move and entries are invalidated; in virtual time, in rounds with a seed each. *Lost*: told something that is not its own answer or error. *Stuck*: told nothing. *Leaked*: a task or a slot that was left over.
"""
FAULT_TEXT = """A real provider in a process of its own misbehaves; `amap` over a `ServiceClient` tries each call up to eight times. *Anything else*: another answer than that of a provider without faults, another kind of error, or none at all.
"""
FUZZ_TEXT = """Examples that hypothesis made up: requests, answers, stored files, texts of errors. *No input*: made up, and not one that the property is about.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its numbers aligned right."""
    rule = "| --- |" + " ---: |" * (len(head) - 1)
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the parts, print what was found, and return 0 if that is nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="how often the notebooks are run")
    parser.add_argument("--notebooks", nargs="+", default=["notebooks"], help="which")
    parser.add_argument("--operations", type=int, default=100_000, help="of each storm")
    parser.add_argument("--calls", type=int, default=2_000, help="for each fault")
    parser.add_argument("--profile", default="nightly", help="hypothesis': nightly or daily")
    parser.add_argument("--fuzzed", nargs="*", default=FUZZED, help="files with properties")
    parser.add_argument("--report", action="store_true", help="write docs/reliability.md, too")
    asked = parser.parse_args(arguments)
    start = time.monotonic()
    found = Soak(
        storms(asked.operations) if asked.operations else [],
        faults(asked.calls) if asked.calls else [],
        notebooks(asked.notebooks, asked.runs),
        fuzzed(asked.fuzzed, asked.profile),
        time.monotonic() - start,
    )
    if asked.report:
        REPORT.write_text(found.page(), encoding="utf-8")
        print(f"written: {REPORT.relative_to(ROOT)}")
    for trouble in found.troubles():
        print(trouble)
    return min(1, len(found.troubles()))


if __name__ == "__main__":
    sys.exit(main())
