"""A learner's progress as one line: to be read by people, pasted into a chat, and taken by a board.

    Ada: course 1.1 passed 2 0; 1.2 questions-that-arrived-intact 3 1 [55e7]

For each exercise: passed or the diagnosis' name, attempts, hints. The number in brackets shows
whether a chat has cut or changed the line.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["progress_line", "read_line"]

LINE: Final = re.compile(
    r"(?:(?P<name>.*?)\s*:\s*)?course (?:(?P<parts>[^\[\]]+) )?\[(?P<sum>[0-9a-f]{4})\]"
)
PART: Final = re.compile(r"([0-9.]{1,5}) ([a-z0-9-]{1,60}) ([0-9]{1,4}) ([0-9]{1,4})")
UNNAMED: Final = "not-yet"


def progress_line(exercises: Mapping[str, Mapping[str, Any]], name: str = "") -> str:
    """Return the line.

    Args:
        exercises: By number: `passed`, `diagnosis`, `attempts`, `hints`.
        name: The learner's; "" where the chat shows it.
    """
    parts = "; ".join(
        f"{number} {'passed' if each.get('passed') else each.get('diagnosis') or UNNAMED} "
        f"{each['attempts']} {each['hints']}"
        for number, each in sorted(exercises.items())
        if each["attempts"]
    )
    said = " ".join(filter(None, ["course", parts, f"[{_sum(parts)}]"]))
    return f"{name}: {said}" if name else said


def read_line(line: str) -> tuple[str, list[dict[str, Any]]]:
    """Read a pasted line back: the name before it, and the results.

    Raises:
        ValueError: It is no such line, or was cut or changed on its way.
    """
    found = LINE.fullmatch(" ".join(line.split()))
    if found is None:
        raise ValueError("no line of lab.progress(): it has `course` at its head, `[…]` at its end")
    parts = found["parts"] or ""
    read = [PART.fullmatch(part) for part in parts.split("; ")] if parts else []
    if _sum(parts) != found["sum"] or not all(read):
        raise ValueError("the line was cut or changed on its way: have it sent again")
    return found["name"] or "", [_result(*part.groups()) for part in read if part]


def _result(exercise: str, said: str, attempts: str, hints: str) -> dict[str, Any]:
    passed = said == "passed"
    return {
        "exercise": exercise, "passed": passed, "diagnosis": "" if passed else said,
        "attempts": int(attempts), "hints": int(hints), "minutes": 0,
    }  # fmt: skip


def _sum(parts: str) -> str:
    return f"{zlib.crc32(parts.encode()) & 0xFFFF:04x}"
