"""Draws the packages and their imports into CONTRIBUTING.md, so that the picture cannot be wrong.

python tools/house_picture.py           draw it
python tools/house_picture.py --check   exit 1 if CONTRIBUTING.md shows something else
"""

from __future__ import annotations

import sys
from pathlib import Path

from import_graph import Package

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- the house: tools/house_picture.py draws it -->\n", "<!-- end of the house -->"
GROUND = "ground floor"


def arrows(package: Package) -> list[tuple[str, str]]:
    """Return which part of the package imports which, also late; modules by themselves are the ground."""
    found = set()
    for module, needed in package.graph(late=True).items():
        for other in needed:
            pair = _floor(package, module), _floor(package, other)
            if pair[0] != pair[1] and "" not in pair:
                found.add(pair)
    return sorted(found)


def _floor(package: Package, module: str) -> str:
    """Return the part that a module belongs to, "" for the package's own face and commands."""
    part = package.part_of(module)
    if not part or module == package.name:
        return ""
    home = f"{package.name}.{part}"
    if package.is_package(home):
        return part
    return GROUND if not _stands_on_packages(package, home) else ""


def _stands_on_packages(package: Package, module: str) -> bool:
    """Return whether a module uses packages, as the doctor does: then it is no ground for them."""
    needed = package.graph(late=True).get(module, set())
    return any(package.is_package(f"{package.name}.{package.part_of(each)}") for each in needed)


def picture(package: Package) -> str:
    """Return the picture, in Mermaid."""
    pairs = arrows(package)
    names = sorted({name for pair in pairs for name in pair})
    key = {name: name.replace(" ", "_") for name in names}
    lines = [f"  {key[name]}[{name}]" for name in names]
    lines += [f"  {key[one]} --> {key[other]}" for one, other in pairs]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"]) + "\n"


def drawn(page: str, text: str) -> str:
    """Return the page with the picture in its place.

    Raises:
        ValueError: The marks that it goes between are not there, each once.
    """
    if (page.count(BEGIN), page.count(END)) != (1, 1):
        raise ValueError(f"CONTRIBUTING.md needs one line {BEGIN!r} and one {END!r} below it")
    before, rest = page.split(BEGIN)
    return before + BEGIN + text + END + rest.split(END)[1]


def main(arguments: list[str]) -> int:
    """Draw it, or say whether it is there."""
    page = PAGE.read_text("utf-8")
    fresh = drawn(page, picture(Package(ROOT / "course_lib")))
    if "--check" in arguments:
        if fresh != page:
            print("CONTRIBUTING.md: the picture of the house is not up to date")
        return int(fresh != page)
    PAGE.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
