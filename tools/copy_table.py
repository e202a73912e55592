"""Writes the README's table of what to take along when one name is copied into another project.

    python tools/copy_table.py           write it
    python tools/copy_table.py --check   exit 1 if the README says something else

Files are those that are loaded with the name's own: imports at the top of a module, followed
through each `__init__` to where a name is defined. What is imported for type checkers alone, or
where it is used, need not be there.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from import_graph import Package, reached

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = (
    "<!-- copy table: tools/copy_table.py writes it -->\n",
    "<!-- end of the copy table -->",
)
COPIED = {
    "TokenBucket": "rate_limiting",
    "Gate": "rate_limiting",
    "amap": "batching",
    "AsyncCache": "caching",
    "SqliteStore": "caching",
    "PerformanceMonitor": "monitoring",
    "RagPipeline": "rag",
}


class Copy(NamedTuple):
    """What one name needs.

    Attributes:
        files: Modules that are loaded with it, dotted, its own among them.
        late: Further ones that it loads where they are used.
        others: Packages of others, the standard library apart.
    """

    files: list[str]
    late: list[str]
    others: list[str]

    @property
    def langchain(self) -> bool:
        """Whether LangChain is loaded with it."""
        return any(name.startswith("langchain") for name in self.others)


def copy_of(package: Package, part: str, name: str) -> Copy:
    """Return what a public name of a package needs."""
    own = package.origin(f"{package.name}.{part}.{name}") or ""
    if own in {"", f"{package.name}.{part}"}:
        raise LookupError(f"{part} has no {name}: name another in COPIED")
    files = {own} | reached(package.graph(), own)
    late = {own} | reached(package.graph(late=True), own)
    others = package.others(files) - sys.stdlib_module_names
    return Copy(sorted(files), sorted(late - files), sorted(others))


def table(package: Package) -> str:
    """Return the whole table, in Markdown."""
    rows = [
        "| To copy | Files | Take | Needs LangChain |",
        "| --- | --- | --- | --- |",
    ]
    for name, part in COPIED.items():
        copy = copy_of(package, part, name)
        which = listed(copy.files)
        if copy.late:
            which += f" (for some arguments also {listed(copy.late)})"
        langchain = "yes" if copy.langchain else "no"
        rows.append(f"| `{name}` | {len(copy.files)} | {which} | {langchain} |")
    return "\n".join(rows) + "\n"


def listed(modules: list[str]) -> str:
    """Return modules by folder: "`caching/` cache, memory; `course_lib/` clock"."""
    paths = sorted(tuple(module.rpartition(".")[::2]) for module in modules)
    folders = [
        f"`{folder.replace('.', '/')}/` {', '.join(name for _, name in files)}"
        for folder, files in groupby(paths, key=lambda path: path[0])
    ]
    return "; ".join(folders)


def written(readme: str, text: str) -> str:
    """Return the README with the table in its place.

    Raises:
        ValueError: The marks that it goes between are not there, each once.
    """
    if (readme.count(BEGIN), readme.count(END)) != (1, 1):
        raise ValueError(f"the README needs one line {BEGIN!r} and one {END!r} below it")
    before, rest = readme.split(BEGIN)
    return before + BEGIN + text + END + rest.split(END)[1]


def main(arguments: list[str]) -> int:
    """Write the table, or say whether it is there."""
    readme = README.read_text("utf-8")
    fresh = written(readme, table(Package(ROOT / "course_lib")))
    if "--check" in arguments:
        if fresh != readme:
            print("README.md: the table of what to copy is not up to date")
        return int(fresh != readme)
    README.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
