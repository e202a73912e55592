"""The lock, the conda environment and pyproject.toml say the same."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec, Version, VersionSpec

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {
    "matplotlib-base": "matplotlib",
    "redis-py": "redis",
}  # where conda-forge's name is another
# Written in pieces, so that this file names no host itself.
REGISTRIES = [
    b"py" + b"pi.org",
    b"python" + b"hosted.org",
    b"npm" + b"js.org",
    b"ana" + b"conda.org",
    b"deb" + b".debian.org",
]


def lock_entries() -> list[tuple[Requirement, str]]:
    """Each entry of the lock with the hashes that follow it."""
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    return [
        (Requirement(head.removesuffix("\\").strip()), hashes)
        for head, _, hashes in (entry.partition("\n") for entry in entries)
    ]


def locked_versions(name: str) -> list[str]:
    """The versions of one package in the lock: several where Python versions differ."""
    return [
        str(entry.specifier).removeprefix("==")
        for entry, _ in lock_entries()
        if canonicalize_name(entry.name) == canonicalize_name(name)
    ]


def requirements(*extras: str) -> list[Requirement]:
    """What pyproject.toml requires for these extras, those that they name followed; each once."""
    lines, todo = list(PROJECT["dependencies"]), list(extras)
    while todo:
        found = map(Requirement, PROJECT["optional-dependencies"][todo.pop()])
        for requirement in found:
            if requirement.name == PROJECT["name"]:
                todo += requirement.extras
            else:
                lines.append(str(requirement))
    return [Requirement(line) for line in sorted(set(lines))]


def conda_specs() -> dict[str, MatchSpec]:
    """What environment.yml asks of conda, read by conda's grammar, under PyPI's names."""
    lines = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    specs = {MatchSpec(line, strict=True).name.normalized: line for line in lines}
    return {
        canonicalize_name(CONDA_NAMES.get(name, name)): MatchSpec(line, strict=True)
        for name, line in specs.items()
    }


def pip_requirements() -> dict[str, Requirement]:
    """What environment.yml leaves to pip, the package itself apart."""
    (section,) = [line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)]
    return {Requirement(line).name: Requirement(line) for line in section if line != "-e ."}


def tracked_files() -> list[Path]:
    """The files under version control."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / os.fsdecode(name) for name in names.split(b"\0") if name]


@pytest.mark.parametrize(
    "requirement", requirements(*PROJECT["optional-dependencies"]), ids=lambda r: r.name
)
def test_lock_holds_each_requirement_in_its_range(requirement):
    """Every dependency of pyproject.toml is in the lock, in a version inside its range."""
    versions = locked_versions(requirement.name)
    assert versions, "run `make lock`"
    assert all(requirement.specifier.contains(version) for version in versions), versions


def test_lock_entries_are_pinned_and_hashed():
    """Each entry names one version and at least one SHA-256."""
    entries = lock_entries()
    assert len(entries) > 100
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        lines = hashes.strip().splitlines()
        assert lines, requirement
        assert all(re.match(r" *--hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in lines)


def test_lock_holds_the_build_backend():
    """The package is built without isolation, so what builds it comes from the lock."""
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, backend):
        (version,) = locked_versions(requirement.name)
        assert requirement.specifier.contains(version)


def test_no_tracked_file_names_a_registry():
    """Each user's own settings say where packages come from: no file here does."""
    found = [
        (path.relative_to(ROOT).as_posix(), host.decode())
        for path in tracked_files()
        if path.is_file()
        for host in REGISTRIES
        if host in path.read_bytes()
    ]
    assert found == []


def test_lock_holds_no_address_and_no_option():
    """An index address, or an option that sets one, would override the user's settings."""
    assert "://" not in LOCK
    assert not [line for line in LOCK.splitlines() if line.startswith("-")]


def test_there_is_one_lock():
    """A second lock file would drift from the first."""
    assert [path.name for path in tracked_files() if path.name.endswith(".lock")] == [
        "requirements.lock"
    ]


def test_conda_asks_for_what_the_package_asks_for():
    """environment.yml names what the notebooks need, what is beyond one process, and two tools."""
    ranges = {name: SpecifierSet(str(spec.version or "")) for name, spec in conda_specs().items()}
    del ranges["python"], ranges["pip"]
    ranges |= {name: requirement.specifier for name, requirement in pip_requirements().items()}
    tools = [r for r in requirements("dev") if r.name in {"pytest", "nbval"}]
    assert ranges == {r.name: r.specifier for r in [*requirements("notebooks", "scale"), *tools]}


@pytest.mark.parametrize("name", sorted(set(conda_specs()) - {"python", "pip"}))
def test_conda_ranges_hold_the_locked_versions(name):
    """By conda's own rules, the versions that the course is tested with satisfy its lines."""
    spec = VersionSpec(str(conda_specs()[name].version))
    assert locked_versions(name)
    assert all(spec.matches(Version(version)) for version in locked_versions(name))


def test_conda_pythons_are_ones_the_package_allows():
    """No Python that conda may choose is one that the package refuses."""
    allowed = VersionSpec(str(conda_specs()["python"].version))
    chosen = [f"3.{n}.1" for n in range(20) if allowed.matches(Version(f"3.{n}.1"))]
    assert chosen == ["3.11.1", "3.12.1", "3.13.1"]
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in chosen)


def test_conda_installs_the_checkout():
    """The package itself is installed from the checkout, so that edits take effect."""
    (section,) = [line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)]
    assert section[-1] == "-e ."
