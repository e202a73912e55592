"""One line in which a learner says whether their machine is ready, and the sum of a room's lines.

    course-ready 1 | Linux-x86_64 | 3.11.9 | ready | - [1a2b3c4d]

The code in brackets shows whether a chat has cut or changed the line. No name, no path, no address
stands in it.
"""

from __future__ import annotations

import platform
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from course_lib import doctor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["line", "summary"]

LINE: Final = re.compile(r"course-ready 1 \| (?P<parts>[^\[\]]+) \[(?P<sum>[0-9a-f]{8})\]")
PARTS: Final = 4


def line(checks: Sequence[doctor.Check] | None = None) -> str:
    """Return this machine's line.

    Args:
        checks: What the doctor found; by default it looks now.
    """
    checks = doctor.report() if checks is None else checks
    failed, warned = (
        [check.name for check in checks if check.status == status] for status in ("fail", "warn")
    )
    parts = " | ".join([
        f"{platform.system()}-{platform.machine()}",
        platform.python_version(),
        "not ready" if failed else "ready",
        ", ".join([*failed, *(f"({name})" for name in warned)]) or "-",
    ])  # fmt: skip
    return f"course-ready 1 | {parts} [{_sum(parts)}]"


def summary(text: str) -> str:
    """Return who is ready, and who needs what, from lines as they came: one a learner.

    What stands before a line, such as a chat's name and time, is taken for the learner's name. Of
    one learner's lines the last one counts.

    Args:
        text: The lines; those that are none are counted, and shown if they look like one.
    """
    sent: dict[str, list[str]] = {}
    broken = []
    for number, given in enumerate(filter(None, map(str.strip, text.splitlines())), start=1):
        found = LINE.search(given)
        parts = found["parts"].split(" | ") if found else []
        if found and found["sum"] == _sum(found["parts"]) and len(parts) == PARTS:
            who = given[: found.start()].strip(" :<>\t") or f"line {number}"
            sent[who] = parts
        else:
            broken.append(f"  {given[:60]}")
    ready = [who for who, parts in sent.items() if parts[2] == "ready"]
    rest = [f"  {who}: {parts[3]}" for who, parts in sent.items() if parts[2] != "ready"]
    kinds = Counter(f"{parts[0]}, Python {_minor(parts[1])}" for parts in sent.values())
    needs = Counter(
        need for parts in sent.values() if parts[2] != "ready"
        for need in parts[3].split(", ") if not need.startswith("(")
    )  # fmt: skip
    return "\n".join([
        f"{len(ready)} of {len(sent)} are ready.",
        *_section("Who needs what", rest),
        *_section("Of these", [f"  {name}: {count}" for name, count in needs.most_common()]),
        *_section("Machines", [f"  {kind}: {count}" for kind, count in kinds.most_common()]),
        *_section("Cut or changed on their way, or no such line: have them sent again", broken),
    ])  # fmt: skip


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *lines] if lines else []


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _sum(parts: str) -> str:
    return f"{zlib.crc32(parts.encode()):08x}"
