"""Run other people's suites with the oldest, the locked and the newest dependencies, and tabulate.

    python tools/contracts.py                              with the Python that runs this
    python tools/contracts.py --pythons "3.11 3.12 3.13"   with each of these that is here
    python tools/contracts.py --versions oldest            with this set of versions alone
    python tools/contracts.py --report                     and write docs/contracts.md
    python tools/contracts.py --unit                       all unit tests in place of tests/contracts
    python tools/contracts.py -- tests/rag -x              what pytest is to be told in their place

The oldest are the lowest versions that pyproject.toml allows and that need no compiler; where another
package asks for a newer one, the bound is not true, and that is a failure, too. Each environment is
made anew outside the repository, by uv if it is there, and removed after its run. pip cannot choose
the oldest: then that column is not run. What takes too long is ended, and has failed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from checks import BY_FILE, environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from course_lib.table import text_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs/contracts.md"
LOCK = "requirements.lock"
SUITES = ("tests/contracts",)
UNIT = ("tests", "--ignore=tests/e2e", "-m", "not nightly")
# Seconds for one command: some two hundred packages over a slow line, and all unit tests on two cores.
LONGEST_INSTALLATION, LONGEST_RUN = 1200, 3600
SETS = ("oldest", "locked", "newest")
# What the suites are about; the rest of some two hundred packages is in the lock.
SHOWN = (
    "langchain-core",
    "langchain-openai",
    "langchain-tests",
    "openai",
    "aiohttp",
    "requests",
    "nest-asyncio",
    "numpy",
    "faiss-cpu",
    "redis",
)
OPTIONS = (*BY_FILE, "-q", "--no-header", "-p", "no:cacheprovider", "-m", "nightly or not nightly")
NO_OLDEST = (
    "pip cannot choose the oldest versions: install uv (`pip install uv`) and run this again"
)
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"

INTRODUCTION = """# Contracts

Other people's suites, and what the notebooks say of other people's libraries, with the **oldest** versions that `pyproject.toml` allows, the **locked** ones that the course is tested with every day, and the **newest** of the day. `make contracts REPORT=1` wrote this page.

LangChain's own suites (langchain-tests) are run over the stores, the caches, the vector stores and their retrievers, and with `ChatOpenAI` and `OpenAIEmbeddings` against the course's provider. `runnables` puts every wrapper beside a plain `RunnableLambda`. The others are what a notebook states as a fact. What is not offered (tools, structured output, media) is skipped by the suites' own switches.
"""


class NotRun(Exception):  # noqa: N818 - it may be nobody's error
    """A column that cannot be filled; the message says why."""


@dataclass
class Column:
    """One Python with one set of versions.

    Attributes:
        python: Version of the language, as "3.12".
        versions: Which set.
        counts: Tests of each suite by outcome ("passed", "failed", "skipped").
        packages: Versions installed.
        troubles: What failed, and why, a line each.
        lacking: Why it was not run, "" if it was.
    """

    python: str
    versions: str
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    lacking: str = ""

    @property
    def name(self) -> str:
        """What stands over it."""
        return f"{self.python} {self.versions}"

    def cell(self, suite: str) -> str:
        """Return what became of a suite."""
        count = self.counts.get(suite, Counter())
        run = count["passed"] + count["failed"]
        if not count:
            return "not run" if self.lacking else "-"
        return f"{count['failed']} of {run} failed" if count["failed"] else f"{run} passed"


def interpreter(version: str) -> str:
    """Return a Python of a version that works here: the one that runs this, on the PATH, or pyenv's.

    Raises:
        NotRun: There is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = (sys.executable, shutil.which(f"python{version}"))
    for each in (*found, *sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)):
        if each and _version_of(each) == version:
            return str(each)
    raise NotRun(f"there is no Python {version} here")


def _version_of(python: str | Path) -> str:
    """Return "3.12", or "" of what does not run: a shim may stand there for nothing."""
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def prepared(base: str, column: Column, uv: str | None, home: Path) -> str:
    """Return the Python of an environment with a column's versions and the package in it.

    Args:
        base: The Python to make it with.
        column: Which versions.
        uv: Path of uv, None if it is not here.
        home: Folder for the environment; it is not there yet.

    Raises:
        NotRun: It cannot be made.
    """
    python = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    for step in (_making(base, home, uv), *_installing(python, column.versions, uv)):
        done = _ended(step, LONGEST_INSTALLATION)
        if done.returncode:
            raise NotRun(f"it could not be installed: {(done.stderr or '').strip()[-500:]}")
    return python


def _ended(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository; one that takes longer is killed, and says so as its error."""
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        said = f"ended after {seconds:.0f} s"
        return subprocess.CompletedProcess(command, -1, said, said)


def _making(base: str, home: Path, uv: str | None) -> list[str]:
    return [uv, "venv", "--python", base, str(home)] if uv else [base, "-m", "venv", str(home)]


def _installing(python: str, versions: str, uv: str | None) -> Iterator[list[str]]:
    """Yield the commands that install a set of versions, and then the package as it lies here."""
    if versions == "oldest" and uv is None:
        raise NotRun(NO_OLDEST)
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    if versions == "locked":
        yield [*pip, "--require-hashes", "-r", LOCK]
    elif uv:
        lowest = ["--resolution", "lowest-direct", "--no-build"] if versions == "oldest" else []
        yield [*pip, *lowest, "--all-extras", "-r", "pyproject.toml"]
    else:
        yield [*pip, *(each for lines in _requirements().values() for each in lines)]
    yield [*pip, "--no-deps", "--no-build-isolation", "-e", "."]


def _requirements() -> dict[str, list[str]]:
    """Return what pyproject.toml asks for by extra, the package's own extras left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        name: [each for each in lines if Requirement(each).name != project["name"]]
        for name, lines in extras.items()
    }


def untrue(lines: Iterable[str], installed: dict[str, str]) -> list[str]:
    """Return the lower bounds that the lowest versions do not meet: something else asks for more.

    Args:
        lines: Requirements.
        installed: What was chosen for them, names in their canonical form.
    """
    found = {}
    for requirement in map(Requirement, lines):
        lowest = [each.version for each in requirement.specifier if each.operator == ">="]
        version = installed.get(canonicalize_name(requirement.name))
        if lowest and version and version not in SpecifierSet(f"=={lowest[0]}.*"):
            found[requirement.name] = f"{requirement}: the oldest that can be had is {version}"
    return list(found.values())


def run(python: str, column: Column, tests: Sequence[str], folder: Path) -> None:
    """Run the tests with one environment, and fill its column; pytest's report is left in the folder."""
    listed = subprocess.run([python, "-c", LIST], capture_output=True, text=True, check=True)
    column.packages = {
        canonicalize_name(name): version for name, version in json.loads(listed.stdout).items()
    }
    report = folder / "report.xml"
    command = [python, "-m", "pytest", *OPTIONS, f"--junit-xml={report}", *tests]
    done = _ended(command, LONGEST_RUN)
    if not report.exists():
        column.troubles.append(f"pytest ended with {done.returncode}: {done.stdout[-500:]}")
        return
    read(report, column)
    if column.versions == "oldest":
        lines = [each for lines in _requirements().values() for each in lines]
        column.troubles += untrue(lines, column.packages)


def read(report: Path, column: Column) -> None:
    """Count what pytest reported, suite by suite."""
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written a moment ago by pytest
        place = case.get("classname") or case.get("name") or ""
        suite = _suite(place)
        bad = next((each for each in case if each.tag in {"failure", "error"}), None)
        outcome = "skipped" if case.find("skipped") is not None else "passed"
        column.counts.setdefault(suite, Counter())["failed" if bad is not None else outcome] += 1
        if bad is not None:
            said = (bad.get("message") or "").splitlines() or [""]
            column.troubles.append(f"{place}::{case.get('name')}: {said[0][:200]}")


def _suite(place: str) -> str:
    """Return the name of a suite: a module of tests/contracts, or another folder of tests."""
    parts = place.split(".")
    modules = [part for part in parts if part.startswith("test_")]
    match parts:
        case ["tests", folder, *_] if folder not in ("contracts", *modules):
            return folder
    return (modules or [place])[-1].removeprefix("test_").replace("_", " ")


def columns(
    pythons: Sequence[str], tests: Sequence[str], sets: Sequence[str] = SETS
) -> list[Column]:
    """Fill the columns, one after another."""
    uv, filled = shutil.which("uv"), []
    for version in pythons:
        for versions in sets:
            column = Column(version, versions)
            print(f"{column.name}: ", end="", flush=True)
            try:
                with tempfile.TemporaryDirectory(prefix="contracts-") as folder:
                    home = Path(folder) / "environment"
                    python = prepared(interpreter(version), column, uv, home)
                    run(python, column, tests, Path(folder))
            except NotRun as error:
                column.lacking = str(error)
            total = sum(column.counts.values(), Counter[str]())
            print(column.lacking or ", ".join(f"{n} {each}" for each, n in sorted(total.items())))
            filled.append(column)
    return filled


def tables(filled: Sequence[Column]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the outcomes, suite by suite, and the versions that the suites are about."""
    suites = sorted({suite for column in filled for suite in column.counts})
    head = [column.name for column in filled]
    outcomes = [["suite", *head], *([each, *(c.cell(each) for c in filled)] for each in suites)]
    versions = [[name, *(c.packages.get(name, "-") for c in filled)] for name in SHOWN]
    return outcomes, [["version", *head], *versions]


def page(filled: Sequence[Column]) -> str:
    """Return the report, in Markdown."""
    outcomes, versions = map(_markdown, tables(filled))
    today = dt.datetime.now(dt.UTC).date()
    machine = f"{platform.system()} on {platform.machine()}"
    parts = [INTRODUCTION, f"{today:%d %B %Y}, {machine}.\n", outcomes, "## Versions\n", versions]
    notes = [f"- {c.name}: not run, since {c.lacking}" for c in filled if c.lacking]
    notes += [f"- {c.name}: {trouble}" for c in filled for trouble in c.troubles]
    if notes:
        parts += ["## What failed, or was not run\n", "\n".join(notes) + "\n"]
    return "\n".join(parts)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|".join(["", *(["---"] * len(lines[0])), ""]), *rows]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the suites, print the tables, and return 0 if nothing failed."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tests", nargs="*", default=SUITES, help="by default tests/contracts")
    parser.add_argument("--unit", action="store_true", help="all unit tests in their place")
    parser.add_argument("--versions", default=" ".join(SETS), help="which of these sets")
    parser.add_argument("--pythons", default=own, help='such as "3.11 3.12 3.13"')
    parser.add_argument("--report", action="store_true", help="write docs/contracts.md, too")
    asked = parser.parse_args(arguments)
    tests = UNIT if asked.unit else asked.tests
    filled = columns(asked.pythons.split(), tests, asked.versions.split())
    for table in tables(filled):
        print(f"\n{text_table(table)}")
    for column in filled:
        for trouble in column.troubles:
            print(f"{column.name}: {trouble}")
    if asked.report:
        REPORT.write_text(page(filled), encoding="utf-8")
        print(f"written: {REPORT.relative_to(ROOT)}")
    broken = [column for column in filled if column.troubles or "installed" in column.lacking]
    return 1 if broken or not any(column.counts for column in filled) else 0


if __name__ == "__main__":
    sys.exit(main())
