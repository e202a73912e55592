"""Makes one folder from which the course starts without a network: for a USB stick or a local server.

    python tools/bundle.py                                 all platforms and Pythons
    python tools/bundle.py --platforms windows --pythons 3.12 3.13
    python tools/bundle.py --folder /media/stick/course

It holds the wheels that learners need (not those of developers), the repository as it was committed
last, a start script for each system, and a README. Versions and hashes are those of the lock; what
each package needs is read from its own metadata, with markers evaluated for the target and not for
this machine. What the lock has no wheel for is said, and so is the size.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass
from email import message_from_bytes
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from course_lib.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
WANTED = ("course-lib[notebooks,scale]", "nbval", "hatchling", "editables")
"""The course, a check of its notebooks, and what installs the package out of its folder."""
LARGEST = 10  # packages that the summary names
MEGA = 1e6

START_SH = """#!/bin/sh
# Linux and macOS: look for a Python that the wheels are for.
cd "$(dirname "$0")" || exit 1
for python in {names} python3; do
  if "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "{pythons}".split())' 2>/dev/null
  then exec "$python" start.py "$@"; fi
done
echo "This needs one of Python {pythons}: install it from python.org, and start again." >&2
exit 1
"""
START_COMMAND = """#!/bin/sh
# macOS: a file to click on.
exec sh "$(dirname "$0")/start.sh" "$@"
"""
START_BAT = """@echo off
rem Windows: look for a Python that the wheels are for.
cd /d "%~dp0"
for %%v in ({pythons}) do (
  py -%%v -c "" >nul 2>nul && ( py -%%v start.py %* & goto end )
)
python start.py %*
:end
if errorlevel 1 pause
"""
README = """The course, to be used without a network.
It needs Python ({pythons}) and about {free:.1f} GB of free space; nothing is downloaded.

1. Copy this folder to your disk: a stick is slow, and must not be pulled out meanwhile.
2. Linux:    sh start.sh
   macOS:    sh start.command, or click on it
   Windows:  start.bat
3. The first start takes a minute or two. Then JupyterLab opens with your copy of notebook 1.

Wheels for: {targets}. To see whether all is well: sh start.sh --check (start.bat --check).
"""


class BundleError(Exception):
    """The folder cannot be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A system that wheels are for.

    Attributes:
        tags: Those that pip may take, the most wanted first.
        sys_platform, machine, system, os_name: What its markers are compared with.
        oldest: What a person has to have at least.
    """

    tags: tuple[str, ...]
    sys_platform: str
    machine: str
    system: str
    os_name: str = "posix"
    oldest: str = ""


def _linux(machine: str) -> Platform:
    tags = (
        *(f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)),
        f"manylinux2014_{machine}",
    )
    return Platform(tags, "linux", machine, "Linux", oldest="glibc 2.28")


_MACOS = tuple(
    f"macosx_{release}_{kind}"
    for release in ("14_0", "13_0", "12_0", "11_0", "10_15", "10_13", "10_12", "10_9")
    for kind in ("arm64", "universal2")
)
PLATFORMS = {
    "linux-x86_64": _linux("x86_64"),
    "linux-aarch64": _linux("aarch64"),
    "macos-arm64": Platform(_MACOS, "darwin", "arm64", "Darwin", oldest="macOS 14"),
    "windows-amd64": Platform(("win_amd64",), "win32", "AMD64", "Windows", os_name="nt"),
}


class Target(NamedTuple):
    """A platform with a Python; its name is that of its file of requirements."""

    platform: str
    python: str

    @property
    def name(self) -> str:
        """As `start.py` works it out on the learner's machine."""
        return f"{self.platform}-{self.python}"

    def environments(self) -> Iterator[dict[str, str]]:
        """What markers see there: in its first release and in its last, since some tell them apart."""
        at = PLATFORMS[self.platform]
        for micro in ("0", "99"):
            full = f"{self.python}.{micro}"
            yield {
                "implementation_name": "cpython",
                "implementation_version": full,
                "os_name": at.os_name,
                "platform_machine": at.machine,
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": at.system,
                "platform_version": "",
                "python_full_version": full,
                "python_version": self.python,
                "sys_platform": at.sys_platform,
            }

    def wants(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Whether the requirement holds there, for one of these extras or for none."""
        marker = requirement.marker
        return marker is None or any(
            marker.evaluate({**environment, "extra": extra})
            for environment in self.environments()
            for extra in ("", *extras)
        )


class Locked(NamedTuple):
    """A package in the lock: what is required, and its lines with the hashes."""

    requirement: Requirement
    lines: str

    @property
    def bare(self) -> str:
        """The lines without a marker, which pip would evaluate for the machine that it runs on."""
        return re.sub(r" *;[^\\]*", " ", self.lines, count=1)


def read_lock(text: str) -> dict[str, list[Locked]]:
    """The lock's packages by their names; one has several entries where Pythons want several."""
    found: dict[str, list[Locked]] = {}
    for lines in re.findall(r"^\S.*(?:\n +--hash=.*)+", text, re.MULTILINE):
        requirement = Requirement(lines.partition(" \\\n")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append(Locked(requirement, lines))
    return found


def needed(
    target: Target, needs: Callable[[str], Iterable[str]], wanted: Sequence[str] = WANTED
) -> set[str]:
    """The names of all packages that these need on the target, this one itself apart.

    Args:
        target: What markers are evaluated for.
        needs: Returns what a package requires, line by line as in its metadata.
        wanted: Requirements to begin with.
    """
    seen: set[tuple[str, str]] = set()
    left = [Requirement(each) for each in wanted]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                more = map(Requirement, needs(name))
                left += [each for each in more if target.wants(each, [extra])]
    return {name for name, _ in seen} - {"course-lib"}


def installed(name: str) -> list[str]:
    """What a package requires, as far as it is installed here."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def of_wheels(folder: Path, names: Iterable[str]) -> Callable[[str], list[str]]:
    """What packages require, read from these wheels: also of those that cannot be installed here."""
    found = {}
    for name in names:
        with ZipFile(folder / name) as wheel:
            file = next(each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
            metadata = message_from_bytes(wheel.read(file))
        found[canonicalize_name(metadata["Name"])] = metadata.get_all("Requires-Dist") or []
    return lambda name: found.get(name, installed(name) if name == "course-lib" else [])


def download(
    pip: Sequence[Path | str], target: Target, chosen: Sequence[Locked], folder: Path
) -> dict[str, str]:
    """Let pip fetch the wheels of these for a target; return their files' names by requirement.

    Raises:
        LookupError: With the first requirement that there is no wheel for.
        BundleError: Pip failed for another reason.
    """
    platforms = [f"--platform={tag}" for tag in PLATFORMS[target.platform].tags]
    with tempfile.TemporaryDirectory() as kept:
        listed = Path(kept) / "requirements.txt"
        listed.write_text(lines_of(chosen, bare=True), "utf-8")
        command = [
            *pip, "download", "--no-deps", "--require-hashes", "--only-binary=:all:", *platforms,
            f"--python-version={target.python}.99", "--implementation=cp", f"--dest={kept}/wheels",
            f"--requirement={listed}", "--disable-pip-version-check",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        by_key = {str(_key(each.requirement)): str(each.requirement) for each in chosen}
        if missing := re.search(r"No matching distribution found for (\S+==\S+)", result.stderr):
            raise LookupError(by_key[str(_key(Requirement(missing[1])))])
        if result.returncode:
            raise BundleError(f"pip could not fetch what {target.name} needs:\n{result.stderr}")
        found = {}
        for path in sorted(Path(kept, "wheels").iterdir()):
            name, version, *_ = parse_wheel_filename(path.name)
            found[by_key[f"{name}=={version}"]] = path.name
            shutil.move(path, folder / path.name)
    return found


def _key(requirement: Requirement) -> Requirement:
    """Name and version, each in its one form."""
    version = Version(str(requirement.specifier).removeprefix("=="))
    return Requirement(f"{canonicalize_name(requirement.name)}=={version}")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What there is for a target.

    Attributes:
        target: The target.
        wheels: The names of its wheels.
        lines: The lines of the lock that they are installed by.
        missing: Packages that the lock has no wheel of.
    """

    target: Target
    wheels: tuple[str, ...]
    lines: str
    missing: tuple[str, ...]


def fetch(
    pip: Sequence[Path | str], target: Target, lock: Mapping[str, Sequence[Locked]], folder: Path
) -> Fetched:
    """Fetch all wheels that the course needs on a target.

    What a package needs is known for sure when its wheel is there, so this looks again until
    nothing is left to fetch.
    """
    names, missing, wheels = needed(target, installed), list[str](), dict[str, str]()
    while True:
        chosen = [
            each
            for name in sorted(names)
            for each in lock.get(name, ())
            if target.wants(each.requirement) and str(each.requirement) not in missing
        ]
        try:
            for lot in by_name(each for each in chosen if str(each.requirement) not in wheels):
                wheels |= download(pip, target, lot, folder)
        except LookupError as error:
            missing.append(str(error.args[0]))
            continue
        found = needed(target, of_wheels(folder, wheels.values()))
        if found <= names:
            there = {parse_wheel_filename(name)[0] for name in wheels.values()}
            told = {canonicalize_name(Requirement(each).name) for each in missing}
            missing += sorted(found - there - told)  # not in the lock at all
            return Fetched(target, tuple(wheels.values()), lines_of(chosen), tuple(missing))
        names |= found


def by_name(chosen: Iterable[Locked]) -> Iterator[list[Locked]]:
    """Share out to lots, in each of which a name stands once: what pip takes at a time."""
    lots: list[dict[str, Locked]] = []
    for each in chosen:
        free = next((lot for lot in lots if each.requirement.name not in lot), None)
        if free is None:
            lots.append(free := {})
        free[each.requirement.name] = each
    return (list(lot.values()) for lot in lots)


def lines_of(chosen: Iterable[Locked], *, bare: bool = False) -> str:
    """The lines as a file of requirements."""
    return "".join(f"{each.bare if bare else each.lines}\n" for each in chosen)


def archive(folder: Path) -> None:
    """Lay out what was committed last.

    Raises:
        BundleError: This is no checkout of git.
    """
    command = ["git", "-C", ROOT, "archive", "--format=tar", "HEAD"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        raise BundleError(f"Make the bundle in a checkout of git: {result.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as packed:
        packed.extractall(folder, filter="data")


def write_starts(folder: Path, pythons: Sequence[str], platforms: Sequence[str]) -> None:
    """Write the start scripts and the README."""
    newest = sorted(pythons, key=lambda python: int(python.partition(".")[2]), reverse=True)
    text = " ".join(newest)
    names = " ".join(f"python{python}" for python in newest)
    shutil.copy(ROOT / "tools/bundle_start.py", folder / "start.py")
    for name, script in (("start.sh", START_SH), ("start.command", START_COMMAND)):
        (folder / name).write_text(script.format(names=names, pythons=text), "utf-8", newline="\n")
        (folder / name).chmod(0o755)
    (folder / "start.bat").write_text(START_BAT.format(pythons=text), "utf-8", newline="\r\n")
    oldest = (
        f"{each} ({PLATFORMS[each].oldest})" if PLATFORMS[each].oldest else each
        for each in platforms
    )
    said = README.format(pythons=" or ".join(newest), targets=", ".join(oldest), free=1.5)
    (folder / "README.txt").write_text(said, "utf-8", newline="\r\n")


def make(folder: Path, targets: Sequence[Target]) -> list[Fetched]:
    """Fill the folder, and return what there is for each target.

    Raises:
        BundleError: It is there and is not empty, this is no checkout, or pip failed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BundleError(f"{folder} is not empty: delete it, or name another folder.")
    for name in ("wheels", "requirements", "course"):
        (folder / name).mkdir(parents=True)
    archive(folder / "course")
    pythons = sorted({target.python for target in targets})
    write_starts(folder, pythons, sorted({target.platform for target in targets}))
    lock = read_lock((ROOT / "requirements.lock").read_text("utf-8"))
    found = []
    with tempfile.TemporaryDirectory() as kept:
        # The course's own environment may have been made without pip.
        subprocess.run([sys.executable, "-m", "venv", kept], check=True)
        pip = [next(Path(kept).glob("[bS]*/python*")), "-m", "pip"]
        for target in targets:
            print(f"{target.name} ...", flush=True)
            found.append(fetch(pip, target, lock, folder / "wheels"))
            (folder / "requirements" / f"{target.name}.txt").write_text(found[-1].lines, "utf-8")
    return found


def summary(folder: Path, found: Sequence[Fetched]) -> str:
    """What the folder holds, target by target, and what makes up its size."""
    size = {path.name: path.stat().st_size for path in (folder / "wheels").iterdir()}
    rows = [
        [each.target.name, str(len(each.wheels)), f"{sum(map(size.__getitem__, each.wheels)) / MEGA:.0f}",
         ", ".join(each.missing) or "-"]
        for each in found
    ]  # fmt: skip
    packages = Counter[str]()
    for name, count in size.items():
        packages[parse_wheel_filename(name)[0]] += count
    parts = [[name, f"{count / MEGA:.1f}"] for name, count in packages.most_common(LARGEST)]
    rest = sum(packages.values()) - sum(count for _, count in packages.most_common(LARGEST))
    course = sum(path.stat().st_size for path in (folder / "course").rglob("*") if path.is_file())
    parts += [["other packages", f"{rest / MEGA:.1f}"], ["the repository", f"{course / MEGA:.1f}"]]
    whole = (sum(size.values()) + course) / MEGA
    return "\n\n".join(
        [
            str(Table(["target", "wheels", "MB", "no wheel in the lock for"], rows)),
            str(Table([f"of {whole:,.0f} MB in all", "MB"], parts)),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 1 if a target lacks something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bundle")
    parser.add_argument("--platforms", nargs="+", choices=PLATFORMS, default=list(PLATFORMS))
    parser.add_argument("--pythons", nargs="+", choices=PYTHONS, default=list(PYTHONS))
    asked = parser.parse_args(arguments)
    targets = [Target(name, python) for name in asked.platforms for python in asked.pythons]
    try:
        found = make(asked.folder, targets)
    except BundleError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"\n{summary(asked.folder, found)}\n\nIt is in {asked.folder}; README.txt says how to start."
    )
    return int(any(each.missing for each in found))


if __name__ == "__main__":
    sys.exit(main())
