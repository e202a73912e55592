"""What is installed, against what the course requires and what it was tested with."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["declared", "locked", "unmet", "version_of"]


def declared(root: Path) -> list[str]:
    """Return the course's own requirements: a checkout's in `root`, else the installed package's.

    Raises:
        importlib.metadata.PackageNotFoundError: There is neither.
    """
    file = root / "pyproject.toml"
    if file.exists():
        return list(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"])
    return importlib.metadata.requires("course-lib") or []


def locked(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of each entry of a lock file that applies to this machine."""
    for line in re.findall(r"^[A-Za-z0-9][^\\\n]*", text, re.MULTILINE):
        requirement = Requirement(line.strip())
        if _applies(requirement):
            yield canonicalize_name(requirement.name), str(requirement.specifier)[2:]


def unmet(requirements: Iterable[str]) -> Iterator[str]:
    """Yield what is missing or out of range, following each package's own requirements."""
    pending = list(requirements)
    seen = set()
    while pending:
        line = pending.pop(0)
        requirement = Requirement(line)
        if line in seen or not _applies(requirement):
            continue
        seen.add(line)
        found = version_of(requirement.name)
        if found is None:
            yield f"{requirement.name} missing"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found}, needs {requirement.specifier}"
        else:
            pending += importlib.metadata.requires(requirement.name) or []


def version_of(name: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})
