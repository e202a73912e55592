"""What is installed, against what the course requires and what it was tested with."""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["locked", "unmet", "version_of"]


def locked(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of each entry of a lock file that applies to this machine."""
    lines = re.findall(r"^[A-Za-z0-9][^\\\n]*", text, re.MULTILINE)
    for requirement in _applying(map(str.strip, lines)):
        yield canonicalize_name(requirement.name), str(requirement.specifier)[2:]


def unmet(requirements: Iterable[str]) -> Iterator[str]:
    """Yield what is missing or out of range, following each package's own requirements."""
    pending = list(_applying(requirements))
    seen = set()
    while pending:
        requirement = pending.pop(0)
        if (line := str(requirement)) in seen:
            continue
        seen.add(line)
        found = version_of(requirement.name)
        if found is None:
            yield f"{requirement.name} missing"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found}, needs {requirement.specifier}"
        else:
            inner = importlib.metadata.requires(requirement.name) or []
            pending += _applying(inner, requirement.extras)


def version_of(name: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _applying(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield the requirements for this machine and these extras, their conditions left out."""
    for requirement in map(Requirement, lines):
        marker, requirement.marker = requirement.marker, None
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
